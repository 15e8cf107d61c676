import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { slotNameOf } from '../../src/cdc/slot.ts';
import { randomPort } from '../../src/server/ports.ts';
import { useApi } from '../helpers/api.ts';
import { useCapture } from '../helpers/capture.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { hurryQueue, planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

vi.setConfig({ testTimeout: patience(60_000) });

const db = useDatabase();
// Drops the slot at the end.
useCapture(db);
const one = useApi(db);
const other = useApi(db);
const vendor = new Vendor();
let processes: GwProcess[] = [];

beforeAll(async () => {
  await vendor.start();
  await hurryQueue(db.as('owner'));
});
afterEach(async () => {
  await Promise.all(processes.map((each) => each.kill()));
  processes = [];
});
afterAll(() => vendor.stop());

/** Starts a process with a port for its metrics. */
async function start(
  command: 'worker' | 'cdc',
  env: Record<string, string> = {},
): Promise<{ process: GwProcess; get: (path: string) => Promise<[number, string]> }> {
  const port = await randomPort();
  const started = new GwProcess([command], {
    DATABASE_URL: db.url('owner'),
    [`GW_${command.toUpperCase()}_PASSWORD`]: new URL(db.url(command)).password,
    GW_DELIVERY_URL: vendor.url,
    GW_CDC_SLOT: slotNameOf(db.database.description),
    GW_METRICS_PORT: String(port),
    ...env,
  });
  processes.push(started);
  await started.ready();
  const get = async (path: string): Promise<[number, string]> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return [response.status, await response.text()];
  };
  await eventually(() => get('/healthz').catch(() => undefined));
  return { process: started, get };
}

const value = (text: string, series: string): number | undefined => {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
};

test('a worker says what it delivers, from a count of 0 on, and whether it lives', async () => {
  const { get } = await start('worker');
  await eventually(async () => (await get('/readyz'))[0] === 200);
  expect(await get('/healthz')).toEqual([200, '{"alive":true}']);
  expect((await get('/nowhere'))[0]).toBe(404);
  const [, before] = await get('/metrics');
  for (const outcome of ['sent', 'unanswered', 'refused', 'uncertain']) {
    expect(value(before, `gw_deliveries_total{channel="http",outcome="${outcome}"}`)).toBe(0);
  }
  expect(before).toMatch(/^gw_build_info\{process="worker",version="\d/m);

  let refused = 0;
  vendor.answer = () => {
    refused += 1;
    return { status: refused <= 2 ? 422 : 202 };
  };
  await planDue(db.as('owner'), 12);
  await eventually(async () => vendor.deliveries.length === 12);
  const series = (outcome: string) => `gw_deliveries_total{channel="http",outcome="${outcome}"}`;
  const text = await eventually(async () => {
    const [, now] = await get('/metrics');
    return value(now, series('sent')) === 10 && now;
  });
  expect(value(text, series('refused'))).toBe(2);
  expect(value(text, 'gw_delivery_duration_seconds_count{channel="http"}')).toBe(12);
  expect(value(text, 'gw_deliveries_in_flight')).toBe(0);
  expect(value(text, 'gw_worker_loop_age_seconds')).toBeLessThan(5);
  expect(value(text, 'gw_pool_size')).toBe(8);
  expect(value(text, 'gw_pool_waits_total')).toBeGreaterThan(5);
});

test('change capture says what it applies, and which of two consumers does', async () => {
  const leader = await start('cdc');
  const state = (text: string, name: string) => value(text, `gw_capture_state{state="${name}"}`);
  await eventually(async () => state((await leader.get('/metrics'))[1], 'reading') === 1);
  const follower = await start('cdc');
  await eventually(async () => state((await follower.get('/metrics'))[1], 'waiting') === 1);
  expect((await follower.get('/readyz'))[0]).toBe(200);
  const { id } = await createUser(db.as('owner'));
  await db.as('owner')`insert into app_public.tasks (user_id, title) values (${id}, 'Counted')`;
  await eventually(
    async () => (value((await leader.get('/metrics'))[1], 'gw_capture_changes_total') ?? 0) >= 2,
  );
  const [, text] = await leader.get('/metrics');
  expect(value(text, 'gw_capture_transactions_total')).toBeGreaterThanOrEqual(2);
  expect(value(text, 'gw_capture_commit_age_seconds')).toBeLessThan(60);
  expect(await leader.process.stop()).toBe(0);
});

test('the figures of the database are those of one API, until it asks no more', async () => {
  const scrape = async (api: typeof one): Promise<string> =>
    (await fetch(`${api.origin}/metrics`)).text();
  const has = (text: string) => value(text, 'gw_alerts_open{level="critical"}') !== undefined;
  await db.as('superuser')`update ops.metrics_lease set asked_at = '-infinity'`;
  const sql = db.as('authenticator');
  const figuresOf = async (process: string) =>
    (await sql`select from ops.metrics_of_fleet(${process})`).length;
  const [first, second] = [
    '00000000-0000-0000-0000-000000000001',
    '00000000-0000-0000-0000-000000000002',
  ] as const;
  expect(await figuresOf(first)).toBeGreaterThan(10);
  expect(await figuresOf(second)).toBe(0);
  expect(await figuresOf(first)).toBeGreaterThan(10);
  // Nobody waits for one that is being answered.
  await db.as('superuser').begin(async (other) => {
    await other`select from ops.metrics_lease for update`;
    expect(await figuresOf(first)).toBe(0);
  });
  // Where nothing can be written, whoever asks is told.
  await sql.begin(async (reader) => {
    await reader`set transaction read only`;
    const rows = await reader`select from ops.metrics_of_fleet(${second})`;
    expect(rows.length).toBeGreaterThan(10);
  });
  await db.as('superuser')`
    update ops.metrics_lease set asked_at = asked_at - interval '91 seconds'`;
  expect(await figuresOf(second)).toBeGreaterThan(10);
  expect(await figuresOf(first)).toBe(0);
  // What an API has asked for before is kept for five seconds.
  for (const api of [one, other]) {
    await eventually(async () => !has(await scrape(api)));
    expect(value(await scrape(api), 'gw_database_up')).toBe(1);
  }
});

test('a code is counted from 0 on, and an operation by its root field', async () => {
  const scrape = async () => (await fetch(`${one.origin}/metrics`)).text();
  const before = await scrape();
  for (const code of ['TIMEOUT', 'UNAVAILABLE', 'INTERNAL', 'INVALID_CREDENTIALS']) {
    expect(value(before, `gw_graphql_errors_total{code="${code}"}`)).toBe(0);
  }
  await one.query('query secretName { viewer { email } }');
  await one.query(
    'mutation { login(input: { email: "a@b.de", password: "wrong pass" }) { result { userId } } }',
  );
  const text = await eventually(async () => {
    const now = await scrape();
    const failed = 'gw_graphql_failed_operations_total{type="mutation",field="login"}';
    return value(now, failed) === 1 && now;
  });
  expect(value(text, 'gw_graphql_duration_seconds_count{type="query",field="viewer"}')).toBe(1);
  expect(text).not.toContain('secretName');
  expect(value(text, 'gw_live_sockets')).toBe(0);
});
