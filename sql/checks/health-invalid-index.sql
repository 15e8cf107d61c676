-- invalid-index: indexes that queries do not use because they are incomplete
-- Params: none
-- Columns: level, object (the index), detail, remediation.
-- Read: A concurrent build failed: every write pays for it and no query gains. One that
--   is being built at this moment is left out.
-- Cost: Reads the catalogue; milliseconds.
select
  'warning' as level,
  indexrelid::regclass::text as object,
  case pg_class.relkind when 'I' then 'not every partition has attached its index'
    else 'its build did not finish' end as detail,
  case pg_class.relkind
    when 'I' then format('alter index %s attach partition …;', indexrelid::regclass)
    else format('drop index concurrently %s; then build it again', indexrelid::regclass)
  end as remediation
from pg_catalog.pg_index
inner join pg_catalog.pg_class on pg_class.oid = indexrelid
where not indisvalid
  and not exists (
    select from pg_catalog.pg_stat_progress_create_index as build
    where build.index_relid = pg_index.indexrelid
  )
  -- A partition's index that is at fault is reported, not its parent.
  and not exists (
    select from pg_catalog.pg_inherits
    inner join pg_catalog.pg_index as part on part.indexrelid = inhrelid
    where inhparent = pg_index.indexrelid
      and not part.indisvalid
  )
order by object;
