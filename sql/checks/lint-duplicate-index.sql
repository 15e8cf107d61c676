-- duplicate-index: indexes that are equal to another index of the table
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (index), detail, remediation.
-- Read: Each write maintains both, and only one is read. Drop the one that is named;
--   the one that a key, the replica identity or uniqueness needs is kept. Indexes are
--   the same when method, columns, included columns, operator classes, collations,
--   order, expressions and predicate are.
-- Cost: Reads the catalogue only; milliseconds.
with scope as (
  select oid, nspname
  from pg_catalog.pg_namespace
  where nspname !~ '^(pg_|information_schema$)'
    and nspname ~ coalesce(current_setting('lint.schemas', true), '')
    and nspname !~ coalesce(nullif(current_setting('lint.exclude_schemas', true), ''),
      '^(cron|graphile_migrate|pgboss|postgraphile_watch)$')
),
described as (
  select
    pg_index.*, relname, nspname, index_class.relispartition, conname,
    row_number() over same_index as place,
    first_value(relname) over same_index as kept
  from pg_catalog.pg_index
  inner join pg_catalog.pg_class as index_class on index_class.oid = indexrelid
  inner join scope on scope.oid = relnamespace
  left join pg_catalog.pg_constraint on conindid = indexrelid
    and contype in ('p', 'u', 'x')
  where indisvalid
    and contype is distinct from 'x'
  window same_index as (
    partition by indrelid, relam, indimmediate, indnullsnotdistinct, indkey::text,
      indnkeyatts, indclass::text,
      indcollation::text, indoption::text, pg_get_expr(indexprs, indrelid),
      pg_get_expr(indpred, indrelid)
    order by indisprimary desc, indisreplident desc, conname is not null desc,
      indisunique desc, index_class.relispartition desc, relname
  )
)
select
  'duplicate-index' as name,
  'error' as level,
  nspname::text as object_schema,
  described.relname::text as object_name,
  format('does what %s does', kept) as detail,
  case when conname is null then format('drop index %I.%I;', nspname, described.relname)
    else format('alter table %I.%I drop constraint %I;', nspname, pg_class.relname,
      conname)
  end as remediation
from described
inner join pg_catalog.pg_class on pg_class.oid = indrelid
where place > 1
  -- The parent's index is reported, not each partition's share of it.
  and not described.relispartition
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
