-- view-without-invoker: exposed views that read with the rights of their owner
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set. lint.exposed_schemas: what an
--   API serves, ^app_public$ unless set.
-- Columns: name, level, object_schema, object_name (view), detail, remediation.
-- Read: Row-level security of the tables below applies to the view's owner, not to who
--   asks: every tenant's rows show. Set security_invoker. A view that is
--   security_barrier instead, and filters by itself, is a warning: read its condition,
--   then list it as an exception.
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
  'view-without-invoker' as name,
  case when options.is_barrier then 'warning' else 'error' end as level,
  scope.nspname::text as object_schema,
  relname::text as object_name,
  format('reads as %s', relowner::regrole) as detail,
  format('alter view %I.%I set (security_invoker = true);', scope.nspname, relname)
    as remediation
from pg_catalog.pg_class
inner join scope on scope.oid = relnamespace
cross join lateral (
  select
    coalesce(bool_or(option_value::boolean)
      filter (where option_name = 'security_invoker'), false) as is_invoker,
    coalesce(bool_or(option_value::boolean)
      filter (where option_name = 'security_barrier'), false) as is_barrier
  from pg_options_to_table(reloptions)
  where option_name in ('security_invoker', 'security_barrier')
) as options
where relkind = 'v'
  and not options.is_invoker
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
