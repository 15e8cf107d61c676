--! Previous: sha1:c5237b0c1176fcdc2b4bc6a08ef0b91a579e20a5
--! Hash: sha1:6b770d8519e2181bb3f1da1e01f65ce4ca97a6d4
--! Message: backups
--! Baseline: topics/05-backups.sql

/*
 * The catalogue of backups. A partition is dropped only when a verified backup holds it.
 */

-- The program that makes a backup writes its row three times: at the beginning, at the
-- end (finished_at), and after a trial restore (verified_at).
create table ops.backups (
  id uuid not null default gen_random_uuid(),
  kind text not null,
  tables text[],
  location text not null,
  bytes bigint,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  verified_at timestamptz,
  constraint backups_pkey primary key (id),
  constraint backups_kind_check check (kind in ('logical', 'physical')),
  constraint backups_tables_check
    check (tables is null or kind = 'logical' and cardinality(tables) > 0),
  constraint backups_location_check check (location <> ''),
  constraint backups_bytes_check check (bytes >= 0),
  constraint backups_finished_at_check check (finished_at >= started_at),
  constraint backups_verified_at_check
    check (verified_at is null or finished_at is not null and verified_at >= finished_at)
);

create index backups_started_at_idx on ops.backups (started_at);

grant select on ops.backups to gw_monitor;

comment on table ops.backups is
  'Backups of this database. A partition is dropped only when a verified backup holds it.';
comment on column ops.backups.kind is 'logical (pg_dump) or physical (the whole server).';
comment on column ops.backups.tables is
  'The tables that a logical backup is limited to, as schema.table; a partitioned table includes its partitions. Null: all tables.';
comment on column ops.backups.started_at is
  'When the backup began. It holds nothing that was written later.';
comment on column ops.backups.finished_at is 'When the backup ended; null while it runs, and when it failed.';
comment on column ops.backups.verified_at is
  'When a trial restore of it last succeeded; null without one.';

--! Included functions/ops/is_backed_up.sql
create or replace function ops.is_backed_up(
  p_table regclass, p_since timestamptz default '-infinity'
) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from ops.backups
    where backups.started_at >= p_since
      and backups.verified_at is not null
      and (backups.tables is null or exists (
        select
        from (
          select p_table
          union
          select pg_partition_ancestors(p_table)
        ) as holder (relation)
        inner join pg_class on pg_class.oid = holder.relation
        where pg_class.relnamespace::regnamespace || '.' || quote_ident(pg_class.relname)
          = any (backups.tables)
      ))
  )
$$;

grant execute on function ops.is_backed_up(regclass, timestamptz) to gw_monitor;
comment on function ops.is_backed_up(regclass, timestamptz) is
  'Whether a verified backup that began at or after an instant holds a table. To hold every row, the instant must be after the last write.';
--! EndIncluded functions/ops/is_backed_up.sql
--! Included functions/ops/partitions_to_drop.sql
create or replace function ops.partitions_to_drop()
returns table (
  parent_table text, partition_name text, relation regclass, bytes bigint,
  detached_at timestamptz, obstacle text
)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  select latest.parent_table, latest.partition_name, pg_class.oid::regclass,
    pg_total_relation_size(pg_class.oid), latest.occurred_at,
    case
      when partition_policies.require_backup
        and not ops.is_backed_up(pg_class.oid::regclass, latest.occurred_at)
        then 'no verified backup began after it was detached'
      when not ops.is_confirmed_by_cdc(latest.wal_position)
        then 'a logical replication slot has not confirmed its last changes'
    end
  from (
    select distinct on (partition_events.partition_name) partition_events.*
    from ops.partition_events
    where partition_events.event <> 'skipped'
    order by partition_events.partition_name, partition_events.id desc
  ) as latest
  inner join pg_catalog.pg_class on pg_class.oid = to_regclass(latest.partition_name)
  -- The policy must still say drop.
  inner join ops.partition_policies
    on partition_policies.parent_table = to_regclass(latest.parent_table)
  where latest.event = 'detached'
    and latest.will_drop
    and partition_policies.retention_action = 'drop'
    -- Somebody may have attached it again.
    and not pg_class.relispartition
  order by latest.id
$$;

comment on function ops.partitions_to_drop() is
  'Detached partitions whose policy says drop, oldest first, and what each still waits for: null when nothing.';
--! EndIncluded functions/ops/partitions_to_drop.sql
