-- progress: long commands that run at this moment, and how far they are
-- Params: none
-- Columns: pid, command, object, phase, share (done of the phase, where PostgreSQL says it),
--   running_seconds.
-- Read: A phase that waits for old transactions or lockers: gw report blocking. Moves of
--   rows out of DEFAULT partitions are in ops.partition_moves.
-- Cost: Reads activity; milliseconds.
with running as (
  select pid, 'vacuum' as command, datid, relid, phase,
    heap_blks_scanned::float8 / nullif(heap_blks_total, 0) as share
  from pg_catalog.pg_stat_progress_vacuum
  union all
  select pid, 'analyze', datid, relid, phase,
    sample_blks_scanned::float8 / nullif(sample_blks_total, 0)
  from pg_catalog.pg_stat_progress_analyze
  union all
  select pid, lower(command), datid, relid, phase,
    coalesce(blocks_done::float8 / nullif(blocks_total, 0),
      tuples_done::float8 / nullif(tuples_total, 0),
      lockers_done::float8 / nullif(lockers_total, 0))
  from pg_catalog.pg_stat_progress_create_index
  union all
  select pid, lower(command), datid, relid, phase,
    heap_blks_scanned::float8 / nullif(heap_blks_total, 0)
  from pg_catalog.pg_stat_progress_cluster
  union all
  select pid, lower(command), datid, nullif(relid, 0), type,
    bytes_processed::float8 / nullif(bytes_total, 0)
  from pg_catalog.pg_stat_progress_copy
  union all
  select pid, 'base backup', null, null, phase,
    backup_streamed::float8 / nullif(backup_total, 0)
  from pg_catalog.pg_stat_progress_basebackup
)
select
  running.pid,
  running.command,
  case when running.datid = pg_database.oid then running.relid::regclass::text
    else running.relid::text end as object,
  running.phase,
  running.share,
  extract(epoch from clock_timestamp() - pg_stat_activity.query_start)::float8
    as running_seconds
from running
left join pg_catalog.pg_stat_activity on pg_stat_activity.pid = running.pid
left join pg_catalog.pg_database on pg_database.datname = current_database()
order by running_seconds desc nulls last, running.pid, running.command;
