-- table-without-primary-key: tables without a primary key
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (table), detail, remediation.
-- Read: Two equal rows cannot be told apart, and logical replication refuses to update or
--   delete them. Add a key.
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
  'table-without-primary-key' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  'has no primary key' as detail,
  format('alter table %I.%I add primary key (…);', scope.nspname, relname) as remediation
from pg_catalog.pg_class
inner join scope on scope.oid = relnamespace
where relkind in ('r', 'p')
  and not relispartition
  and not exists (
    select from pg_catalog.pg_constraint where conrelid = pg_class.oid and contype = 'p'
  )
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
