-- What a database is, apart from its rows: one row for each object, with all that a restore has to
-- bring back of it. Extensions bring their own members. Read by "gw backup", in the snapshot of
-- the dump, and again of what was restored; so nothing in it depends on a number or a position.
-- Expressions are in their short form: PostgreSQL reads its long one back with fewer brackets.
with outside (class, object) as (
  select classid, objid from pg_catalog.pg_depend where deptype = 'e'
),
schemas as (
  select oid, nspname, nspowner, nspacl
  from pg_catalog.pg_namespace
  where nspname !~ '^pg_(toast|temp)'
    and nspname not in ('pg_catalog', 'information_schema')
    and (('pg_catalog.pg_namespace'::regclass, oid)) not in (select * from outside)
),
relations as (
  select pg_class.*, schemas.nspname || '.' || pg_class.relname as name
  from pg_catalog.pg_class
  inner join schemas on schemas.oid = pg_class.relnamespace
  where pg_class.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
    and (('pg_catalog.pg_class'::regclass, pg_class.oid)) not in (select * from outside)
),
routines as (
  select pg_proc.*, pg_proc.oid::regprocedure::text as name
  from pg_catalog.pg_proc
  inner join schemas on schemas.oid = pg_proc.pronamespace
  where (('pg_catalog.pg_proc'::regclass, pg_proc.oid)) not in (select * from outside)
),
objects (kind, name, owner, acl, definition) as (
  select 'schema', nspname::text, nspowner, nspacl, null
  from schemas
  union all
  select 'extension', extname, null, null, extversion
  from pg_catalog.pg_extension
  union all
  select case relkind when 'v' then 'view' when 'm' then 'materialized view'
      when 'S' then 'sequence' when 'f' then 'foreign table' else 'table' end,
    name, relowner, relacl,
    concat_ws(' ', relkind, relpersistence, 'rls', relrowsecurity, relforcerowsecurity,
      'replica', relreplident, array_to_string(array(select unnest(reloptions) order by 1), ','),
      pg_catalog.pg_get_expr(relpartbound, oid, true), pg_catalog.pg_get_partkeydef(oid),
      case when relkind in ('v', 'm') then pg_catalog.pg_get_viewdef(oid, true) end)
  from relations
  union all
  select 'column', relations.name || '.' || attname, null, attacl,
    concat_ws(' ', pg_catalog.format_type(atttypid, atttypmod), attnotnull, attidentity,
      attgenerated, attstattarget, attstorage,
      pg_catalog.pg_get_expr(pg_attrdef.adbin, pg_attrdef.adrelid, true))
  from pg_catalog.pg_attribute
  inner join relations on relations.oid = pg_attribute.attrelid
  left join pg_catalog.pg_attrdef
    on pg_attrdef.adrelid = pg_attribute.attrelid and pg_attrdef.adnum = pg_attribute.attnum
  where pg_attribute.attnum > 0
    and not pg_attribute.attisdropped
    and relations.relkind <> 'S'
  union all
  select 'constraint', coalesce(relations.name || '.', '') || conname, null, null,
    concat_ws(' ', pg_catalog.pg_get_constraintdef(pg_constraint.oid, true), convalidated)
  from pg_catalog.pg_constraint
  inner join relations on relations.oid = pg_constraint.conrelid
  union all
  select 'index', relations.name || '.' || index.relname, null, null,
    concat_ws(' ', pg_catalog.pg_get_indexdef(pg_index.indexrelid, 0, true), indisvalid, indisreplident)
  from pg_catalog.pg_index
  inner join relations on relations.oid = pg_index.indrelid
  inner join pg_catalog.pg_class as index on index.oid = pg_index.indexrelid
  union all
  select 'trigger', relations.name || '.' || tgname, null, null,
    concat_ws(' ', tgenabled, pg_catalog.pg_get_triggerdef(pg_trigger.oid, true))
  from pg_catalog.pg_trigger
  inner join relations on relations.oid = pg_trigger.tgrelid
  where not pg_trigger.tgisinternal
  union all
  select 'policy', relations.name || '.' || polname, null, null,
    concat_ws(' ', polcmd, polpermissive,
      array_to_string(array(select role::regrole::text from unnest(polroles) as role order by 1), ','),
      pg_catalog.pg_get_expr(polqual, polrelid, true), pg_catalog.pg_get_expr(polwithcheck, polrelid, true))
  from pg_catalog.pg_policy
  inner join relations on relations.oid = pg_policy.polrelid
  union all
  select 'function', name, proowner, proacl,
    case when prokind = 'a' then 'aggregate' else pg_catalog.pg_get_functiondef(oid) end
  from routines
  union all
  select 'built-in function', oid::regprocedure::text, null, proacl, null
  from pg_catalog.pg_proc
  where pronamespace = 'pg_catalog'::regnamespace
    and proacl is not null
  union all
  select 'type', pg_catalog.format_type(pg_type.oid, null), typowner, typacl,
    concat_ws(' ', typtype, typnotnull, typdefault,
      array_to_string(array(select enumlabel from pg_catalog.pg_enum
        where enumtypid = pg_type.oid order by enumsortorder), ','))
  from pg_catalog.pg_type
  inner join schemas on schemas.oid = pg_type.typnamespace
  where typtype in ('e', 'd', 'r')
    and (('pg_catalog.pg_type'::regclass, pg_type.oid)) not in (select * from outside)
  union all
  select 'publication', pubname, pubowner, null,
    concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
      (select string_agg(concat_ws('.', schemaname, tablename) || ' '
          || array_to_string(attnames, ','), '; ' order by schemaname, tablename)
        from pg_catalog.pg_publication_tables
        where pg_publication_tables.pubname = pg_publication.pubname))
  from pg_catalog.pg_publication
  union all
  select 'default privileges',
    concat_ws(' ', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype), null,
    defaclacl, null
  from pg_catalog.pg_default_acl
  union all
  select 'database', 'this one', pg_database.datdba, pg_database.datacl,
    concat_ws(' ', pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype)
  from pg_catalog.pg_database
  where pg_database.datname = current_database()
  union all
  select 'setting', coalesce(nullif(setrole, 0)::regrole::text, 'every role'), null, null,
    array_to_string(array(select unnest(setconfig) order by 1), E'\n')
  from pg_catalog.pg_db_role_setting
  where setdatabase = (select oid from pg_catalog.pg_database where datname = current_database())
  union all
  select 'comment', pg_catalog.pg_describe_object(classoid, objoid, objsubid), null, null,
    description
  from pg_catalog.pg_description
  where objoid in (select oid from relations union all select oid from routines)
)
select kind, name,
  concat_ws(E'\n', definition, 'owner ' || owner::regrole,
    (select 'grants ' || string_agg(entry::text, ', ' order by entry::text)
      from unnest(acl) as entry)) as definition
from objects
order by kind, name;
