--! Previous: sha1:6bc8baa205a89f0f99fbcc1ba6eecba8b43d12d1
--! Hash: sha1:6380e1754962380fe19593f085cd379fc67665e7
--! Message: telemetry

--! split: 0001-telemetry.sql
/*
 * Telemetry: ops.metrics() gives a scraper every figure of the database; a request's
 * trace reaches the jobs that it causes; insights() gives charts their weeks from the
 * query cache, which changes of the user's rows empty.
 *
 * Locks: SHARE ROW EXCLUSIVE for a moment on tasks, goals, habits, habit_logs and
 * reflections, for their new triggers.
 */

-- squawk-ignore-file ban-drop-table

-- Counters of the cache. Sequences, because hits must neither wait for each other nor be
-- undone by a transaction that fails; unlogged as the cache is.
drop sequence if exists app_private.query_cache_hits, app_private.query_cache_misses;
create unlogged sequence app_private.query_cache_hits;
create unlogged sequence app_private.query_cache_misses;

comment on sequence app_private.query_cache_hits is
  'How often query_cache_get() had a result.';
comment on sequence app_private.query_cache_misses is
  'How often query_cache_get() had none.';

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
--! EndIncluded functions/app_private/query_cache_put.sql

drop function if exists app_public.insights(integer);
drop type if exists app_public.insight_week;
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

--! Included functions/app_private/insights_lock.sql
-- One of 1,024, so that a load of all users takes that many locks at most. Neighbours
-- share one: a write waits for a neighbour's computation, seldom and shortly. Without a
-- search_path of its own, so that it is inlined.
create or replace function app_private.insights_lock(p_user_id uuid) returns integer
language sql immutable strict parallel safe
as $$
  select pg_catalog.uuid_hash(p_user_id) operator(pg_catalog.&) 1023
$$;
--! EndIncluded functions/app_private/insights_lock.sql
comment on function app_private.insights_lock(uuid) is
  'The advisory lock of a user''s insights, 0 to 1023.';
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
--! EndIncluded functions/app_private/compute_insights.sql
comment on function app_private.compute_insights(uuid, integer, text, date) is
  'The weeks of a user up to a day, as a JSON array; reads the tables.';
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
  select users.timezone, (now() at time zone users.timezone)::date
  into time_zone, today
  from app_public.users
  where users.id = p_user_id;
  if time_zone is null then
    return '[]'::jsonb;
  end if;
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
--! EndIncluded functions/app_private/cached_insights.sql
comment on function app_private.cached_insights(uuid, integer) is
  'The weeks of a user up to today: from the cache, or computed and kept for an hour.';
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
--! EndIncluded functions/app_public/insights.sql
grant execute on function app_public.insights(integer) to app_user;
comment on function app_public.insights(integer) is
  'Your last weeks, this one included, for charts: at most 100, oldest first.';

--! Included functions/app_private/tg__invalidate_insights.sql
-- Definer: nobody but the owner may write the cache. It deletes only what was computed
-- for the users whose rows the statement has changed. See cached_insights() for the lock.
create or replace function app_private.tg__invalidate_insights() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  lock_class constant integer := hashtext('app_private.insights');
  changed uuid[];
begin
  -- user_id never changes, so either side of an update has all users.
  if tg_op = 'DELETE' then
    changed := array(select distinct old_rows.user_id from old_rows);
  else
    changed := array(select distinct new_rows.user_id from new_rows);
  end if;
  if cardinality(changed) = 0 then
    return null;
  end if;

  -- Shared: changes do not wait for each other, only for a computation to end.
  if cardinality(changed) = 1 then
    perform pg_advisory_xact_lock_shared(
      lock_class, app_private.insights_lock(changed[1]));
    -- By the index of users: that of tags would find everybody's.
    delete from app_private.query_cache
    where query_cache.user_id = changed[1]
      and 'insights' = any (query_cache.tags);
    return null;
  end if;

  perform pg_advisory_xact_lock_shared(lock_class, locks.key)
  from (
    select distinct app_private.insights_lock(user_id) as key
    from unnest(changed) as user_id
    order by 1
  ) as locks;
  delete from app_private.query_cache
  where query_cache.user_id = any (changed)
    and 'insights' = any (query_cache.tags);
  return null;
end
$$;
--! EndIncluded functions/app_private/tg__invalidate_insights.sql
comment on function app_private.tg__invalidate_insights() is
  'Drops the cached insights of the users whose rows a statement has changed.';

-- The activity, which insights() counts too, is written by triggers of the same tables.
do $triggers$
declare
  target text;
begin
  foreach target in array
    array['tasks', 'goals', 'habits', 'habit_logs', 'reflections']
  loop
    execute pg_catalog.format('
      drop trigger if exists _900_invalidate_insert on app_public.%1$I;
      drop trigger if exists _900_invalidate_update on app_public.%1$I;
      drop trigger if exists _900_invalidate_delete on app_public.%1$I;
      create trigger _900_invalidate_insert after insert on app_public.%1$I
        referencing new table as new_rows
        for each statement execute function app_private.tg__invalidate_insights();
      create trigger _900_invalidate_update after update on app_public.%1$I
        referencing new table as new_rows
        for each statement execute function app_private.tg__invalidate_insights();
      create trigger _900_invalidate_delete after delete on app_public.%1$I
        referencing old table as old_rows
        for each statement execute function app_private.tg__invalidate_insights();
    ', target);
  end loop;
end
$triggers$;

--! Included functions/ops/metrics.sql
-- Definer: monitoring counts what it may not read. Labels hold names of queues, tables,
-- jobs and roles; nothing of a user. Each part reads an index's range or a small table.
create or replace function ops.metrics()
returns table (name text, labels jsonb, value double precision, help text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  hits double precision;
  misses double precision;
begin
  -- A queue's oldest job that could run but does not says that workers are too few. Active
  -- and failed jobs are those that the workers last counted: no index has them.
  return query
  with waiting as (
    select job.name as queue,
      count(*) filter (where job.start_after > now()) as deferred,
      count(*) filter (where job.start_after <= now()) as ready,
      min(job.start_after) filter (where job.start_after <= now()) as oldest
    from pgboss.job
    where job.state < 'active'
      and not job.blocked
    group by job.name
  )
  select measured.metric,
    jsonb_build_object('queue', queue.name, 'state', measured.state),
    measured.amount,
    case measured.metric
      when 'gw_queue_jobs' then 'Jobs by queue and state.'
      else 'For how long the oldest job that is due has waited, in seconds.' end
  from pgboss.queue
  left join waiting on waiting.queue = queue.name
  cross join lateral (values
    ('gw_queue_jobs', 'deferred', coalesce(waiting.deferred, 0)::double precision),
    ('gw_queue_jobs', 'ready', coalesce(waiting.ready, 0)::double precision),
    ('gw_queue_jobs', 'active', queue.active_count::double precision),
    ('gw_queue_jobs', 'failed', queue.failed_count::double precision),
    ('gw_queue_oldest_seconds', 'ready',
      coalesce(extract(epoch from now() - waiting.oldest), 0)::double precision)
  ) as measured (metric, state, amount);

  return query
  select 'gw_messages',
    jsonb_build_object('type', types.message_type, 'status', statuses.status),
    count(message_logs.id)::double precision,
    'Messages that were due in the last 24 hours, by type and status.'
  from unnest(array['BIRTHDAY', 'ANNIVERSARY', 'DIGEST']) as types (message_type)
  cross join unnest(array['SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'RETRYING', 'FAILED',
    'CANCELLED', 'EXPIRED', 'UNKNOWN']) as statuses (status)
  left join app_public.message_logs
    on message_logs.message_type = types.message_type
    and message_logs.status = statuses.status
    and message_logs.scheduled_send_time > now() - interval '24 hours'
    and message_logs.scheduled_send_time <= now()
  group by types.message_type, statuses.status;

  return query
  select 'gw_message_lateness_seconds', '{}'::jsonb,
    coalesce(extract(epoch from now() - min(overdue.oldest)), 0)::double precision,
    'How late the latest message is that is due and waits, in seconds; not those held by '
      'quiet hours.'
  from ops.overdue_messages(interval '0') as overdue;

  return query
  select measured.metric, jsonb_build_object('slot', status.slot_name),
    measured.amount, measured.help
  from ops.change_capture_status as status
  cross join lateral (values
    ('gw_cdc_lag_bytes', status.lag_bytes::double precision,
      'Write-ahead log that change capture has not confirmed, in bytes.'),
    ('gw_cdc_lag_seconds', status.lag_seconds,
      'How far change capture is behind, in seconds.'),
    ('gw_cdc_active', status.active::integer::double precision,
      'Whether change capture is connected.')
  ) as measured (metric, amount, help)
  where measured.amount is not null;

  -- Dynamic SQL, because the shadow database and test databases have no schema "cron".
  if exists (select from pg_extension where extname = 'pg_cron') then
    return query execute $sql$
      select 'gw_cron_failures', jsonb_build_object('job', job.jobname),
        count(details.runid)::double precision,
        'Failed runs of a pg_cron job in the last 24 hours.'
      from cron.job
      left join cron.job_run_details as details
        on details.jobid = job.jobid
        and details.status = 'failed'
        and details.start_time > now() - interval '24 hours'
      where job.database = current_database()
        and job.jobname is not null
      group by job.jobname
    $sql$;
  end if;

  return query
  select 'gw_partition_months_ahead',
    jsonb_build_object('table', partition_policies.parent_table::text),
    greatest(0, extract(epoch from
      coalesce(max(bounds.upper_bound), now()) - now()) / 2629746)::double precision,
    'For how many months from now the table has partitions.'
  from ops.partition_policies
  inner join pg_class as parent on parent.oid = partition_policies.parent_table
  left join pg_inherits on pg_inherits.inhparent = partition_policies.parent_table
  left join pg_class as child on child.oid = pg_inherits.inhrelid
  left join lateral (
    select substring(pg_get_expr(child.relpartbound, child.oid)
      from ' TO \(''([^'']+)''\)$')::timestamptz
  ) as bounds (upper_bound) on true
  group by partition_policies.parent_table;

  return query
  select 'gw_backup_age_seconds', '{}'::jsonb,
    coalesce(extract(epoch from now() - max(backups.finished_at)), 'Infinity')
      ::double precision,
    'How long ago the last verified backup of the whole database ended; +Inf without.'
  from ops.backups
  where backups.verified_at is not null
    and backups.tables is null;

  return query
  select 'gw_alerts_open', jsonb_build_object('level', levels.level),
    count(alerts.id)::double precision, 'Alerts that are open.'
  from unnest(array['warning', 'critical']) as levels (level)
  left join ops.alerts on alerts.level = levels.level and alerts.resolved_at is null
  group by levels.level;

  return query
  select 'gw_database_connections',
    jsonb_build_object('role', coalesce(pg_stat_activity.usename::text, 'none')),
    count(*)::double precision, 'Connections to this database, by role.'
  from pg_stat_activity
  where pg_stat_activity.datname = current_database()
  group by pg_stat_activity.usename;

  select coalesce(pg_sequence_last_value('app_private.query_cache_hits'), 0),
    coalesce(pg_sequence_last_value('app_private.query_cache_misses'), 0)
  into hits, misses;
  return query values
    ('gw_query_cache_hits_total', '{}'::jsonb, hits, 'Results that the cache had.'),
    ('gw_query_cache_misses_total', '{}'::jsonb, misses, 'Results that it did not have.'),
    ('gw_query_cache_hit_ratio', '{}'::jsonb, hits / nullif(hits + misses, 0),
      'Hits of all reads, from 0 to 1, since the counters began.');
end
$$;
--! EndIncluded functions/ops/metrics.sql
grant execute on function ops.metrics() to gw_authenticator, gw_monitor;
comment on function ops.metrics() is
  'Figures for a scraper, of queues, messages, change capture, cron, backups and more.';
