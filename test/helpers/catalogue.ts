import type { Sql, Transaction } from '../../src/postgres/connect.ts';

/** An object that breaks a rule, and in which way. */
export interface Finding {
  object: string;
  problem: string;
}

type Rule = (sql: Sql | Transaction) => PromiseLike<Finding[]>;

/**
 * What must hold for every object of our schemas. Each rule asks the catalogue, so that a
 * new object is covered on the day it is made; each returns what breaks it.
 */
export const rules = {
  'every table of app_public has row-level security': (sql) => sql<Finding[]>`
    select pg_class.oid::regclass::text as object, 'row-level security is off' as problem
    from pg_class
    where pg_class.relnamespace = 'app_public'::regnamespace
      and pg_class.relkind in ('r', 'p')
      and not pg_class.relrowsecurity
    order by 1`,

  'every table of app_public has a policy': (sql) => sql<Finding[]>`
    select pg_class.oid::regclass::text as object, 'no policy' as problem
    from pg_class
    where pg_class.relnamespace = 'app_public'::regnamespace
      and pg_class.relkind in ('r', 'p')
      and not exists (select from pg_policy where pg_policy.polrelid = pg_class.oid)
    order by 1`,

  "policies on users' tables compare with the current user, and with nothing else": (sql) => sql<
    Finding[]
  >`
    select pg_class.oid::regclass::text as object,
      format('policy %s lets app users see %s', pg_policy.polname, expression) as problem
    from pg_policy
    inner join pg_class on pg_class.oid = pg_policy.polrelid
    cross join lateral (values
      (pg_get_expr(pg_policy.polqual, pg_policy.polrelid)),
      (pg_get_expr(pg_policy.polwithcheck, pg_policy.polrelid))
    ) as expressions (expression)
    where pg_class.relnamespace = 'app_public'::regnamespace
      and pg_policy.polpermissive
      and pg_policy.polroles
        && array[0::oid, 'app_user'::regrole::oid, 'app_anonymous'::regrole::oid]
      and expression <> '(user_id = app_hidden.current_app_user_id())'
      -- A closed account cannot see itself either.
      and (pg_class.relname <> 'users' or expression <> all (array[
        '(id = app_hidden.current_app_user_id())',
        '((id = app_hidden.current_app_user_id()) AND (deleted_at IS NULL))']))
      and (pg_class.relname = 'users' or exists (
        select from pg_attribute
        where pg_attribute.attrelid = pg_class.oid
          and pg_attribute.attname = 'user_id'
      ))
    order by 1, 2`,

  'partitions are reached through their parents only': (sql) => sql<Finding[]>`
    select pg_class.oid::regclass::text as object,
      format('%s has %s', grantee::regrole, privilege_type) as problem
    from pg_class
    left join pg_attribute on pg_attribute.attrelid = pg_class.oid
    cross join lateral (
      select * from aclexplode(pg_class.relacl)
      union all
      select * from aclexplode(pg_attribute.attacl)
    ) as acl
    where pg_class.relnamespace = 'app_partitions'::regnamespace
      and grantee <> pg_class.relowner
    group by 1, 2
    union all
    select 'app_partitions', format('%s may enter', role_name)
    from unnest(array['app_user', 'app_anonymous', 'gw_readonly', 'gw_worker',
      'gw_authenticator']) as role_name
    where has_schema_privilege(role_name, 'app_partitions', 'usage')
    order by 1, 2`,

  'partitions live in app_partitions': (sql) => sql<Finding[]>`
    select pg_class.oid::regclass::text as object, 'lies outside app_partitions' as problem
    from pg_class
    where pg_class.relnamespace::regnamespace::text in
        ('app_public', 'app_hidden', 'app_private', 'ops')
      and pg_class.relkind in ('r', 'p')
      and pg_class.relispartition
    order by 1`,

  'frontends reach nothing in app_private and ops': (sql) => sql<Finding[]>`
    with roles (role_name) as (values ('app_user'), ('app_anonymous'), ('public'))
    select pg_class.oid::regclass::text as object,
      format('%s has a privilege', role_name) as problem
    from pg_class
    cross join roles
    where pg_class.relnamespace in ('app_private'::regnamespace, 'ops'::regnamespace)
      and pg_class.relkind in ('r', 'p', 'v', 'm', 'f')
      and (has_table_privilege(role_name, pg_class.oid,
          'select, insert, update, delete, truncate, references, trigger')
        or has_any_column_privilege(role_name, pg_class.oid,
          'select, insert, update, references'))
    union all
    select nspname, format('%s may enter', role_name)
    from pg_namespace
    cross join roles
    where nspname in ('app_private', 'ops')
      and has_schema_privilege(role_name, pg_namespace.oid, 'usage')
    union all
    select pg_proc.oid::regprocedure::text, format('%s may execute it', role_name)
    from pg_proc
    cross join roles
    where pg_proc.pronamespace in ('app_private'::regnamespace, 'ops'::regnamespace)
      and has_function_privilege(role_name, pg_proc.oid, 'execute')
    order by 1, 2`,

  'security definer functions pin their search_path': (sql) => sql<Finding[]>`
    select pg_proc.oid::regprocedure::text as object,
      coalesce(pinned, 'search_path is not set') as problem
    from pg_proc
    left join lateral (
      select setting as pinned
      from unnest(pg_proc.proconfig) as setting
      where setting like 'search_path=%'
    ) as settings on true
    where pg_proc.pronamespace::regnamespace::text in
        ('app_public', 'app_hidden', 'app_private', 'ops')
      and pg_proc.prosecdef
      and pinned ~ '^search_path=pg_catalog(, .*)?, pg_temp$' is not true
    order by 1`,

  'no function is executable by public': (sql) => sql<Finding[]>`
    select pg_proc.oid::regprocedure::text as object, 'public may execute it' as problem
    from pg_proc
    cross join lateral aclexplode(
      coalesce(pg_proc.proacl, acldefault('f', pg_proc.proowner))) as acl
    where pg_proc.pronamespace::regnamespace::text in
        ('app_public', 'app_hidden', 'app_private', 'ops')
      and acl.grantee = 0
      and acl.privilege_type = 'EXECUTE'
    order by 1`,

  'who may execute a function may enter its schema': (sql) => sql<Finding[]>`
    select pg_proc.oid::regprocedure::text as object,
      format('%s may not enter %s', grantee::regrole, pg_proc.pronamespace::regnamespace)
        as problem
    from pg_proc
    cross join lateral aclexplode(pg_proc.proacl)
    where pg_proc.pronamespace::regnamespace::text in
        ('app_public', 'app_hidden', 'app_private', 'ops')
      and grantee <> 0
      and not has_schema_privilege(grantee, pg_proc.pronamespace, 'usage')
    order by 1, 2`,

  'everything in app_public has a comment': (sql) => sql<Finding[]>`
    select object, 'no comment' as problem
    from (
      select oid::regclass::text, obj_description(oid, 'pg_class')
      from pg_class
      where relnamespace = 'app_public'::regnamespace
        and relkind in ('r', 'p', 'v', 'm', 'f')
      union all
      select format('%s.%s', pg_class.oid::regclass, attname),
        col_description(pg_class.oid, attnum)
      from pg_attribute
      inner join pg_class on pg_class.oid = attrelid
      where relnamespace = 'app_public'::regnamespace
        and relkind in ('r', 'p', 'v', 'm', 'f')
        and attnum > 0
        and not attisdropped
      union all
      select oid::regprocedure::text, obj_description(oid, 'pg_proc')
      from pg_proc
      where pronamespace = 'app_public'::regnamespace
      union all
      select pg_type.oid::regtype::text, obj_description(pg_type.oid, 'pg_type')
      from pg_type
      left join pg_class on pg_class.oid = typrelid
      where typnamespace = 'app_public'::regnamespace
        and (typtype in ('e', 'd', 'r') or relkind = 'c')
    ) as described (object, comment)
    where coalesce(comment, '') = ''
    order by 1`,

  "references between users' tables carry user_id": (sql) => sql<Finding[]>`
    select pg_constraint.conrelid::regclass::text as object,
      format('%s does not carry user_id', conname) as problem
    from pg_constraint
    inner join pg_attribute as here on here.attrelid = conrelid and here.attname = 'user_id'
    inner join pg_attribute as there on there.attrelid = confrelid and there.attname = 'user_id'
    where contype = 'f'
      and conparentid = 0
      and not exists (
        select from unnest(conkey, confkey) as pair (mine, yours)
        where mine = here.attnum and yours = there.attnum
      )
    order by 1, 2`,

  "primary keys of users' tables begin with user_id": (sql) => sql<Finding[]>`
    select pg_class.oid::regclass::text as object, 'user_id does not lead the key' as problem
    from pg_class
    inner join pg_attribute on attrelid = pg_class.oid and attname = 'user_id'
    where relnamespace::regnamespace::text in ('app_public', 'app_private')
      and relkind in ('r', 'p')
      -- A private row may be about nobody, such as a metric: such a column is in no key.
      and (attnotnull or relnamespace = 'app_public'::regnamespace)
      and not exists (
        select from pg_constraint
        where conrelid = pg_class.oid and contype = 'p' and conkey[1] = attnum
      )
    order by 1`,

  'frontends write neither owner nor timestamps': (sql) => sql<Finding[]>`
    select format('%s.%s', pg_class.oid::regclass, attname) as object,
      format('%s may %s it', role_name, privilege) as problem
    from pg_class
    inner join pg_attribute on attrelid = pg_class.oid
    cross join unnest(array['app_user', 'app_anonymous']) as role_name
    cross join unnest(array['insert', 'update']) as privilege
    where relnamespace = 'app_public'::regnamespace
      and relkind in ('r', 'p', 'v')
      and (attname in ('user_id', 'created_at', 'updated_at')
        or (relname, attname) = ('users', 'id'))
      and has_column_privilege(role_name, pg_class.oid, attnum, privilege)
    order by 1, 2`,

  'views of app_public do not bypass row-level security unnoticed': (sql) => sql<Finding[]>`
    select oid::regclass::text as object,
      case relkind when 'm' then 'a materialized view belongs in app_private'
        else 'neither security_invoker nor security_barrier' end as problem
    from pg_class
    where relnamespace = 'app_public'::regnamespace
      and (relkind = 'm' or relkind = 'v' and coalesce(reloptions::text, '')
        !~* 'security_(invoker|barrier)=(true|on|1|yes)')
    order by 1`,
  'indexes say in their name what they are': (sql) => sql<Finding[]>`
    select pg_class.oid::regclass::text as object, 'does not end in ' || named.ending as problem
    from pg_index
    inner join pg_class on pg_class.oid = indexrelid
    cross join lateral (
      select case when indisprimary then '_pkey' when indisunique then '_key' else '_idx' end
          || case when indpred is null then '' else '_where_<condition>' end as ending
    ) as named
    where relnamespace::regnamespace::text in ('app_public', 'app_hidden', 'app_private', 'ops')
      -- PostgreSQL names those of partitions.
      and not relispartition
      and relname !~ (replace(named.ending, '<condition>', '[a-z_]+') || '$')
    order by 1`,
} satisfies Record<string, Rule>;

export type RuleName = keyof typeof rules;
