-- policy-without-index: policies that compare columns none of which begins an index
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (table.policy), detail, remediation.
-- Read: Each query of the role reads the whole table to find the rows it may see. Make
--   an index that begins with the column. An insert policy is left out: it looks for no
--   row.
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
  'policy-without-index' as name,
  'warning' as level,
  scope.nspname::text as object_schema,
  format('%s.%s', relname, polname) as object_name,
  format('no index begins with %s', compared.columns) as detail,
  format('create index on %I.%I (%s);', scope.nspname, relname, compared.first_column)
    as remediation
from pg_catalog.pg_policy
inner join pg_catalog.pg_class on pg_class.oid = polrelid
inner join scope on scope.oid = relnamespace
cross join lateral (
  select
    string_agg(quote_ident(attname), ' or ' order by attnum) as columns,
    (array_agg(quote_ident(attname) order by attnum))[1] as first_column,
    array_agg(attnum) as numbers
  from pg_catalog.pg_attribute
  where attrelid = polrelid
    and exists (
      select from pg_catalog.pg_depend
      where classid = 'pg_catalog.pg_policy'::regclass
        and objid = pg_policy.oid
        and refclassid = 'pg_catalog.pg_class'::regclass
        and refobjid = polrelid
        and refobjsubid = attnum
    )
) as compared
where polcmd <> 'a'
  and compared.numbers is not null
  and not relispartition
  and not exists (
    select from pg_catalog.pg_index
    where indrelid = polrelid
      and indisvalid
      and indkey[0] = any (compared.numbers)
  )
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
