-- missing-comment: objects that an API serves and that have no comment
-- Params: lint.schemas and lint.exclude_schemas, regular expressions over schema names:
--   all but those of known products unless set. lint.exposed_schemas: what an
--   API serves, ^app_public$ unless set.
-- Columns: name, level, object_schema, object_name (table, table.column, function or
--   type), detail, remediation.
-- Read: Comments are the documentation of a generated API. Say what the object is, in
--   which unit, and what null means.
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
),
described (class, oid, namespace, object_name, kind, target, comment) as (
  select 'pg_catalog.pg_class'::regclass, oid, relnamespace, relname::text,
    case relkind when 'v' then 'view' when 'm' then 'materialized view'
      when 'f' then 'foreign table' else 'table' end,
    oid::regclass::text, obj_description(oid, 'pg_class')
  from pg_catalog.pg_class
  where relkind in ('r', 'p', 'v', 'm', 'f')
    and not relispartition
  union all
  select 'pg_catalog.pg_class'::regclass, pg_class.oid, relnamespace,
    format('%s.%s', relname, attname), 'column',
    format('%s.%I', pg_class.oid::regclass, attname),
    col_description(pg_class.oid, attnum)
  from pg_catalog.pg_attribute
  inner join pg_catalog.pg_class on pg_class.oid = attrelid
  where relkind in ('r', 'p', 'v', 'm', 'f', 'c')
    and not relispartition
    and attnum > 0
    and not attisdropped
  union all
  select 'pg_catalog.pg_proc'::regclass, oid, pronamespace,
    format('%s(%s)', proname, oidvectortypes(proargtypes)),
    case prokind when 'p' then 'procedure' when 'a' then 'aggregate' else 'function' end,
    oid::regprocedure::text, obj_description(oid, 'pg_proc')
  from pg_catalog.pg_proc
  union all
  select 'pg_catalog.pg_type'::regclass, pg_type.oid, typnamespace, typname::text,
    case typtype when 'd' then 'domain' else 'type' end,
    pg_type.oid::regtype::text, obj_description(pg_type.oid, 'pg_type')
  from pg_catalog.pg_type
  left join pg_catalog.pg_class on pg_class.oid = typrelid
  where typtype in ('d', 'e', 'r')
    or relkind = 'c'
)
select
  'missing-comment' as name,
  'warning' as level,
  scope.nspname::text as object_schema,
  object_name,
  kind || ' without a comment' as detail,
  format('comment on %s %s is ''…'';', kind, target) as remediation
from described
inner join scope on scope.oid = namespace
where coalesce(comment, '') = ''
  and not exists (
    select from pg_catalog.pg_depend
    where classid = described.class
      and objid = described.oid
      and deptype = 'e'
  )
order by object_schema, object_name, kind;
