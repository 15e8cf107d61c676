-- several-permissive-policies: several permissive policies for one role and command
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (table), detail, remediation.
-- Read: Each of them is evaluated for each row and any of them lets it through, so that
--   one says little about who sees what. Join them with "or" in one policy, or make one
--   restrictive.
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
  'several-permissive-policies' as name,
  'warning' as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  format('%s apply to %s for %s', string_agg(quote_ident(policy.polname), ' and '
    order by policy.polname), role.name, command.name) as detail,
  format('drop policy … on %I.%I; -- and join its condition with the other''s',
    scope.nspname, relname) as remediation
from pg_catalog.pg_class
inner join scope on scope.oid = relnamespace
cross join (
  values ('r', 'select'), ('a', 'insert'), ('w', 'update'), ('d', 'delete')
) as command (letter, name)
cross join lateral (
  select distinct role_id, coalesce(rolname::text, 'public') as name
  from pg_catalog.pg_policy
  cross join unnest(polroles) as role_id
  left join pg_catalog.pg_roles on pg_roles.oid = role_id
  where polrelid = pg_class.oid
) as role
inner join pg_catalog.pg_policy as policy on policy.polrelid = pg_class.oid
  and policy.polpermissive
  and policy.polcmd in ('*', command.letter::"char")
  -- Zero means everybody.
  and policy.polroles && array[role.role_id, 0]
where not relispartition
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
group by scope.nspname, pg_class.relname, role.name, command.name
having count(*) > 1
order by object_schema, object_name, role.name, command.name;
