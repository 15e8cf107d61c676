-- policies: row-level security, table by table
-- Params:
--   schema text = : only schemas that match this regular expression
-- Columns: table_name, is_enabled, is_forced, policy, command, roles, permissive, using,
--   with_check.
-- Read: A table that users reach and where is_enabled is false shows everybody's rows.
--   Enabled without a policy: nobody sees any. gw prove tries them.
-- Cost: Reads the catalogue; milliseconds.
select
  pg_class.oid::regclass::text as table_name,
  pg_class.relrowsecurity as is_enabled,
  pg_class.relforcerowsecurity as is_forced,
  pg_policies.policyname::text as policy,
  pg_policies.cmd as command,
  array_to_string(pg_policies.roles, ', ') as roles,
  pg_policies.permissive = 'PERMISSIVE' as permissive,
  pg_policies.qual as using,
  pg_policies.with_check
from pg_catalog.pg_class
inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
left join pg_catalog.pg_policies on pg_policies.schemaname = pg_namespace.nspname
  and pg_policies.tablename = pg_class.relname
where pg_class.relkind in ('r', 'p')
  and not pg_class.relispartition
  and pg_namespace.nspname !~ '^(pg_|information_schema$)'
  and pg_namespace.nspname ~ coalesce(current_setting('report.schema', true), '')
order by table_name, policy;
