-- partition-grants: partitions that somebody but the owner may use
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (partition), detail, remediation.
-- Read: Neither policies nor grants pass from the parent to its partitions: whoever
--   reads a partition reads the rows of every tenant. Revoke, and reach rows through
--   the parent.
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
  'partition-grants' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  format('%s may %s it', granted.role, granted.privileges) as detail,
  format('revoke all on %I.%I from %s;', scope.nspname, relname, granted.role)
    as remediation
from pg_catalog.pg_class
inner join scope on scope.oid = relnamespace
cross join lateral (
  select
    coalesce(quote_ident(rolname), 'public') as role,
    string_agg(distinct lower(privilege_type), ', ') as privileges
  from (
    select (aclexplode(relacl)).*
    union all
    select (aclexplode(attacl)).*
    from pg_catalog.pg_attribute
    where attrelid = pg_class.oid
  ) as acl
  left join pg_catalog.pg_roles on pg_roles.oid = acl.grantee
  where acl.grantee <> relowner
  group by 1
) as granted
where relkind in ('r', 'p', 'f')
  and relispartition
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name, granted.role;
