import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loginRoles, roleNames } from '../../src/postgres/roles.ts';
import { projectRoot } from '../../src/project.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, type Row, readPage, readTable } from '../helpers/reference.ts';

const db = useDatabase();
const inCode = (names: readonly string[]): string => names.map(code).join(', ');
const ownSchemas = ['app_public', 'app_hidden', 'app_private', 'app_partitions', 'ops'];

test('every role is in the reference, as the server has it', async () => {
  const roles = await db.as('superuser')<
    {
      name: string;
      canLogin: boolean;
      attributes: string[];
      memberOf: string[];
      isSafe: boolean;
    }[]
  >`
    select rolname as name, rolcanlogin as "canLogin",
      not (rolsuper or rolbypassrls or rolcreatedb or rolcreaterole) as "isSafe",
      array(
        select attribute from unnest(array[
          case when not rolinherit then 'noinherit' end,
          case when rolreplication then 'replication' end,
          'connection limit ' || nullif(rolconnlimit, -1)] || rolconfig) as attribute
        where attribute is not null) as attributes,
      array(
        select granted.rolname::text from pg_auth_members
        inner join pg_roles as granted on granted.oid = pg_auth_members.roleid
        where pg_auth_members.member = pg_roles.oid order by 1) as "memberOf"
    from pg_roles where rolname = any (${[...roleNames]})`;
  expect(roles.filter(({ isSafe }) => !isSafe)).toEqual([]);
  const logins = new Map(Object.values(loginRoles).map((login) => [login.name as string, login]));
  const prose = new Map(readTable('roles', 'Roles').map((row) => [row.role, row.is ?? '']));
  expectTable(
    'roles',
    'Roles',
    roles.map(({ name, canLogin, attributes, memberOf }): Row => {
      const login = logins.get(name);
      expect(canLogin, name).toBe(login !== undefined);
      return {
        role: code(name),
        'logs in': code(login?.variable ?? ''),
        'member of': inCode(memberOf),
        attributes: inCode(attributes),
        is: login?.purpose ?? prose.get(code(name)) ?? '',
      };
    }),
  );
});

test('only the roles of the reference may connect to the database', async () => {
  const found = await db.as('superuser')<{ name: string }[]>`
    select rolname as name from pg_roles
    where not rolsuper and rolname <> all (${[...roleNames]})
      and has_database_privilege(rolname, current_database(), 'connect')`;
  expect(found).toEqual([]);
});

test('every schema is in the reference, with what it holds and who may enter', async () => {
  const schemas = await db.as('superuser')<
    { name: string; owner: string; holds: string | null; usage: string[] }[]
  >`
    select nspname as name, nspowner::regrole::text as owner,
      obj_description(pg_namespace.oid, 'pg_namespace') as holds,
      array(
        select distinct grantee::regrole::text from aclexplode(nspacl)
        where privilege_type = 'USAGE' and grantee <> nspowner order by 1) as usage
    from pg_namespace where nspname !~ '^(pg_|information_schema$|public$)'`;
  expect(schemas.filter(({ owner }) => owner !== 'gw_owner')).toEqual([]);
  const shown = new Map(readTable('roles', 'Schemas').map((row) => [row.schema, row]));
  // pg_cron is in one database of the server, which is not this one.
  const cron = { name: 'cron', usage: ['gw_monitor', 'gw_owner'], holds: null };
  const bootstrap = readFileSync(join(projectRoot, 'sql', 'bootstrap', 'database.sql'), 'utf8');
  const entered = [...bootstrap.matchAll(/grant usage on schema cron to (\w+);/g)];
  expect(entered.map(([, role]) => role).sort()).toEqual(cron.usage);
  expectTable(
    'roles',
    'Schemas',
    [...schemas, cron].map(({ name, holds, usage }) => ({
      schema: code(name),
      holds: holds ?? shown.get(code(name))?.holds ?? '',
      USAGE: inCode(usage),
    })),
  );
});

test("what app_user and gw_readonly may do to users' tables is in the reference", async () => {
  const relations = await db.as('superuser')<
    { name: string; user: string[]; readonly: string[]; others: string[] }[]
  >`
    select relname as name,
      array(
        select lower(privilege) from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE'])
          as privilege
        where case when privilege = 'DELETE'
          then has_table_privilege('app_user', pg_class.oid, privilege)
          else has_any_column_privilege('app_user', pg_class.oid, privilege) end) as user,
      array(
        select lower(privilege) from unnest(array['SELECT', 'INSERT', 'UPDATE']) as privilege
        where has_any_column_privilege('gw_readonly', pg_class.oid, privilege)) as readonly,
      array(
        select distinct grantee::regrole::text from aclexplode(relacl)
        where grantee <> relowner and grantee <> all (
          array['app_user', 'gw_readonly']::regrole[])) as others
    from pg_class
    where relnamespace = 'app_public'::regnamespace and relkind in ('r', 'p', 'v', 'm')`;
  expectTable(
    'roles',
    'Tables of users',
    relations.map(({ name, user, readonly }) => ({
      relation: code(name),
      'app_user may': user.join(', '),
      'gw_readonly may': readonly.join(', '),
    })),
  );
  const others = relations.filter((relation) => relation.others.length > 0);
  expect(others.map(({ name, others: roles }) => [name, roles])).toEqual([
    ['user_dashboard_aggregates', ['gw_cdc']],
  ]);
});

test('what roles may do to other tables is in the reference', async () => {
  const grants = await db.as('superuser')<{ role: string; may: string; names: string[] }[]>`
    select role, may, array_agg(name order by name) as names
    from (
      select grantee::regrole::text as role, relation.oid::regclass::text as name,
        string_agg(distinct lower(privilege_type)
          || case when is_column then ' of columns' else '' end, ', ') as may
      from pg_class as relation
      cross join lateral (
        select grantee, privilege_type, false as is_column from aclexplode(relacl)
        union all
        select entry.grantee, entry.privilege_type, true from pg_attribute
        cross join lateral aclexplode(attacl) as entry
        where attrelid = relation.oid
      ) as granted
      where relnamespace::regnamespace::text in ('app_hidden', 'app_private', 'ops')
        and relkind in ('r', 'p', 'v', 'm') and grantee <> relowner
      group by grantee, relation.oid
    ) as granted
    group by role, may`;
  const rows = grants.map(({ role, may, names }) => ({
    role: `${code(role)}: ${may}`,
    on: inCode(names),
  }));
  expectTable('roles', 'Other tables', rows);
});

test('who may execute which function is in the reference', async () => {
  const grants = await db.as('superuser')<{ role: string; schema: string; names: string[] }[]>`
    select grantee::regrole::text as role, nspname as schema,
      array_agg(distinct proname::text order by proname::text) as names
    from pg_proc
    inner join pg_namespace on pg_namespace.oid = pronamespace
    cross join lateral aclexplode(coalesce(proacl, acldefault('f', proowner)))
    where nspname = any (${ownSchemas}) and grantee <> proowner
    group by grantee, nspname`;
  expectTable(
    'roles',
    'Functions',
    grants.map(({ role, schema, names }) => ({
      'role in schema': `${code(role)} in ${code(schema)}`,
      'may execute': inCode(names),
    })),
  );
});

test('the query of the reference says who may execute claim_messages', async () => {
  const [, query = ''] = /```sql\n(select rolname\n[^`]*)```/.exec(readPage('roles')) ?? [];
  const rows = await db.as('monitor').unsafe<{ rolname: string }[]>(query);
  const ours = rows.map(({ rolname }) => rolname).filter((name) => roleNames.includes(name));
  expect(ours.sort()).toEqual(['gw_owner', 'gw_worker']);
});

test('every action of the audit log is in the reference', async () => {
  const [functions] = await db.as('superuser')<{ source: string }[]>`
    select string_agg(prosrc, E'\\n') as source from pg_proc
    where pronamespace::regnamespace::text in ('ops', 'app_private')`;
  const sources = ['src', 'sql'].flatMap((folder) =>
    readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|sql)$/.test(name))
      .map((name) => readFileSync(join(projectRoot, folder, name), 'utf8')),
  );
  const found = [functions?.source ?? '', ...sources].flatMap((text) =>
    [...text.matchAll(/\baudit\((?:[\w.]+, )?'([a-z_]+\.[a-z_]*)'(?! \|\|)/g)].map(
      ([, action = '']) => action,
    ),
  );
  // The trigger of ops.partition_events makes the name from the event.
  const names = new Set([...found, 'partition.detached', 'partition.dropped']);
  expectTable(
    'roles',
    'Actions',
    [...names].map((action) => ({ action: code(action) })),
  );
});
