-- never-analyzed: tables with rows that nobody has ever analyzed or vacuumed
-- Params:
--   never_analyzed_rows bigint = 10000: tables of at least this many rows
-- Every: 1 hour
-- Columns: level, object (the table), detail, remediation.
-- Read: The planner guesses. Autovacuum analyzes tables and partitions, and never a
--   partitioned table itself; on a table where nothing is removed it may have been set off.
-- Cost: Reads statistics; milliseconds.
with sizes as (
  select pg_class.oid as relid, sum(pg_stat_get_live_tuples(leaf.oid)) as rows
  from pg_catalog.pg_class
  cross join lateral (
    select pg_class.oid where pg_class.relkind = 'r'
    union all
    select tree.relid from pg_partition_tree(pg_class.oid) as tree
    where pg_class.relkind = 'p' and tree.isleaf
  ) as leaf (oid)
  where pg_class.relkind in ('r', 'p')
    and pg_class.relpersistence <> 't'
    and pg_class.relnamespace::regnamespace::text !~ '^(pg_catalog|information_schema|pg_toast)$'
  group by pg_class.oid
)
select
  'warning' as level,
  sizes.relid::regclass::text as object,
  format('has about %s rows, and was never %s', rows, missing.what) as detail,
  format('%s %s;', missing.remedy, sizes.relid::regclass) as remediation
from sizes
inner join pg_catalog.pg_class on pg_class.oid = sizes.relid
cross join lateral (
  select
    case when pg_class.reltuples < 0
        or coalesce(pg_stat_get_last_analyze_time(pg_class.oid),
          pg_stat_get_last_autoanalyze_time(pg_class.oid)) is null
      then 'analyzed'
      when pg_class.relkind = 'r' and pg_class.relallvisible = 0
        and coalesce(pg_stat_get_last_vacuum_time(pg_class.oid),
          pg_stat_get_last_autovacuum_time(pg_class.oid)) is null
        and 'autovacuum_enabled=false' = any (pg_class.reloptions)
      then 'vacuumed'
    end,
    case when pg_class.relkind = 'p' then 'analyze' else 'vacuum analyze' end
) as missing (what, remedy)
where missing.what is not null
  and rows >= coalesce(
    nullif(current_setting('health.never_analyzed_rows', true), ''), '10000')::bigint
order by object;
