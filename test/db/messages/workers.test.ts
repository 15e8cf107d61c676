import { afterEach, expect, test } from 'vitest';
import type { Sql } from '../../../src/postgres/connect.ts';
import { useDatabase } from '../../helpers/database.ts';
import { planDue } from '../../helpers/messages.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();

const giveAway = async (): Promise<number> => {
  const [row] = await db.as('worker')`select app_private.give_away_jobs() as count`;
  return row?.count;
};

afterEach(async () => {
  await db.as('owner')`delete from app_public.users`;
  await db.as('owner')`delete from pgboss.job`;
  await db.as('owner')`delete from app_private.send_workers`;
});

/** Whose jobs are active, by the worker's key. */
const owners = async (): Promise<string[]> => {
  const rows = await db.as('owner')`
    select distinct group_tier from pgboss.job
    where name = 'message-send' and state = 'active' order by 1`;
  return rows.map(({ group_tier }) => group_tier);
};

/** A session that is a worker, and has taken so many jobs. */
async function work(session: Sql, jobs: number): Promise<number> {
  const [row] = await session`select app_private.begin_send_worker() as key`;
  await session`select from app_private.take_send_jobs(${jobs}, ${row?.key})`;
  return row?.key;
}

test('a worker is dead when its session has been gone for a while, and not before', async () => {
  const owner = db.as('owner');
  await planDue(owner, 4);
  const [living, dying] = [await db.as('worker').reserve(), await db.as('worker').reserve()];
  const one = await work(living, 2);
  const two = await work(dying, 2);
  expect(await owners()).toEqual([`${one}`, `${two}`]);
  const [session] = await dying`select pg_backend_pid() as pid`;
  await db.as('superuser')`select pg_terminate_backend(${session?.pid})`;
  await eventually(async () => {
    const rows = await db.as('superuser')`
      select from pg_stat_activity where pid = ${session?.pid}`;
    return rows.length === 0;
  });

  // It may be connecting again.
  expect(await giveAway()).toBe(0);
  expect(await giveAway()).toBe(0);
  expect(await owners()).toEqual([`${one}`, `${two}`]);

  // Others may take such a lock, and keep nobody alive.
  const other = await db.as('readonly', 1).reserve();
  await other`select pg_advisory_lock(26488, ${two})`;
  await owner`update app_private.send_workers set missing_since = missing_since - (
    select worker_grace from app_private.message_settings)`;
  expect(await giveAway()).toBe(2);
  expect(await owners()).toEqual([`${one}`]);
  const keys = await owner`select key from app_private.send_workers`;
  expect(keys).toEqual([{ key: one }]);
  other.release();
  living.release();
});

test('of jobs that are due two workers take different ones, without waiting', async () => {
  await planDue(db.as('owner'), 4);
  const worker = db.as('worker');
  await worker.begin(async (sql) => {
    await sql`set local lock_timeout = '5s'`;
    const first = await sql`select id from app_private.take_send_jobs(2, 1)`;
    const second = await db.as('worker', 1).begin(async (inner) => {
      await inner`set local lock_timeout = '5s'`;
      return inner`select id from app_private.take_send_jobs(10, 2)`;
    });
    const ids = [...first, ...second].map(({ id }) => id);
    expect(first).toHaveLength(2);
    expect(new Set(ids).size).toBe(ids.length);
    expect(second.length).toBeGreaterThanOrEqual(2);
  });
});
