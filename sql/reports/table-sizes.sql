-- table-sizes: sizes of tables, with their indexes and out-of-line values
-- Params:
--   limit integer = 40: how many tables
-- Columns: table_name, rows (estimate), heap_bytes, toast_bytes, index_bytes,
--   total_bytes, share (of all tables listed here and not listed). A partitioned table
--   counts all of its partitions, which are not listed.
-- Read: What grows is worth a partition policy or a clean-up. Indexes larger than the
--   heap: see unused-indexes and index-bloat. rows is null before the first analyze.
-- Cost: One stat of each file of each table; a second for some ten thousand partitions.
with sizes as (
  select
    format('%I.%I', pg_namespace.nspname, pg_class.relname) as table_name,
    sum(nullif(part.reltuples, -1))::bigint as rows,
    sum(pg_relation_size(part.oid))::bigint as heap_bytes,
    sum(pg_table_size(part.oid) - pg_relation_size(part.oid))::bigint as toast_bytes,
    sum(pg_indexes_size(part.oid))::bigint as index_bytes,
    sum(pg_total_relation_size(part.oid))::bigint as total_bytes
  from pg_catalog.pg_class
  inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
  cross join lateral (
    select pg_class.oid as relid
    union
    select pg_partition_tree.relid from pg_partition_tree(pg_class.oid)
  ) as members
  inner join pg_catalog.pg_class as part on part.oid = members.relid
    and part.relkind <> 'p'
  where pg_class.relkind in ('r', 'p', 'm')
    and not pg_class.relispartition
    and pg_namespace.nspname !~ '^(pg_|information_schema$)'
  group by pg_class.oid, pg_namespace.nspname, pg_class.relname
)
select table_name, rows, heap_bytes, toast_bytes, index_bytes, total_bytes,
  (total_bytes / nullif(sum(total_bytes) over (), 0))::float8 as share
from sizes
order by total_bytes desc, table_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '40')::integer;
