-- sequence-near-end: sequences that have spent three quarters of their numbers
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set.
-- Columns: name, level, object_schema, object_name (sequence), detail, remediation.
-- Read: At the end every insert fails. The end is that of the sequence or of the column
--   that it fills, whichever comes first. Warning at 75 per cent, error at 90. Change
--   both to bigint; changing the column rewrites its table, so plan for it. Cycling
--   sequences are left out.
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
  'sequence-near-end' as name,
  case when spent.share >= 0.90 then 'error' else 'warning' end as level,
  scope.nspname::text as object_schema,
  pg_class.relname::text as object_name,
  format('%s %% spent: %s of %s', trunc(100 * spent.share, 1), last_value, spent.last)
    as detail,
  case when attname is null
    then format('alter sequence %I.%I as bigint;', scope.nspname, pg_class.relname)
    else format('alter table %s alter column %I type bigint;', attrelid::regclass,
      attname)
  end as remediation
from pg_catalog.pg_sequences
inner join scope on scope.nspname = schemaname
inner join pg_catalog.pg_class on pg_class.relnamespace = scope.oid
  and pg_class.relname = sequencename
left join pg_catalog.pg_depend on classid = 'pg_catalog.pg_class'::regclass
  and objid = pg_class.oid
  and refclassid = 'pg_catalog.pg_class'::regclass
  and refobjsubid > 0
  and deptype in ('a', 'i')
left join pg_catalog.pg_attribute on attrelid = refobjid and attnum = refobjsubid
cross join lateral (
  select case atttypid
    when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647 end as top
) as holds
cross join lateral (
  select case when increment_by > 0 then least(max_value, top)
    else greatest(min_value, -top - 1) end as last
) as ends
cross join lateral (
  select last,
    (last_value - start_value)::numeric / nullif(last - start_value, 0) as share
) as spent
where not cycle
  and spent.share >= 0.75
  and not exists (
    select from pg_catalog.pg_depend
    where classid = 'pg_catalog.pg_class'::regclass
      and objid = pg_class.oid
      and deptype = 'e'
  )
order by object_schema, object_name;
