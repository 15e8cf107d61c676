-- redundant-index: btree indexes whose columns begin another index of the table
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (index), detail, remediation.
-- Read: The longer index answers what this one does, somewhat slower for being larger;
--   each write maintains both. Drop this one, unless it is much smaller and read very
--   often.
-- Cost: Reads the catalogue only; milliseconds.
with scope as (
  select oid, nspname
  from pg_catalog.pg_namespace
  where nspname !~ '^(pg_|information_schema$)'
    and nspname ~ coalesce(current_setting('lint.schemas', true), '')
    and nspname !~ coalesce(nullif(current_setting('lint.exclude_schemas', true), ''),
      '^(cron|graphile_migrate|pgboss|postgraphile_watch)$')
),
plain as (
  select pg_index.*, relname, nspname, relispartition
  from pg_catalog.pg_index
  inner join pg_catalog.pg_class on pg_class.oid = indexrelid
  inner join scope on scope.oid = relnamespace
  inner join pg_catalog.pg_am on pg_am.oid = relam and amname = 'btree'
  where indisvalid
    and indpred is null
)
select distinct on (shorter.nspname, shorter.relname)
  'redundant-index' as name,
  'warning' as level,
  shorter.nspname::text as object_schema,
  shorter.relname::text as object_name,
  format('its columns begin %s', longer.relname) as detail,
  format('drop index %I.%I;', shorter.nspname, shorter.relname) as remediation
from plain as shorter
inner join plain as longer on longer.indrelid = shorter.indrelid
  and longer.indnkeyatts > shorter.indnkeyatts
  -- These are lists of numbers with a blank between.
  and starts_with(longer.indkey::text, shorter.indkey::text || ' ')
  and starts_with(longer.indclass::text, shorter.indclass::text || ' ')
  and starts_with(longer.indcollation::text, shorter.indcollation::text || ' ')
  and starts_with(longer.indoption::text, shorter.indoption::text || ' ')
inner join pg_catalog.pg_class on pg_class.oid = shorter.indrelid
where not shorter.indisunique
  and shorter.indexprs is null
  and not shorter.indisreplident
  and not shorter.relispartition
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by shorter.nspname, shorter.relname, longer.relname;
