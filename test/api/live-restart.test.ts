import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Api, startApi } from '../../src/api/server.ts';
import { signAccessToken } from '../../src/api/tokens.ts';
import { createLog } from '../../src/log.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { jwtSecret } from '../helpers/api.ts';
import { Checkout } from '../helpers/checkout.ts';
import { createUser } from '../helpers/database.ts';
import { BareSocket, LiveClient } from '../helpers/live.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/* A database that is really stopped for a while and started again, on a cluster of its own. */
const checkout = new Checkout();
let api: Api;

async function gw(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await checkout.run(args);
  if (code !== 0) throw new Error(stderr);
  return stdout.trim();
}

beforeAll(async () => {
  await gw('db', 'start');
  await gw('migrate');
  api = await startApi({
    authenticatorUrl: await gw('db', 'url', '--role', 'authenticator'),
    jwtSecret,
    host: '127.0.0.1',
    port: 0,
    poolSize: 2,
    log: createLog('api', 'silent'),
  });
}, patience(120_000));

afterAll(async () => {
  await api?.close();
  await checkout.remove();
}, patience(60_000));

test('sockets are closed with 1012 when the database stops, and subscriptions go on after it is back', async () => {
  const owner = await gw('db', 'url', '--role', 'owner');
  const { id: sub } = await withSql(owner, (sql) => createUser(sql));
  const token = await signAccessToken(
    { sub, sid: randomUUID(), exp: Math.floor(Date.now() / 1000) + 600 },
    jwtSecret,
  );
  const client = new LiveClient(api, { token, retryAttempts: 1_000 });
  const query = 'subscription { taskChanged { task { title } } }';
  const followed = await client.follow<{ taskChanged: { task: { title: string } } }>(query);

  await gw('db', 'stop');
  await eventually(async () => client.closings.length > 1);
  expect(client.closings[0]).toEqual({
    code: 1012,
    reason: 'changes may have been missed: read again',
  });
  // While it is away a new socket is told so; many reconnects are refused meanwhile.
  const early = new BareSocket(api.port);
  await early.send({ type: 'connection_init', payload: { authorization: `Bearer ${token}` } });
  expect(await early.closed).toEqual({ code: 1012, reason: 'the database is away' });

  await gw('db', 'start');
  await eventually(async () => api.live.counts.subscriptions === 1);
  await withSql(
    owner,
    (sql) => sql`
    insert into app_public.tasks (user_id, title) values (${sub}, 'after the restart')`,
  );
  await eventually(async () => followed.events.length > 0);
  expect(followed.events).toEqual([{ taskChanged: { task: { title: 'after the restart' } } }]);
  expect(new Set(client.closings.map(({ code }) => code))).toEqual(new Set([1012]));
  await client.close();
}, 120_000);
