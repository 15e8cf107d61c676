import { afterAll, afterEach, expect, inject, test, vi } from 'vitest';
import { migrate, migrationUrls } from '../../src/migrations/run.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { bootstrapDatabase, createDatabase } from '../../src/server/bootstrap.ts';
import { randomPort } from '../../src/server/ports.ts';
import { databaseAt } from '../../src/server/scratch.ts';
import { jwtSecret } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

vi.setConfig({ testTimeout: patience(90_000) });

const superuserUrl = inject('superuserUrl');
const name = `gw_waiting_${process.pid}`;
const database = databaseAt(superuserUrl, name);
const owner = database.urls.owner;
const db = useDatabase();
let processes: GwProcess[] = [];
let port = 0;

function start(
  args: string[],
  url = db.url('owner'),
  more: Record<string, string> = {},
): GwProcess {
  const env: Record<string, string> = {
    DATABASE_URL: url,
    GW_LOG_LEVEL: 'info',
    GW_PORT: String(port),
    GW_JWT_SECRET: jwtSecret,
    GW_DELIVERY_URL: 'file:',
    ...more,
  };
  for (const role of ['authenticator', 'worker', 'cdc'] as const) {
    env[`GW_${role.toUpperCase()}_PASSWORD`] = new URL(database.urls[role]).password;
  }
  const started = new GwProcess(args, env);
  processes.push(started);
  return started;
}

const ask = async (path: string, init: RequestInit = {}): Promise<[number, string]> => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
  return [response.status, await response.text()];
};

const allSay = (text: string) =>
  eventually(async () => processes.every(({ output }) => output.includes(text)), 30_000);

afterEach(async () => {
  await Promise.all(processes.map((each) => each.kill()));
  processes = [];
});
afterAll(() =>
  withSql(superuserUrl, async (sql) => {
    await sql`
      select pg_drop_replication_slot(slot_name) from pg_replication_slots
      where database = ${name} and not active`;
    await sql`drop database if exists ${sql(name)} with (force)`;
  }),
);

test('with --wait every process waits for the server, then for the migrations, and then works', async () => {
  port = await randomPort();
  const metricsPorts: number[] = [];
  for (const command of ['serve', 'worker', 'cdc']) {
    const metrics = await randomPort();
    metricsPorts.push(metrics);
    start([command, '--wait'], owner, { GW_METRICS_PORT: String(metrics) });
  }
  await allSay('cannot be reached (3D000)');
  expect(await ask('/healthz')).toEqual([200, '{"alive":true}']);
  expect(await ask('/readyz')).toEqual([503, expect.stringContaining('cannot be reached')]);
  const query = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"query":"{ __typename }"}',
  };
  for (const metrics of metricsPorts) {
    const answer = await fetch(`http://127.0.0.1:${metrics}/readyz`);
    expect([answer.status, await answer.text()]).toEqual([503, expect.stringContaining('3D000')]);
  }
  expect(await ask('/graphql', query)).toEqual([503, expect.stringContaining('UNAVAILABLE')]);

  await createDatabase(superuserUrl, name);
  await bootstrapDatabase(database.urls.superuser ?? '');
  await allSay('the database has no migrations yet');
  expect(await ask('/readyz')).toEqual([503, expect.stringContaining('no migrations yet')]);
  expect(processes.map(({ isReady }) => isReady)).toEqual([false, false, false]);

  await migrate(migrationUrls(database, ''));
  await Promise.all(processes.map((each) => each.ready()));
  expect(await ask('/readyz')).toEqual([200, expect.stringContaining('"ready":true')]);
  expect(await ask('/graphql', query)).toEqual([200, '{"data":{"__typename":"Query"}}']);
  for (const { output } of processes) expect(output).not.toMatch(/\n\s+at /);
});

test('a process whose database lacks the newest migration serves nothing until it is there', async () => {
  port = await randomPort();
  const sql = db.as('owner');
  const [last] = await sql<{ hash: string; filename: string }[]>`
    delete from graphile_migrate.migrations
    where filename = (select max(filename) from graphile_migrate.migrations)
    returning hash, previous_hash, filename, date`;
  const api = start(['serve']);
  await allSay(`the code at ${last?.filename}`);
  expect(await ask('/readyz')).toEqual([503, expect.stringContaining('the database is at')]);
  await sql`insert into graphile_migrate.migrations ${sql(last as never)}`;
  await api.ready();
  expect((await ask('/readyz'))[0]).toBe(200);
});

test('of two that migrate at once the second waits for the first', async () => {
  const both = databaseAt(superuserUrl, `${name}_both`);
  await createDatabase(superuserUrl, `${name}_both`);
  try {
    await bootstrapDatabase(both.urls.superuser ?? '');
    const said: string[] = [];
    const say = (text: string): unknown => said.push(text);
    const urls = migrationUrls(both, '');
    await Promise.all([migrate(urls, { say }), migrate(urls, { say })]);
    expect(said).toContain('another process is migrating; waiting');
  } finally {
    await withSql(superuserUrl, (sql) => sql`drop database ${sql(`${name}_both`)} with (force)`);
  }
});

test('without --wait a database that is not there is said at once, with exit code 3', async () => {
  const url = new URL(db.url('owner'));
  url.pathname = '/gw_nowhere';
  for (const command of ['serve', 'worker', 'cdc']) {
    port = await randomPort();
    const one = new GwProcess([command], { DATABASE_URL: url.href, GW_PORT: String(port) });
    await one.ended();
    expect(one.exitCode).toBe(3);
    expect(one.output).toContain('gw_nowhere');
    expect(one.output).not.toMatch(/\n\s+at /);
  }
});

test('who waits is stopped by SIGTERM', async () => {
  port = await randomPort();
  await db.as('owner')`alter table graphile_migrate.migrations rename to away`;
  for (const command of ['serve', 'worker', 'cdc']) start([command]);
  await allSay('no migrations yet');
  for (const one of processes) expect(await one.stop()).toBe(0);
  await db.as('owner')`alter table graphile_migrate.away rename to migrations`;
});
