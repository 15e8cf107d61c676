-- partition-default: rows in a DEFAULT partition
-- Params:
--   partition_default_rows bigint = 1: at least this many
-- Columns: level, object (the DEFAULT partition), detail, remediation.
-- Read: The rows came when there was no partition for them. They are not pruned, and keep
--   the partition from being created by hand; ops.maintain_partitions() moves them. The
--   number is the statistics'. A crash sets those to zero: then a file that is not empty
--   counts as one row, until the next vacuum or analyze.
-- Cost: Reads the catalogue and statistics; milliseconds.
with holders as (
  select part.oid::regclass::text as object,
    case
      when pg_stat_get_live_tuples(part.oid) > 0 then pg_stat_get_live_tuples(part.oid)
      when pg_relation_size(part.oid) > 0
        and pg_stat_get_tuples_inserted(part.oid) = 0
        and coalesce(pg_stat_get_last_vacuum_time(part.oid),
          pg_stat_get_last_autovacuum_time(part.oid),
          pg_stat_get_last_analyze_time(part.oid),
          pg_stat_get_last_autoanalyze_time(part.oid)) is null
        then greatest(part.reltuples::bigint, 1)
      else 0
    end as rows
  from pg_catalog.pg_partitioned_table
  inner join pg_catalog.pg_class as part on part.oid = pg_partitioned_table.partdefid
  inner join pg_catalog.pg_namespace on pg_namespace.oid = part.relnamespace
  -- pg-boss keeps its small queues in one on purpose.
  where pg_partitioned_table.partstrat = 'r'
    -- Rows that are on their way out of DEFAULT, beside the table.
    and pg_partitioned_table.partrelid not in (
      select pg_class.oid from pg_catalog.pg_class
      where pg_class.relnamespace::regnamespace::text = 'app_partitions'
    )
)
select
  'warning' as level,
  object,
  format('holds about %s rows', rows) as detail,
  'call ops.maintain_partitions(); or create their partition and move them.'
    as remediation
from holders
where rows >= coalesce(
  nullif(current_setting('health.partition_default_rows', true), ''), '1')::bigint
order by object;
