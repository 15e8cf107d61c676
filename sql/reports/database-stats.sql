-- database-stats: totals of each database since its statistics began
-- Params: none
-- Columns: database_name, database_bytes (null without the right to connect),
--   connections, commits, rollback_ratio, hit_ratio, rows_returned, rows_fetched,
--   rows_inserted, rows_updated, rows_deleted, temporary_bytes, deadlocks,
--   counted_since.
-- Read: rollback_ratio over 0.05: clients that fail. hit_ratio: see cache-hit.
--   temporary_bytes that grow: sorts that do not fit in work_mem. Any deadlocks: two
--   places lock the same rows in different orders; the server's log names them.
-- Cost: Reads the size of every file of each database; a second for many thousand.
select
  pg_stat_database.datname::text as database_name,
  case when has_database_privilege(pg_stat_database.datid, 'connect')
      or pg_has_role('pg_read_all_stats', 'usage')
    then pg_database_size(pg_stat_database.datid) end as database_bytes,
  numbackends as connections,
  xact_commit as commits,
  xact_rollback::float8 / nullif(xact_commit + xact_rollback, 0) as rollback_ratio,
  blks_hit::float8 / nullif(blks_hit + blks_read, 0) as hit_ratio,
  tup_returned as rows_returned,
  tup_fetched as rows_fetched,
  tup_inserted as rows_inserted,
  tup_updated as rows_updated,
  tup_deleted as rows_deleted,
  temp_bytes as temporary_bytes,
  deadlocks,
  stats_reset as counted_since
from pg_catalog.pg_stat_database
where datname is not null
order by database_bytes desc nulls last, database_name;
