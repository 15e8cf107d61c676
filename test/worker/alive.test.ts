import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { useDatabase } from '../helpers/database.ts';
import { WorkerProcess } from '../helpers/gw-process.ts';
import { planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

vi.setConfig({ testTimeout: patience(120_000) });

/* What holds of workers with the settings that production has. */
const db = useDatabase();
const virtualClock = '../helpers/virtual-clock.ts';
let vendor: Vendor;
let workers: WorkerProcess[] = [];

async function hire(count: number, env: Record<string, string> = {}): Promise<void> {
  const hired = Array.from({ length: count }, () => {
    return new WorkerProcess(db.url('owner'), vendor.url, {
      GW_WORKER_PASSWORD: new URL(db.url('worker')).password,
      GW_DELIVERY_CONCURRENCY: '4',
      GW_DELIVERY_TIMEOUT_MS: '5000',
      GW_LOG_LEVEL: 'warn',
      ...env,
    });
  });
  workers.push(...hired);
  await Promise.all(hired.map((worker) => worker.ready()));
}

const pause = (milliseconds: number) =>
  new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

const sent = async (): Promise<number> => {
  const [row] = await db.as('owner')`
    select count(*)::integer as count from app_public.message_logs where status = 'SENT'`;
  return row?.count;
};

beforeEach(async () => {
  vendor = new Vendor();
  vendor.answer = async () => {
    await pause(200);
    return { status: 202 };
  };
  await vendor.start();
});

afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.kill()));
  workers = [];
  await vendor.stop();
  await db.as('owner')`delete from app_public.users`;
  await db.as('owner')`delete from pgboss.job`;
});

test('a worker that stands still for half a minute is not dead: nothing is sent twice', async () => {
  const messages = 400;
  await planDue(db.as('owner'), messages);
  await hire(3);
  await vendor.arrived(40);
  const [first, second] = workers;
  for (const worker of [first, second]) worker?.signal('SIGSTOP');
  await pause(30_000);
  for (const worker of [first, second]) worker?.signal('SIGCONT');
  await eventually(async () => (await sent()) === messages, 60_000);
  expect(vendor.deliveries).toHaveLength(messages);
  expect(new Set(vendor.keys()).size).toBe(messages);
  const [row] = await db.as('owner')`
    select count(*)::integer as count from app_public.message_logs
    where attempts is not null`;
  expect(row?.count).toBe(0);
});

test('one whose clock stands still, which it cannot notice, is not dead either', async () => {
  const messages = 200;
  await planDue(db.as('owner'), messages);
  await hire(2, { NODE_OPTIONS: `--import=${join(import.meta.dirname, virtualClock)}` });
  await vendor.arrived(20);
  for (const worker of workers) worker.signal('SIGUSR2');
  // It must not take them for dead, nor do they notice how much time goes by.
  await hire(1);
  await pause(20_000);
  for (const worker of workers.slice(0, 2)) worker.signal('SIGUSR2');
  await eventually(async () => (await sent()) === messages, 60_000);
  expect(vendor.deliveries).toHaveLength(messages);
  expect(new Set(vendor.keys()).size).toBe(messages);
});

test('one that was killed is replaced within 15 seconds', async () => {
  await planDue(db.as('owner'), 60);
  await hire(2);
  await vendor.arrived(20);
  await workers[0]?.kill();
  const killed = Date.now();
  await eventually(async () => (await sent()) === 60, 30_000);
  expect(Date.now() - killed).toBeLessThan(15_000);
  expect(new Set(vendor.keys()).size).toBe(60);
  // What was in flight, or not recorded for half a second, goes out again, and nothing else.
  expect(vendor.deliveries.length).toBeLessThanOrEqual(60 + 4 + 12);
});

test('nobody else keeps a dead worker alive', async () => {
  const [dead] = await db.as('owner')<{ key: number }[]>`
    insert into app_private.send_workers default values returning key`;
  const holder = await db.as('readonly').reserve();
  await holder`select pg_advisory_lock(26488, ${dead?.key ?? 0})`;
  await hire(1);
  await eventually(async () => {
    const left = await db.as('owner')`
      select from app_private.send_workers where key = ${dead?.key ?? 0}`;
    return left.length === 0;
  });
  await holder`select pg_advisory_unlock_all()`;
  holder.release();
});

test('a session that is cut is had again, and nothing is given away', async () => {
  const messages = 200;
  await planDue(db.as('owner'), messages);
  await hire(2);
  await vendor.arrived(20);
  for (let round = 0; round < 5; round += 1) {
    await db.as('superuser')`
      select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'gw-worker-session' and datname = current_database()`;
    await pause(300);
  }
  await eventually(async () => (await sent()) === messages, 60_000);
  expect(vendor.deliveries).toHaveLength(messages);
  expect(new Set(vendor.keys()).size).toBe(messages);
});

test('who was taken for dead starts nothing of what others have now', async () => {
  const sql = db.as('superuser');
  await planDue(db.as('owner'), 60);
  await hire(1);
  await vendor.arrived(4);
  // Somebody has declared it dead, wrongly.
  await sql`delete from app_private.send_workers`;
  await sql`update pgboss.job set state = 'retry', group_tier = null, start_after = now()
    where state = 'active'`;
  await sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'gw-worker-session' and datname = current_database()`;
  await eventually(async () => (await sent()) === 60, 60_000);
  expect(new Set(vendor.keys()).size).toBe(60);
  // At most those that were in flight.
  expect(vendor.deliveries.length).toBeLessThanOrEqual(64);
});
