import { test as base, expect, inject } from 'vitest';
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
