-- foreign-key-without-tenant: foreign keys between tenants' tables without the tenant
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set. lint.tenant_column: user_id
--   unless set.
-- Columns: name, level, object_schema, object_name (table.constraint), detail,
--   remediation.
-- Read: A tenant could refer to the row of another, and learn whether it exists. Make
--   the key composite, so that the tenant's column of one refers to that of the other.
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
  'foreign-key-without-tenant' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  format('%s.%s', relname, conname) as object_name,
  format('does not carry %s to %s', here.attname, confrelid::regclass) as detail,
  format('alter table %I.%I add foreign key (%I, …) references %s (%I, …);',
    scope.nspname, relname, here.attname, confrelid::regclass, there.attname)
    as remediation
from pg_catalog.pg_constraint
inner join pg_catalog.pg_class on pg_class.oid = conrelid
inner join scope on scope.oid = relnamespace
inner join pg_catalog.pg_attribute as here on here.attrelid = conrelid
  and here.attname = coalesce(nullif(current_setting('lint.tenant_column', true), ''),
    'user_id')
inner join pg_catalog.pg_attribute as there on there.attrelid = confrelid
  and there.attname = here.attname
where contype = 'f'
  and conparentid = 0
  and not exists (
    select from unnest(conkey, confkey) as pair (mine, theirs)
    where mine = here.attnum
      and theirs = there.attnum
  )
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
