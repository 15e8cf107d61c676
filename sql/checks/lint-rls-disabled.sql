-- rls-disabled: exposed tables without row-level security
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set. lint.exposed_schemas: what an
--   API serves, ^app_public$ unless set.
-- Columns: name, level, object_schema, object_name (table), detail, remediation.
-- Read: Whoever is granted the table sees and changes the rows of every tenant. Enable
--   it and write a policy. Partitions are left out: nobody should have a grant on them,
--   which partition-grants checks.
-- Cost: Reads the catalogue only; milliseconds.
with scope as (
  select oid, nspname
  from pg_catalog.pg_namespace
  where nspname !~ '^(pg_|information_schema$)'
    and nspname ~ coalesce(current_setting('lint.schemas', true), '')
    and nspname !~ coalesce(nullif(current_setting('lint.exclude_schemas', true), ''),
      '^(cron|graphile_migrate|pgboss|postgraphile_watch)$')
    and nspname ~ coalesce(nullif(current_setting('lint.exposed_schemas', true), ''),
      '^app_public$')
)
select
  'rls-disabled' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  'row-level security is off' as detail,
  format('alter table %I.%I enable row level security;', scope.nspname, relname)
    as remediation
from pg_catalog.pg_class
inner join scope on scope.oid = relnamespace
where relkind in ('r', 'p')
  and not relispartition
  and not relrowsecurity
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
