-- partition-sizes: every partition with its bounds and its size
-- Params:
--   parent text = : only partitioned tables whose name matches this regular expression
--   limit integer = 200: how many partitions
-- Columns: parent_name, partition_name, bounds, rows (estimate), heap_bytes, index_bytes,
--   total_bytes, share (of its parent).
-- Read: Hash partitions should be of one size; one that is not holds a tenant that is too
--   large. Old range partitions that nobody reads can leave: see ops.partition_policies.
-- Cost: One stat of each file of each partition.
select
  parent_class.oid::regclass::text as parent_name,
  part.oid::regclass::text as partition_name,
  pg_get_expr(part.relpartbound, part.oid) as bounds,
  nullif(part.reltuples, -1)::bigint as rows,
  pg_relation_size(part.oid) as heap_bytes,
  pg_indexes_size(part.oid) as index_bytes,
  pg_total_relation_size(part.oid) as total_bytes,
  (pg_total_relation_size(part.oid) / nullif(
    sum(pg_total_relation_size(part.oid)) over (partition by parent_class.oid), 0)
  )::float8 as share
from pg_catalog.pg_inherits
inner join pg_catalog.pg_class as parent_class
  on parent_class.oid = pg_inherits.inhparent and parent_class.relkind = 'p'
inner join pg_catalog.pg_class as part on part.oid = pg_inherits.inhrelid
where parent_class.oid::regclass::text
  ~ coalesce(current_setting('report.parent', true), '')
order by parent_name, part.relkind, partition_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '200')::integer;
