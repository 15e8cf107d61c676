-- definer-search-path: security definer functions whose search_path a caller can bend
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (function), detail, remediation.
-- Read: The caller's search_path would decide which objects the function, with its
--   owner's rights, finds; so would a temporary table unless pg_temp is named and comes
--   last. Set the path, and write names with their schema.
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
  'definer-search-path' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  format('%s(%s)', proname, oidvectortypes(proargtypes)) as object_name,
  coalesce(path.setting || ' does not end with pg_temp', 'search_path is not set')
    as detail,
  format('alter routine %s set search_path = pg_catalog, pg_temp;',
    pg_proc.oid::regprocedure) as remediation
from pg_catalog.pg_proc
inner join scope on scope.oid = pronamespace
left join lateral (
  select setting from unnest(proconfig) as setting where setting like 'search_path=%'
) as path on true
where prosecdef
  and path.setting ~ '^search_path=(.*, )?pg_temp$' is not true
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_proc'::regclass
      and objid = pg_proc.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
