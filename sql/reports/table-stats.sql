-- table-stats: what was read from and written to each table
-- Params:
--   limit integer = 40: how many tables
-- Columns: table_name, live_rows, inserted, updated, deleted, in_page_ratio (updates that
--   touched no index), sequential_scans, rows_read, index_scans, rows_fetched. A
--   partitioned table counts its partitions.
-- Read: Many updates with a low in_page_ratio: an index on a column that changes, or a
--   fillfactor of 100. Deleted as many as inserted: a queue; watch its bloat.
-- Cost: Reads statistics; milliseconds.
select
  coalesce(parents.root, relid)::regclass::text as table_name,
  sum(n_live_tup)::bigint as live_rows,
  sum(n_tup_ins)::bigint as inserted,
  sum(n_tup_upd)::bigint as updated,
  sum(n_tup_del)::bigint as deleted,
  (sum(n_tup_hot_upd) / nullif(sum(n_tup_upd), 0))::float8 as in_page_ratio,
  sum(seq_scan)::bigint as sequential_scans,
  sum(seq_tup_read)::bigint as rows_read,
  coalesce(sum(idx_scan), 0)::bigint as index_scans,
  coalesce(sum(idx_tup_fetch), 0)::bigint as rows_fetched
from pg_catalog.pg_stat_user_tables
left join lateral (select pg_partition_root(relid) as root) as parents on true
group by coalesce(parents.root, relid)
order by sum(n_tup_ins + n_tup_upd + n_tup_del) desc, table_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '40')::integer;
