-- index-usage: share of a table's reads that an index served
-- Params:
--   limit integer = 40: how many tables
-- Columns: table_name, rows (estimate), sequential_scans, index_scans, index_ratio. A
--   partitioned table counts its partitions.
-- Read: A table of more than some thousand rows under 0.95: find the query in
--   slow-queries and give it an index. Small tables are read whole, rightly.
-- Cost: Reads statistics; milliseconds.
select
  coalesce(parents.root, relid)::regclass::text as table_name,
  sum(n_live_tup)::bigint as rows,
  sum(seq_scan)::bigint as sequential_scans,
  coalesce(sum(idx_scan), 0)::bigint as index_scans,
  (coalesce(sum(idx_scan), 0) / nullif(sum(seq_scan + coalesce(idx_scan, 0)), 0))::float8
    as index_ratio
from pg_catalog.pg_stat_user_tables
left join lateral (select pg_partition_root(relid) as root) as parents on true
group by coalesce(parents.root, relid)
order by rows desc, table_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '40')::integer;
