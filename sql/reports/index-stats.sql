-- index-stats: scans and rows of each index
-- Params:
--   limit integer = 60: how many indexes
-- Columns: index_name, table_name, scans, entries_read, rows_fetched, index_bytes,
--   is_unique. An index of a partitioned table counts those of its partitions.
-- Read: Many entries_read for few scans is an index whose first columns choose little.
--   rows_fetched far below entries_read: index-only scans (good), or dead rows (see
--   autovacuum).
-- Cost: Reads statistics; one stat of each index file.
select
  top.oid::regclass::text as index_name,
  pg_index.indrelid::regclass::text as table_name,
  sum(pg_stat_get_numscans(members.relid))::bigint as scans,
  sum(pg_stat_get_tuples_returned(members.relid))::bigint as entries_read,
  sum(pg_stat_get_tuples_fetched(members.relid))::bigint as rows_fetched,
  sum(pg_relation_size(members.relid))::bigint as index_bytes,
  pg_index.indisunique as is_unique
from pg_catalog.pg_class as top
inner join pg_catalog.pg_namespace on pg_namespace.oid = top.relnamespace
inner join pg_catalog.pg_index on pg_index.indexrelid = top.oid
cross join lateral (
  select top.oid as relid
  union
  select pg_partition_tree.relid from pg_partition_tree(top.oid)
) as members
where top.relkind in ('i', 'I')
  and not top.relispartition
  and pg_namespace.nspname !~ '^(pg_|information_schema$)'
group by top.oid, pg_index.indrelid, pg_index.indisunique
order by scans desc, index_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '60')::integer;
