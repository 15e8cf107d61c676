-- unused-index: indexes of larger tables that no query has used
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set. lint.unused_rows,
--   lint.unused_reads, lint.unused_age: 10000, 1000 and 7 days unless set.
-- Columns: name, level, object_schema, object_name (index), detail, remediation.
-- Read: The index costs each write, and no query uses it here. Before you drop it, ask the
--   replicas, which count for themselves, and look at a month. It is silent until the
--   statistics are seven days old, the table has 10,000 rows and was read 1,000 times.
-- Cost: One stat of each index file; below a second for thousands of partitions.
with scope as (
  select oid, nspname
  from pg_catalog.pg_namespace
  where nspname !~ '^(pg_|information_schema$)'
    and nspname ~ coalesce(current_setting('lint.schemas', true), '')
    and nspname !~ coalesce(nullif(current_setting('lint.exclude_schemas', true), ''),
      '^(cron|graphile_migrate|pgboss|postgraphile_watch)$')
)
select
  'unused-index' as name,
  'warning' as level,
  scope.nspname::text as object_schema,
  index_class.relname::text as object_name,
  format('never used in %s reads of %s since %s, %s bytes', reads.count, pg_class.relname,
    to_char(statistics.since at time zone 'UTC', 'YYYY-MM-DD'), uses.bytes) as detail,
  format('drop index %I.%I;', scope.nspname, index_class.relname) as remediation
from pg_catalog.pg_index
inner join pg_catalog.pg_class as index_class on index_class.oid = indexrelid
inner join pg_catalog.pg_class on pg_class.oid = indrelid
inner join scope on scope.oid = index_class.relnamespace
cross join lateral (
  -- The statistics of a server that crashed began anew.
  select greatest(pg_stat_database.stats_reset, pg_stat_bgwriter.stats_reset) as since
  from pg_catalog.pg_stat_database
  cross join pg_catalog.pg_stat_bgwriter
  where datname = current_database()
) as statistics
-- An index of a partitioned table is used where one of its parts is.
cross join lateral (
  select sum(pg_stat_get_numscans(relid)) as count, sum(pg_relation_size(relid)) as bytes
  from (
    select indexrelid as relid union select relid from pg_partition_tree(indexrelid)
  ) as parts
) as uses
cross join lateral (
  select
    sum(reltuples) as rows,
    sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) as count
  from (
    select indrelid as relid union select relid from pg_partition_tree(indrelid)
  ) as parts
  inner join pg_catalog.pg_class as part on part.oid = parts.relid and part.relkind <> 'p'
  left join pg_catalog.pg_stat_all_tables on pg_stat_all_tables.relid = parts.relid
) as reads
where uses.count = 0
  and not indisunique
  and not indisreplident
  and not index_class.relispartition
  and reads.rows
    > coalesce(nullif(current_setting('lint.unused_rows', true), ''), '10000')::bigint
  and reads.count
    >= coalesce(nullif(current_setting('lint.unused_reads', true), ''), '1000')::bigint
  and statistics.since
    < now()
    - coalesce(nullif(current_setting('lint.unused_age', true), ''), '7 days')::interval
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
