import { test as base, expect, inject } from 'vitest';
import { dumpObjects } from '../../src/migrations/dump.ts';
import { requireBinaries } from '../../src/server/scratch.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';

const db = useDatabase();

const test = base.extend<{ drift: (...args: string[]) => ReturnType<Checkout['run']> }>({
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads the names of fixtures from it.
  drift: async ({}, use) => {
    const checkout = new Checkout();
    await use((...args) =>
      checkout.run(['status', '--drift', ...args], {
        DATABASE_URL: db.url('owner'),
        ROOT_DATABASE_URL: inject('superuserUrl'),
      }),
    );
    await checkout.remove();
  },
});

test('gw status --drift tells what differs from what the migrations make', {
  timeout: patience(120_000),
}, async ({ drift }) => {
  expect(await drift()).toMatchObject({ code: 0, stdout: 'up to date, no drift\n' });

  // Partitions of months come and go by policy.
  await db.as('owner')`
    update ops.partition_policies set premake = premake + 1
    where parent_table = 'app_public.user_activity'::regclass`;
  await db.as('owner')`select ops.ensure_partitions()`;
  expect(await drift('--json')).toMatchObject({ code: 0 });

  await db.as('superuser').unsafe(`
    create index by_hand on app_public.tasks (title);
    alter table app_public.habits add column by_hand integer;
    create table app_public.somebodys (id integer);
    create or replace function app_hidden.month_day(p_date date) returns integer
      language sql immutable strict parallel safe as 'select 7';
    drop trigger _900_truncated on app_partitions.tasks_h03;
    grant update on app_public.habits to gw_readonly;
  `);
  const { code, stdout } = await drift('--json');
  expect(code).toBe(4);
  const said: { drift: { object: string; place: string; database: string | null }[] } =
    JSON.parse(stdout);
  expect(said.drift.map(({ object }) => object).sort()).toEqual([
    'acl app_public.TABLE habits',
    'function app_hidden.month_day(date)',
    'index app_public.by_hand',
    'table app_public.habits',
    'table app_public.somebodys',
    'trigger app_partitions.tasks_h03 _900_truncated',
  ]);
  expect(said.drift).toContainEqual({
    object: 'function app_hidden.month_day(date)',
    place: 'migrations/fixtures/functions/app_hidden/month_day.sql:1',
    migrations: 'AS $$',
    database: 'AS $$select 7$$;',
  });
});

test('the order of grants, and of roles in their catalogue, is no difference', async () => {
  const sql = db.as('superuser');
  const roles = ['a', 'b'].map((name) => `gw_order_${process.pid}_${name}`);
  const [one, other] = roles;
  const dump = async () => [...(await dumpObjects(await requireBinaries(), db.url('superuser')))];
  try {
    for (const role of roles) await sql.unsafe(`create role ${role}`);
    await sql.unsafe(`
      create table app_public.ordered (id integer);
      create policy everybody on app_public.ordered for select to ${one}, ${other} using (true);
      grant select on app_public.ordered to ${one}, ${other}`);
    const before = await dump();
    // Its row in pg_authid is written anew, behind the other's.
    await sql.unsafe(`alter role ${one} connection limit 1`);
    await sql.unsafe(`
      revoke all on app_public.ordered from ${one};
      grant select on app_public.ordered to ${one}`);
    expect(await dump()).toEqual(before);
    await sql.unsafe(`alter role ${other} connection limit 1`);
    expect(await dump()).toEqual(before);
    // What a grant and a policy give is one.
    await sql.unsafe(`alter policy everybody on app_public.ordered to ${one}`);
    expect(await dump()).not.toEqual(before);
  } finally {
    await sql.unsafe(`drop table if exists app_public.ordered`);
    for (const role of roles) await sql.unsafe(`drop role if exists ${role}`);
  }
});
