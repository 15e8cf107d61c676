-- foreign-key-without-index: foreign keys that no index of the referencing table serves
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (table.constraint), detail,
--   remediation.
-- Read: Deleting or re-keying a referenced row reads the whole referencing table, under
--   locks. Make the index, concurrently on a table that is in use. Its first columns
--   must be those of the key, in any order; a partial index counts only if it leaves
--   out nulls alone.
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
  'foreign-key-without-index' as name,
  'error' as level,
  scope.nspname::text as object_schema,
  format('%s.%s', relname, conname) as object_name,
  format('no index begins with (%s)', key.columns) as detail,
  format('create index on %I.%I (%s);', scope.nspname, relname, key.columns)
    as remediation
from pg_catalog.pg_constraint
inner join pg_catalog.pg_class on pg_class.oid = conrelid
inner join scope on scope.oid = pg_class.relnamespace
cross join lateral (
  select
    string_agg(quote_ident(attname), ', ' order by position) as columns,
    array_agg(format('(%I IS NOT NULL)', attname)) as without_nulls
  from unnest(conkey) with ordinality as part (number, position)
  inner join pg_catalog.pg_attribute on attrelid = conrelid and attnum = part.number
) as key
where contype = 'f'
  -- What a partition or a partitioned target adds is the parent's.
  and conparentid = 0
  and not exists (
    select from pg_catalog.pg_index
    where indrelid = conrelid
      and indisvalid
      and indnkeyatts >= cardinality(conkey)
      and (indkey::int2[])[0:cardinality(conkey) - 1] @> conkey
      and (indkey::int2[])[0:cardinality(conkey) - 1] <@ conkey
      and (indpred is null or pg_get_expr(indpred, indrelid) = any (key.without_nulls))
  )
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
