--! Previous: sha1:19d686d0e0596c5fc74e14b63a699577db0493ff
--! Hash: sha1:eec07ce8c58661d21ed479830019079746cafe4f
--! Message: change-capture
--! Baseline: topics/38-change-capture.sql

/*
 * Change data capture: the consumer's position, the rows as it counted them, and the
 * functions that apply changes.
 *
 * "gw cdc" reads the write-ahead log and calls apply_changes(). Aggregates and position
 * change in one transaction, so each change counts exactly once.
 */

-- One row a slot. The transaction that changes the aggregates writes it too, so this row,
-- not the slot, says how far the aggregates are. The slot is confirmed afterwards, never
-- further.
create table ops.change_capture (
  slot_name text not null,
  plugin text not null,
  state text not null,
  applied_lsn pg_lsn,
  applied_at timestamptz,
  committed_at timestamptz,
  snapshot_lsn pg_lsn,
  snapshot_at timestamptz,
  snapshot_started_at timestamptz,
  snapshot_waits_for xid8,
  snapshot_users bigint not null default 0,
  counted_users bigint not null default 0,
  counted_below uuid,
  counted_until pg_lsn,
  recounts timestamptz[] not null default '{}',
  resnapshot_requested boolean not null default false,
  hold_lsn pg_lsn,
  partitions regclass[] not null default '{}',
  error text,
  constraint change_capture_pkey primary key (slot_name),
  constraint change_capture_plugin_check check (plugin in ('wal2json', 'pgoutput')),
  constraint change_capture_state_check
    check (state in ('running', 'stopped', 'failed', 'snapshotting')),
  constraint change_capture_applied_lsn_check
    check (applied_lsn is not null or state in ('snapshotting', 'failed'))
)
-- Updated with each batch: room for the new version on the same page.
with (fillfactor = 20);

alter table ops.change_capture enable row level security;

create policy everything on ops.change_capture
  for select to gw_monitor, gw_cdc
  using (true);

-- Monitoring only reads: the functions below write.
grant select on ops.change_capture to gw_monitor, gw_cdc;

comment on table ops.change_capture is
  'How far change capture is: one row for each slot that gw cdc has read.';
comment on column ops.change_capture.plugin is 'The slot''s output plugin.';
comment on column ops.change_capture.state is
  'running, stopped, failed (see error) or snapshotting.';
comment on column ops.change_capture.applied_lsn is
  'Every change that was committed before this position is in the aggregates, none after.';
comment on column ops.change_capture.applied_at is 'When applied_lsn was written.';
comment on column ops.change_capture.committed_at is
  'When the last applied transaction had committed.';
comment on column ops.change_capture.snapshot_lsn is
  'Where the latest count of all tables ended.';
comment on column ops.change_capture.snapshot_at is 'When the latest count of all tables ended.';
comment on column ops.change_capture.snapshot_started_at is
  'Since when all tables are being counted, in slices; null when none is under way.';
comment on column ops.change_capture.snapshot_waits_for is
  'Counting begins when this transaction and those before it have ended.';
comment on column ops.change_capture.snapshot_users is 'How many users are to be counted.';
comment on column ops.change_capture.counted_users is 'How many users are counted.';
comment on column ops.change_capture.counted_below is
  'Users below it are counted, and their changes are applied; null when all are.';
comment on column ops.change_capture.counted_until is
  'What the slices have seen lies before this position: from here on the aggregates are those of one position.';
comment on column ops.change_capture.recounts is
  'When everything was counted anew, in the last 24 hours; the first count is none.';
comment on column ops.change_capture.resnapshot_requested is
  'Asks the consumer for a new snapshot.';
comment on column ops.change_capture.hold_lsn is
  'The consumer waits at this position while gw cdc reconcile compares; null otherwise.';
comment on column ops.change_capture.partitions is
  'The partitions of tasks when everything was counted. When they are others, it is counted anew: what a table had before it was attached is not in the log.';
comment on column ops.change_capture.error is 'Why change capture failed.';

-- The rows as change capture counted them. No foreign keys: these tables follow the log
-- and lag behind. They keep the days that were counted, so a later subtraction hits the
-- same day, even when tzdata has changed.
create table app_private.captured_users (
  user_id uuid not null,
  timezone text not null,
  constraint captured_users_pkey primary key (user_id)
);

alter table app_private.captured_users enable row level security;

comment on table app_private.captured_users is
  'The zone in which each user''s days were counted.';

create table app_private.captured_tasks (
  user_id uuid not null,
  id uuid not null,
  created_at timestamptz not null,
  completed_at timestamptz,
  created_on date,
  completed_on date,
  constraint captured_tasks_pkey primary key (user_id, id)
);

-- Tasks of users whose time zone the server does not know: few, or none.
create index captured_tasks_user_id_idx_where_set_aside
  on app_private.captured_tasks (user_id)
  where created_on is null;

alter table app_private.captured_tasks enable row level security;

comment on table app_private.captured_tasks is 'Each task as change capture counted it.';
comment on column app_private.captured_tasks.created_on is
  'The day for which it counts as created; null while the server does not know the zone.';
comment on column app_private.captured_tasks.completed_on is
  'The day for which it counts as completed.';

create table app_private.captured_reflections (
  user_id uuid not null,
  id uuid not null,
  reflection_date date not null,
  mood_score smallint,
  constraint captured_reflections_pkey primary key (user_id, id)
);

alter table app_private.captured_reflections enable row level security;

comment on table app_private.captured_reflections is
  'Each reflection as change capture counted it.';

-- Signals for the consumer. A row is inserted and deleted at once: the consumer reads it
-- from the log.
create table app_private.capture_signals (
  id bigint generated always as identity,
  kind text not null,
  object text not null,
  constraint capture_signals_pkey primary key (id),
  constraint capture_signals_kind_check check (kind in ('heartbeat', 'truncated'))
);

alter table app_private.capture_signals enable row level security;

comment on table app_private.capture_signals is
  'Always empty. Heartbeats and truncations of partitions reach the log through it.';

-- Between the commit that the log tells and the instant from which others see it lies some time:
-- as long as a standby needs, when commits wait for one.
create table app_private.capture_omissions (
  xid xid8 not null,
  constraint capture_omissions_pkey primary key (xid)
);

alter table app_private.capture_omissions enable row level security;

comment on table app_private.capture_omissions is
  'Transactions with changes of users who were not counted yet. The next slice waits until it sees them.';

-- gw cdc reconcile fills it. Unlogged: each reconcile fills it again.
create unlogged table app_private.capture_expectations (
  user_id uuid not null,
  agg_date date not null,
  tasks_created integer not null,
  tasks_completed integer not null,
  reflections_count integer not null,
  mood_sum integer not null,
  mood_count integer not null,
  constraint capture_expectations_pkey primary key (user_id, agg_date)
);

alter table app_private.capture_expectations enable row level security;

comment on table app_private.capture_expectations is
  'The aggregates computed from the tables, at the position of the latest reconcile.';

-- Unlogged: after a crash, or on a promoted standby, nobody holds the lock.
create unlogged table app_private.capture_leases (
  slot_name text not null,
  pid integer not null,
  renewed_at timestamptz not null,
  constraint capture_leases_pkey primary key (slot_name)
);

alter table app_private.capture_leases enable row level security;

create policy everyone on app_private.capture_leases
  for select to gw_cdc
  using (true);

grant select on app_private.capture_leases to gw_cdc;

comment on table app_private.capture_leases is
  'When the consumer of a slot last said that it works. Another ends it when that is long ago.';
comment on column app_private.capture_leases.pid is
  'The backend that holds the consumer''s advisory lock.';

-- Both views count by the same rules: one the captured rows, one the tables.
create view app_private.captured_aggregates as
  select user_id, agg_date,
    sum(tasks_created)::integer as tasks_created,
    sum(tasks_completed)::integer as tasks_completed,
    sum(reflections_count)::integer as reflections_count,
    sum(mood_sum)::integer as mood_sum,
    sum(mood_count)::integer as mood_count
  from (
    select user_id, created_on as agg_date, count(*) as tasks_created, 0 as tasks_completed,
      0 as reflections_count, 0 as mood_sum, 0 as mood_count
    from app_private.captured_tasks
    where created_on is not null
    group by 1, 2
    union all
    select user_id, completed_on, 0, count(*), 0, 0, 0
    from app_private.captured_tasks
    where completed_on is not null
    group by 1, 2
    union all
    select user_id, reflection_date, 0, 0, count(*), coalesce(sum(mood_score), 0),
      count(mood_score)
    from app_private.captured_reflections
    group by 1, 2
  ) as counted
  group by user_id, agg_date;

comment on view app_private.captured_aggregates is
  'The aggregates computed from the captured rows.';

create view app_private.expected_aggregates as
  select user_id, agg_date,
    sum(tasks_created)::integer as tasks_created,
    sum(tasks_completed)::integer as tasks_completed,
    sum(reflections_count)::integer as reflections_count,
    sum(mood_sum)::integer as mood_sum,
    sum(mood_count)::integer as mood_count
  from (
    select tasks.user_id, (tasks.created_at at time zone users.timezone)::date as agg_date,
      count(*) as tasks_created, 0 as tasks_completed, 0 as reflections_count, 0 as mood_sum,
      0 as mood_count
    from app_public.tasks
    inner join app_public.users on users.id = tasks.user_id
    inner join app_hidden.known_timezones on known_timezones.name = users.timezone
    group by 1, 2
    union all
    select tasks.user_id, (tasks.completed_at at time zone users.timezone)::date,
      0, count(*), 0, 0, 0
    from app_public.tasks
    inner join app_public.users on users.id = tasks.user_id
    inner join app_hidden.known_timezones on known_timezones.name = users.timezone
    where tasks.completed_at is not null
    group by 1, 2
    union all
    select reflections.user_id, reflections.reflection_date, 0, 0, count(*),
      coalesce(sum(reflections.mood_score), 0), count(reflections.mood_score)
    from app_public.reflections
    inner join app_public.users on users.id = reflections.user_id
    group by 1, 2
  ) as counted
  group by user_id, agg_date;

comment on view app_private.expected_aggregates is
  'The aggregates computed from the tables.';

-- pgoutput sends the columns listed here, and no text of a user. wal2json ignores
-- publications. A partitioned table stands for its partitions, later ones included.
create publication gw_cdc for table
  app_public.tasks (user_id, id, created_at, completed_at),
  app_public.reflections (user_id, id, reflection_date, mood_score),
  app_public.users (id, timezone),
  app_private.capture_signals
  with (publish_via_partition_root = true);

-- Monitoring polls it: one row a slot, numbers only.
create view ops.change_capture_status as
  select change_capture.slot_name,
    change_capture.plugin,
    coalesce(slots.active, false) as active,
    coalesce(slots.wal_status, 'lost') as wal_status,
    (pg_catalog.pg_current_wal_lsn() - slots.confirmed_flush_lsn)::bigint as lag_bytes,
    (pg_catalog.pg_current_wal_lsn() - slots.restart_lsn)::bigint as held_bytes,
    -- The clock of the server before a failover may have been ahead.
    case when change_capture.committed_at is not null then
      greatest(extract(epoch from now() - change_capture.committed_at), 0)::double precision
    end as lag_seconds,
    change_capture.applied_lsn,
    change_capture.applied_at,
    case when change_capture.state in ('running', 'snapshotting')
        and change_capture.applied_lsn is not null and slots.active is not true
      then 'stopped' else change_capture.state end as state,
    change_capture.error,
    slots.safe_wal_size,
    slots.confirmed_flush_lsn,
    change_capture.snapshot_lsn,
    change_capture.snapshot_at,
    change_capture.snapshot_started_at,
    case when change_capture.snapshot_started_at is not null
      then change_capture.snapshot_users end as snapshot_users,
    case when change_capture.snapshot_started_at is not null
      then change_capture.counted_users end as counted_users,
    case when change_capture.counted_users > 0 and change_capture.counted_below is not null
      then extract(epoch from now() - change_capture.snapshot_started_at)
        * greatest(change_capture.snapshot_users - change_capture.counted_users, 0)
        / change_capture.counted_users
    end::double precision as remaining_seconds,
    (select count(*) from unnest(change_capture.recounts) as at
      where at > now() - interval '24 hours')::integer as recounts
  from ops.change_capture
  left join pg_catalog.pg_replication_slots as slots
    on slots.slot_name = change_capture.slot_name
    and slots.database = pg_catalog.current_database()
  -- A standby has neither the slot nor a position of its own to compare with.
  where not pg_catalog.pg_is_in_recovery();

grant select on ops.change_capture_status to gw_monitor, gw_cdc;

comment on view ops.change_capture_status is
  'The state of change capture: one row a slot; none on a standby. A heartbeat every 5 seconds keeps both lags near zero.';
comment on column ops.change_capture_status.wal_status is
  'As in pg_replication_slots. lost: the slot is gone or has lost its log; the consumer will take a new snapshot.';
comment on column ops.change_capture_status.lag_bytes is
  'Bytes of log that are written and not confirmed; null without a slot.';
comment on column ops.change_capture_status.held_bytes is
  'Bytes of log that the slot keeps on the disk: what max_slot_wal_keep_size limits; null without a slot. An open transaction holds it, and a large one.';
comment on column ops.change_capture_status.snapshot_started_at is
  'Since when all tables are being counted; null when they are not.';
comment on column ops.change_capture_status.snapshot_users is
  'How many users are to be counted; null when none are.';
comment on column ops.change_capture_status.counted_users is
  'How many of them are counted.';
comment on column ops.change_capture_status.remaining_seconds is
  'How long counting the others takes, as fast as until now; null when that is not known.';
comment on column ops.change_capture_status.recounts is
  'How often everything was counted anew in the last 24 hours.';
comment on column ops.change_capture_status.lag_seconds is
  'Seconds since the commit of the last applied transaction: up to 5 on an idle database.';
comment on column ops.change_capture_status.state is
  'running, stopped, failed (see error) or snapshotting.';
comment on column ops.change_capture_status.safe_wal_size is
  'Bytes that may still be written before the slot is lost; null without a limit.';

--! Included functions/app_private/task_partitions.sql
create or replace function app_private.task_partitions() returns regclass[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select array(
    select tree.relid
    from pg_partition_tree('app_public.tasks') as tree
    where tree.isleaf
    order by tree.relid)
$$;

grant execute on function app_private.task_partitions() to gw_cdc;
comment on function app_private.task_partitions() is
  'The partitions of tasks as they are now, in the order of their ids.';
--! EndIncluded functions/app_private/task_partitions.sql
--! Included functions/app_private/tg_tasks__truncated.sql
-- Definer: whoever may truncate a partition need not be able to write capture_signals. It
-- writes the partition's own name, and nothing else.
create or replace function app_private.tg_tasks__truncated() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  signal_id bigint;
begin
  insert into app_private.capture_signals (kind, object)
  values ('truncated', format('%I.%I', tg_table_schema, tg_table_name))
  returning id into signal_id;
  delete from app_private.capture_signals where id = signal_id;
  return null;
end
$$;

comment on function app_private.tg_tasks__truncated() is
  'Tells change capture that a partition was truncated, which pgoutput does not.';
--! EndIncluded functions/app_private/tg_tasks__truncated.sql
--! Included functions/app_private/capture_users.sql
-- A user who has moved: the days of all their tasks are counted in the new zone.
create or replace function app_private.capture_users(p_users jsonb, p_gone jsonb)
returns table (
  user_id uuid, agg_date date, tasks_created integer, tasks_completed integer
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  moved_users jsonb;
begin
  with incoming as (
    select users.id, users.timezone
    from jsonb_to_recordset(p_users) as users (id uuid, timezone text)
    left join app_private.captured_users on captured_users.user_id = users.id
    where captured_users.timezone is distinct from users.timezone
  ),
  written as (
    insert into app_private.captured_users (user_id, timezone)
    select id, timezone
    from incoming
    on conflict (user_id) do update
    set timezone = excluded.timezone
  )
  select jsonb_agg(jsonb_build_object('id', id, 'timezone', timezone))
  into moved_users
  from incoming;

  if moved_users is not null then
    return query
    with shifted as materialized (
      select captured_tasks.user_id, captured_tasks.id,
        captured_tasks.created_on as created_before,
        captured_tasks.completed_on as completed_before,
        (captured_tasks.created_at at time zone zone.name)::date as created_now,
        (captured_tasks.completed_at at time zone zone.name)::date as completed_now
      from jsonb_to_recordset(moved_users) as moved (id uuid, timezone text)
      -- Without a zone that the server knows, their tasks have no days.
      left join app_hidden.known_timezones as zone on zone.name = moved.timezone
      inner join app_private.captured_tasks on captured_tasks.user_id = moved.id
    ),
    written as (
      update app_private.captured_tasks
      set created_on = shifted.created_now,
        completed_on = shifted.completed_now
      from shifted
      where captured_tasks.user_id = shifted.user_id
        and captured_tasks.id = shifted.id
        and (shifted.created_now, shifted.completed_now)
          is distinct from (shifted.created_before, shifted.completed_before)
    )
    select shifted.user_id, days.agg_date, days.tasks_created, days.tasks_completed
    from shifted
    cross join lateral (values
      (shifted.created_before, -1, 0), (shifted.created_now, 1, 0),
      (shifted.completed_before, 0, -1), (shifted.completed_now, 0, 1)
    ) as days (agg_date, tasks_created, tasks_completed)
    where days.agg_date is not null;
  end if;

  -- The deletions of their tasks and reflections come by themselves, by cascade.
  if p_gone is not null then
    delete from app_private.captured_users
    where captured_users.user_id in (
      select gone.id from jsonb_to_recordset(p_gone) as gone (id uuid));
  end if;
end
$$;

comment on function app_private.capture_users(jsonb, jsonb) is
  'Takes users'' changes in, and returns what becomes of the aggregates.';
--! EndIncluded functions/app_private/capture_users.sql
--! Included functions/app_private/capture_tasks.sql
create or replace function app_private.capture_tasks(p_tasks jsonb, p_gone jsonb)
returns table (
  user_id uuid, agg_date date, tasks_created integer, tasks_completed integer
)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with incoming as materialized (
    select tasks.user_id, tasks.id, tasks.created_at, tasks.completed_at,
      (tasks.created_at at time zone zone.name)::date as created_on,
      (tasks.completed_at at time zone zone.name)::date as completed_on
    from jsonb_to_recordset(p_tasks) as tasks (
      user_id uuid, id uuid, created_at timestamptz, completed_at timestamptz)
    left join app_private.captured_users on captured_users.user_id = tasks.user_id
    -- Within a transaction a task may stand before its user, whose zone then follows.
    left join app_hidden.known_timezones as zone
      on zone.name = coalesce(captured_users.timezone, 'UTC')
  ),
  before as materialized (
    select captured_tasks.user_id, captured_tasks.created_on, captured_tasks.completed_on
    from incoming
    inner join app_private.captured_tasks on captured_tasks.user_id = incoming.user_id
      and captured_tasks.id = incoming.id
  ),
  written as (
    insert into app_private.captured_tasks as captured
      (user_id, id, created_at, completed_at, created_on, completed_on)
    select user_id, id, created_at, completed_at, created_on, completed_on
    from incoming
    on conflict (user_id, id) do update
    set created_at = excluded.created_at,
      completed_at = excluded.completed_at,
      created_on = excluded.created_on,
      completed_on = excluded.completed_on
    -- Most updates are of a title: nothing to write.
    where (captured.created_at, captured.completed_at, captured.created_on,
        captured.completed_on)
      is distinct from (excluded.created_at, excluded.completed_at, excluded.created_on,
        excluded.completed_on)
  ),
  removed as (
    delete from app_private.captured_tasks
    using jsonb_to_recordset(p_gone) as gone (user_id uuid, id uuid)
    where captured_tasks.user_id = gone.user_id
      and captured_tasks.id = gone.id
    returning captured_tasks.user_id, captured_tasks.created_on, captured_tasks.completed_on
  )
  select user_id, created_on, 1, 0 from incoming
  union all
  select user_id, completed_on, 0, 1 from incoming where completed_on is not null
  union all
  select user_id, created_on, -1, 0 from before
  union all
  select user_id, completed_on, 0, -1 from before where completed_on is not null
  union all
  select user_id, created_on, -1, 0 from removed
  union all
  select user_id, completed_on, 0, -1 from removed where completed_on is not null
$$;

comment on function app_private.capture_tasks(jsonb, jsonb) is
  'Takes tasks'' changes in, and returns what becomes of the aggregates.';
--! EndIncluded functions/app_private/capture_tasks.sql
--! Included functions/app_private/capture_set_aside_tasks.sql
-- Called with each batch, also with that of a heartbeat: tasks whose time zone the server
-- knows again get their days.
create or replace function app_private.capture_set_aside_tasks()
returns table (
  user_id uuid, agg_date date, tasks_created integer, tasks_completed integer
)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with due as materialized (
    select captured_tasks.user_id, captured_tasks.id, zone.name
    from app_private.captured_tasks
    inner join app_private.captured_users
      on captured_users.user_id = captured_tasks.user_id
    inner join app_hidden.known_timezones as zone on zone.name = captured_users.timezone
    where captured_tasks.created_on is null
    limit 10000
  ),
  written as (
    update app_private.captured_tasks
    set created_on = (captured_tasks.created_at at time zone due.name)::date,
      completed_on = (captured_tasks.completed_at at time zone due.name)::date
    from due
    where captured_tasks.user_id = due.user_id
      and captured_tasks.id = due.id
    returning captured_tasks.user_id, captured_tasks.created_on, captured_tasks.completed_on
  )
  select user_id, created_on, 1, 0 from written
  union all
  select user_id, completed_on, 0, 1 from written where completed_on is not null
$$;

comment on function app_private.capture_set_aside_tasks() is
  'Counts tasks that could not be counted before, and returns what becomes of the aggregates.';
--! EndIncluded functions/app_private/capture_set_aside_tasks.sql
--! Included functions/app_private/capture_reflections.sql
create or replace function app_private.capture_reflections(p_reflections jsonb, p_gone jsonb)
returns table (
  user_id uuid, agg_date date, reflections_count integer, mood_sum integer,
  mood_count integer
)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with incoming as materialized (
    select reflections.*
    from jsonb_to_recordset(p_reflections) as reflections (
      user_id uuid, id uuid, reflection_date date, mood_score smallint)
  ),
  before as materialized (
    select captured_reflections.*
    from incoming
    inner join app_private.captured_reflections
      on captured_reflections.user_id = incoming.user_id
      and captured_reflections.id = incoming.id
  ),
  written as (
    insert into app_private.captured_reflections as captured
      (user_id, id, reflection_date, mood_score)
    select user_id, id, reflection_date, mood_score
    from incoming
    on conflict (user_id, id) do update
    set reflection_date = excluded.reflection_date,
      mood_score = excluded.mood_score
    where (captured.reflection_date, captured.mood_score)
      is distinct from (excluded.reflection_date, excluded.mood_score)
  ),
  removed as (
    delete from app_private.captured_reflections
    using jsonb_to_recordset(p_gone) as gone (user_id uuid, id uuid)
    where captured_reflections.user_id = gone.user_id
      and captured_reflections.id = gone.id
    returning captured_reflections.*
  ),
  counted (factor, user_id, agg_date, mood_score) as (
    select 1, user_id, reflection_date, mood_score from incoming
    union all
    select -1, user_id, reflection_date, mood_score from before
    union all
    select -1, user_id, reflection_date, mood_score from removed
  )
  select user_id, agg_date, factor, factor * coalesce(mood_score, 0),
    case when mood_score is null then 0 else factor end
  from counted
$$;

comment on function app_private.capture_reflections(jsonb, jsonb) is
  'Takes reflections'' changes in, and returns what becomes of the aggregates.';
--! EndIncluded functions/app_private/capture_reflections.sql
--! Included functions/app_private/capture_truncation.sql
-- A partition's rows are known by its bounds. One that is no partition of tasks any more has
-- none: then nobody can tell which rows those were.
create or replace function app_private.capture_truncation(p_object text)
returns table (
  user_id uuid, agg_date date, tasks_created integer, tasks_completed integer,
  reflections_count integer, mood_sum integer, mood_count integer
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  bounds text := 'true';
begin
  if p_object = 'app_public.users' then
    delete from app_private.captured_users;
  elsif p_object = 'app_public.reflections' then
    return query
    with removed as (
      delete from app_private.captured_reflections returning captured_reflections.*
    )
    select removed.user_id, removed.reflection_date, 0, 0, -1,
      -coalesce(removed.mood_score, 0)::integer, -num_nonnulls(removed.mood_score)
    from removed;
  else
    if p_object <> 'app_public.tasks' then
      select pg_get_partition_constraintdef(tree.relid)
      into bounds
      from pg_partition_tree('app_public.tasks') as tree
      where tree.relid = to_regclass(p_object)
        and tree.level > 0;
      if bounds is null then
        raise exception '% was truncated and is no partition of tasks any more', p_object
          using errcode = 'GW061', hint = 'Count everything anew: gw cdc resnapshot';
      end if;
    end if;
    return query execute format(
      'with removed as (delete from app_private.captured_tasks where %s returning *)'
      ' select user_id, created_on, -1, 0, 0, 0, 0 from removed'
      ' union all'
      ' select user_id, completed_on, 0, -1, 0, 0, 0 from removed'
      ' where completed_on is not null', bounds);
  end if;
end
$$;

comment on function app_private.capture_truncation(text) is
  'Forgets the rows of a truncated table or partition, and returns what becomes of the aggregates.';
--! EndIncluded functions/app_private/capture_truncation.sql
--! Included functions/app_private/recount_aggregates.sql
create or replace function app_private.recount_aggregates(
  p_days app_private.capture_expectations[]
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  user_ids constant uuid[] := array(select distinct user_id from unnest(p_days) order by 1);
begin
  perform from app_public.users where id = any (user_ids) order by id for key share;

  delete from app_public.user_dashboard_aggregates as aggregates
  using unnest(p_days) as days
  where aggregates.user_id = days.user_id
    and aggregates.agg_date = days.agg_date;

  insert into app_public.user_dashboard_aggregates
    (user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count)
  select user_id, agg_date, captured.tasks_created, captured.tasks_completed,
    captured.reflections_count, captured.mood_sum, captured.mood_count
  from app_private.captured_aggregates as captured
  inner join unnest(p_days) as days using (user_id, agg_date)
  inner join app_public.users on users.id = user_id
  where captured.user_id = any (user_ids);
end
$$;

comment on function app_private.recount_aggregates(app_private.capture_expectations[]) is
  'Writes the aggregates of these users'' days as the captured rows give them.';
--! EndIncluded functions/app_private/recount_aggregates.sql
--! Included functions/app_private/add_to_aggregates.sql
-- A user may have been deleted since, and their aggregates with them: those differences are
-- of no account. Whoever exists keeps existing until the commit, by the lock.
--
-- A row that was changed by hand may not bear its difference (it would fall below 0). Then
-- those user-days are counted anew: one damaged row does not stop the others.
create or replace function app_private.add_to_aggregates(
  p_changes app_private.capture_expectations[]
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  begin
    with updated as (
      update app_public.user_dashboard_aggregates as aggregates
      set tasks_created = aggregates.tasks_created + changes.tasks_created,
        tasks_completed = aggregates.tasks_completed + changes.tasks_completed,
        reflections_count = aggregates.reflections_count + changes.reflections_count,
        mood_sum = aggregates.mood_sum + changes.mood_sum,
        mood_count = aggregates.mood_count + changes.mood_count,
        last_updated = now()
      from unnest(p_changes) as changes
      where aggregates.user_id = changes.user_id
        and aggregates.agg_date = changes.agg_date
      returning aggregates.user_id, aggregates.agg_date
    ),
    missing as materialized (
      select changes.*
      from unnest(p_changes) as changes
      left join updated on updated.user_id = changes.user_id
        and updated.agg_date = changes.agg_date
      where updated.user_id is null
    ),
    existing as materialized (
      select users.id
      from app_public.users
      where users.id in (select missing.user_id from missing)
      order by users.id
      for key share
    )
    insert into app_public.user_dashboard_aggregates
      (user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
        mood_count)
    select missing.user_id, missing.agg_date, missing.tasks_created, missing.tasks_completed,
      missing.reflections_count, missing.mood_sum, missing.mood_count
    from missing
    inner join existing on existing.id = missing.user_id;

    delete from app_public.user_dashboard_aggregates as aggregates
    using unnest(p_changes) as changes
    where aggregates.user_id = changes.user_id
      and aggregates.agg_date = changes.agg_date
      and (aggregates.tasks_created, aggregates.tasks_completed, aggregates.reflections_count,
        aggregates.mood_sum, aggregates.mood_count) = (0, 0, 0, 0, 0);
  exception when check_violation or numeric_value_out_of_range then
    raise warning 'aggregates that had been changed by hand are counted anew';
    perform app_private.recount_aggregates(p_changes);
  end;
end
$$;

comment on function app_private.add_to_aggregates(app_private.capture_expectations[]) is
  'Adds differences to the aggregates of users who exist.';
--! EndIncluded functions/app_private/add_to_aggregates.sql
--! Included functions/app_private/begin_capture_snapshot.sql
-- What was captured stays until its slice is counted: until then the dashboard shows what it
-- did. What other slots have captured is forgotten: there is one set of aggregates.
--
-- With p_keep the slot is read on from where it is. Transactions whose changes have been
-- applied, and that nobody sees yet, must be seen by the first slice: it waits for all that
-- run now.
--
-- Definer: only these functions write ops.change_capture, and it counts users.
create or replace function app_private.begin_capture_snapshot(
  p_slot text, p_plugin text, p_keep boolean default false
) returns pg_lsn
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  users constant bigint := (select count(*) from app_public.users);
  lsn pg_lsn;
begin
  perform ops.refuse_when_fenced();
  delete from ops.change_capture where slot_name <> p_slot;
  delete from app_private.capture_omissions;
  insert into ops.change_capture as capture
    (slot_name, plugin, state, partitions, snapshot_started_at, snapshot_waits_for,
      snapshot_users, counted_below)
  -- Before the snapshot: what changes meanwhile is noticed by the first heartbeat.
  values (p_slot, p_plugin, 'snapshotting', app_private.task_partitions(), clock_timestamp(),
    pg_current_xact_id(), users, '00000000-0000-0000-0000-000000000000')
  on conflict (slot_name) do update
  set plugin = excluded.plugin,
    state = excluded.state,
    partitions = excluded.partitions,
    snapshot_started_at = excluded.snapshot_started_at,
    snapshot_waits_for = excluded.snapshot_waits_for,
    snapshot_users = excluded.snapshot_users,
    counted_users = 0,
    counted_below = excluded.counted_below,
    counted_until = null,
    recounts = array_append(
      array(
        select at from unnest(capture.recounts) as at
        where at > now() - interval '24 hours'
        order by at),
      now()),
    resnapshot_requested = false,
    applied_lsn = case when p_keep then capture.applied_lsn end,
    hold_lsn = null,
    error = null
  returning applied_lsn into lsn;
  return lsn;
end
$$;

grant execute on function app_private.begin_capture_snapshot(text, text, boolean) to gw_cdc;
comment on function app_private.begin_capture_snapshot(text, text, boolean) is
  'Begins to count everything anew for this slot: made anew, which place_capture() then tells, or kept. Returns the position from which a slot that is kept is read on.';
--! EndIncluded functions/app_private/begin_capture_snapshot.sql
--! Included functions/app_private/place_capture.sql
-- Definer: only these functions write ops.change_capture.
create or replace function app_private.place_capture(
  p_slot text, p_plugin text, p_lsn pg_lsn
) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  update ops.change_capture
  set plugin = p_plugin,
    applied_lsn = p_lsn,
    applied_at = clock_timestamp(),
    committed_at = clock_timestamp(),
    -- As in begin_capture_snapshot(): of what the slot did not see, some may be invisible yet.
    snapshot_waits_for = pg_current_xact_id()
  where slot_name = p_slot
$$;

grant execute on function app_private.place_capture(text, text, pg_lsn) to gw_cdc;
comment on function app_private.place_capture(text, text, pg_lsn) is
  'Says from where a slot that was made anew is read.';
--! EndIncluded functions/app_private/place_capture.sql
--! Included functions/app_private/capture_slice_end.sql
-- One user is never divided: of a user with more rows than a slice it is the whole slice.
create or replace function app_private.capture_slice_end(p_from uuid, p_rows integer)
returns uuid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case when least(many_users.id, many_tasks.user_id, many_reflections.user_id) <= p_from
    then (select id from app_public.users where id > p_from order by id limit 1)
    else least(many_users.id, many_tasks.user_id, many_reflections.user_id) end
  from (values (null)) as one (row)
  left join lateral (
    select id from app_public.users
    where id >= p_from order by id offset greatest(p_rows / 10, 1) limit 1
  ) as many_users on true
  left join lateral (
    select user_id from app_public.tasks
    where user_id >= p_from order by user_id offset p_rows limit 1
  ) as many_tasks on true
  left join lateral (
    select user_id from app_public.reflections
    where user_id >= p_from order by user_id offset p_rows limit 1
  ) as many_reflections on true
$$;

comment on function app_private.capture_slice_end(uuid, integer) is
  'The first user who is not in a slice that begins at p_from and has about p_rows rows; null when it has all who are left.';
--! EndIncluded functions/app_private/capture_slice_end.sql
--! Included functions/app_private/fill_capture_slice.sql
-- One statement, so that all of it is read in one snapshot. What is right already is not written.
create or replace function app_private.fill_capture_slice(p_from uuid, p_below uuid)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Each slice has other bounds, and the tables grow while they are counted.
set plan_cache_mode = force_custom_plan
-- Of a range of uuids that lies between two values of the statistics PostgreSQL expects one row.
-- Each table is bounded, so that joining them by hashes is never more than the slice.
set enable_nestloop = off
set work_mem = '64MB'
as $$
declare
  last constant uuid := coalesce(p_below, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  counted bigint;
begin
  with users_now as materialized (
    select users.id, users.timezone, zone.name as zone
    from app_public.users
    left join app_hidden.known_timezones as zone on zone.name = users.timezone
    where users.id between p_from and last and users.id is distinct from p_below
  ),
  users_gone as (
    delete from app_private.captured_users as captured
    where captured.user_id between p_from and last
      and captured.user_id is distinct from p_below
      and not exists (select from users_now where users_now.id = captured.user_id)
  ),
  users_written as (
    insert into app_private.captured_users (user_id, timezone)
    select users_now.id, users_now.timezone
    from users_now
    left join app_private.captured_users as captured
      on captured.user_id = users_now.id and captured.user_id between p_from and last
    where captured.timezone is distinct from users_now.timezone
    on conflict (user_id) do update
    set timezone = excluded.timezone
  ),
  tasks_now as materialized (
    select tasks.user_id, tasks.id, tasks.created_at, tasks.completed_at,
      (tasks.created_at at time zone users_now.zone)::date as created_on,
      (tasks.completed_at at time zone users_now.zone)::date as completed_on
    from app_public.tasks
    inner join users_now on users_now.id = tasks.user_id
    where tasks.user_id between p_from and last
  ),
  tasks_before as materialized (
    select captured.user_id, captured.id, captured.created_at, captured.completed_at,
      captured.created_on, captured.completed_on
    from app_private.captured_tasks as captured
    where captured.user_id between p_from and last
      and captured.user_id is distinct from p_below
  ),
  tasks_gone as (
    delete from app_private.captured_tasks as captured
    using tasks_before as before
    where captured.user_id between p_from and last
      and captured.user_id = before.user_id
      and captured.id = before.id
      and not exists (
        select from tasks_now
        where tasks_now.user_id = before.user_id and tasks_now.id = before.id)
  ),
  tasks_written as (
    insert into app_private.captured_tasks
      (user_id, id, created_at, completed_at, created_on, completed_on)
    select * from tasks_now except select * from tasks_before
    on conflict (user_id, id) do update
    set created_at = excluded.created_at,
      completed_at = excluded.completed_at,
      created_on = excluded.created_on,
      completed_on = excluded.completed_on
  ),
  reflections_now as materialized (
    select user_id, id, reflection_date, mood_score
    from app_public.reflections
    where user_id between p_from and last and user_id is distinct from p_below
  ),
  reflections_before as materialized (
    select user_id, id, reflection_date, mood_score
    from app_private.captured_reflections
    where user_id between p_from and last and user_id is distinct from p_below
  ),
  reflections_gone as (
    delete from app_private.captured_reflections as captured
    using reflections_before as before
    where captured.user_id between p_from and last
      and captured.user_id = before.user_id
      and captured.id = before.id
      and not exists (
        select from reflections_now as now
        where now.user_id = before.user_id and now.id = before.id)
  ),
  reflections_written as (
    insert into app_private.captured_reflections (user_id, id, reflection_date, mood_score)
    select * from reflections_now except select * from reflections_before
    on conflict (user_id, id) do update
    set reflection_date = excluded.reflection_date,
      mood_score = excluded.mood_score
  )
  select count(*) into counted from users_now;
  return counted;
end
$$;

comment on function app_private.fill_capture_slice(uuid, uuid) is
  'Makes what is captured of the users from p_from to below p_below (null: all the others) what the tables hold. Returns how many users these are.';
--! EndIncluded functions/app_private/fill_capture_slice.sql
--! Included functions/app_private/fill_aggregates_slice.sql
-- In a statement of its own, which sees what fill_capture_slice() has written, and which users
-- are gone by now. Rows that are right already are not written.
create or replace function app_private.fill_aggregates_slice(p_from uuid, p_below uuid)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
-- As in fill_capture_slice().
set enable_nestloop = off
set work_mem = '64MB'
as $$
declare
  last constant uuid := coalesce(p_below, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
begin
  with wanted as materialized (
    select user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count
    from app_private.captured_aggregates
    where user_id between p_from and last and user_id is distinct from p_below
  ),
  found as materialized (
    select user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count
    from app_public.user_dashboard_aggregates
    where user_id between p_from and last and user_id is distinct from p_below
  ),
  surplus as (
    delete from app_public.user_dashboard_aggregates as aggregates
    using found
    where aggregates.user_id between p_from and last
      and aggregates.user_id = found.user_id
      and aggregates.agg_date = found.agg_date
      and not exists (
        select from wanted
        where wanted.user_id = found.user_id and wanted.agg_date = found.agg_date)
  ),
  wrong as materialized (
    select * from wanted except select * from found
  ),
  -- Whoever exists keeps existing until the commit.
  existing as materialized (
    select users.id
    from app_public.users
    where users.id between p_from and last
      and users.id in (select wrong.user_id from wrong)
    order by users.id
    for key share
  )
  insert into app_public.user_dashboard_aggregates
    (user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count)
  select wrong.*
  from wrong
  inner join existing on existing.id = wrong.user_id
  on conflict (user_id, agg_date) do update
  set tasks_created = excluded.tasks_created,
    tasks_completed = excluded.tasks_completed,
    reflections_count = excluded.reflections_count,
    mood_sum = excluded.mood_sum,
    mood_count = excluded.mood_count,
    last_updated = now();
end
$$;

comment on function app_private.fill_aggregates_slice(uuid, uuid) is
  'Makes the aggregates of the users from p_from to below p_below (null: all the others) what is captured.';
--! EndIncluded functions/app_private/fill_aggregates_slice.sql
--! Included functions/app_private/capture_slice.sql
-- A slice is what the tables hold, put in place of what the log has told so far; changes of its
-- users are applied from here on. So whatever the log has told and was left out must be in what
-- the tables show: the slice waits until it sees those transactions. Changes that it has seen
-- come once more with the log, and write what is there: at counted_until all are the same.
--
-- The heartbeat comes back when the log of the slice has been read: so the next slice does not
-- begin before that. What the slot holds is given free some seconds later, and not at all while an
-- old transaction is open: counting never takes more than half of the room that the slot has.
--
-- Definer: it reads every user's rows, which its caller may not, and returns only a position.
create or replace function app_private.capture_slice(
  p_slot text, p_from pg_lsn, p_rows integer default 20000
) returns table (is_last boolean, until pg_lsn)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  capture ops.change_capture;
  room constant bigint := nullif(pg_size_bytes(current_setting('max_slot_wal_keep_size')), -1) / 2;
  below uuid;
  users bigint;
begin
  perform ops.refuse_when_fenced();
  select *
  into capture
  from ops.change_capture
  where slot_name = p_slot
  for update;
  if capture.applied_lsn is distinct from p_from or capture.counted_below is null then
    raise exception 'the aggregates are at %, counted below %, and not at %',
      capture.applied_lsn, capture.counted_below, p_from
      using errcode = 'GW060', hint = 'Another consumer has been here: start again from there.';
  end if;
  if capture.hold_lsn is not null
    or capture.snapshot_waits_for >= pg_snapshot_xmin(pg_current_snapshot())
    or exists (
      select from app_private.capture_omissions
      where not pg_visible_in_snapshot(xid, pg_current_snapshot()))
    or exists (
      select from pg_replication_slots
      where slot_name = p_slot
        and pg_current_wal_lsn() - restart_lsn > room)
  then
    return;
  end if;

  delete from app_private.capture_omissions;
  below := app_private.capture_slice_end(capture.counted_below, p_rows);
  users := app_private.fill_capture_slice(capture.counted_below, below);
  perform app_private.fill_aggregates_slice(capture.counted_below, below);
  perform app_private.capture_heartbeat(p_slot);

  return query
  update ops.change_capture
  set counted_below = below,
    counted_users = counted_users + users,
    snapshot_waits_for = null,
    counted_until = pg_current_wal_insert_lsn()
  where slot_name = p_slot
  returning counted_below is null, counted_until;
end
$$;

grant execute on function app_private.capture_slice(text, pg_lsn, integer) to gw_cdc;
comment on function app_private.capture_slice(text, pg_lsn, integer) is
  'Counts the users who are next, with about p_rows rows, for a consumer that is at p_from. Returns whether they were the last, and the position up to which the log is to be read before the next slice; nothing while it has to wait for transactions or for gw cdc reconcile.';
--! EndIncluded functions/app_private/capture_slice.sql
--! Included functions/app_private/finish_capture_snapshot.sql
create or replace function app_private.finish_capture_snapshot(p_slot text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update ops.change_capture
  set snapshot_lsn = applied_lsn,
    snapshot_at = clock_timestamp(),
    snapshot_started_at = null
  where slot_name = p_slot;
  delete from app_private.capture_omissions;
  perform ops.resolve_alert('change-capture-slot', p_slot);
end
$$;

comment on function app_private.finish_capture_snapshot(text) is
  'Says that all are counted and that the log has been read up to there.';
--! EndIncluded functions/app_private/finish_capture_snapshot.sql
--! Included functions/app_private/full_xid.sql
-- The log has the lower 32 bits. A transaction that it tells is less than 2^31 away from now.
create or replace function app_private.full_xid(p_xid bigint) returns xid8
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select (next - ((next - p_xid + (1::bigint << 31)) & ((1::bigint << 32) - 1))
    + (1::bigint << 31))::text::xid8
  from (values (pg_snapshot_xmax(pg_current_snapshot())::text::bigint)) as current (next)
$$;

comment on function app_private.full_xid(bigint) is
  'The id of a transaction of which the log has told 32 bits.';
--! EndIncluded functions/app_private/full_xid.sql
--! Included functions/app_private/counted_changes.sql
-- The others' changes will be in what their slice reads.
create or replace function app_private.counted_changes(p_changes jsonb, p_below uuid)
returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_object_agg(part.name,
    case when part.name in ('truncated', 'xids') then part.content
    else (
      select coalesce(jsonb_agg(change), '[]')
      from jsonb_array_elements(part.content) as change
      where coalesce(change ->> 'user_id', change ->> 'id')::uuid < p_below
    ) end), '{}')
  from jsonb_each(p_changes) as part (name, content)
$$;

comment on function app_private.counted_changes(jsonb, uuid) is
  'The changes of apply_changes() that are of users below p_below.';
--! EndIncluded functions/app_private/counted_changes.sql
--! Included functions/app_private/apply_changes.sql
-- p_changes holds the last state of each row that changed: {truncated: [table, …],
-- users: [{id, timezone}], users_gone: [{id}], tasks: […], tasks_gone: […],
-- reflections: […], reflections_gone: […], xids: […]}. Truncations come first.
--
-- While everything is counted anew, changes of users who are not counted yet are left out, see
-- capture_slice().
--
-- Of a transaction that is too large for one call each part but the last has no p_to; all
-- are called in one transaction.
--
-- Definer: it reads users, who may have been deleted since, and writes what only it may.
-- The lock on the row of ops.change_capture and the comparison with p_from keep out a second
-- consumer and one that does not know that its last batch has been committed.
create or replace function app_private.apply_changes(
  p_slot text, p_from pg_lsn, p_to pg_lsn, p_commit_lsn pg_lsn, p_committed_at timestamptz,
  p_changes jsonb
) returns pg_lsn
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  capture ops.change_capture;
  counted jsonb := p_changes;
  changes app_private.capture_expectations[];
  is_whole boolean;
begin
  perform ops.refuse_when_fenced();
  select *
  into capture
  from ops.change_capture
  where slot_name = p_slot
  for update;
  if capture.applied_lsn is distinct from p_from then
    raise exception 'the aggregates are at % and not at %', capture.applied_lsn, p_from
      using errcode = 'GW060', hint = 'Another consumer has been here: start again from there.';
  end if;
  if p_commit_lsn >= capture.hold_lsn then
    return capture.hold_lsn;
  end if;
  if capture.counted_below is not null then
    counted := app_private.counted_changes(p_changes, capture.counted_below);
    if counted <> p_changes then
      insert into app_private.capture_omissions (xid)
      select app_private.full_xid(xid::bigint)
      from jsonb_array_elements(p_changes -> 'xids') as xid
      on conflict do nothing;
    end if;
  end if;

  with differences as materialized (
    select truncated.*
    from jsonb_array_elements_text(counted -> 'truncated') as objects (object)
    cross join lateral app_private.capture_truncation(objects.object) as truncated
    union all
    select shifted.*, 0, 0, 0
    from app_private.capture_users(counted -> 'users', counted -> 'users_gone') as shifted
    union all
    select tasks.*, 0, 0, 0
    from app_private.capture_tasks(counted -> 'tasks', counted -> 'tasks_gone') as tasks
    union all
    select taken_up.*, 0, 0, 0
    from app_private.capture_set_aside_tasks() as taken_up
    union all
    select user_id, agg_date, 0, 0, reflections_count, mood_sum, mood_count
    from app_private.capture_reflections(
      counted -> 'reflections', counted -> 'reflections_gone')
  ),
  sums as (
    select user_id, agg_date, sum(tasks_created) as tasks_created,
      sum(tasks_completed) as tasks_completed, sum(reflections_count) as reflections_count,
      sum(mood_sum) as mood_sum, sum(mood_count) as mood_count
    from differences
    -- A task whose zone the server does not know has no day.
    where agg_date is not null
    group by user_id, agg_date
  )
  select array_agg(row(user_id, agg_date, tasks_created, tasks_completed, reflections_count,
    mood_sum, mood_count)::app_private.capture_expectations order by user_id, agg_date)
  into changes
  from sums
  where (tasks_created, tasks_completed, reflections_count, mood_sum, mood_count)
    <> (0, 0, 0, 0, 0);

  if changes is not null then
    perform app_private.add_to_aggregates(changes);
  end if;

  if p_to is not null then
    is_whole := capture.snapshot_started_at is null
      or (capture.counted_below is null and p_to >= capture.counted_until);
    update ops.change_capture
    set applied_lsn = p_to,
      applied_at = clock_timestamp(),
      committed_at = coalesce(p_committed_at, capture.committed_at),
      state = case when is_whole then 'running' else 'snapshotting' end,
      error = null
    where slot_name = p_slot;
    if is_whole and capture.snapshot_started_at is not null then
      perform app_private.finish_capture_snapshot(p_slot);
    end if;
  end if;
  return null;
end
$$;

grant execute on function
  app_private.apply_changes(text, pg_lsn, pg_lsn, pg_lsn, timestamptz, jsonb) to gw_cdc;
comment on function
  app_private.apply_changes(text, pg_lsn, pg_lsn, pg_lsn, timestamptz, jsonb) is
  'Applies changes of whole transactions and stores how far they reach, or does nothing and returns the position at which to wait.';
--! EndIncluded functions/app_private/apply_changes.sql
--! Included functions/app_private/tell_truncations.sql
-- A trigger of a statement is not inherited by partitions.
create or replace function app_private.tell_truncations() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Whoever waits for a partition's lock behind us waits no longer than this.
set lock_timeout = '300ms'
as $$
declare
  leaf regclass;
  without regclass[];
  made integer := 0;
begin
  without := array(
    select tree.relid
    from pg_partition_tree('app_public.tasks') as tree
    where tree.isleaf
      and not exists (
        select from pg_trigger
        where pg_trigger.tgrelid = tree.relid and pg_trigger.tgname = '_900_truncated'
      )
  );
  foreach leaf in array without loop
    begin
      execute format('create trigger _900_truncated after truncate on %s'
        ' for each statement execute function app_private.tg_tasks__truncated()', leaf);
      made := made + 1;
    exception
      when lock_not_available or deadlock_detected then
        -- The partition is in use. The next heartbeat tries again.
        continue;
      when others then
        perform ops.raise_alert('change-capture-partition', leaf::text, 'warning',
          'change capture is not told when it is truncated: ' || sqlerrm,
          format('alter table %s owner to gw_owner;', leaf));
    end;
  end loop;

  perform ops.resolve_alert('change-capture-partition', open_alerts.object)
  from (
    select alerts.object
    from ops.alerts
    where alerts.check_name = 'change-capture-partition'
      and alerts.resolved_at is null
    offset 0
  ) as open_alerts
  where not exists (
    select from unnest(without) as lacking (relation)
    where lacking.relation::text = open_alerts.object
  )
    or exists (
      select from pg_trigger
      where pg_trigger.tgrelid = to_regclass(open_alerts.object)
        and pg_trigger.tgname = '_900_truncated'
    );
  return made;
end
$$;

comment on function app_private.tell_truncations() is
  'Gives each partition of tasks the trigger that tells change capture of a truncation. Returns how many got it.';
--! EndIncluded functions/app_private/tell_truncations.sql
--! Included functions/app_private/capture_heartbeat.sql
-- Definer: only these functions write capture_signals. It takes and tells nothing of a user.
create or replace function app_private.capture_heartbeat(p_slot text) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  signal_id bigint;
begin
  perform app_private.tell_truncations();
  insert into app_private.capture_signals (kind, object)
  values ('heartbeat', p_slot)
  returning id into signal_id;
  delete from app_private.capture_signals where id = signal_id;
  return coalesce((
    select resnapshot_requested or partitions <> app_private.task_partitions()
    from ops.change_capture
    where slot_name = p_slot
  ), false);
end
$$;

grant execute on function app_private.capture_heartbeat(text) to gw_cdc;
comment on function app_private.capture_heartbeat(text) is
  'Sends a heartbeat through the log, and looks after new partitions. Returns whether everything is to be counted anew.';
--! EndIncluded functions/app_private/capture_heartbeat.sql
--! Included functions/app_private/renew_capture_lease.sql
-- Definer: only this function writes app_private.capture_leases.
create or replace function app_private.renew_capture_lease(p_slot text, p_pid integer)
returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into app_private.capture_leases as lease (slot_name, pid, renewed_at)
  values (p_slot, p_pid, clock_timestamp())
  on conflict (slot_name) do update
  set pid = excluded.pid,
    renewed_at = excluded.renewed_at
$$;

grant execute on function app_private.renew_capture_lease(text, integer) to gw_cdc;
comment on function app_private.renew_capture_lease(text, integer) is
  'Says that the consumer of a slot, whose backend holds the lock, still works.';
--! EndIncluded functions/app_private/renew_capture_lease.sql
--! Included functions/app_private/end_late_capture.sql
-- A session lives on when its process hangs, or its host is gone without a word. So a
-- consumer holds the lock for as long as it renews its lease. Invoker: gw_cdc may end its
-- own sessions.
--
-- A lease of another backend than the holder's says nothing: that one has just begun.
create or replace function app_private.end_late_capture(
  p_slot text, p_pid integer, p_life interval
) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from app_private.capture_leases
    where slot_name = p_slot
      and pid = p_pid
      and renewed_at < clock_timestamp() - p_life
  ) then
    return false;
  end if;
  perform pg_terminate_backend(active_pid)
  from pg_replication_slots
  where slot_name = p_slot
    and active_pid is not null;
  return pg_terminate_backend(p_pid);
end
$$;

grant execute on function app_private.end_late_capture(text, integer, interval) to gw_cdc;
comment on function app_private.end_late_capture(text, integer, interval) is
  'Ends the sessions of a consumer that holds the lock, p_pid, and has not renewed its lease for p_life. Returns whether it did.';
--! EndIncluded functions/app_private/end_late_capture.sql
--! Included functions/app_private/set_capture_state.sql
-- Definer: only these functions write ops.change_capture.
create or replace function app_private.set_capture_state(
  p_slot text, p_state text, p_error text default null
) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  update ops.change_capture
  set state = case when p_state = 'running' and snapshot_started_at is not null
      then 'snapshotting' else p_state end,
    error = p_error
  where slot_name = p_slot
    -- Without a slot there is nothing that could run or stop.
    and (applied_lsn is not null or p_state = 'failed')
$$;

grant execute on function app_private.set_capture_state(text, text, text) to gw_cdc;
comment on function app_private.set_capture_state(text, text, text) is
  'Says that the consumer of a slot runs, has stopped, or has failed and why.';
--! EndIncluded functions/app_private/set_capture_state.sql
--! Included functions/app_private/hold_capture.sql
-- Waits for the batch that is being applied: when it returns, the consumer has stopped or
-- will before its next one.
--
-- Definer: only these functions write ops.change_capture.
create or replace function app_private.hold_capture(p_slot text, p_lsn pg_lsn)
returns pg_lsn
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  update ops.change_capture
  set hold_lsn = p_lsn
  where slot_name = p_slot
  returning applied_lsn
$$;

grant execute on function app_private.hold_capture(text, pg_lsn) to gw_cdc;
comment on function app_private.hold_capture(text, pg_lsn) is
  'Has the consumer wait at a position; 0/0 at once; null lets it go on.';
--! EndIncluded functions/app_private/hold_capture.sql
--! Included functions/app_private/request_resnapshot.sql
-- Definer: only these functions write ops.change_capture.
create or replace function app_private.request_resnapshot(p_slot text) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with requested as (
    update ops.change_capture
    set resnapshot_requested = true
    where slot_name = p_slot
    returning 1
  )
  select exists (select from requested)
$$;

grant execute on function app_private.request_resnapshot(text) to gw_cdc;
comment on function app_private.request_resnapshot(text) is
  'Has the consumer count everything anew. Returns false when there is no such slot.';
--! EndIncluded functions/app_private/request_resnapshot.sql
--! Included functions/app_private/differing_users.sql
-- One statement, so that all of it is read in one snapshot. Where a captured row is what the table
-- holds it is right, whatever the log still has to tell: that will write the same. Where it is
-- not, the log may only be late.
create or replace function app_private.differing_users(
  p_from uuid, p_below uuid, p_users uuid[]
) returns table (user_ids uuid[], days bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- With its bounds: a plan for any bounds reads the whole tables.
set plan_cache_mode = force_custom_plan
-- As in fill_capture_slice().
set enable_nestloop = off
set work_mem = '64MB'
as $$
declare
  last constant uuid := coalesce(p_below, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
begin
  return query
  with users_now as materialized (
    select users.id, users.timezone, zone.name as zone
    from app_public.users
    left join app_hidden.known_timezones as zone on zone.name = users.timezone
    where users.id between p_from and last
      and users.id is distinct from p_below
      and (p_users is null or users.id = any (p_users))
  ),
  tasks_now as materialized (
    select tasks.user_id, tasks.id, tasks.created_at, tasks.completed_at,
      (tasks.created_at at time zone users_now.zone)::date,
      (tasks.completed_at at time zone users_now.zone)::date
    from users_now
    inner join app_public.tasks on tasks.user_id = users_now.id
    where tasks.user_id between p_from and last
      and (p_users is null or tasks.user_id = any (p_users))
  ),
  tasks_before as materialized (
    select captured.user_id, captured.id, captured.created_at, captured.completed_at,
      captured.created_on, captured.completed_on
    from users_now
    inner join app_private.captured_tasks as captured on captured.user_id = users_now.id
    where captured.user_id between p_from and last
      and (p_users is null or captured.user_id = any (p_users))
  ),
  reflections_now as materialized (
    select reflections.user_id, reflections.id, reflections.reflection_date,
      reflections.mood_score
    from users_now
    inner join app_public.reflections on reflections.user_id = users_now.id
    where reflections.user_id between p_from and last
      and (p_users is null or reflections.user_id = any (p_users))
  ),
  reflections_before as materialized (
    select captured.user_id, captured.id, captured.reflection_date, captured.mood_score
    from users_now
    inner join app_private.captured_reflections as captured
      on captured.user_id = users_now.id
    where captured.user_id between p_from and last
      and (p_users is null or captured.user_id = any (p_users))
  ),
  wanted as materialized (
    select captured.user_id, captured.agg_date, captured.tasks_created,
      captured.tasks_completed, captured.reflections_count, captured.mood_sum,
      captured.mood_count
    from app_private.captured_aggregates as captured
    inner join users_now on users_now.id = captured.user_id
    where captured.user_id between p_from and last
      and (p_users is null or captured.user_id = any (p_users))
  ),
  found as materialized (
    select aggregates.user_id, aggregates.agg_date, aggregates.tasks_created,
      aggregates.tasks_completed, aggregates.reflections_count, aggregates.mood_sum,
      aggregates.mood_count
    from users_now
    inner join app_public.user_dashboard_aggregates as aggregates
      on aggregates.user_id = users_now.id
    where aggregates.user_id between p_from and last
      and (p_users is null or aggregates.user_id = any (p_users))
  ),
  differing as (
    select users_now.id as user_id
    from users_now
    left join app_private.captured_users as captured
      on captured.user_id = users_now.id and captured.user_id between p_from and last
    where captured.timezone is distinct from users_now.timezone
    union all
    select user_id from (select * from tasks_now except select * from tasks_before) as tasks
    union all
    select user_id from (select * from tasks_before except select * from tasks_now) as tasks
    union all
    select user_id
    from (select * from reflections_now except select * from reflections_before) as reflections
    union all
    select user_id
    from (select * from reflections_before except select * from reflections_now) as reflections
    union all
    select user_id from (select * from wanted except select * from found) as aggregates
    union all
    select user_id from (select * from found except select * from wanted) as aggregates
  )
  select array(select distinct differing.user_id from differing order by differing.user_id),
    (select count(*) from found);
end
$$;

comment on function app_private.differing_users(uuid, uuid, uuid[]) is
  'The users from p_from to below p_below, or those of p_users among them, whose captured rows or aggregates are not what the tables hold now; and how many user-days there are.';
--! EndIncluded functions/app_private/differing_users.sql
--! Included functions/app_private/compare_capture.sql
-- Definer: it reads every user's rows, which its caller may not, and returns only their ids.
create or replace function app_private.compare_capture(p_from uuid, p_rows integer default 20000)
returns table (user_ids uuid[], days bigint, below uuid)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  slice_end constant uuid := app_private.capture_slice_end(p_from, p_rows);
begin
  return query
  select differing.user_ids, differing.days, slice_end
  from app_private.differing_users(p_from, slice_end, null) as differing;
end
$$;

grant execute on function app_private.compare_capture(uuid, integer) to gw_cdc;
comment on function app_private.compare_capture(uuid, integer) is
  'Compares a slice of about p_rows rows. Returns the users who differ, which may only be late; how many user-days there are; and where the next slice begins, null after the last.';
--! EndIncluded functions/app_private/compare_capture.sql
--! Included functions/app_private/compare_captured_users.sql
-- Definer: see compare_capture().
create or replace function app_private.compare_captured_users(p_users uuid[]) returns uuid[]
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select user_ids
  from app_private.differing_users('00000000-0000-0000-0000-000000000000', null, p_users)
$$;

grant execute on function app_private.compare_captured_users(uuid[]) to gw_cdc;
comment on function app_private.compare_captured_users(uuid[]) is
  'Those of these users who differ still.';
--! EndIncluded functions/app_private/compare_captured_users.sql
--! Included functions/app_private/expect_aggregates.sql
-- Definer: it reads every user's rows, which its caller may not, and returns only how many
-- user-days there are.
create or replace function app_private.expect_aggregates(p_users uuid[]) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  written bigint;
begin
  delete from app_private.capture_expectations;
  insert into app_private.capture_expectations
    (user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
      mood_count)
  select user_id, agg_date, tasks_created, tasks_completed, reflections_count, mood_sum,
    mood_count
  from app_private.expected_aggregates
  where user_id = any (p_users);
  get diagnostics written = row_count;
  return written;
end
$$;

grant execute on function app_private.expect_aggregates(uuid[]) to gw_cdc;
comment on function app_private.expect_aggregates(uuid[]) is
  'Counts what the tables hold of these users, as the transaction''s snapshot sees them, for capture_differences().';
--! EndIncluded functions/app_private/expect_aggregates.sql
--! Included functions/app_private/capture_differences.sql
-- Users who were deleted since the count have no aggregates any more, and are left out.
-- So are users whose time zone the server does not know: their tasks have no days.
--
-- Definer: it reads users, which its caller may not; it tells counts and users' ids.
create or replace function app_private.capture_differences(p_users uuid[])
returns table (
  user_id uuid, agg_date date, measure text, expected integer, found integer
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  select user_id, agg_date, measures.name, measures.expected, measures.found
  from app_private.capture_expectations as expected
  full join (
    select * from app_public.user_dashboard_aggregates where user_id = any (p_users)
  ) as found using (user_id, agg_date)
  cross join lateral (values
    ('tasks_created', expected.tasks_created, found.tasks_created),
    ('tasks_completed', expected.tasks_completed, found.tasks_completed),
    ('reflections_count', expected.reflections_count, found.reflections_count),
    ('mood_sum', expected.mood_sum, found.mood_sum),
    ('mood_count', expected.mood_count, found.mood_count)
  ) as measures (name, expected, found)
  where coalesce(measures.expected, 0) <> coalesce(measures.found, 0)
    and exists (
      select from app_public.users
      inner join app_hidden.known_timezones on known_timezones.name = users.timezone
      where users.id = user_id
    )
  order by 1, 2, 3
$$;

grant execute on function app_private.capture_differences(uuid[]) to gw_cdc;
comment on function app_private.capture_differences(uuid[]) is
  'Where the aggregates of these users are not what expect_aggregates() has counted.';
--! EndIncluded functions/app_private/capture_differences.sql

select app_private.tell_truncations();
