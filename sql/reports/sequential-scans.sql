-- sequential-scans: tables that are read from beginning to end
-- Params:
--   limit integer = 30: how many tables
-- Columns: table_name, sequential_scans, rows_read (by them), rows_per_scan,
--   index_scans, table_bytes. A partitioned table counts its partitions.
-- Read: Many scans of many rows each: an index is missing, or a query reads all there is.
--   slow-queries names the statement; explain it. Reports and backups scan too.
-- Cost: Reads statistics; one stat of each table's file.
select
  coalesce(parents.root, relid)::regclass::text as table_name,
  sum(seq_scan)::bigint as sequential_scans,
  sum(seq_tup_read)::bigint as rows_read,
  (sum(seq_tup_read) / nullif(sum(seq_scan), 0))::bigint as rows_per_scan,
  coalesce(sum(idx_scan), 0)::bigint as index_scans,
  sum(pg_table_size(relid))::bigint as table_bytes
from pg_catalog.pg_stat_user_tables
left join lateral (select pg_partition_root(relid) as root) as parents on true
group by coalesce(parents.root, relid)
having sum(seq_scan) > 0
order by rows_read desc, table_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '30')::integer;
