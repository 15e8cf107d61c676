--! Previous: sha1:9170d6ecdbd7fd6b6b870c016018bdc141f6751c
--! Hash: sha1:c72767dafa072460596c2ab2ff6ea2730b296b91
--! Message: query-cache
--! Baseline: topics/35-query-cache.sql

/*
 * A cache of expensive results for each user, and the insights, which use it.
 */

--! Included functions/app_private/sha256_hex.sql
-- convert_to() is declared stable, because a conversion may be replaced; that of a
-- database in UTF-8 to UTF-8 cannot.
create or replace function app_private.sha256_hex(p_text text) returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select encode(sha256(convert_to(p_text, 'UTF8')), 'hex')
$$;

comment on function app_private.sha256_hex(text) is
  'SHA-256 of a text in UTF-8, as 64 hexadecimal digits.';
--! EndIncluded functions/app_private/sha256_hex.sql

-- One user's result is never returned to another: user_id is part of the key, and the
-- functions take it from current_app_user_id(). Rows without a user are for callers
-- without a user.
--
-- Unlogged: an empty cache is right after a crash, and replicas and change data capture
-- do not need it.
create unlogged table app_private.query_cache (
  id uuid not null default gen_random_uuid(),
  cache_key text not null,
  cache_key_hash text not null
    generated always as (app_private.sha256_hex(cache_key)) stored,
  cached_data jsonb not null,
  data_size integer not null
    generated always as (octet_length(cached_data::text)) stored,
  query_hash text,
  user_id uuid,
  tags text[] not null default '{}',
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  last_accessed timestamptz not null default now(),
  access_count integer not null default 1,
  generation_time_ms integer not null,
  hit_count integer not null default 0,
  constraint query_cache_pkey primary key (id),
  -- The hash stands for the key: an index on long keys would be large.
  constraint query_cache_cache_key_hash_user_id_key
    unique nulls not distinct (cache_key_hash, user_id),
  constraint query_cache_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint query_cache_cache_key_check check (length(cache_key) between 1 and 255),
  constraint query_cache_query_hash_check check (length(query_hash) between 1 and 64),
  constraint query_cache_tags_check check (array_position(tags, null) is null),
  constraint query_cache_expires_at_check check (expires_at > created_at),
  constraint query_cache_access_count_check check (access_count >= 1),
  constraint query_cache_generation_time_check check (generation_time_ms >= 0),
  constraint query_cache_hit_count_check check (hit_count >= 0)
-- A hit updates counters only. No index holds them and the page keeps room: a HOT update.
) with (fillfactor = 80);

create index query_cache_expires_at_idx on app_private.query_cache (expires_at);

create index query_cache_tags_idx on app_private.query_cache using gin (tags);

create index query_cache_user_id_idx on app_private.query_cache (user_id);

-- No index on last_accessed: each hit would write it, and nothing looks for it.

alter table app_private.query_cache enable row level security;

comment on table app_private.query_cache is
  'Cached results of expensive queries, by user. Use query_cache_get() and query_cache_put().';
comment on column app_private.query_cache.data_size is 'Size of the result as text, in bytes.';
comment on column app_private.query_cache.user_id is
  'The user whom the result belongs to; null for callers without a user.';
comment on column app_private.query_cache.tags is
  'What the result depends on; invalidate_query_cache() deletes by these tags.';
comment on column app_private.query_cache.access_count is
  'Number of hits, plus 1 for the access that computed the result.';
comment on column app_private.query_cache.generation_time_ms is
  'How long the result took to compute, in milliseconds.';

create unlogged sequence app_private.query_cache_hits;

comment on sequence app_private.query_cache_hits is
  'Hits of query_cache_get().';

create unlogged sequence app_private.query_cache_misses;

comment on sequence app_private.query_cache_misses is
  'Misses of query_cache_get().';

create type app_public.insight_week as (
  week_start date,
  tasks_created integer,
  tasks_completed integer,
  reflections integer,
  average_mood double precision,
  habit_days integer,
  habits_kept integer,
  activity integer
);

comment on type app_public.insight_week is 'What you did in one week of yours.';
comment on column app_public.insight_week.week_start is
  E'@notNull\nThe Monday on which the week begins, in your time zone.';
comment on column app_public.insight_week.tasks_created is E'@notNull\nTasks made.';
comment on column app_public.insight_week.tasks_completed is E'@notNull\nTasks done.';
comment on column app_public.insight_week.reflections is
  E'@notNull\nEntries of the journal.';
comment on column app_public.insight_week.average_mood is
  'Mean of the entries'' moods, 1 to 5; null without any.';
comment on column app_public.insight_week.habit_days is
  E'@notNull\nDays on which a habit was kept, added up over habits.';
comment on column app_public.insight_week.habits_kept is
  E'@notNull\nHabits that were kept on at least one day.';
comment on column app_public.insight_week.activity is
  E'@notNull\nEntries of the activity: things made, changed, done and deleted.';

--! Included functions/app_private/invalidate_query_cache.sql
-- Definer: nobody but the owner may write the cache. It deletes and tells only how much.
create or replace function app_private.invalidate_query_cache(tags text[]) returns integer
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with deleted as (
    delete from app_private.query_cache
    where query_cache.tags && invalidate_query_cache.tags
    returning 1
  )
  select count(*)::integer from deleted
$$;

grant execute on function app_private.invalidate_query_cache(text[])
  to gw_authenticator, gw_worker;
comment on function app_private.invalidate_query_cache(text[]) is
  'Deletes every result, of every user, that has one of the tags. Returns how many.';
--! EndIncluded functions/app_private/invalidate_query_cache.sql
--! Included functions/app_private/cleanup_expired_cache.sql
create or replace function app_private.cleanup_expired_cache() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with deleted as (
    delete from app_private.query_cache
    where query_cache.expires_at <= now()
    returning 1
  )
  select count(*)::integer from deleted
$$;

comment on function app_private.cleanup_expired_cache() is
  'Deletes results that have expired. Returns how many.';
--! EndIncluded functions/app_private/cleanup_expired_cache.sql
--! Included functions/app_private/query_cache_get.sql
-- Definer: nobody but the owner may read the cache. It returns what was put for the
-- current user of the transaction, and without a user what was put without one.
create or replace function app_private.query_cache_get(p_cache_key text) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := app_hidden.current_app_user_id();
  found_id uuid;
  found_data jsonb;
begin
  -- An unlogged table cannot be read on a standby.
  if pg_is_in_recovery() then
    return null;
  end if;

  select query_cache.id, query_cache.cached_data into found_id, found_data
  from app_private.query_cache
  where query_cache.cache_key_hash = app_private.sha256_hex(p_cache_key)
    and query_cache.cache_key = p_cache_key
    and (query_cache.user_id = caller or caller is null and query_cache.user_id is null)
    and query_cache.expires_at > clock_timestamp();

  -- Counting must neither wait for another reader of the same row nor end a transaction
  -- that is read-only.
  if current_setting('transaction_read_only')::boolean then
    return found_data;
  end if;
  if found_id is null then
    perform nextval('app_private.query_cache_misses');
    return null;
  end if;
  perform nextval('app_private.query_cache_hits');
  update app_private.query_cache
  set access_count = query_cache.access_count + 1,
    hit_count = query_cache.hit_count + 1,
    last_accessed = clock_timestamp()
  where query_cache.id = (
    select free.id
    from app_private.query_cache as free
    where free.id = found_id
    for no key update skip locked
  );
  return found_data;
end
$$;

grant execute on function app_private.query_cache_get(text) to gw_authenticator;
comment on function app_private.query_cache_get(text) is
  'The current user''s cached result for a key, or null when there is none or it expired.';
--! EndIncluded functions/app_private/query_cache_get.sql
--! Included functions/app_private/query_cache_put.sql
-- Definer: nobody but the owner may write the cache. The row is the current user's. The
-- clock is read once, so that a result without a lifetime is refused.
create or replace function app_private.query_cache_put(
  p_cache_key text,
  p_cached_data jsonb,
  p_time_to_live interval,
  p_generation_time_ms integer,
  p_tags text[] default '{}',
  p_query_hash text default null
) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into app_private.query_cache (user_id, cache_key, cached_data, created_at,
    last_accessed, expires_at, generation_time_ms, tags, query_hash)
  select app_hidden.current_app_user_id(), p_cache_key, p_cached_data, clock.instant,
    clock.instant, clock.instant + p_time_to_live, p_generation_time_ms, p_tags,
    p_query_hash
  from (select clock_timestamp()) as clock (instant)
  on conflict on constraint query_cache_cache_key_hash_user_id_key do update
  set cached_data = excluded.cached_data,
    created_at = excluded.created_at,
    last_accessed = excluded.last_accessed,
    expires_at = excluded.expires_at,
    generation_time_ms = excluded.generation_time_ms,
    tags = excluded.tags,
    query_hash = excluded.query_hash,
    access_count = query_cache.access_count + 1
$$;

grant execute on function
  app_private.query_cache_put(text, jsonb, interval, integer, text[], text)
  to gw_authenticator;
comment on function
  app_private.query_cache_put(text, jsonb, interval, integer, text[], text) is
  'Keeps a result for the current user and a key, in place of an earlier one.';
--! EndIncluded functions/app_private/query_cache_put.sql
--! Included functions/app_private/insights_lock.sql
-- One of 1,024, so that a load of all users takes that many locks at most. Neighbours
-- share one: a write waits for a neighbour's computation, seldom and shortly. Without a
-- search_path of its own, so that it is inlined.
create or replace function app_private.insights_lock(p_user_id uuid) returns integer
language sql immutable strict parallel safe
as $$
  select pg_catalog.uuid_hash(p_user_id) operator(pg_catalog.&) 1023
$$;

comment on function app_private.insights_lock(uuid) is
  'The advisory lock of a user''s insights, 0 to 1023.';
--! EndIncluded functions/app_private/insights_lock.sql
--! Included functions/app_private/compute_insights.sql
create or replace function app_private.compute_insights(
  p_user_id uuid, p_weeks integer, p_time_zone text, p_today date
) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with range as materialized (
    select first.day as first_day, first.day::timestamp at time zone p_time_zone as since
    from (
      select date_trunc('week', p_today::timestamp)::date - 7 * (p_weeks - 1) as day
    ) as first
  ),
  created as (
    select date_trunc('week', tasks.created_at at time zone p_time_zone)::date
        as week_start,
      count(*) as amount
    from app_public.tasks
    where tasks.user_id = p_user_id
      and tasks.created_at >= (select since from range)
    group by 1
  ),
  completed as (
    select date_trunc('week', tasks.completed_at at time zone p_time_zone)::date
        as week_start,
      count(*) as amount
    from app_public.tasks
    where tasks.user_id = p_user_id
      and tasks.completed_at >= (select since from range)
    group by 1
  ),
  reflected as (
    select date_trunc('week', reflections.reflection_date::timestamp)::date as week_start,
      count(*) as amount,
      avg(reflections.mood_score)::double precision as average_mood
    from app_public.reflections
    where reflections.user_id = p_user_id
      and reflections.reflection_date >= (select first_day from range)
    group by 1
  ),
  kept as (
    select date_trunc('week', habit_logs.log_date::timestamp)::date as week_start,
      count(*) as amount,
      count(distinct habit_logs.habit_id) as habits
    from app_public.habit_logs
    where habit_logs.user_id = p_user_id
      and habit_logs.log_date >= (select first_day from range)
    group by 1
  ),
  active as (
    select date_trunc('week', user_activity.occurred_at at time zone p_time_zone)::date
        as week_start,
      count(*) as amount
    from app_public.user_activity
    where user_activity.user_id = p_user_id
      -- The partition key is the day in UTC, and a zone is at most 14 hours away from it.
      and user_activity.activity_date >= (select first_day from range) - 1
      and user_activity.occurred_at >= (select since from range)
    group by 1
  )
  select jsonb_agg(
    jsonb_build_object(
      'week_start', weeks.week_start,
      'tasks_created', coalesce(created.amount, 0),
      'tasks_completed', coalesce(completed.amount, 0),
      'reflections', coalesce(reflected.amount, 0),
      'average_mood', reflected.average_mood,
      'habit_days', coalesce(kept.amount, 0),
      'habits_kept', coalesce(kept.habits, 0),
      'activity', coalesce(active.amount, 0))
    order by weeks.week_start)
  from (
    select range.first_day + 7 * number as week_start
    from range
    cross join generate_series(0, p_weeks - 1) as number
  ) as weeks
  left join created on created.week_start = weeks.week_start
  left join completed on completed.week_start = weeks.week_start
  left join reflected on reflected.week_start = weeks.week_start
  left join kept on kept.week_start = weeks.week_start
  left join active on active.week_start = weeks.week_start
$$;

comment on function app_private.compute_insights(uuid, integer, text, date) is
  'The weeks of a user up to a day, as a JSON array; reads the tables.';
--! EndIncluded functions/app_private/compute_insights.sql
--! Included functions/app_private/cached_insights.sql
-- Two things must not happen: that many compute the same result at once, and that a
-- result is kept which a change, not yet committed while it was computed, has made wrong.
-- One advisory lock serves both: who computes to keep holds it alone, and who changes a
-- user's rows shares it, each until its transaction ends.
create or replace function app_private.cached_insights(p_user_id uuid, p_weeks integer)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  lock_class constant integer := hashtext('app_private.insights');
  lock_key constant integer := app_private.insights_lock(p_user_id);
  time_zone text;
  today date;
  wanted_key text;
  result jsonb;
  may_keep boolean;
  started timestamptz;
begin
  select coalesce(app_hidden.known_zone(users.timezone), 'UTC')
  into time_zone
  from app_public.users
  where users.id = p_user_id;
  if time_zone is null then
    return '[]'::jsonb;
  end if;
  today := (now() at time zone time_zone)::date;
  wanted_key := concat_ws(':', 'insights', p_user_id, p_weeks, time_zone, today);

  result := app_private.query_cache_get(wanted_key);
  if result is not null then
    return result;
  end if;

  -- Nothing can be kept by a read-only transaction, nor one whose view of the data is
  -- older than the lock would be.
  may_keep := not current_setting('transaction_read_only')::boolean
    and current_setting('transaction_isolation') = 'read committed';
  if may_keep then
    may_keep := pg_try_advisory_xact_lock(lock_class, lock_key);
    -- Held by whom? If it can be shared, by those who change rows: then what is computed
    -- now is right for now and not kept. If not, somebody computes: wait for that.
    if not may_keep and not pg_try_advisory_xact_lock_shared(lock_class, lock_key) then
      perform pg_advisory_xact_lock_shared(lock_class, lock_key);
    end if;
    -- Each statement of this function sees what was committed before it.
    select query_cache.cached_data into result
    from app_private.query_cache
    where query_cache.cache_key_hash = app_private.sha256_hex(wanted_key)
      and query_cache.user_id = p_user_id
      and query_cache.expires_at > clock_timestamp();
    if result is not null then
      return result;
    end if;
  end if;

  started := clock_timestamp();
  result := app_private.compute_insights(p_user_id, p_weeks, time_zone, today);
  if may_keep then
    perform app_private.query_cache_put(wanted_key, result, interval '1 hour',
      (extract(epoch from clock_timestamp() - started) * 1000)::integer,
      array['insights', 'insights:' || p_user_id], 'insights');
  end if;
  return result;
end
$$;

comment on function app_private.cached_insights(uuid, integer) is
  'The weeks of a user up to today: from the cache, or computed and kept for an hour.';
--! EndIncluded functions/app_private/cached_insights.sql
--! Included functions/app_public/insights.sql
-- Definer: nobody may write the cache by themselves. It computes and keeps what belongs
-- to the calling user only.
create or replace function app_public.insights(weeks integer default 12)
returns setof app_public.insight_week
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  caller uuid := app_hidden.current_app_user_id();
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  if weeks is null or weeks not between 1 and 100 then
    raise exception 'weeks must be between 1 and 100' using errcode = 'GW002';
  end if;
  return query
  select insight_week.*
  from jsonb_populate_recordset(
    null::app_public.insight_week, app_private.cached_insights(caller, weeks)
  ) as insight_week;
end
$$;

grant execute on function app_public.insights(integer) to app_user;
comment on function app_public.insights(integer) is
  'Your last weeks, this one included, for charts: at most 100, oldest first.';
--! EndIncluded functions/app_public/insights.sql
--! Included functions/app_private/invalidate_insights.sql
-- See cached_insights() for the lock.
create or replace function app_private.invalidate_insights(p_user_ids uuid[]) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  lock_class constant integer := hashtext('app_private.insights');
begin
  -- Shared: changes do not wait for each other, only for a computation to end.
  if cardinality(p_user_ids) = 1 then
    perform pg_advisory_xact_lock_shared(
      lock_class, app_private.insights_lock(p_user_ids[1]));
    -- By the index of users: that of tags would find everybody's.
    delete from app_private.query_cache
    where query_cache.user_id = p_user_ids[1]
      and 'insights' = any (query_cache.tags);
    return;
  end if;

  perform pg_advisory_xact_lock_shared(lock_class, locks.key)
  from (
    select distinct app_private.insights_lock(user_id) as key
    from unnest(p_user_ids) as user_id
    order by 1
  ) as locks;
  delete from app_private.query_cache
  where query_cache.user_id = any (p_user_ids)
    and 'insights' = any (query_cache.tags);
end
$$;

comment on function app_private.invalidate_insights(uuid[]) is
  'Deletes the cached insights of users.';
--! EndIncluded functions/app_private/invalidate_insights.sql
