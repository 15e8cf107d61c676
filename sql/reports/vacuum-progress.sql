-- vacuum-progress: vacuums that run at this moment
-- Params: none
-- Columns: pid, database_name, table_name, phase, heap_bytes, share (of the heap
--   scanned), index_passes, running_seconds, is_automatic.
-- Read: More than one index pass: raise maintenance_work_mem. Automatic ones that never
--   end: raise autovacuum_vacuum_cost_limit. An anti-wraparound vacuum must not be ended.
-- Cost: Reads activity; milliseconds.
select
  progress.pid,
  progress.datname::text as database_name,
  case when progress.datname = current_database()
    then progress.relid::regclass::text else progress.relid::text end as table_name,
  progress.phase,
  progress.heap_blks_total * current_setting('block_size')::bigint as heap_bytes,
  progress.heap_blks_scanned::float8 / nullif(progress.heap_blks_total, 0) as share,
  progress.index_vacuum_count as index_passes,
  extract(epoch from clock_timestamp() - pg_stat_activity.xact_start)::float8
    as running_seconds,
  pg_stat_activity.backend_type = 'autovacuum worker' as is_automatic
from pg_catalog.pg_stat_progress_vacuum as progress
inner join pg_catalog.pg_stat_activity on pg_stat_activity.pid = progress.pid
order by running_seconds desc, progress.pid;
