-- function-public-execute: functions that every role may execute
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (function), detail, remediation.
-- Read: PostgreSQL grants execute on a new function to PUBLIC. Revoke it, grant to the
--   roles that need it, and change the default once: alter default privileges revoke
--   execute on functions from public.
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
  'function-public-execute' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  format('%s(%s)', proname, oidvectortypes(proargtypes)) as object_name,
  'PUBLIC may execute it' as detail,
  format('revoke execute on routine %s from public;', pg_proc.oid::regprocedure)
    as remediation
from pg_catalog.pg_proc
inner join scope on scope.oid = pronamespace
where exists (
    select from aclexplode(coalesce(proacl, acldefault('f', proowner)))
    where grantee = 0
      and privilege_type = 'EXECUTE'
  )
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_proc'::regclass
      and objid = pg_proc.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
