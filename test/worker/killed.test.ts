import { afterEach, beforeEach, expect, test } from 'vitest';
import { useDatabase } from '../helpers/database.ts';
import { WorkerProcess } from '../helpers/gw-process.ts';
import { hurryQueue, logOf, planOne } from '../helpers/messages.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
let vendor: Vendor;
const running: WorkerProcess[] = [];

async function startProcess(): Promise<WorkerProcess> {
  const worker = new WorkerProcess(db.url('owner'), vendor.url);
  running.push(worker);
  await worker.ready();
  return worker;
}

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
  await hurryQueue(db.as('owner'));
});

afterEach(async () => {
  await Promise.all(running.splice(0).map((worker) => worker.kill()));
  await vendor.stop();
  await db.as('owner')`delete from app_public.users`;
  await db.as('owner')`delete from pgboss.job`;
});

const timeout = 60_000;

test('a worker killed between claim and call: the next one delivers, once', {
  timeout,
}, async () => {
  // claim_messages() waits for a lock that we hold: the worker has not called.
  const sql = db.as('superuser');
  await sql.unsafe(`
    create function public.wait_for_test() returns trigger language plpgsql as
      $$ begin perform pg_catalog.pg_advisory_xact_lock(4711); return new; end $$;
    create trigger _000_wait before update on app_public.message_logs for each row
      when (new.status = 'SENDING') execute function public.wait_for_test();
  `);
  const gate = await sql.reserve();
  await gate`select pg_advisory_lock(4711)`;
  const user = await planOne(db.as('owner'));
  const first = await startProcess();
  await eventually(async () => {
    const [row] =
      await sql`select from pg_locks where locktype = 'advisory' and not granted and objid = 4711`;
    return row !== undefined;
  });
  expect(await logOf(db.as('owner'), user)).toMatchObject({ status: 'QUEUED' });
  await first.kill();
  await gate`select pg_advisory_unlock(4711)`;
  gate.release();
  expect(vendor.deliveries).toEqual([]);

  await startProcess();
  await eventually(async () => (await logOf(db.as('owner'), user)).status === 'SENT', 40_000);
  expect(vendor.keys()).toEqual([user.key]);
});

test('a worker killed during the call: the receiver sees the same key again', {
  timeout,
}, async () => {
  let answers = 0;
  vendor.answer = () => {
    answers += 1;
    return answers === 1 ? new Promise(() => {}) : { status: 200 };
  };
  const user = await planOne(db.as('owner'));
  const first = await startProcess();
  await vendor.arrived(1);
  await first.kill();
  expect(await logOf(db.as('owner'), user)).toMatchObject({ status: 'SENDING' });

  await startProcess();
  await eventually(async () => (await logOf(db.as('owner'), user)).status === 'SENT', 40_000);
  expect(vendor.keys()).toHaveLength(2);
  expect(new Set(vendor.keys()).size).toBe(1);
});
