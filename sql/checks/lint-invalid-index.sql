-- invalid-index: indexes that queries do not use because they are incomplete
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (index), detail, remediation.
-- Read: A concurrent build failed, or an index of a partitioned table still lacks
--   partitions. Drop it and build again; on a parent, attach what is missing. One that
--   is being built at this moment shows too.
-- Cost: Reads the catalogue only; milliseconds.
with scope as (
  select oid, nspname
  from pg_catalog.pg_namespace
  where nspname !~ '^(pg_|information_schema$)'
    and nspname ~ coalesce(current_setting('lint.schemas', true), '')
    and nspname !~ coalesce(nullif(current_setting('lint.exclude_schemas', true), ''),
      '^(cron|graphile_migrate|pgboss|postgraphile_watch)$')
)
select
  'invalid-index' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  case relkind when 'I' then 'not every partition has attached its index'
    else 'its build has not finished' end as detail,
  case relkind when 'I' then format('alter index %I.%I attach partition …;',
      scope.nspname, relname)
    else format('drop index concurrently %I.%I; -- then: %s', scope.nspname, relname,
      pg_get_indexdef(indexrelid))
  end as remediation
from pg_catalog.pg_index
inner join pg_catalog.pg_class on pg_class.oid = indexrelid
inner join scope on scope.oid = relnamespace
where not indisvalid
  -- A partition's index that is at fault is reported, not its parent.
  and not exists (
    select from pg_catalog.pg_inherits
    inner join pg_catalog.pg_index as part on part.indexrelid = inhrelid
    where inhparent = pg_index.indexrelid
      and not part.indisvalid
  )
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_index.indrelid
      and deptype = 'e'
  )
order by object_schema, object_name;
