-- unused-indexes: indexes that hardly any query has used
-- Params:
--   max_scans bigint = 0: at most so many uses
--   min_bytes bigint = 0: leave out smaller ones
-- Columns: index_name, table_name, scans, index_bytes, table_writes, counted_since.
--   Indexes that keep something unique, or are a replica identity, are left out; one of a
--   partitioned table counts those of its partitions.
-- Read: Each costs every write of its table. Ask the replicas too, which count for
--   themselves, and wait for a month's statistics, before: drop index concurrently …;
-- Cost: Reads statistics; one stat of each index file.
select
  top.oid::regclass::text as index_name,
  pg_index.indrelid::regclass::text as table_name,
  sum(pg_stat_get_numscans(members.relid))::bigint as scans,
  sum(pg_relation_size(members.relid))::bigint as index_bytes,
  (select sum(pg_stat_get_tuples_inserted(written.relid)
      + pg_stat_get_tuples_updated(written.relid)
      + pg_stat_get_tuples_deleted(written.relid))::bigint
    from (
      select pg_index.indrelid as relid
      union
      select pg_partition_tree.relid from pg_partition_tree(pg_index.indrelid)
    ) as written
  ) as table_writes,
  (select stats_reset from pg_catalog.pg_stat_database
    where datname = current_database()) as counted_since
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
  and not pg_index.indisunique
  and not pg_index.indisreplident
  and not exists (
    select from pg_catalog.pg_constraint where pg_constraint.conindid = top.oid
      and pg_constraint.contype in ('p', 'u', 'x')
  )
  and pg_namespace.nspname !~ '^(pg_|information_schema$)'
group by top.oid, pg_index.indrelid
having sum(pg_stat_get_numscans(members.relid))
    <= coalesce(nullif(current_setting('report.max_scans', true), ''), '0')::bigint
  and sum(pg_relation_size(members.relid))
    >= coalesce(nullif(current_setting('report.min_bytes', true), ''), '0')::bigint
order by index_bytes desc, index_name;
