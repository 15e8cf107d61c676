--! Previous: sha1:e2d030b2d76da26e1fd36668ab2fac612ebe3b7b
--! Hash: sha1:91b815c4361dee5d7eb8b2bab93c4664d3c00450
--! Message: partitions
--! Baseline: topics/04-partitions.sql

/*
 * Range partitions: made ahead of time, detached when they are old, dropped when it is
 * safe.
 *
 * ops.partition_policies names the tables. ops.partition_events records what happened.
 * ops.maintain_partitions() moves rows that found no partition, while others work.
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
  'Range-partitioned tables that ops.maintain_partitions() keeps supplied with partitions.';
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

-- Rows on their way out of DEFAULT: one row for each table, from the first copy to the drop
-- of the partition that they were in.
create table ops.partition_moves (
  parent_table regclass not null,
  default_partition regclass not null,
  staging_table regclass not null,
  phase text not null default 'copying',
  next_block bigint not null default 0,
  end_block bigint not null,
  replayed_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  constraint partition_moves_pkey primary key (parent_table),
  constraint partition_moves_phase_check check (phase in ('copying', 'referencing',
    'replaying', 'validating', 'settling', 'waiting', 'dropping'))
);

grant select on ops.partition_moves to gw_monitor;

comment on table ops.partition_moves is
  'Tables whose rows in DEFAULT are being moved to partitions by ops.maintain_partitions().';
comment on column ops.partition_moves.default_partition is
  'Where the rows are, until the copies take its place.';
comment on column ops.partition_moves.staging_table is
  'The partitioned table whose partitions receive the copies.';
comment on column ops.partition_moves.next_block is 'The first block that was not copied yet.';
comment on column ops.partition_moves.end_block is
  'The end of the copying. Rows behind it came later, and were noted as changes.';
comment on column ops.partition_moves.replayed_at is
  'When the changes had last been taken up. The copies wait for older snapshots to end.';

-- Rows of DEFAULT that changed after they were copied, or may have.
create table ops.partition_changes (
  id bigint not null generated always as identity,
  parent_table regclass not null,
  key jsonb,
  constraint partition_changes_pkey primary key (id)
);

comment on table ops.partition_changes is
  'Rows in DEFAULT that were written while they are copied. Empty when nothing is moved.';
comment on column ops.partition_changes.key is
  'The primary key, by column; null when the whole partition was truncated.';

--! Included functions/app_private/tg__moving.sql
-- Definer, because whoever writes the table may not write the notes.
create or replace function app_private.tg__moving() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  parent_oid oid := tg_argv[0]::oid;
begin
  if tg_op = 'TRUNCATE' then
    insert into ops.partition_changes (parent_table) values (parent_oid::regclass);
    return null;
  end if;
  insert into ops.partition_changes (parent_table, key)
  select distinct parent_oid::regclass, (
      select jsonb_object_agg(field.key, field.value)
      from jsonb_each(changed.columns) as field
      where field.key = any (tg_argv[1:])
    )
  from (values (to_jsonb(old)), (to_jsonb(new))) as changed (columns)
  where changed.columns is not null;
  return null;
end
$$;

comment on function app_private.tg__moving() is
  'Notes the keys of rows in DEFAULT that change while they are copied. Arguments: the parent''s oid, the columns of the primary key.';
--! EndIncluded functions/app_private/tg__moving.sql
--! Included functions/ops/range_partitioning.sql
create or replace function ops.range_partitioning(p_parent regclass)
returns table (parent_name text, partition_key text, default_partition regclass)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    select pg_class.relname::text, pg_attribute.attname::text,
      nullif(pg_partitioned_table.partdefid, 0)::regclass
    from pg_catalog.pg_class
    inner join pg_catalog.pg_partitioned_table
      on pg_partitioned_table.partrelid = pg_class.oid
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
end
$$;

comment on function ops.range_partitioning(regclass) is
  'The name, the key and the DEFAULT partition of a table that is partitioned by range of one column. GW010 for others.';
--! EndIncluded functions/ops/range_partitioning.sql
--! Included functions/ops/partition_name.sql
create or replace function ops.partition_name(
  p_parent_name text, p_range_start timestamptz, p_step interval
) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  partition_name text := p_parent_name || '_p' || to_char(p_range_start,
    case when p_step = interval '1 day' then 'YYYYMMDD' else 'YYYYMM' end);
begin
  if octet_length(partition_name) > 63 then
    raise exception 'the name of % is too long for its partitions', p_parent_name
      using errcode = 'GW010', hint = 'A name has 63 bytes; a partition needs 10 of them.';
  end if;
  return partition_name;
end
$$;

comment on function ops.partition_name(text, timestamptz, interval) is
  'The name of the partition that begins at an instant: table_p202611, or table_p20261130 for days.';
--! EndIncluded functions/ops/partition_name.sql
--! Included functions/ops/written_columns.sql
create or replace function ops.written_columns(p_table regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(quote_ident(attname), ', ' order by attnum)
  from pg_catalog.pg_attribute
  where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
$$;

comment on function ops.written_columns(regclass) is
  'The columns of a table that a statement may write, which leaves out generated ones, for use in a statement.';
--! EndIncluded functions/ops/written_columns.sql
--! Included functions/ops/copy_storage.sql
-- A partitioned table has no storage parameters, and no replica identity that its partitions
-- would inherit. Those of DEFAULT are the pattern.
create or replace function ops.copy_storage(p_from regclass, p_to regclass) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  origin record;
begin
  select array_to_string(reloptions, ', ') as options, relreplident as identity
  into origin
  from pg_catalog.pg_class
  where oid = p_from;
  if origin.options is not null then
    execute format('alter table %s set (%s)', p_to, origin.options);
  end if;
  if origin.identity in ('f', 'n') then
    execute format('alter table %s replica identity %s', p_to,
      case origin.identity when 'f' then 'full' else 'nothing' end);
  end if;
end
$$;

comment on function ops.copy_storage(regclass, regclass) is
  'Gives a partition the storage parameters and the replica identity of another one.';
--! EndIncluded functions/ops/copy_storage.sql
--! Included functions/ops/refuse_referenced.sql
create or replace function ops.refuse_referenced(p_parent regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Moving is deleting and inserting: a foreign key ON DELETE CASCADE would follow.
  if exists (
    select from pg_catalog.pg_constraint
    where pg_constraint.confrelid = p_parent and pg_constraint.contype = 'f'
  ) then
    raise exception 'rows of % in DEFAULT cannot be moved: other tables reference them',
        p_parent
      using errcode = 'GW012', hint = 'Drop the foreign key, move, and add it again.';
  end if;
end
$$;

comment on function ops.refuse_referenced(regclass) is
  'Raises GW012 when other tables have a foreign key to a partitioned table, whose rows cannot be moved then.';
--! EndIncluded functions/ops/refuse_referenced.sql
--! Included functions/ops/missing_partitions.sql
create or replace function ops.missing_partitions(p_parent regclass)
returns table (partition_name text, range_start timestamptz, range_end timestamptz)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- Nobody waits for it: one processor is enough.
set max_parallel_workers_per_gather = 0
as $$
#variable_conflict use_column
declare
  layout record;
  policy ops.partition_policies;
  unit text;
  strays timestamptz[];
begin
  select * into strict layout from ops.range_partitioning(p_parent);
  select * into strict policy from ops.partition_policies where parent_table = p_parent;
  unit := case when policy.step = interval '1 day' then 'day' else 'month' end;

  -- Rows that found no partition, of past months as of far ones, get theirs too: so many in
  -- a run, should their times be nonsense. Those that hold most come first.
  if layout.default_partition is not null then
    execute format(
      'select array_agg(starts_at) from (select date_trunc(%L, %I::timestamptz)'
      ' from %s where isfinite(%2$I) group by 1 order by count(*) desc, 1 limit 24)'
      ' as found (starts_at)',
      unit, layout.partition_key, layout.default_partition) into strays;
  end if;

  return query
    select ops.partition_name(layout.parent_name, wanted.starts_at, policy.step),
      wanted.starts_at, wanted.starts_at + policy.step
    from (
      select generate_series(date_trunc(unit, now()), now() + policy.step * policy.premake,
        policy.step)
      union
      select unnest(strays)
    ) as wanted (starts_at)
    where not exists (
      select from pg_catalog.pg_inherits
      where pg_inherits.inhparent = p_parent
        and pg_inherits.inhrelid = to_regclass(format('app_partitions.%I',
          ops.partition_name(layout.parent_name, wanted.starts_at, policy.step)))
    )
    order by wanted.starts_at;
end
$$;

comment on function ops.missing_partitions(regclass) is
  'The partitions that the policy of a table asks for, and those of rows in DEFAULT, as far as they are not there.';
--! EndIncluded functions/ops/missing_partitions.sql
--! Included functions/ops/make_missing_partitions.sql
create or replace function ops.make_missing_partitions(
  p_parent regclass, p_at_once_bytes bigint
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Every query that comes after us waits as long as we do; the next run tries again.
set lock_timeout = '300ms'
as $$
declare
  missing record;
  default_bytes bigint;
  created integer := 0;
begin
  -- One at a time: a second run would find the partitions half made.
  perform pg_advisory_xact_lock(hashtextextended('ops.ensure_partitions', 0));
  select pg_relation_size(default_partition) into default_bytes
  from ops.range_partitioning(p_parent);
  for missing in
    select * from ops.missing_partitions(p_parent)
  loop
    -- ATTACH scans DEFAULT under its lock, and rows that are moved are locked meanwhile.
    if default_bytes > p_at_once_bytes then
      raise exception 'DEFAULT has %: too much to move at once',
          pg_size_pretty(default_bytes)
        using errcode = 'GW016',
          hint = 'call ops.maintain_partitions(); moves its rows while others work.';
    end if;
    perform ops.create_range_partition(p_parent, missing.range_start, partition_policies.step)
    from ops.partition_policies
    where partition_policies.parent_table = p_parent;
    created := created + 1;
  end loop;
  return created;
end
$$;

comment on function ops.make_missing_partitions(regclass, bigint) is
  'Creates the partitions that a table lacks, moving rows out of DEFAULT. Returns how many. GW016 when DEFAULT is larger than so many bytes.';
--! EndIncluded functions/ops/make_missing_partitions.sql
--! Included functions/ops/make_partitions.sql
-- Each policy is a subtransaction: a table that is in use, or whose policy is wrong, leaves the
-- others done.
create or replace function ops.make_partitions()
returns table (parent_table regclass, created integer, failure text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if pg_is_in_recovery() then
    return;
  end if;
  for parent_table in
    select partition_policies.parent_table
    from ops.partition_policies
    -- A policy outlives its table, when somebody drops that and forgets this.
    inner join pg_class on pg_class.oid = partition_policies.parent_table
    order by partition_policies.parent_table::text
  loop
    created := 0;
    failure := null;
    begin
      created := ops.make_missing_partitions(parent_table, p_at_once_bytes => 4194304);
    exception
      when lock_not_available or deadlock_detected then
        failure := 'another session is using the table';
      when sqlstate 'GW016' then
        failure := sqlerrm || '; call ops.maintain_partitions();';
      when others then
        failure := sqlstate || ': ' || sqlerrm;
    end;
    if failure is not null then
      raise warning 'partitions of % are missing: %', parent_table, failure;
    end if;
    return next;
  end loop;
end
$$;

comment on function ops.make_partitions() is
  'Creates every partition that the policies ask for, and those of rows in DEFAULT. Returns for each table how many were created, or why it was left. A large DEFAULT partition is left to ops.maintain_partitions().';
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
-- A slot that lost its log stays where it was: its reader must start again from the
-- tables. One that is being made has confirmed nothing yet.
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
  layout record;
  partition_name text;
  written_columns text;
  moved boolean;
begin
  select * into strict layout from ops.range_partitioning(p_parent);
  partition_name := ops.partition_name(layout.parent_name, range_start, p_step);
  if exists (
    select from pg_catalog.pg_inherits
    where pg_inherits.inhparent = p_parent
      and pg_inherits.inhrelid = to_regclass(format('app_partitions.%I', partition_name))
  ) then
    return null;
  end if;

  -- An existing table of that name, of another schema's table perhaps, is an error here.
  execute format('create table app_partitions.%I (like %s including defaults'
    ' including generated including constraints including indexes including storage'
    ' including compression)',
    partition_name, p_parent);

  if layout.default_partition is not null then
    perform ops.copy_storage(layout.default_partition,
      format('app_partitions.%I', partition_name)::regclass);
    execute format('select exists (select from %1$s where %2$I >= %3$L and %2$I < %4$L)',
      layout.default_partition, layout.partition_key, range_start, range_end) into moved;
  end if;
  if moved then
    perform ops.refuse_referenced(p_parent);
    written_columns := ops.written_columns(p_parent);
    execute format('with moved as (delete from %1$s where %2$I >= %3$L and %2$I < %4$L'
      ' returning *) insert into app_partitions.%5$I (%6$s) select %6$s from moved',
      layout.default_partition, layout.partition_key, range_start, range_end, partition_name,
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
--! Included functions/ops/begin_partition_move.sql
-- Rows in DEFAULT are copied, not moved: into partitions of a table beside the parent, of which
-- one is the next DEFAULT. Until ops.finish_partition_move() exchanges them, everybody reads
-- and writes the old one; a trigger notes which rows changed.
create or replace function ops.begin_partition_move(p_parent regclass) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set lock_timeout = '300ms'
as $$
declare
  layout record;
  missing record;
  key_columns text;
  staging text;
  ranges text[];
  partition regclass;
begin
  select * into strict layout from ops.range_partitioning(p_parent);
  perform ops.refuse_referenced(p_parent);
  select string_agg(quote_literal(pg_attribute.attname), ', ') into key_columns
  from pg_catalog.pg_index
  inner join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_index.indrelid
    and pg_attribute.attnum = any (pg_index.indkey)
  where pg_index.indrelid = layout.default_partition and pg_index.indisprimary;
  if key_columns is null then
    raise exception 'rows of % in DEFAULT cannot be moved: it has no primary key', p_parent
      using errcode = 'GW012',
        hint = 'Add one, or call ops.create_range_partition() for each month while nobody writes.';
  end if;

  staging := format('app_partitions.%I', layout.parent_name || '_move');
  execute format('create table %s (like %s including defaults including generated'
    ' including constraints including indexes including storage including compression)'
    ' partition by %s', staging, p_parent, pg_get_partkeydef(p_parent));

  -- A CHECK of the bounds spares ATTACH the scan that it makes under its lock.
  for missing in
    select * from ops.missing_partitions(p_parent)
  loop
    execute format('create table app_partitions.%I partition of %s'
      ' for values from (%L) to (%L)', missing.partition_name, staging,
      missing.range_start, missing.range_end);
    partition := format('app_partitions.%I', missing.partition_name)::regclass;
    perform ops.copy_storage(layout.default_partition, partition);
    execute format('alter table %s add constraint move_bounds_check check'
      ' (%2$I is not null and %2$I >= %3$L and %2$I < %4$L)', partition,
      layout.partition_key, missing.range_start, missing.range_end);
  end loop;

  execute format('create table app_partitions.%I partition of %s default',
    layout.parent_name || '_moving', staging);
  partition := format('app_partitions.%I', layout.parent_name || '_moving')::regclass;
  perform ops.copy_storage(layout.default_partition, partition);
  -- Written as PostgreSQL writes the bounds of DEFAULT, so that it sees that they are the same.
  select array_agg(concat_ws(' and ',
      format('%I >= ', layout.partition_key) || bounds[1],
      format('%I < ', layout.partition_key) || bounds[2])) into ranges
  from pg_catalog.pg_inherits
  inner join pg_catalog.pg_class on pg_class.oid = pg_inherits.inhrelid
  cross join lateral regexp_match(pg_get_expr(pg_class.relpartbound, pg_class.oid),
    '^FOR VALUES FROM \((?:MINVALUE|(.+))\) TO \((?:MAXVALUE|(.+))\)$') as bounds
  where pg_inherits.inhparent in (p_parent, staging::regclass) and bounds is not null;
  execute format('alter table %s add constraint move_bounds_check check'
    ' (not (%I is not null and (%s)))', partition, layout.partition_key,
    '(' || array_to_string(ranges, ') or (') || ')');

  -- Waits for those who are writing. Whoever writes after that is noted.
  execute format('create trigger _999_move after insert or update or delete on %s'
    ' for each row execute function app_private.tg__moving(%L, %s)',
    layout.default_partition, p_parent::oid, key_columns);
  execute format('create trigger _999_move_truncated after truncate on %s'
    ' for each statement execute function app_private.tg__moving(%L)',
    layout.default_partition, p_parent::oid);
  insert into ops.partition_moves (parent_table, default_partition, staging_table, end_block)
  values (p_parent, layout.default_partition, staging::regclass,
    pg_relation_size(layout.default_partition) / current_setting('block_size')::integer);
end
$$;

comment on function ops.begin_partition_move(regclass) is
  'Prepares the partitions that a table lacks, and the next DEFAULT, for ops.advance_partition_move(). GW012 where rows cannot be moved.';
--! EndIncluded functions/ops/begin_partition_move.sql
--! Included functions/ops/copy_moving_rows.sql
create or replace function ops.copy_moving_rows(p_parent regclass, p_blocks integer)
returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  move ops.partition_moves;
begin
  select * into strict move from ops.partition_moves where parent_table = p_parent for update;
  -- Rows that change after they were copied, and rows that are copied twice, were noted.
  execute format('insert into %1$s (%3$s) select %3$s from only %2$s'
    ' where ctid >= %4$L::tid and ctid < %5$L::tid on conflict do nothing',
    move.staging_table, move.default_partition, ops.written_columns(p_parent),
    format('(%s,0)', move.next_block), format('(%s,0)', move.next_block + p_blocks));
  update ops.partition_moves
  set next_block = least(move.next_block + p_blocks, move.end_block)
  where parent_table = p_parent;
  return move.next_block + p_blocks >= move.end_block;
end
$$;

comment on function ops.copy_moving_rows(regclass, integer) is
  'Copies so many blocks of DEFAULT. Returns whether they were the last.';
--! EndIncluded functions/ops/copy_moving_rows.sql
--! Included functions/ops/replay_moving_rows.sql
create or replace function ops.replay_moving_rows(p_parent regclass, p_limit integer)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- Nothing is known yet of the tables of copies: each key is looked up in the index.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  move ops.partition_moves;
  keys jsonb[];
  taken integer;
  truncated boolean;
  same text;
begin
  select * into strict move from ops.partition_moves where parent_table = p_parent for update;
  with deleted as (
    delete from ops.partition_changes
    where partition_changes.id in (
      select noted.id from ops.partition_changes as noted
      where noted.parent_table = p_parent
      order by noted.id
      limit p_limit
    )
    returning key
  )
  select count(*), bool_or(key is null), array_agg(distinct key)
  into taken, truncated, keys
  from deleted;
  if truncated then
    raise exception '% was truncated while its rows were moved', p_parent
      using errcode = 'GW017', hint = 'The next run begins again.';
  end if;
  if taken = 0 then
    return 0;
  end if;

  select string_agg(format('copied.%1$I = wanted.%1$I', pg_attribute.attname), ' and ')
  into same
  from pg_catalog.pg_index
  inner join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_index.indrelid
    and pg_attribute.attnum = any (pg_index.indkey)
  where pg_index.indrelid = move.staging_table and pg_index.indisprimary;
  execute format('delete from %1$s as copied using unnest($1) as change (key),'
    ' jsonb_populate_record(null::%1$s, change.key) as wanted where %2$s',
    move.staging_table, same) using keys;
  -- A later change of the row is noted again. The lock keeps its user from being deleted
  -- between this snapshot and the check of the foreign key.
  execute format('insert into %1$s (%2$s) select %2$s from (select copied.* from'
    ' unnest($1) as change (key), jsonb_populate_record(null::%3$s, change.key) as wanted,'
    ' only %3$s as copied where %4$s for key share of copied) as changed',
    move.staging_table, ops.written_columns(p_parent), move.default_partition, same)
    using keys;
  return taken;
end
$$;

comment on function ops.replay_moving_rows(regclass, integer) is
  'Copies again the rows whose change was noted, so many notes at most. Returns how many notes there were.';
--! EndIncluded functions/ops/replay_moving_rows.sql
--! Included functions/ops/reference_moving_rows.sql
create or replace function ops.reference_moving_rows(p_parent regclass, p_validate boolean)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms'
as $$
declare
  wanted record;
begin
  for wanted in
    select pg_inherits.inhrelid::regclass as partition, foreign_key.conname as name,
      pg_get_constraintdef(foreign_key.oid) as definition, present.convalidated
    from ops.partition_moves
    inner join pg_catalog.pg_inherits on pg_inherits.inhparent = partition_moves.staging_table
    inner join pg_catalog.pg_constraint as foreign_key
      on foreign_key.conrelid = partition_moves.parent_table and foreign_key.contype = 'f'
    left join pg_catalog.pg_constraint as present
      on present.conrelid = pg_inherits.inhrelid and present.conname = foreign_key.conname
    where partition_moves.parent_table = p_parent
    order by 2, 1
  loop
    if wanted.convalidated is null then
      execute format('alter table %s add constraint %I %s not valid', wanted.partition,
        wanted.name, wanted.definition);
    elsif p_validate and not wanted.convalidated then
      execute format('alter table %s validate constraint %I', wanted.partition, wanted.name);
    end if;
  end loop;
end
$$;

comment on function ops.reference_moving_rows(regclass, boolean) is
  'Gives the copies of rows the foreign keys of the table, or validates those that are there.';
--! EndIncluded functions/ops/reference_moving_rows.sql
--! Included functions/ops/older_snapshots.sql
create or replace function ops.older_snapshots(p_instant timestamptz, p_patience interval)
returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  deadline timestamptz := clock_timestamp() + p_patience;
  holders text[];
begin
  -- A READ COMMITTED transaction holds one only while a statement runs: whoever has none for
  -- a moment is not looked at again.
  loop
    perform pg_stat_clear_snapshot();
    select array_agg(holder) into holders
    from pg_catalog.pg_stat_activity
    cross join lateral (
      select format('process %s, since %s', pid, to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS'))
    ) as text (holder)
    where datname = current_database()
      and pid <> pg_backend_pid()
      and backend_xmin is not null
      and xact_start < p_instant
      -- These read no rows of a table that is moved.
      and backend_type not in ('autovacuum worker', 'walsender')
      and (holders is null or holder = any (holders));
    exit when holders is null or clock_timestamp() > deadline;
    perform pg_sleep(0.01);
  end loop;
  return array_to_string(holders, '; ');
end
$$;

comment on function ops.older_snapshots(timestamptz, interval) is
  'Transactions that may still read with a snapshot from before an instant. Waits so long for them; null when there are none.';
--! EndIncluded functions/ops/older_snapshots.sql
--! Included functions/ops/rename_indexes.sql
-- Called while both partitions are locked. Indexes belong together that had, or have, the same
-- parent.
create or replace function ops.rename_indexes(
  p_old oid[], p_parents oid[], p_partition regclass
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  pair record;
begin
  for pair in
    select old.oid::regclass as old_index, old.relname as name, new.indexrelid::regclass as index
    from unnest(p_old, p_parents) as noted (old_index, parent_index)
    inner join pg_catalog.pg_class as old on old.oid = noted.old_index
    inner join pg_catalog.pg_inherits on pg_inherits.inhparent = noted.parent_index
    inner join pg_catalog.pg_index as new on new.indexrelid = pg_inherits.inhrelid
      and new.indrelid = p_partition
    order by old.relname
  loop
    execute format('alter index %s rename to %I', pair.old_index, 'moved_' || pair.old_index::oid);
    execute format('alter index %s rename to %I', pair.index, pair.name);
  end loop;
end
$$;

comment on function ops.rename_indexes(oid[], oid[], regclass) is
  'Gives the indexes of a partition the names of those of the partition that it takes the place of.';
--! EndIncluded functions/ops/rename_indexes.sql
--! Included functions/ops/finish_partition_move.sql
-- Exchanges DEFAULT for the partitions that its rows were copied into. Everybody waits for
-- this: 300 ms for locks at most, then some milliseconds for each partition, since nothing
-- is scanned.
create or replace function ops.finish_partition_move(p_parent regclass) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  layout record;
  move ops.partition_moves;
  wanted record;
  part record;
  default_name text;
  old_indexes oid[];
  parent_indexes oid[];
  last_changes constant integer := 2000;
  deadline timestamptz := clock_timestamp() + interval '300 milliseconds';
begin
  select * into strict layout from ops.range_partitioning(p_parent);
  select * into strict move from ops.partition_moves where parent_table = p_parent for update;
  select relname into strict default_name from pg_catalog.pg_class
  where oid = move.default_partition;

  -- ATTACH and DETACH change triggers of referenced tables too. Whoever writes those may come
  -- to this table next, so they end first; whoever writes this one looks up its references,
  -- which the first lock allows.
  for wanted in
    select relation, mode
    from (
      select distinct 1 as place, pg_constraint.confrelid::regclass::text as relation,
        'share row exclusive' as mode
      from pg_catalog.pg_constraint
      where pg_constraint.conrelid = p_parent and pg_constraint.contype = 'f'
      union all
      values (2, p_parent::text, 'access exclusive'),
        (3, move.default_partition::text, 'access exclusive')
      union all
      select distinct 4, pg_constraint.confrelid::regclass::text, 'access exclusive'
      from pg_catalog.pg_constraint
      where pg_constraint.conrelid = p_parent and pg_constraint.contype = 'f'
    ) as locks
    order by place, relation
  loop
    -- The waits share one limit.
    perform set_config('lock_timeout', greatest(1, ceil(1000 * extract(epoch from
      deadline - clock_timestamp())))::text || 'ms', true);
    execute format('lock table only %s in %s mode', wanted.relation, wanted.mode);
  end loop;
  perform set_config('lock_timeout', '300ms', true);

  if ops.replay_moving_rows(p_parent, last_changes) = last_changes then
    return false;
  end if;

  select array_agg(pg_inherits.inhrelid), array_agg(pg_inherits.inhparent)
  into old_indexes, parent_indexes
  from pg_catalog.pg_index
  inner join pg_catalog.pg_inherits on pg_inherits.inhrelid = pg_index.indexrelid
  where pg_index.indrelid = move.default_partition;
  execute format('alter table %s detach partition %s', p_parent, move.default_partition);
  execute format('drop trigger _999_move on %1$s; drop trigger _999_move_truncated on %1$s',
    move.default_partition);
  execute format('alter table %s rename to %I', move.default_partition,
    layout.parent_name || '_moved');
  -- DEFAULT comes last: beside it, each ATTACH would scan it.
  for part in
    select pg_class.oid::regclass as relation, pg_class.relname as name,
      pg_get_expr(pg_class.relpartbound, pg_class.oid) as bounds
    from pg_catalog.pg_inherits
    inner join pg_catalog.pg_class on pg_class.oid = pg_inherits.inhrelid
    where pg_inherits.inhparent = move.staging_table
    order by pg_get_expr(pg_class.relpartbound, pg_class.oid) = 'DEFAULT', pg_class.relname
  loop
    execute format('alter table %s detach partition %s', move.staging_table, part.relation);
    execute format('alter table %s attach partition %s %s', p_parent, part.relation,
      part.bounds);
    execute format('alter table %s drop constraint move_bounds_check', part.relation);
    if part.bounds = 'DEFAULT' then
      execute format('alter table %s rename to %I', part.relation, default_name);
      perform ops.rename_indexes(old_indexes, parent_indexes, part.relation);
    else
      insert into ops.partition_events (parent_table, partition_name, event)
      values (p_parent::text, format('app_partitions.%I', part.name), 'created');
    end if;
  end loop;
  execute format('drop table %s', move.staging_table);
  update ops.partition_moves set phase = 'dropping' where parent_table = p_parent;
  return true;
end
$$;

comment on function ops.finish_partition_move(regclass) is
  'Exchanges the DEFAULT partition of a table for those that its rows were copied into. Returns false when too many rows had changed.';
--! EndIncluded functions/ops/finish_partition_move.sql
--! Included functions/ops/abandon_partition_move.sql
create or replace function ops.abandon_partition_move(p_parent regclass) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms'
as $$
declare
  move ops.partition_moves;
begin
  select * into move from ops.partition_moves where parent_table = p_parent for update;
  if not found or move.phase = 'dropping' then
    return;
  end if;
  -- One of them may have been dropped by hand.
  if exists (select from pg_catalog.pg_class where oid = move.default_partition) then
    execute format('drop trigger if exists _999_move on %1$s;'
      ' drop trigger if exists _999_move_truncated on %1$s', move.default_partition);
  end if;
  if exists (select from pg_catalog.pg_class where oid = move.staging_table) then
    execute format('drop table %s', move.staging_table);
  end if;
  delete from ops.partition_changes where parent_table = p_parent;
  delete from ops.partition_moves where parent_table = p_parent;
end
$$;

comment on function ops.abandon_partition_move(regclass) is
  'Gives up a move of rows out of DEFAULT before it was finished: drops the copies. The rows are where they were.';
--! EndIncluded functions/ops/abandon_partition_move.sql
--! Included functions/ops/advance_partition_move.sql
-- The order is that of CREATE INDEX CONCURRENTLY: copy, take up what changed meanwhile, wait for
-- older snapshots, exchange. A snapshot from before the copying would find the rows in neither
-- place. One that is younger than the last replay, by a second at most, misses what was written
-- to DEFAULT after that, if its transaction is REPEATABLE READ and comes to the table later.
-- Nobody sees the snapshots of a standby's queries: those that are older find fewer rows.
create or replace function ops.advance_partition_move(p_parent regclass) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '300ms'
as $$
declare
  move ops.partition_moves;
  blocks constant integer := 256;
  changes constant integer := 5000;
  holders text;
begin
  select * into strict move from ops.partition_moves where parent_table = p_parent for update;
  case move.phase
    when 'copying' then
      if ops.copy_moving_rows(p_parent, blocks) then
        update ops.partition_moves set phase = 'referencing' where parent_table = p_parent;
      end if;
    when 'referencing' then
      perform ops.reference_moving_rows(p_parent, p_validate => false);
      update ops.partition_moves set phase = 'replaying' where parent_table = p_parent;
    when 'replaying' then
      if ops.replay_moving_rows(p_parent, changes) < changes then
        update ops.partition_moves set phase = 'validating' where parent_table = p_parent;
      end if;
    when 'validating' then
      perform ops.reference_moving_rows(p_parent, p_validate => true);
      update ops.partition_moves set phase = 'settling' where parent_table = p_parent;
    when 'settling' then
      if ops.replay_moving_rows(p_parent, changes) < changes then
        update ops.partition_moves set phase = 'waiting', replayed_at = null
        where parent_table = p_parent;
      end if;
    when 'waiting' then
      -- The instant is taken in a transaction that follows the one that replayed.
      if move.replayed_at is null then
        update ops.partition_moves set replayed_at = clock_timestamp()
        where parent_table = p_parent;
        return null;
      end if;
      holders := ops.older_snapshots(move.replayed_at, interval '300 milliseconds');
      if holders is not null then
        return 'an older transaction may still read its rows: ' || holders;
      end if;
      if clock_timestamp() > move.replayed_at + interval '1 second' then
        update ops.partition_moves set phase = 'settling' where parent_table = p_parent;
      elsif not ops.finish_partition_move(p_parent) then
        update ops.partition_moves set phase = 'settling' where parent_table = p_parent;
      end if;
    when 'dropping' then
      execute format('drop table %s', move.default_partition);
      delete from ops.partition_changes where parent_table = p_parent;
      delete from ops.partition_moves where parent_table = p_parent;
  end case;
  return null;
end
$$;

comment on function ops.advance_partition_move(regclass) is
  'Does the next step of a move of rows out of DEFAULT; each is a transaction of its own. Returns what it waits for, or null.';
--! EndIncluded functions/ops/advance_partition_move.sql
--! Included functions/ops/advance_partitions.sql
create or replace function ops.advance_partitions(p_parent regclass, p_at_once_bytes bigint)
returns table (state text, detail text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from ops.partition_moves where parent_table = p_parent) then
    begin
      detail := ops.advance_partition_move(p_parent);
      state := case when detail is null then 'continue' else 'busy' end;
    exception
      when lock_not_available or deadlock_detected then
        raise;
      when others then
        detail := sqlstate || ': ' || sqlerrm;
    end;
    if state is null then
      state := 'failed';
      perform ops.abandon_partition_move(p_parent);
    end if;
  else
    begin
      perform ops.make_missing_partitions(p_parent, p_at_once_bytes);
      state := 'done';
    exception when sqlstate 'GW016' then
      perform ops.begin_partition_move(p_parent);
      state := 'continue';
    end;
  end if;
  return next;
exception
  when lock_not_available or deadlock_detected then
    return query select 'busy', 'another session is using it (' || sqlerrm || ')';
  when others then
    return query select 'failed', sqlstate || ': ' || sqlerrm;
end
$$;

comment on function ops.advance_partitions(regclass, bigint) is
  'One transaction of ops.maintain_partitions() for one table. Returns done, continue (there is more to do), busy (try again) or failed, and why.';
--! EndIncluded functions/ops/advance_partitions.sql
--! Included functions/ops/maintain_partitions.sql
-- A procedure, because each table, and each step of a move, is a transaction of its own. It can
-- set no search_path for that reason, so it names every schema.
create or replace procedure ops.maintain_partitions(
  p_patience interval default '10 minutes', p_at_once_bytes bigint default 4194304
)
language plpgsql
as $$
declare
  deadline timestamptz := pg_catalog.clock_timestamp() + p_patience;
  pause double precision := 0.25;
  waiting pg_catalog.regclass[];
  parent pg_catalog.regclass;
  step record;
  busy pg_catalog.regclass[];
  obstacles text[];
  failures text[] := array[]::text[];
begin
  if pg_catalog.pg_is_in_recovery() then
    return;
  end if;
  select pg_catalog.array_agg(parent_table order by parent_table::text) into waiting
  from ops.partition_policies
  inner join pg_catalog.pg_class on pg_class.oid = partition_policies.parent_table;

  while waiting is not null loop
    busy := null;
    obstacles := '{}';
    foreach parent in array waiting loop
      loop
        select * into step from ops.advance_partitions(parent, p_at_once_bytes);
        commit;
        exit when step.state <> 'continue';
      end loop;
      case step.state
        when 'busy' then
          busy := busy || parent;
          raise notice '% is tried again in % s: %', parent, pause, step.detail;
          obstacles := obstacles || pg_catalog.format('%s: %s', parent, step.detail);
        when 'failed' then
          failures := failures || pg_catalog.format('%s: %s', parent, step.detail);
        else null;
      end case;
    end loop;
    waiting := busy;
    exit when waiting is null or pg_catalog.clock_timestamp() > deadline;
    perform pg_catalog.pg_sleep(pause);
    -- Without it, the snapshot of the pause would keep vacuum back.
    commit;
    pause := least(pause * 2, 30);
  end loop;

  if waiting is not null then
    failures := failures || obstacles;
  end if;
  if failures <> '{}' then
    raise exception 'partitions are missing: %', pg_catalog.array_to_string(failures, '; ')
      using errcode = 'GW018',
        hint = 'The job maintain-partitions tries again each hour. By hand: call ops.maintain_partitions();';
  end if;
end
$$;

comment on procedure ops.maintain_partitions(interval, bigint) is
  'Makes the partitions that the policies ask for, and moves rows out of DEFAULT while others read and write them. Tries again what is in use, for so long. A DEFAULT partition of no more than p_at_once_bytes is emptied in one transaction. GW018 when something is left.';
--! EndIncluded functions/ops/maintain_partitions.sql
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
  if pg_is_in_recovery() or ops.is_fenced() then
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
        return pruned;
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
