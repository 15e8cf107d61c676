--! Previous: sha1:7106a5d19dcb108ff2ba564cade1130db3821e67
--! Hash: sha1:d862994cf9784b1be7aa7d46fb1119aa0a1feb25
--! Message: partitions
--! Baseline: topics/04-partitions.sql

/*
 * Range partitions: made ahead of time, detached when they are old, dropped when it is
 * safe.
 *
 * ops.partition_policies names the tables. ops.partition_events records what happened.
 * The policies' rows are in the topic "schedule".
 */

-- One row for each range-partitioned table whose partitions are made for it.
create table ops.partition_policies (
  parent_table regclass not null,
  step interval not null,
  premake smallint not null,
  retention interval,
  retention_action text not null default 'detach',
  require_backup boolean not null default true,
  created_at timestamptz not null default now(),
  constraint partition_policies_pkey primary key (parent_table),
  constraint partition_policies_step_check
    check (step in (interval '1 month', interval '1 day')),
  constraint partition_policies_premake_check check (premake between 1 and 120),
  constraint partition_policies_retention_check check (retention > interval '0'),
  constraint partition_policies_retention_action_check
    check (retention_action in ('detach', 'drop'))
);

grant select on ops.partition_policies to gw_monitor;

comment on table ops.partition_policies is
  'Range-partitioned tables that ops.ensure_partitions() keeps supplied with partitions.';
comment on column ops.partition_policies.step is
  'What one partition spans: 1 month or 1 day. Bounds are in UTC.';
comment on column ops.partition_policies.premake is
  'How many partitions exist ahead of the current one.';
comment on column ops.partition_policies.retention is
  'A partition is detached when its upper bound is longer ago than this; null keeps all.';
comment on column ops.partition_policies.retention_action is
  'detach: the rows stay in a table of their own in app_partitions. drop: that table is dropped too, once a backup and the replication slots hold its rows.';
comment on column ops.partition_policies.require_backup is
  'Whether a drop waits for a verified backup that began after the partition was detached.';

-- What happened to partitions. A name may be used again: its newest row counts.
create table ops.partition_events (
  id bigint not null generated always as identity,
  occurred_at timestamptz not null default clock_timestamp(),
  parent_table text not null,
  partition_name text not null,
  event text not null,
  reason text,
  will_drop boolean not null default false,
  wal_position pg_lsn,
  bytes bigint,
  constraint partition_events_pkey primary key (id),
  constraint partition_events_event_check
    check (event in ('created', 'detached', 'dropped', 'skipped')),
  constraint partition_events_reason_check
    check ((event = 'skipped') = (reason is not null)),
  constraint partition_events_wal_position_check
    check ((event = 'detached') = (wal_position is not null))
);

create index partition_events_partition_name_id_idx
  on ops.partition_events (partition_name, id);

grant select on ops.partition_events to gw_monitor;

create trigger _200_append_only before update or delete or truncate
  on ops.partition_events
  for each statement execute function app_private.tg__append_only();

comment on table ops.partition_events is
  'Partitions that were created, detached, dropped, or skipped. Append-only.';
comment on column ops.partition_events.parent_table is
  'The name of the partitioned table, which may be dropped by now.';
comment on column ops.partition_events.reason is 'Why the partition was skipped; null for other events.';
comment on column ops.partition_events.will_drop is
  'For detached: whether the policy said drop. A table that was detached to be kept stays, even when the policy changes.';
comment on column ops.partition_events.wal_position is
  'For detached: the position of the write-ahead log. Every write to the partition lies before it.';
comment on column ops.partition_events.bytes is
  'For detached and dropped: the size of the partition with its indexes.';

--! Included functions/ops/make_partitions.sql
-- Each policy is a subtransaction: a table that is in use, or whose policy is wrong, leaves the
-- others done.
create or replace function ops.make_partitions()
returns table (parent_table regclass, created integer, failure text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- Every query that comes after us waits as long as we do; the next run tries again.
set lock_timeout = '300ms'
as $$
#variable_conflict use_column
declare
  policy record;
  unit text;
  fallback regclass;
  partition_key text;
  strays timestamptz[];
  starts_at timestamptz;
begin
  if pg_is_in_recovery() then
    return;
  end if;
  -- One at a time: a second run would find the partitions half made.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));

  for policy in
    select partition_policies.*
    from ops.partition_policies
    -- A policy outlives its table, when somebody drops that and forgets this.
    inner join pg_class on pg_class.oid = partition_policies.parent_table
    order by partition_policies.parent_table::text
  loop
    parent_table := policy.parent_table;
    created := 0;
    failure := null;
    begin
      unit := case when policy.step = interval '1 day' then 'day' else 'month' end;
      select nullif(pg_partitioned_table.partdefid, 0)::regclass, pg_attribute.attname
      into fallback, partition_key
      from pg_partitioned_table
      inner join pg_attribute on pg_attribute.attrelid = pg_partitioned_table.partrelid
        and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
      where pg_partitioned_table.partrelid = policy.parent_table;
      -- Rows that found no partition, of past months as of far ones, get theirs too: so many in
      -- a run, should their times be nonsense.
      strays := null;
      if fallback is not null then
        execute format(
          'select array_agg(starts_at) from (select distinct date_trunc(%L, %I::timestamptz)'
          ' from %s where isfinite(%2$I) order by 1 limit 24) as found (starts_at)',
          unit, partition_key, fallback) into strays;
      end if;

      for starts_at in
        select generate_series(date_trunc(unit, now()), now() + policy.step * policy.premake,
          policy.step)
        union
        select unnest(strays)
        order by 1
      loop
        if ops.create_range_partition(policy.parent_table, starts_at, policy.step) is not null
        then
          created := created + 1;
        end if;
      end loop;
    exception when others then
      created := 0;
      failure := case when sqlstate in ('55P03', '40P01')
        then 'another session is using the table' else sqlstate || ': ' || sqlerrm end;
      raise warning 'no partition was made for %: %', policy.parent_table, failure;
    end;
    return next;
  end loop;
end
$$;

comment on function ops.make_partitions() is
  'Creates every partition that the policies ask for, and those of rows in DEFAULT. Returns for each table how many were created, or why it was left.';
--! EndIncluded functions/ops/make_partitions.sql
--! Included functions/ops/ensure_partitions.sql
create or replace function ops.ensure_partitions() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(sum(made.created), 0)::integer from ops.make_partitions() as made
$$;

comment on function ops.ensure_partitions() is
  'Creates every partition that the policies ask for, and those of rows in DEFAULT. Returns how many were created. A table that is in use is left for the next run, with a warning.';
--! EndIncluded functions/ops/ensure_partitions.sql
--! Included functions/ops/is_confirmed_by_cdc.sql
-- PostgreSQL does not record the last write to a table. So the caller gives a position
-- after every write: the end of the log, taken while a lock keeps writers out. A
-- transaction's commit is in the log before it releases its locks, perhaps not flushed
-- yet: hence the insert position, not the flushed one.
--
-- A slot that lost its log has not confirmed: its reader must start again from the
-- tables.
create or replace function ops.is_confirmed_by_cdc(
  p_position pg_lsn default pg_catalog.pg_current_wal_insert_lsn()
) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select not exists (
    select from pg_replication_slots
    where pg_replication_slots.slot_type = 'logical'
      and pg_replication_slots.database = current_database()
      and coalesce(pg_replication_slots.confirmed_flush_lsn < p_position, true)
  )
$$;

grant execute on function ops.is_confirmed_by_cdc(pg_lsn) to gw_monitor;
comment on function ops.is_confirmed_by_cdc(pg_lsn) is
  'Whether every logical replication slot of this database has confirmed a position of the write-ahead log (default: its end). True without slots.';
--! EndIncluded functions/ops/is_confirmed_by_cdc.sql
--! Included functions/ops/create_range_partition.sql
-- The partition is built as a table of its own, takes the rows that fell into DEFAULT
-- meanwhile, and is then attached: ATTACH scans DEFAULT under a lock, so the rows must have
-- gone, in this same transaction, or it is refused.
create or replace function ops.create_range_partition(
  p_parent regclass, p_instant timestamptz, p_step interval
) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  unit text := case when p_step = interval '1 day' then 'day' else 'month' end;
  range_start timestamptz := date_trunc(unit, p_instant);
  range_end timestamptz := date_trunc(unit, p_instant) + p_step;
  parent_name text;
  partition_key text;
  partition_name text;
  default_partition regclass;
  written_columns text;
  moved boolean;
begin
  select pg_class.relname, pg_attribute.attname,
    nullif(pg_partitioned_table.partdefid, 0)::regclass
  into parent_name, partition_key, default_partition
  from pg_catalog.pg_class
  inner join pg_catalog.pg_partitioned_table on pg_partitioned_table.partrelid = pg_class.oid
  inner join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_class.oid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
  where pg_class.oid = p_parent
    and pg_partitioned_table.partstrat = 'r'
    and pg_partitioned_table.partnatts = 1;
  if not found then
    raise exception '% is not range-partitioned by one column', p_parent
      using errcode = 'GW010',
        hint = 'ops.partition_policies serves tables PARTITION BY RANGE (one column) only.';
  end if;

  partition_name := parent_name || '_p'
    || to_char(range_start, case unit when 'day' then 'YYYYMMDD' else 'YYYYMM' end);
  if octet_length(partition_name) > 63 then
    raise exception 'the name of % is too long for its partitions', p_parent
      using errcode = 'GW010', hint = 'A name has 63 bytes; a partition needs 10 of them.';
  end if;
  if exists (
    select from pg_catalog.pg_inherits
    where pg_inherits.inhparent = p_parent
      and pg_inherits.inhrelid = to_regclass(format('app_partitions.%I', partition_name))
  ) then
    return null;
  end if;

  -- An existing table of that name, of another schema's table perhaps, is an error here.
  execute format('create table app_partitions.%I (like %s including defaults'
    ' including generated including constraints including storage including compression)',
    partition_name, p_parent);

  if default_partition is not null then
    execute format('select exists (select from %1$s where %2$I >= %3$L and %2$I < %4$L)',
      default_partition, partition_key, range_start, range_end) into moved;
  end if;
  if moved then
    -- Moving is deleting and inserting: a foreign key ON DELETE CASCADE would follow.
    if exists (
      select from pg_catalog.pg_constraint
      where pg_constraint.confrelid = p_parent and pg_constraint.contype = 'f'
    ) then
      raise exception 'rows of % in DEFAULT cannot be moved: other tables reference them',
          p_parent
        using errcode = 'GW012', hint = 'Drop the foreign key, move, and add it again.';
    end if;
    select string_agg(quote_ident(attname), ', ' order by attnum) into written_columns
    from pg_catalog.pg_attribute
    where attrelid = p_parent and attnum > 0 and not attisdropped and attgenerated = '';
    execute format('with moved as (delete from %1$s where %2$I >= %3$L and %2$I < %4$L'
      ' returning *) insert into app_partitions.%5$I (%6$s) select %6$s from moved',
      default_partition, partition_key, range_start, range_end, partition_name,
      written_columns);
  end if;

  execute format('alter table %s attach partition app_partitions.%I'
    ' for values from (%L) to (%L)', p_parent, partition_name, range_start, range_end);
  insert into ops.partition_events (parent_table, partition_name, event)
  values (p_parent::text, format('app_partitions.%I', partition_name), 'created');
  return 'app_partitions.' || partition_name;
end
$$;

comment on function ops.create_range_partition(regclass, timestamptz, interval) is
  'Creates the partition that holds an instant, moving rows out of DEFAULT. Returns its name, or null when it exists.';
--! EndIncluded functions/ops/create_range_partition.sql
--! Included functions/ops/drop_detached_partitions.sql
create or replace function ops.drop_detached_partitions() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms'
as $$
declare
  candidate record;
  obstacle text;
  dropped integer := 0;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  -- The lock of ops.ensure_partitions(): one at a time, whatever is done to partitions.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));

  for candidate in
    select * from ops.partitions_to_drop()
  loop
    obstacle := candidate.obstacle;
    if obstacle is null then
      begin
        execute format('drop table %s', candidate.relation);
        insert into ops.partition_events (parent_table, partition_name, event, bytes)
        values (candidate.parent_table, candidate.partition_name, 'dropped',
          candidate.bytes);
        dropped := dropped + 1;
      exception
        when lock_not_available or deadlock_detected then
          obstacle := 'another session is using it';
        when dependent_objects_still_exist then
          obstacle := sqlerrm;
      end;
    end if;

    -- The same reason is recorded once, not each night.
    if obstacle is distinct from (
      select partition_events.reason
      from ops.partition_events
      where partition_events.partition_name = candidate.partition_name
      order by partition_events.id desc
      limit 1
    ) then
      insert into ops.partition_events (parent_table, partition_name, event, reason)
      values (candidate.parent_table, candidate.partition_name, 'skipped', obstacle);
    end if;
    -- A drop also locks the tables that the dropped one references. Waiting again would
    -- keep them locked: the next run goes on.
    exit when obstacle = 'another session is using it';
  end loop;
  return dropped;
end
$$;

comment on function ops.drop_detached_partitions() is
  'Drops detached partitions whose policy says drop, once backups and replication slots allow it. Returns how many.';
--! EndIncluded functions/ops/drop_detached_partitions.sql
--! Included functions/ops/partition_ends.sql
create or replace function ops.partition_ends()
returns table (
  parent_table regclass, retention interval, retention_action text, partition regclass,
  ends_at timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
-- Bounds without a zone, of a table partitioned by date, are in UTC.
set timezone = 'UTC'
as $$
  select partition_policies.parent_table, partition_policies.retention,
    partition_policies.retention_action, pg_class.oid::regclass, bounds.ends_at
  from ops.partition_policies
  inner join pg_catalog.pg_partitioned_table
    on pg_partitioned_table.partrelid = partition_policies.parent_table
    and pg_partitioned_table.partstrat = 'r'
    and pg_partitioned_table.partnatts = 1
  inner join pg_catalog.pg_attribute
    on pg_attribute.attrelid = partition_policies.parent_table
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
    and pg_attribute.atttypid::regtype in ('timestamptz', 'timestamp', 'date')
  inner join pg_catalog.pg_inherits
    on pg_inherits.inhparent = partition_policies.parent_table
  inner join pg_catalog.pg_class on pg_class.oid = pg_inherits.inhrelid
  cross join lateral (
    select substring(pg_get_expr(pg_class.relpartbound, pg_class.oid)
      from ' TO \(''([^'']+)''\)$')::timestamptz
  ) as bounds (ends_at)
  -- DEFAULT and MAXVALUE never end.
  where bounds.ends_at is not null
$$;

comment on function ops.partition_ends() is
  'The partitions of each table with a policy, and the upper bound of each.';
--! EndIncluded functions/ops/partition_ends.sql
--! Included functions/ops/partitions_to_detach.sql
create or replace function ops.partitions_to_detach()
returns table (parent_table regclass, retention_action text, partition regclass, bytes bigint)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select ends.parent_table, ends.retention_action, ends.partition,
    pg_total_relation_size(ends.partition)
  from ops.partition_ends() as ends
  where ends.ends_at <= now() - ends.retention
  -- A table that was in use in the last run comes after the others.
  order by (
      select max(partition_events.id)
      from ops.partition_events
      where partition_events.parent_table = ends.parent_table::text
        and partition_events.event = 'skipped'
    ) nulls first,
    ends.parent_table::text, ends.ends_at
$$;

comment on function ops.partitions_to_detach() is
  'Partitions that are older than their policy keeps, in the order in which they are detached.';
--! EndIncluded functions/ops/partitions_to_detach.sql
--! Included functions/ops/prune_partitions.sql
create or replace function ops.prune_partitions() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Every query that comes after us waits as long as we do; the next run tries again.
set lock_timeout = '300ms'
as $$
declare
  due record;
  pruned integer := 0;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  -- The lock of ops.ensure_partitions(): one at a time, whatever is done to partitions.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));

  for due in
    select * from ops.partitions_to_detach()
  loop
    begin
      execute format('alter table %s detach partition %s',
        due.parent_table, due.partition);
      -- The lock on the partition keeps writers out: every write lies before this
      -- position.
      insert into ops.partition_events (parent_table, partition_name, event, will_drop,
        wal_position, bytes)
      values (due.parent_table::text, due.partition::text, 'detached',
        due.retention_action = 'drop', pg_current_wal_insert_lsn(), due.bytes);
      pruned := pruned + 1;
    exception
      when lock_not_available or deadlock_detected then
        insert into ops.partition_events (parent_table, partition_name, event, reason)
        values (due.parent_table::text, due.partition::text, 'skipped',
          'another session is using the table');
        -- Parents that we have detached from are locked until we end: no more waiting.
        exit;
      -- Rows that others reference; DETACH CONCURRENTLY that was interrupted.
      when foreign_key_violation or object_not_in_prerequisite_state then
        insert into ops.partition_events (parent_table, partition_name, event, reason)
        values (due.parent_table::text, due.partition::text, 'skipped', sqlerrm);
    end;
  end loop;

  perform ops.drop_detached_partitions();
  return pruned;
end
$$;

comment on function ops.prune_partitions() is
  'Detaches every partition that is older than its policy keeps, and drops those that may be dropped. Returns how many were detached.';
--! EndIncluded functions/ops/prune_partitions.sql
--! Included functions/ops/create_next_month_partition.sql
create or replace function ops.create_next_month_partition() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select ops.ensure_partitions()
$$;

comment on function ops.create_next_month_partition() is
  'Creates every partition that the policies ask for, including next month''s. Returns how many were created.';
--! EndIncluded functions/ops/create_next_month_partition.sql
--! Included functions/ops/prune_old_activity_partitions.sql
create or replace function ops.prune_old_activity_partitions() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select ops.prune_partitions()
$$;

comment on function ops.prune_old_activity_partitions() is
  'Does what ops.prune_partitions() does, for every policy.';
--! EndIncluded functions/ops/prune_old_activity_partitions.sql
