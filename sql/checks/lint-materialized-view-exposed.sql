-- materialized-view-exposed: materialized views that an API serves
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set. lint.exposed_schemas: what an
--   API serves, ^app_public$ unless set.
-- Columns: name, level, object_schema, object_name (materialized view), detail,
--   remediation.
-- Read: Row-level security does not reach what is materialized: every tenant's rows
--   show. Move it to a private schema and expose a view that filters.
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
  'materialized-view-exposed' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  'row-level security does not apply to it' as detail,
  format('alter materialized view %I.%I set schema …;', scope.nspname, relname)
    as remediation
from pg_catalog.pg_class
inner join scope on scope.oid = relnamespace
where relkind = 'm'
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
