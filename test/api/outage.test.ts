import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest';
import { type Api, startApi } from '../../src/api/server.ts';
import { signAccessToken } from '../../src/api/tokens.ts';
import { createLog } from '../../src/log.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { databaseName } from '../../src/postgres/urls.ts';
import { jwtSecret, TestApi } from '../helpers/api.ts';
import { Blackhole } from '../helpers/blackhole.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';

vi.setConfig({ testTimeout: patience(60_000) });

const db = useDatabase();
const network = new Blackhole();
const api = new TestApi();
const poolSize = 4;
let token = '';

const open = async (url: string): Promise<Api> =>
  startApi({
    authenticatorUrl: url,
    jwtSecret,
    host: '127.0.0.1',
    port: 0,
    poolSize,
    maxWaiting: 6,
    metrics: { sample: 0, slowMs: 1_000 },
    log: createLog('api', 'silent'),
  });

beforeAll(async () => {
  api.api = await open(await network.through(db.url('authenticator')));
  token = (await api.register('outage@example.com')).accessToken;
});
afterAll(async () => {
  await api.api.close();
  await network.stop();
});

async function timed<Answer>(work: () => Promise<Answer>): Promise<[Answer, number]> {
  const began = performance.now();
  return [await work(), performance.now() - began];
}

const get = async (path: string): Promise<[number, string]> => {
  const response = await fetch(`${api.origin}${path}`);
  return [response.status, await response.text()];
};

const viewer = () => api.query('{ viewer { email } }', {}, token);

/** Asks as users do, until one is answered well. Says how long that took, and all answers. */
async function untilWell(): Promise<{ ms: number; slowest: number; codes: Set<unknown> }> {
  const began = performance.now();
  let slowest = 0;
  const codes = new Set<unknown>();
  for (;;) {
    const batch = await Promise.all(Array.from({ length: 3 }, () => timed(viewer)));
    for (const [{ errors }, ms] of batch) {
      slowest = Math.max(slowest, ms);
      for (const { extensions } of errors) codes.add(extensions.code);
    }
    if (batch.every(([{ errors }]) => errors.length === 0)) break;
    await sleep(100);
  }
  return { ms: performance.now() - began, slowest, codes };
}

describe('with a database that works', () => {
  /** Runs work while every connection of the pool waits for a lock, and more wait for them. */
  async function whileStuck(waiting: number, work: () => Promise<void>): Promise<number[]> {
    const sql = db.as('owner');
    let answers: Promise<number[]> | undefined;
    await sql.begin(async (inner) => {
      await inner`lock table app_public.goals in access exclusive mode`;
      // Each by a user of its own: one alone would get half of the pool.
      const asked = Array.from({ length: poolSize + waiting }, async () => {
        const exp = Math.floor(Date.now() / 1000) + 600;
        const claims = { sub: randomUUID(), sid: randomUUID(), exp };
        const someone = await signAccessToken(claims, jwtSecret);
        const { status } = await api.query('{ goals { nodes { title } } }', {}, someone);
        return status;
      });
      answers = Promise.all(asked);
      await vi.waitUntil(async () => {
        const [row] = await db.as('superuser')`
          select count(*)::integer as count from pg_stat_activity
          where wait_event_type = 'Lock' and datname = current_database()`;
        return row?.count === poolSize;
      }, patience(10_000));
      await work();
    });
    return (await answers) ?? [];
  }

  test('readiness does not wait behind users', async () => {
    await whileStuck(2, async () => {
      const [[status], ms] = await timed(() => get('/readyz'));
      expect(status).toBe(200);
      expect(ms).toBeLessThan(500);
    });
  });

  test('who comes when the queue is full is told to come again, at once', async () => {
    const answers = await whileStuck(6, async () => {
      const [response, ms] = await timed(() =>
        fetch(`${api.origin}/graphql`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
          body: '{"query":"{ viewer { email } }"}',
        }),
      );
      expect(response.status).toBe(503);
      expect(response.headers.get('retry-after')).toBe('1');
      expect(await response.json()).toMatchObject({
        errors: [{ extensions: { code: 'UNAVAILABLE' } }],
      });
      expect(ms).toBeLessThan(200);
      expect((await get('/healthz'))[0]).toBe(200);
    });
    expect(answers).toEqual(Array.from({ length: poolSize + 6 }, () => 200));
  });

  test('one that takes no writes is not ready, reads, and answers a mutation with a code', async () => {
    const name = databaseName(db.url('owner'));
    const readOnly = (value: string) =>
      withSql(inject('superuserUrl'), async (sql) => {
        await sql.unsafe(`alter database ${name} set default_transaction_read_only = ${value}`);
        await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
      });
    await readOnly('on');
    await vi.waitUntil(
      async () => (await get('/readyz'))[1].includes('it takes no writes'),
      patience(10_000),
    );
    await vi.waitUntil(async () => (await viewer()).errors.length === 0, patience(10_000));
    const create = 'mutation { createTask(input: { task: { title: "No" } }) { task { title } } }';
    const { errors, status } = await api.query(create, {}, token);
    expect([status, errors[0]?.extensions.code]).toEqual([503, 'UNAVAILABLE']);
    await readOnly('off');
    await vi.waitUntil(async () => (await get('/readyz'))[0] === 200, patience(10_000));
    expect((await api.query(create, {}, token)).errors).toEqual([]);
  });
});

test('a database that vanishes without a word costs seconds, and every request is answered', async () => {
  // All connections of the pool are open.
  await Promise.all(Array.from({ length: poolSize }, viewer));
  expect((await get('/readyz'))[0]).toBe(200);
  network.swallow();
  const [ready, ms] = await timed(() => get('/readyz'));
  expect(ready).toEqual([503, expect.stringContaining('cannot be asked (ETIMEDOUT)')]);
  expect(ms).toBeLessThan(2_000);
  const { ms: out, slowest, codes } = await untilWell();
  expect(out).toBeLessThan(10_000);
  expect(slowest).toBeLessThan(10_000);
  expect([...codes]).toEqual(['UNAVAILABLE']);
  expect(await get('/readyz')).toMatchObject([200, expect.anything()]);
  await vi.waitUntil(
    async () => (await get('/metrics'))[1].includes('gw_database_up 1'),
    patience(20_000),
  );
});

test('a server that hangs makes nothing hang with it', async () => {
  network.isDeep = true;
  network.swallow();
  // Figures are asked for once in five seconds.
  await sleep(5_500);
  const answers = await Promise.all([
    timed(() => get('/healthz')),
    timed(() => get('/readyz')),
    timed(() => get('/metrics')),
    timed(viewer),
  ]);
  const [[health], [ready], [metrics], [asked]] = answers;
  expect(health[0]).toBe(200);
  expect(ready[0]).toBe(503);
  expect(metrics).toEqual([200, expect.stringContaining('gw_database_up 0')]);
  // A total outage is not 200.
  expect(asked).toMatchObject({ status: 503, errors: [{ extensions: { code: 'UNAVAILABLE' } }] });
  const [, [, readyMs], [, metricsMs], [, askedMs]] = answers;
  expect(Math.max(readyMs, metricsMs)).toBeLessThan(6_000);
  expect(askedMs).toBeLessThan(10_000);
  network.isDeep = false;
  expect((await untilWell()).ms).toBeLessThan(15_000);
});
