-- index-sizes: sizes of indexes
-- Params:
--   limit integer = 40: how many indexes
-- Columns: index_name, table_name, method, index_bytes, scans, share (of all indexes). An
--   index of a partitioned table counts those of its partitions.
-- Read: A large index with few scans costs every write: see unused-indexes. One that is
--   larger than its table: see index-bloat.
-- Cost: One stat of each index file; a second for some ten thousand.
with sizes as (
  select
    format('%I.%I', pg_namespace.nspname, pg_class.relname) as index_name,
    pg_index.indrelid::regclass::text as table_name,
    pg_am.amname::text as method,
    sum(pg_relation_size(members.relid))::bigint as index_bytes,
    sum(pg_stat_get_numscans(members.relid))::bigint as scans
  from pg_catalog.pg_class
  inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
  inner join pg_catalog.pg_index on pg_index.indexrelid = pg_class.oid
  inner join pg_catalog.pg_am on pg_am.oid = pg_class.relam
  cross join lateral (
    select pg_class.oid as relid
    union
    select pg_partition_tree.relid from pg_partition_tree(pg_class.oid)
  ) as members
  where pg_class.relkind in ('i', 'I')
    and not pg_class.relispartition
    and pg_namespace.nspname !~ '^(pg_|information_schema$)'
  group by pg_class.oid, pg_namespace.nspname, pg_class.relname, pg_index.indrelid,
    pg_am.amname
)
select index_name, table_name, method, index_bytes, scans,
  (index_bytes / nullif(sum(index_bytes) over (), 0))::float8 as share
from sizes
order by index_bytes desc, index_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '40')::integer;
