/*
 * Change capture: what gw cdc needs to keep user_dashboard_aggregates current.
 *
 * The consumer reads tasks, reflections and users from a logical slot. What it has counted
 * of each row is kept in app_private.captured_*: a change is the difference between what was
 * counted and what the row says now. So no old image is needed (REPLICA IDENTITY stays the
 * primary key), a change that comes twice counts once, and a user's move to another zone, a
 * truncation or a deletion can be worked out as of that position of the log.
 *
 * Locks: the triggers take SHARE ROW EXCLUSIVE on app_public.tasks' partitions, the
 * publication SHARE UPDATE EXCLUSIVE on tasks, reflections and users, for a moment: writers
 * wait for the former.
 */

-- What is dropped is made anew below: this file can run again. The consumer starts over
-- with a snapshot then.
-- squawk-ignore-file ban-drop-table
-- The tables are made in this transaction: nobody else can see them yet.
-- squawk-ignore-file require-concurrent-index-creation

drop publication if exists gw_cdc;
drop view if exists ops.change_capture_status;
drop function if exists
  app_private.add_to_aggregates(app_private.capture_expectations[]);
drop view if exists app_private.captured_aggregates;
drop view if exists app_private.expected_aggregates;
drop table if exists ops.change_capture;
drop table if exists app_private.captured_users;
drop table if exists app_private.captured_tasks;
drop table if exists app_private.captured_reflections;
drop table if exists app_private.capture_signals;
drop table if exists app_private.capture_expectations;

-- One row a slot, written in the transaction that changes the aggregates: that, and not the
-- slot, is what says how far they are. The slot is confirmed after, and never further.
create table ops.change_capture (
  slot_name text not null,
  plugin text not null,
  state text not null,
  applied_lsn pg_lsn,
  applied_at timestamptz,
  committed_at timestamptz,
  snapshot_lsn pg_lsn,
  snapshot_at timestamptz,
  resnapshot_requested boolean not null default false,
  hold_lsn pg_lsn,
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
-- Read only: the functions below write it.
grant select on ops.change_capture to gw_monitor, gw_cdc;

comment on table ops.change_capture is
  'How far change capture is: one row for each slot that gw cdc has read.';
comment on column ops.change_capture.plugin is 'The slot''s output plugin.';
comment on column ops.change_capture.state is
  'running, stopped, failed (see error) or snapshotting.';
comment on column ops.change_capture.applied_lsn is
  'Every change that was committed before this position is in the aggregates, none after.';
comment on column ops.change_capture.applied_at is 'When that was written.';
comment on column ops.change_capture.committed_at is
  'When the last transaction that was applied had committed.';
comment on column ops.change_capture.snapshot_lsn is
  'The position at which everything was last counted from the tables.';
comment on column ops.change_capture.snapshot_at is 'When that was done.';
comment on column ops.change_capture.resnapshot_requested is
  'The consumer is to count everything anew.';
comment on column ops.change_capture.hold_lsn is
  'The consumer waits at this position while gw cdc reconcile compares; null otherwise.';
comment on column ops.change_capture.error is 'Why it failed.';

-- What was counted. No foreign keys: these follow the log, and lag behind the tables. The
-- days are kept as they were counted, so that they are taken away where they were added,
-- whatever tzdata says by then.
create table app_private.captured_users (
  user_id uuid not null,
  timezone text not null,
  constraint captured_users_pkey primary key (user_id)
);
comment on table app_private.captured_users is
  'The zone in which each user''s days were counted.';

create table app_private.captured_tasks (
  user_id uuid not null,
  id uuid not null,
  created_at timestamptz not null,
  completed_at timestamptz,
  created_on date not null,
  completed_on date,
  constraint captured_tasks_pkey primary key (user_id, id)
);
comment on table app_private.captured_tasks is 'Each task as change capture counted it.';
comment on column app_private.captured_tasks.created_on is
  'The day for which it counts as created.';
comment on column app_private.captured_tasks.completed_on is
  'The day for which it counts as completed.';

create table app_private.captured_reflections (
  user_id uuid not null,
  id uuid not null,
  reflection_date date not null,
  mood_score smallint,
  constraint captured_reflections_pkey primary key (user_id, id)
);
comment on table app_private.captured_reflections is
  'Each reflection as change capture counted it.';

-- What the consumer has to be told through the log. Rows are inserted and deleted at once:
-- only their way through the log matters.
create table app_private.capture_signals (
  id bigint generated always as identity,
  kind text not null,
  object text not null,
  constraint capture_signals_pkey primary key (id),
  constraint capture_signals_kind_check check (kind in ('heartbeat', 'truncated'))
);
comment on table app_private.capture_signals is
  'Always empty. Heartbeats and truncated partitions pass through it into the log.';

-- Filled by gw cdc reconcile. Unlogged: it is made anew each time.
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
comment on table app_private.capture_expectations is
  'The aggregates as the tables give them at the position of the last reconcile.';

-- Both views count alike: one what was captured, one what is in the tables.
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
  'The aggregates that follow from what was captured.';

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
    group by 1, 2
    union all
    select tasks.user_id, (tasks.completed_at at time zone users.timezone)::date,
      0, count(*), 0, 0, 0
    from app_public.tasks
    inner join app_public.users on users.id = tasks.user_id
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
  'The aggregates that follow from the tables as they are.';

-- pgoutput sends what is listed here, and no text of a user. wal2json does not look at it.
-- The roots stand for their partitions, whichever those are by then.
create publication gw_cdc for table
  app_public.tasks (user_id, id, created_at, completed_at),
  app_public.reflections (user_id, id, reflection_date, mood_score),
  app_public.users (id, timezone),
  app_private.capture_signals
  with (publish_via_partition_root = true);

--!include functions/app_private/tg_tasks__truncated.sql
comment on function app_private.tg_tasks__truncated() is
  'Tells change capture that a partition was truncated, which pgoutput does not.';

do $triggers$
declare
  v_partition regclass;
begin
  for v_partition in
    select relid from pg_catalog.pg_partition_tree('app_public.tasks') where isleaf
  loop
    execute pg_catalog.format('create or replace trigger _900_truncated after truncate on %s'
      ' for each statement execute function app_private.tg_tasks__truncated()', v_partition);
  end loop;
end
$triggers$;

--!include functions/app_private/capture_users.sql
comment on function app_private.capture_users(jsonb, jsonb) is
  'Takes users'' changes in, and returns what becomes of the aggregates.';
--!include functions/app_private/capture_tasks.sql
comment on function app_private.capture_tasks(jsonb, jsonb) is
  'Takes tasks'' changes in, and returns what becomes of the aggregates.';
--!include functions/app_private/capture_reflections.sql
comment on function app_private.capture_reflections(jsonb, jsonb) is
  'Takes reflections'' changes in, and returns what becomes of the aggregates.';
--!include functions/app_private/capture_truncation.sql
comment on function app_private.capture_truncation(text) is
  'Forgets the rows of a truncated table or partition, and returns what becomes of the aggregates.';
--!include functions/app_private/add_to_aggregates.sql
comment on function app_private.add_to_aggregates(app_private.capture_expectations[]) is
  'Adds differences to the aggregates of users who exist.';
--!include functions/app_private/apply_changes.sql
grant execute on function
  app_private.apply_changes(text, pg_lsn, pg_lsn, pg_lsn, timestamptz, jsonb) to gw_cdc;
comment on function
  app_private.apply_changes(text, pg_lsn, pg_lsn, pg_lsn, timestamptz, jsonb) is
  'Applies changes of whole transactions and stores how far they reach, or does nothing and returns the position at which to wait.';
--!include functions/app_private/begin_capture_snapshot.sql
grant execute on function app_private.begin_capture_snapshot(text, text) to gw_cdc;
comment on function app_private.begin_capture_snapshot(text, text) is
  'Forgets what was captured, to count everything anew for this slot.';
--!include functions/app_private/fill_capture_snapshot.sql
grant execute on function app_private.fill_capture_snapshot() to gw_cdc;
comment on function app_private.fill_capture_snapshot() is
  'Captures all rows, as the transaction''s snapshot sees them. Returns their number.';
--!include functions/app_private/finish_capture_snapshot.sql
grant execute on function app_private.finish_capture_snapshot(text, text, pg_lsn) to gw_cdc;
comment on function app_private.finish_capture_snapshot(text, text, pg_lsn) is
  'Makes the aggregates what was captured. Returns how many rows that changed.';
--!include functions/app_private/capture_heartbeat.sql
grant execute on function app_private.capture_heartbeat(text) to gw_cdc;
comment on function app_private.capture_heartbeat(text) is
  'Sends a heartbeat through the log. Returns whether everything is to be counted anew.';
--!include functions/app_private/set_capture_state.sql
grant execute on function app_private.set_capture_state(text, text, text) to gw_cdc;
comment on function app_private.set_capture_state(text, text, text) is
  'Says that the consumer of a slot runs, has stopped, or has failed and why.';
--!include functions/app_private/hold_capture.sql
grant execute on function app_private.hold_capture(text, pg_lsn) to gw_cdc;
comment on function app_private.hold_capture(text, pg_lsn) is
  'Has the consumer wait at a position; 0/0 at once; null lets it go on.';
--!include functions/app_private/request_resnapshot.sql
grant execute on function app_private.request_resnapshot(text) to gw_cdc;
comment on function app_private.request_resnapshot(text) is
  'Has the consumer count everything anew. Returns false when there is no such slot.';
--!include functions/app_private/expect_aggregates.sql
grant execute on function app_private.expect_aggregates() to gw_cdc;
comment on function app_private.expect_aggregates() is
  'Counts the tables as the transaction''s snapshot sees them, for capture_differences().';
--!include functions/app_private/capture_differences.sql
grant execute on function app_private.capture_differences() to gw_cdc;
comment on function app_private.capture_differences() is
  'Where the aggregates are not what expect_aggregates() has counted.';

grant usage on schema app_private, ops to gw_cdc;

-- For monitoring, which polls it: one row a slot, and numbers only.
create view ops.change_capture_status as
  select change_capture.slot_name,
    change_capture.plugin,
    coalesce(slots.active, false) as active,
    coalesce(slots.wal_status, 'lost') as wal_status,
    (pg_catalog.pg_current_wal_lsn() - slots.confirmed_flush_lsn)::bigint as lag_bytes,
    -- Another server's clock, before a failover, may have been ahead.
    case when change_capture.committed_at is not null then
      greatest(extract(epoch from now() - change_capture.committed_at), 0)::double precision
    end as lag_seconds,
    change_capture.applied_lsn,
    change_capture.applied_at,
    case when change_capture.state = 'running' and slots.active is not true
      then 'stopped' else change_capture.state end as state,
    change_capture.error,
    slots.safe_wal_size,
    slots.confirmed_flush_lsn,
    change_capture.snapshot_lsn,
    change_capture.snapshot_at
  from ops.change_capture
  left join pg_catalog.pg_replication_slots as slots
    on slots.slot_name = change_capture.slot_name
    and slots.database = pg_catalog.current_database();

grant select on ops.change_capture_status to gw_monitor, gw_cdc;

comment on view ops.change_capture_status is
  'How change capture is doing: one row a slot. A heartbeat every 5 seconds keeps both lags near zero.';
comment on column ops.change_capture_status.wal_status is
  'lost: the slot is gone or has lost its log; the consumer will count everything anew.';
comment on column ops.change_capture_status.lag_bytes is
  'Log that is written and not confirmed; null without a slot.';
comment on column ops.change_capture_status.lag_seconds is
  'Since the commit of the last transaction that was applied: up to 5 on an idle database.';
comment on column ops.change_capture_status.state is
  'running, stopped, failed (see error) or snapshotting.';
comment on column ops.change_capture_status.safe_wal_size is
  'Bytes that may still be written before the slot is lost; null without a limit.';
