import { afterEach, beforeEach, expect, test } from 'vitest';
import { Blackhole } from '../helpers/blackhole.ts';
import { useDatabase } from '../helpers/database.ts';
import { WorkerProcess } from '../helpers/gw-process.ts';
import { hurryQueue, planDue, planOne } from '../helpers/messages.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
let vendor: Vendor;
let workers: WorkerProcess[] = [];

/** A worker of the command line, which delivers 32 at once. */
async function work(env: Record<string, string> = {}, url = vendor.url): Promise<WorkerProcess> {
  const worker = new WorkerProcess(db.url('owner'), url, {
    GW_WORKER_PASSWORD: new URL(db.url('worker')).password,
    ...env,
  });
  workers.push(worker);
  await worker.ready();
  return worker;
}

const pause = (milliseconds: number) =>
  new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** How many messages have each status and number of attempts that were not the last. */
const logs = async () => {
  const rows = await db.as('owner')<{ status: string; failed: number; count: number }[]>`
    select status, coalesce(jsonb_array_length(attempts), 0) as failed, count(*)::integer as count
    from app_public.message_logs group by 1, 2 order by 1, 2`;
  return [...rows];
};

const allSent = (count: number) =>
  eventually(async () =>
    (await logs()).some((row) => row.status === 'SENT' && row.count === count),
  );

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
  await hurryQueue(db.as('owner'));
});

afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.kill()));
  workers = [];
  await vendor.stop();
  await db.as('owner')`delete from app_public.users`;
  await db.as('owner')`delete from pgboss.job`;
});

test.each([
  ['quick', 150, 600],
  ['slow', 1_500, 100],
])(
  'SIGTERM of a busy worker with a %s receiver loses and repeats nothing',
  async (_name, ms, count) => {
    vendor.answer = async () => {
      await pause(ms);
      return { status: 202 };
    };
    await planDue(db.as('owner'), count);
    const first = await work();
    await vendor.arrived(20);
    const second = await work();
    const asked = Date.now();
    expect(await first.stop()).toBe(0);
    // It waits for one call, and not for what it had claimed besides.
    expect(Date.now() - asked).toBeLessThan(ms + 5_000);
    await allSent(count);
    expect(await second.stop()).toBe(0);
    expect(vendor.deliveries).toHaveLength(count);
    expect(new Set(vendor.keys()).size).toBe(count);
    // Nobody died, and no attempt was made that was none.
    expect(await logs()).toEqual([{ status: 'SENT', failed: 0, count }]);
  },
);

test('what is given back is as it was: another address, and the same place in the queue', async () => {
  const [first, ...others] = await planDue(db.as('owner'), 60);
  vendor.answer = () => new Promise(() => {});
  const worker = await work({ GW_DELIVERY_TIMEOUT_MS: '1000', GW_DELIVERY_CONCURRENCY: '1' });
  await vendor.arrived(1);
  await eventually(async () => (await logs()).some(({ status }) => status === 'SENDING'));
  vendor.answer = () => ({ status: 202 });
  expect(await worker.stop()).toBe(0);
  const inFlight = vendor.deliveries[0]?.key;
  const rest = [first, ...others].filter((user) => user?.key !== inFlight);
  const rows = await db.as('owner')`
    select distinct status, attempted_at, retry_count, attempts, recipient_email
    from app_public.message_logs where user_id = any (${rest.map((user) => user?.id ?? '')})`;
  expect(rows).toEqual([
    { status: 'QUEUED', attempted_at: null, retry_count: 0, attempts: null, recipient_email: null },
  ]);
  const jobs = await db.as('owner')`
    select distinct state from pgboss.job where name = 'message-send'`;
  expect(jobs.map(({ state }) => state)).not.toContain('active');
});

test('a call that outlasts the grace is uncertain, and recorded as that', async () => {
  vendor.answer = () => new Promise(() => {});
  await planOne(db.as('owner'));
  const worker = await work({ GW_DELIVERY_TIMEOUT_MS: '1000', GW_SHUTDOWN_GRACE: '1' });
  await vendor.arrived(1);
  expect(await worker.stop()).toBe(0);
  const [row] = await db.as('owner')`
    select status, uncertain_since is not null as is_uncertain from app_public.message_logs`;
  expect(row).toEqual({ status: 'RETRYING', is_uncertain: true });
});

test('a burst is shared by the workers that there are', async () => {
  // Slow enough that who gets how many depends on the receiver, and not on the machine.
  vendor.answer = async () => {
    await pause(600);
    return { status: 202 };
  };
  // Who delivers shows as the user of its URL.
  const names = ['one', 'two', 'three'];
  await Promise.all(names.map((name) => work({}, vendor.url.replace('//', `//${name}:secret@`))));
  await planDue(db.as('owner'), 780);
  await allSent(780);
  const users = vendor.deliveries.map(({ headers }) => headers.authorization);
  for (const name of names) {
    const value = `Basic ${Buffer.from(`${name}:secret`).toString('base64')}`;
    expect(users.filter((user) => user === value).length).toBeGreaterThan(150);
  }
});

test('a database that vanishes without a word stops a worker for seconds, and nothing is lost', async () => {
  const network = new Blackhole();
  const sql = db.as('owner');
  const worker = new WorkerProcess(await network.through(db.url('owner')), vendor.url, {
    GW_WORKER_PASSWORD: new URL(db.url('worker')).password,
  });
  workers.push(worker);
  await worker.ready();
  vendor.answer = async () => {
    await pause(100);
    return { status: 202 };
  };
  await planDue(sql, 300);
  await vendor.arrived(50);
  network.swallow();
  await eventually(
    async () => (await logs()).some((row) => row.status === 'SENT' && row.count === 300),
    60_000,
  );
  // A receiver that drops repetitions has each once.
  expect(new Set(vendor.keys()).size).toBe(300);
  expect(await worker.stop()).toBe(0);
  await network.stop();
}, 90_000);

test('a notice of an alert that is on its way is delivered, and once', async () => {
  let answer = (_: { status: number }): void => {};
  vendor.answer = () =>
    new Promise((resolve) => {
      answer = resolve;
    });
  const worker = await work({ GW_ALERT_URL: vendor.url });
  await db.as('owner')`select ops.raise_alert('shutdown-test', '', 'warning', 'a test', 'none')`;
  await vendor.arrived(1);
  const stopped = worker.stop();
  await pause(1_000);
  answer({ status: 202 });
  expect(await stopped).toBe(0);
  const jobs = await db.as('owner')`select state from pgboss.job where name = 'alert-notify'`;
  expect([...jobs]).toEqual([{ state: 'completed' }]);
  expect(vendor.deliveries).toHaveLength(1);
});
