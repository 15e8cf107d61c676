import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Sql } from '../../../src/postgres/connect.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { overhear } from '../../helpers/live.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();

interface Told {
  topic: string;
  event: string;
  users: [string, string[] | null][];
}

const watch = (ids: string[]) =>
  db.as('authenticator')<{ id: string }[]>`select id from app_private.watch_live(${ids}) as id`;

/** What a piece of work notifies of. A last notification says that all have come. */
async function notified(work: (owner: Sql) => Promise<unknown>): Promise<string[]> {
  const owner = db.as('owner');
  const { heard, stop } = await overhear(owner);
  await work(owner);
  const last = randomUUID();
  await owner`select pg_notify('gw_live', ${last})`;
  await eventually(async () => heard.includes(last));
  await stop();
  return heard.filter((payload) => payload !== last);
}

const users = async (count: number): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, async () => (await createUser(db.as('owner'))).id));

test('nobody watches, nothing is sent', async () => {
  const [a, b] = await users(2);
  await watch([b as string]);
  const heard = await notified(
    (owner) => owner`insert into app_public.tasks (user_id, title) values (${a as string}, 'x')`,
  );
  expect(heard).toEqual([]);
});

test('one statement is one notification, of those who are watched and no others', async () => {
  const [a, b, c] = (await users(3)) as [string, string, string];
  await watch([a, b]);
  const heard = await notified(
    (owner) => owner`insert into app_public.tasks (user_id, title)
      values (${a}, 'x'), (${a}, 'y'), (${b}, 'z'), (${c}, 'z')`,
  );
  expect(heard).toHaveLength(1);
  const told = JSON.parse(heard[0] ?? '') as Told;
  expect(told).toMatchObject({ topic: 'task', event: 'INSERT' });
  const rows = new Map(told.users);
  expect([...rows.keys()].sort()).toEqual([a, b].sort());
  expect(rows.get(a)).toHaveLength(2);
  expect(rows.get(b)).toHaveLength(1);
});

test('a user with more than 20 rows is told without them, and parts stay below 8,000 bytes', async () => {
  const ids = await users(60);
  await watch(ids);
  const heard = await notified(
    (owner) => owner`
      insert into app_public.tasks (user_id, title)
      select id, 'x' from unnest(${ids}::uuid[]) with ordinality as one (id, place),
        generate_series(1, case when place = 1 then 2000 else 20 end)`,
  );
  const told = heard.map((payload) => JSON.parse(payload) as Told);
  const rows = new Map(told.flatMap((part) => part.users));
  expect(rows.size).toBe(60);
  expect(rows.get(ids[0] as string)).toBeNull();
  expect(rows.get(ids[1] as string)).toHaveLength(20);
  expect(Math.max(...heard.map((payload) => Buffer.byteLength(payload)))).toBeLessThan(8000);
  expect(heard.length).toBeGreaterThan(5);
  expect(heard.length).toBeLessThan(12);
});

test('a batch of messages tells of those whose status changed, with what finds the row', async () => {
  const ids = await users(3);
  await watch(ids.slice(0, 2));
  const owner = db.as('owner');
  for (const id of ids) {
    await owner`
      insert into app_public.message_logs (user_id, id, message_type, delivery_date,
        message_content, scheduled_send_time, idempotency_key)
      values (${id}, ${id}, 'BIRTHDAY', '2026-06-15', 'hello', '2026-06-15 09:00+02', ${id})`;
  }
  await owner`update app_public.message_logs set status = 'QUEUED' where id = ${ids[1] as string}`;
  const heard = await notified(
    (sql) => sql`update app_public.message_logs set status = 'QUEUED', retry_count = 3
      where id = any(${ids})`,
  );
  expect(heard.map((payload) => JSON.parse(payload))).toEqual([
    {
      topic: 'message',
      event: 'UPDATE',
      users: [[ids[0], [`${ids[0]} 2026-06-15T07:00:00.000000Z`]]],
    },
  ]);
});

test('a day of the dashboard is told when it comes, when it changes, and when it goes', async () => {
  const [a, b] = (await users(2)) as [string, string];
  await watch([a]);
  const owner = db.as('owner');
  const statements = [
    (sql: Sql) => sql`insert into app_public.user_dashboard_aggregates (user_id, agg_date)
      values (${a}, '2026-05-01'), (${b}, '2026-05-01')`,
    (sql: Sql) => sql`update app_public.user_dashboard_aggregates set tasks_created = 1
      where user_id in (${a}, ${b})`,
    (sql: Sql) => sql`delete from app_public.user_dashboard_aggregates
      where user_id in (${a}, ${b})`,
  ];
  const told: unknown[] = [];
  for (const statement of statements) {
    told.push(...(await notified(() => statement(owner))).map((payload) => JSON.parse(payload)));
  }
  const day = (event: string) => ({ topic: 'dashboard', event, users: [[a, ['2026-05-01']]] });
  expect(told).toEqual([day('INSERT'), day('UPDATE'), day('DELETE')]);
});

test('a task is told when it is made, changed and deleted', async () => {
  const [a] = (await users(1)) as [string];
  await watch([a]);
  const told: string[] = [];
  for (const statement of [
    (sql: Sql) => sql`insert into app_public.tasks (user_id, title) values (${a}, 'x')`,
    (sql: Sql) => sql`update app_public.tasks set title = 'y' where user_id = ${a}`,
    (sql: Sql) => sql`delete from app_public.tasks where user_id = ${a}`,
  ]) {
    const heard = await notified((owner) => statement(owner));
    told.push(...heard.map((payload) => (JSON.parse(payload) as Told).event));
  }
  expect(told).toEqual(['INSERT', 'UPDATE', 'DELETE']);
});

test('deleting a user tells of the tasks that go along', async () => {
  const [a] = (await users(1)) as [string];
  await db.as('owner')`insert into app_public.tasks (user_id, title) values (${a}, 'x')`;
  await watch([a]);
  const heard = await notified((owner) => owner`delete from app_public.users where id = ${a}`);
  expect(heard.map((payload) => JSON.parse(payload) as Told)).toMatchObject([
    { topic: 'task', event: 'DELETE', users: [[a, [expect.any(String)]]] },
  ]);
});

test('a lease lasts two minutes, says who was not watched, and is cleared away when it is over', async () => {
  const [a, b] = (await users(2)) as [string, string];
  const owner = db.as('owner');
  expect((await watch([a, a])).map(({ id }) => id)).toEqual([a]);
  expect((await watch([a, b])).map(({ id }) => id)).toEqual([b]);
  const [lease] = await owner`
    select extract(epoch from expires_at - clock_timestamp())::float as seconds
    from app_private.live_users where user_id = ${a}`;
  expect(lease?.seconds).toBeGreaterThan(110);
  expect(lease?.seconds).toBeLessThanOrEqual(120);
  await owner`update app_private.live_users set expires_at = now() - interval '1 second'
    where user_id = ${a}`;
  const heard = await notified(
    (sql) => sql`insert into app_public.tasks (user_id, title) values (${a}, 'x')`,
  );
  expect(heard).toEqual([]);
  await watch([b]);
  expect(await owner`select from app_private.live_users where user_id = ${a}`).toHaveLength(0);
  await watch([b]);
  await owner`update app_private.live_users set expires_at = now() - interval '1 second'`;
  expect((await watch([b])).map(({ id }) => id)).toEqual([b]);
});

test('a writer in flight is named until it ends, and readers are not', async () => {
  const [a] = (await users(1)) as [string];
  const writers = async (): Promise<number> => {
    const [row] = await db.as('authenticator')`select app_private.live_writers() as ids`;
    return row?.ids.length as number;
  };
  await eventually(async () => (await writers()) === 0);
  const one = await db.as('owner').reserve();
  await one`begin`;
  await one`select from app_public.tasks`;
  expect(await writers()).toBe(0);
  await one`insert into app_public.tasks (user_id, title) values (${a}, 'x')`;
  expect(await writers()).toBe(1);
  await one`rollback`;
  one.release();
  expect(await writers()).toBe(0);
});

test('users neither see nor say who is watched', async () => {
  await rolledBack(db.as('superuser'), async (sql) => {
    for (const role of ['app_user', 'app_anonymous', 'gw_worker', 'gw_readonly']) {
      await sql`select set_config('role', ${role}, true)`;
      await expectRefusal(sql, '42501', (inner) => inner`select from app_private.live_users`);
      await expectRefusal(sql, '42501', (inner) => inner`select app_private.watch_live('{}')`);
      await expectRefusal(sql, '42501', (inner) => inner`select app_private.live_writers()`);
    }
  });
});
