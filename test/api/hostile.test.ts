import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret } from '../helpers/api.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { askAlong, attacks, giveRows, memoryOf, send } from '../helpers/hostile.ts';
import { patience } from '../helpers/patience.ts';

const db = useDatabase();
let server: GwProcess;
let port: number;
let token: string;
let other: string;

const tokenOf = (sub: string): Promise<string> =>
  signAccessToken(
    { sub, sid: randomUUID(), exp: Math.floor(Date.now() / 1_000) + 7_200 },
    jwtSecret,
  );

beforeAll(async () => {
  const owner = db.as('owner');
  const { id } = await createUser(owner);
  await giveRows(owner, id);
  token = await tokenOf(id);
  other = await tokenOf((await createUser(owner)).id);
  port = await randomPort();
  server = new GwProcess(['serve'], {
    DATABASE_URL: db.url('owner'),
    GW_AUTHENTICATOR_PASSWORD: new URL(db.url('authenticator')).password,
    GW_JWT_SECRET: jwtSecret,
    NODE_ENV: 'production',
    // As the image and the unit of systemd set it.
    MALLOC_ARENA_MAX: '2',
    GW_PORT: String(port),
    GW_DRAIN_SECONDS: '0',
    GW_POOL_SIZE: '10',
    // What is not refused for being too often.
    GW_RATE_LIMIT_ANONYMOUS: '0',
    GW_RATE_LIMIT_SIGN_IN: '0',
    GW_RATE_LIMIT_USER: '0',
  });
  await server.ready();
}, patience(60_000));
afterAll(() => server.kill());

test('hostile requests of one hurt neither others nor the process', {
  timeout: patience(240_000),
}, async () => {
  const withinMs = 30_000;
  const statuses = new Set<string>();
  const sendAll = async (): Promise<void> => {
    // Fewer than the benchmark sends at once, and twice.
    for (const { bodies, ...attack } of [...attacks, ...attacks]) {
      const within = attack.isUnread === true ? 3_000 : withinMs;
      const sent = await send(
        { ...attack, bodies: bodies.slice(0, 12) },
        { port, token, withinMs: within },
      );
      for (const status of sent.statuses.keys()) statuses.add(status);
    }
  };
  const took = await askAlong({ port, token: other, withinMs }, sendAll());
  // No other test runs beside this one.
  const p99 = took[Math.floor(took.length * 0.99)] ?? Number.POSITIVE_INFINITY;
  expect(p99).toBeLessThan(patience(250));
  expect(took.length).toBeGreaterThan(100);
  // Refused, or answered. A request whose answer comes before it was sent whole may see a reset.
  const known = ['200', '400', '413', '429', 'unread', 'EPIPE', 'ECONNRESET', 'UND_ERR_SOCKET'];
  expect([...statuses].filter((status) => !known.includes(status))).toEqual([]);
  expect(memoryOf(server.pid, 'VmHWM')).toBeLessThan(600);
  expect(server.isRunning).toBe(true);
  expect(await server.stop()).toBe(0);
});
