--! Previous: sha1:c72767dafa072460596c2ab2ff6ea2730b296b91
--! Hash: sha1:f30a01c5de4c04867985d7d7eebe3511ddf5e7e4
--! Message: live
--! Baseline: topics/36-live.sql

/*
 * Live subscriptions: which users are watched, and the notifications for their API
 * processes. And the triggers for everything that follows a change of a user's rows:
 * activity, cached insights, notifications.
 *
 * Triggers notify only for users whom somebody watches, so a bulk load costs nothing.
 */

-- The users whose changes an API process listens for. Unlogged: a crash empties the table
-- and ends the listening connections too. No foreign key: a lease outlives a deleted user
-- by two minutes at most.
create unlogged table app_private.live_users (
  user_id uuid not null,
  expires_at timestamptz not null,
  constraint live_users_pkey primary key (user_id)
);

alter table app_private.live_users enable row level security;

comment on table app_private.live_users is
  'Users with a live subscription in some API process, until expires_at.';

--! Included functions/app_private/watch_live.sql
-- Definer: nobody may read or write live_users by themselves. It says that an API process
-- will tell these users, for two minutes, of what changes; who calls repeats it in time.
create or replace function app_private.watch_live(p_user_ids uuid[]) returns setof uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    with known as (
      select live_users.user_id
      from app_private.live_users
      where live_users.user_id = any (p_user_ids)
        and live_users.expires_at > clock_timestamp()
    ),
    leased as (
      insert into app_private.live_users as live_users (user_id, expires_at)
      select asked.user_id, clock_timestamp() + interval '2 minutes'
      -- In one order, so that two processes cannot wait for each other.
      from (select distinct unnest(p_user_ids) as user_id order by 1) as asked
      on conflict (user_id) do update
        set expires_at = greatest(live_users.expires_at, excluded.expires_at)
      returning live_users.user_id
    )
    select leased.user_id from leased
    except
    select known.user_id from known;
  delete from app_private.live_users
  where user_id in (
    select expired.user_id
    from app_private.live_users as expired
    where expired.expires_at < clock_timestamp()
    for update skip locked
  );
end
$$;

grant execute on function app_private.watch_live(uuid[]) to gw_authenticator;
comment on function app_private.watch_live(uuid[]) is
  'Keeps these users watched for two minutes; returns those that were not watched before.';
--! EndIncluded functions/app_private/watch_live.sql
--! Included functions/app_private/live_writers.sql
-- Definer: the API's login role may not look up names in app_public. It tells nothing but
-- which transactions, by their virtual ids, have written a table that is watched.
create or replace function app_private.live_writers() returns text[]
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(distinct pg_locks.virtualtransaction), '{}')
  from pg_locks
  where pg_locks.locktype = 'relation'
    and pg_locks.database = (
      select pg_database.oid from pg_database where datname = current_database())
    and pg_locks.relation in ('app_public.tasks'::regclass, 'app_public.goals'::regclass,
      'app_public.habits'::regclass, 'app_public.habit_logs'::regclass,
      'app_public.reflections'::regclass, 'app_public.chat_messages'::regclass,
      'app_public.user_dashboard_aggregates'::regclass, 'app_public.message_logs'::regclass)
    and pg_locks.mode = 'RowExclusiveLock'
$$;

grant execute on function app_private.live_writers() to gw_authenticator;
comment on function app_private.live_writers() is
  'Transactions in flight that wrote a watched table, perhaps before somebody watched.';
--! EndIncluded functions/app_private/live_writers.sql
--! Included functions/app_private/notify_live.sql
-- One notification holds less than 8,000 bytes: users are told in parts, and of a user
-- with more than 20 rows only that there are many.
create or replace function app_private.notify_live(
  p_topic text, p_event text, p_user_ids uuid[], p_keys text[]
) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with per_user as (
    select json_build_array(changed.user_id,
      case when count(*) <= 20 then json_agg(changed.key) end) as entry
    from unnest(p_user_ids, p_keys) as changed (user_id, key)
    group by changed.user_id
  ),
  parts as (
    select per_user.entry,
      sum(length(per_user.entry::text) + 2) over (rows unbounded preceding) / 6000 as part
    from per_user
  )
  select pg_notify('gw_live', json_build_object('topic', p_topic, 'event', p_event,
    'users', json_agg(parts.entry))::text)
  from parts
  group by trunc(parts.part)
$$;

comment on function app_private.notify_live(text, text, uuid[], text[]) is
  'Tells API processes that rows of these users changed: user and key, pair by pair.';
--! EndIncluded functions/app_private/notify_live.sql
--! Included functions/app_private/tg__notify.sql
-- Arguments: the topic; the columns of the key, with commas; for an update, the columns
-- without whose change a row is no news (none: every row is).
--
-- Definer: a writer may not read who is watching. The rows of nobody who is watched send
-- nothing: a notification makes its transaction wait for the commit of every other that
-- has one.
--
-- Each row costs one look at an index, whatever was planned when a session's first
-- statement had one row and its next has 100,000: a sub-select is never made a join, and
-- without seqscan it uses the index.
create or replace function app_private.tg__notify() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  topic constant text := tg_argv[0];
  key_columns constant text[] := string_to_array(tg_argv[1], ',');
  changed_columns constant text[] := string_to_array(tg_argv[2], ',');
  is_watched boolean;
  key_text text;
  rows_sql text;
  told_sql text;
  users uuid[];
  keys text[];
begin
  if not exists (select from app_private.live_users) then
    return null;
  end if;
  -- Most statements change rows of nobody who is watched: their columns are not read.
  if tg_op = 'DELETE' then
    is_watched := exists (
      select from old_rows
      where (select live_users.expires_at from app_private.live_users
          where live_users.user_id = old_rows.user_id) > now());
  else
    is_watched := exists (
      select from new_rows
      where (select live_users.expires_at from app_private.live_users
          where live_users.user_id = new_rows.user_id) > now());
  end if;
  if not is_watched then
    return null;
  end if;

  select string_agg(
    case when pg_attribute.atttypid = 'timestamptz'::regtype
      then format('to_char(%I at time zone ''UTC'', ''YYYY-MM-DD"T"HH24:MI:SS.US"Z"'')',
        pg_attribute.attname)
      else format('%I::text', pg_attribute.attname) end,
    ' || '' '' || ' order by array_position(key_columns, pg_attribute.attname::text))
  into key_text
  from pg_attribute
  where pg_attribute.attrelid = tg_relid
    and pg_attribute.attname = any (key_columns);

  rows_sql := 'select user_id, '
    || (select string_agg(quote_ident(name), ', ')
        from unnest(key_columns || changed_columns) as name)
    || ' from %I as changed where (select live_users.expires_at from app_private.live_users'
      ' where live_users.user_id = changed.user_id) > now()';
  told_sql := case
    when tg_op = 'DELETE' then format(rows_sql, 'old_rows')
    when changed_columns is null then format(rows_sql, 'new_rows')
    -- EXCEPT sorts or hashes, however many rows there are.
    else format(rows_sql || ' except ' || rows_sql, 'new_rows', 'old_rows')
  end;
  execute format('select array_agg(user_id), array_agg(%s) from (%s) as told',
    key_text, told_sql)
  into users, keys;
  if users is not null then
    perform app_private.notify_live(topic, tg_op, users, keys);
  end if;
  return null;
end
$$;

comment on function app_private.tg__notify() is
  'Tells API processes of rows of watched users that a statement made, changed or deleted.';
--! EndIncluded functions/app_private/tg__notify.sql

create trigger _900_notify_insert after insert on app_public.user_dashboard_aggregates
  referencing new table as new_rows
  for each statement
  execute function app_private.tg__notify('dashboard', 'agg_date');

create trigger _900_notify_update after update on app_public.user_dashboard_aggregates
  referencing new table as new_rows
  for each statement
  execute function app_private.tg__notify('dashboard', 'agg_date');

create trigger _900_notify_delete after delete on app_public.user_dashboard_aggregates
  referencing old table as old_rows
  for each statement
  execute function app_private.tg__notify('dashboard', 'agg_date');

-- Planning a message is not reported. Changes of its status are, and that it was read.
create trigger _900_notify_update after update on app_public.message_logs
  referencing old table as old_rows new table as new_rows
  for each statement
  execute function app_private.tg__notify('message', 'id,scheduled_send_time', 'status,read_at');

-- A message of a chat is never changed, and whoever deletes one knows it.
create trigger _900_notify_insert after insert on app_public.chat_messages
  referencing new table as new_rows
  for each statement
  execute function app_private.tg__notify('chat_message', 'chat_id,id');

-- One trigger for each event: it writes the activity, deletes cached insights, and notifies.
-- insights() counts the activity too, so both follow the same tables. Statement-level: a
-- statement of a thousand rows writes the activity with one insert.
--! Included functions/app_private/tg__changes.sql
-- Definer: no role may insert into user_activity, write the cache, or read who is watching.
-- The trigger writes rows about the statement only, with the user_id of the changed rows.
-- When a user is deleted, the deletes cascade: users who are gone get no activity.
--
-- One function for the three, because each trigger on a statement has its own cost. Its
-- plans are kept: the next statement may have 100,000 rows where the first had one. So old
-- and new rows are never joined by a loop, and a sub-select looks up each user by an index.
create or replace function app_private.tg__changes() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
set enable_seqscan = off
as $$
declare
  entity_type constant text := tg_argv[0];
  is_live constant boolean := tg_nargs > 1;
  changed uuid[];
  watched uuid[];
  keys text[];
begin
  if tg_op = 'INSERT' then
    changed := array(select distinct new_rows.user_id from new_rows);
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'created', entity_type, new_rows.id
    from new_rows;
  elsif tg_op = 'DELETE' then
    changed := array(select distinct old_rows.user_id from old_rows);
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select old_rows.user_id, 'deleted', entity_type, old_rows.id
    from old_rows
    where (select true from app_public.users where users.id = old_rows.user_id);
  else
    -- user_id never changes.
    changed := array(select distinct new_rows.user_id from new_rows);
    -- Compared as JSON, because not every table has a status.
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select pairs.user_id,
      case when pairs.new_row ->> 'status' = 'done' and pairs.old_row ->> 'status' <> 'done'
        then 'completed' else 'updated' end,
      entity_type, pairs.id
    from (
      select new_rows.user_id, new_rows.id, to_jsonb(new_rows) as new_row,
        to_jsonb(old_rows) as old_row
      from new_rows
      inner join old_rows on old_rows.user_id = new_rows.user_id
        and old_rows.id = new_rows.id
    ) as pairs
    where (pairs.new_row - 'updated_at') is distinct from (pairs.old_row - 'updated_at');
  end if;
  if cardinality(changed) = 0 then
    return null;
  end if;
  perform app_private.invalidate_insights(changed);

  -- A notification makes its transaction wait for the commit of every other that has one,
  -- so rows of users whom nobody watches send none.
  if is_live and exists (select from app_private.live_users) then
    if tg_op = 'DELETE' then
      select array_agg(old_rows.user_id), array_agg(old_rows.id::text)
      into watched, keys
      from old_rows
      where (select live_users.expires_at from app_private.live_users
          where live_users.user_id = old_rows.user_id) > now();
    else
      select array_agg(new_rows.user_id), array_agg(new_rows.id::text)
      into watched, keys
      from new_rows
      where (select live_users.expires_at from app_private.live_users
          where live_users.user_id = new_rows.user_id) > now();
    end if;
    if watched is not null then
      perform app_private.notify_live(entity_type, tg_op, watched, keys);
    end if;
  end if;
  return null;
end
$$;

comment on function app_private.tg__changes() is
  'Records the rows of a statement in user_activity, deletes the cached insights of their '
  'users, and notifies those who watch. For tables with an id; arguments: the entity_type, '
  'and live for a table with subscriptions.';
--! EndIncluded functions/app_private/tg__changes.sql
--! Included functions/app_private/tg_habit_logs__changes.sql
-- Definer, and without loops, for the reasons of tg__changes(). A log has no id of its own,
-- so entity_id is the id of its habit.
create or replace function app_private.tg_habit_logs__changes() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set enable_nestloop = off
set enable_seqscan = off
as $$
declare
  changed uuid[];
  watched uuid[];
  keys text[];
begin
  if tg_op = 'INSERT' then
    changed := array(select distinct new_rows.user_id from new_rows);
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'created', 'habit_log', new_rows.habit_id
    from new_rows;
  elsif tg_op = 'DELETE' then
    changed := array(select distinct old_rows.user_id from old_rows);
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select old_rows.user_id, 'deleted', 'habit_log', old_rows.habit_id
    from old_rows
    where (select true from app_public.users where users.id = old_rows.user_id);
  else
    changed := array(select distinct new_rows.user_id from new_rows);
    insert into app_public.user_activity (user_id, action, entity_type, entity_id)
    select new_rows.user_id, 'updated', 'habit_log', new_rows.habit_id
    from new_rows
    inner join old_rows on old_rows.user_id = new_rows.user_id
      and old_rows.habit_id = new_rows.habit_id
      and old_rows.log_date = new_rows.log_date
    where old_rows.note <> new_rows.note;
  end if;
  if cardinality(changed) = 0 then
    return null;
  end if;
  perform app_private.invalidate_insights(changed);

  -- Nobody who is not watched sends anything: see tg__changes().
  if exists (select from app_private.live_users) then
    if tg_op = 'DELETE' then
      select array_agg(old_rows.user_id),
        array_agg(old_rows.habit_id || ' ' || to_char(old_rows.log_date, 'YYYY-MM-DD'))
      into watched, keys
      from old_rows
      where (select live_users.expires_at from app_private.live_users
          where live_users.user_id = old_rows.user_id) > now();
    else
      select array_agg(new_rows.user_id),
        array_agg(new_rows.habit_id || ' ' || to_char(new_rows.log_date, 'YYYY-MM-DD'))
      into watched, keys
      from new_rows
      where (select live_users.expires_at from app_private.live_users
          where live_users.user_id = new_rows.user_id) > now();
    end if;
    if watched is not null then
      perform app_private.notify_live('habit_log', tg_op, watched, keys);
    end if;
  end if;
  return null;
end
$$;

comment on function app_private.tg_habit_logs__changes() is
  'Records the rows of a statement on habit_logs in user_activity, deletes the cached '
  'insights of their users, and notifies those who watch.';
--! EndIncluded functions/app_private/tg_habit_logs__changes.sql

create trigger _900_changes_insert after insert on app_public.tasks
  referencing new table as new_rows
  for each statement execute function app_private.tg__changes('task', 'live');

create trigger _900_changes_update after update on app_public.tasks
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__changes('task', 'live');

create trigger _900_changes_delete after delete on app_public.tasks
  referencing old table as old_rows
  for each statement execute function app_private.tg__changes('task', 'live');

create trigger _900_changes_insert after insert on app_public.goals
  referencing new table as new_rows
  for each statement execute function app_private.tg__changes('goal', 'live');

create trigger _900_changes_update after update on app_public.goals
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__changes('goal', 'live');

create trigger _900_changes_delete after delete on app_public.goals
  referencing old table as old_rows
  for each statement execute function app_private.tg__changes('goal', 'live');

create trigger _900_changes_insert after insert on app_public.habits
  referencing new table as new_rows
  for each statement execute function app_private.tg__changes('habit', 'live');

create trigger _900_changes_update after update on app_public.habits
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__changes('habit', 'live');

create trigger _900_changes_delete after delete on app_public.habits
  referencing old table as old_rows
  for each statement execute function app_private.tg__changes('habit', 'live');

create trigger _900_changes_insert after insert on app_public.habit_logs
  referencing new table as new_rows
  for each statement execute function app_private.tg_habit_logs__changes();

create trigger _900_changes_update after update on app_public.habit_logs
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_habit_logs__changes();

create trigger _900_changes_delete after delete on app_public.habit_logs
  referencing old table as old_rows
  for each statement execute function app_private.tg_habit_logs__changes();

create trigger _900_changes_insert after insert on app_public.reflections
  referencing new table as new_rows
  for each statement execute function app_private.tg__changes('reflection', 'live');

create trigger _900_changes_update after update on app_public.reflections
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg__changes('reflection', 'live');

create trigger _900_changes_delete after delete on app_public.reflections
  referencing old table as old_rows
  for each statement execute function app_private.tg__changes('reflection', 'live');
