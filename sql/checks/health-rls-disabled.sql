-- rls-disabled: tables of users' rows without row-level security
-- Params:
--   rls_schemas text = ^app_(public|private)$: a regular expression over schema names
--   rls_tenant_column text = user_id: says whose row it is
-- Columns: level, object (the table), detail, remediation.
-- Read: Whoever is granted the table sees the rows of every tenant. Somebody disabled it
--   after the migration, or a migration went past the review.
-- Cost: Reads the catalogue; milliseconds.
select
  'critical' as level,
  pg_class.oid::regclass::text as object,
  'row-level security is off' as detail,
  format('alter table %s enable row level security;', pg_class.oid::regclass)
    as remediation
from pg_catalog.pg_class
inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
inner join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_class.oid
  and pg_attribute.attname = coalesce(
    nullif(current_setting('health.rls_tenant_column', true), ''), 'user_id')
  and not pg_attribute.attisdropped
where pg_class.relkind in ('r', 'p')
  and not pg_class.relispartition
  and not pg_class.relrowsecurity
  and pg_namespace.nspname ~ coalesce(
    nullif(current_setting('health.rls_schemas', true), ''), '^app_(public|private)$')
order by object;
