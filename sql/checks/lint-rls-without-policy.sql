-- rls-without-policy: tables whose grants row-level security makes useless
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (table), detail, remediation.
-- Read: Row-level security without a policy shows no row, so those who were granted the
--   table find it empty. Write the policy or revoke the grant. A table on which nobody
--   but the owner and roles that bypass row-level security has a privilege is meant to
--   be so, and left out.
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
  'rls-without-policy' as name,
  'warning' as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  format('no policy, yet privileges for %s', granted.roles) as detail,
  format('create policy … on %I.%I to %s using (…);', scope.nspname, relname,
    granted.roles) as remediation
from pg_catalog.pg_class
inner join scope on scope.oid = relnamespace
cross join lateral (
  select string_agg(distinct coalesce(quote_ident(rolname), 'public'), ', ') as roles
  from (
    select (aclexplode(relacl)).grantee
    union
    select (aclexplode(attacl)).grantee
    from pg_catalog.pg_attribute
    where attrelid = pg_class.oid
  ) as acl
  left join pg_catalog.pg_roles on pg_roles.oid = acl.grantee
  where acl.grantee <> relowner
    and (rolsuper or rolbypassrls) is not true
) as granted
where relkind in ('r', 'p')
  and not relispartition
  and relrowsecurity
  and granted.roles is not null
  and not exists (select from pg_catalog.pg_policy where polrelid = pg_class.oid)
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
