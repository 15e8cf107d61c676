import { afterEach, describe, expect, test, vi } from 'vitest';
import { RevokedSessions } from '../../src/api/revoked-sessions.ts';
import { type Api, startApi } from '../../src/api/server.ts';
import { createLog } from '../../src/log.ts';
import { Listener } from '../../src/postgres/listener.ts';
import { databaseName } from '../../src/postgres/urls.ts';
import { jwtSecret, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
/** The replica at which people sign out. */
const api = useApi(db);

let lines: { msg: string }[] = [];
let replica: Api | undefined;

/** Another replica, and what it logs. */
async function startReplica(): Promise<void> {
  lines = [];
  const log = createLog('api', 'debug', { write: (line) => lines.push(JSON.parse(line)) });
  replica = await startApi({
    authenticatorUrl: db.url('authenticator'),
    ...{ jwtSecret, host: '127.0.0.1', port: 0, poolSize: 1, log },
  });
}

afterEach(() => replica?.close());

/** The status with which the replica answers a token. */
async function statusOf(token: string): Promise<number> {
  const { status } = await fetch(`http://127.0.0.1:${replica?.port}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
    body: JSON.stringify({ query: '{ __typename }' }),
  });
  return status;
}

const signOut = (token: string) =>
  api.query('mutation { logout(input: {}) { result } }', {}, token);
const hasLogged = (text: string): boolean => lines.some(({ msg }) => msg === text);

/** Cuts the connections that listen, of every replica. */
const cut = () => db.as('superuser')`
  select pg_terminate_backend(pid) from pg_stat_activity
  where application_name = 'gw-api-listen' and datname = current_database()`;

test('a sign-out on one replica is known on another within a moment', async () => {
  await startReplica();
  const { accessToken } = await api.register('moment@example.com');
  expect(await statusOf(accessToken)).toBe(200);
  await signOut(accessToken);
  await eventually(async () => (await statusOf(accessToken)) === 401);
});

test('a role that notifies of a session that has not ended ends nothing', async () => {
  await startReplica();
  const { accessToken } = await api.register('heard@example.com');
  const { accessToken: other } = await api.register('ended@example.com');
  const { sid } = JSON.parse(
    Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString(),
  ) as { sid: string };
  const readonly = db.as('readonly', 1);
  await readonly`set default_transaction_read_only = off`;
  await readonly`select pg_notify('gw_session_revoked', ${sid})`;
  await readonly`select pg_notify('gw_session_revoked', 'no session' || n)
    from generate_series(1, 1000) as n`;
  // What comes after it has been heard.
  await signOut(other);
  await eventually(async () => (await statusOf(other)) === 401);
  expect(await statusOf(accessToken)).toBe(200);
});

test('a sign-out is read that happened while nobody listened and reconnecting was refused', async () => {
  await startReplica();
  const { accessToken } = await api.register('missed@example.com');
  const { accessToken: kept } = await api.register('kept@example.com');
  const name = databaseName(db.url('superuser'));
  await db.as('superuser').unsafe(`revoke connect on database ${name} from gw_authenticator`);
  try {
    await cut();
    await eventually(async () => hasLogged('cannot listen yet'));
    await signOut(accessToken);
    // It has not been told, and cannot have read it yet.
    expect(await statusOf(accessToken)).toBe(200);
  } finally {
    await db.as('superuser').unsafe(`grant connect on database ${name} to gw_authenticator`);
  }
  await eventually(async () => hasLogged('listening again'));
  expect(await statusOf(accessToken)).toBe(401);
  expect(await statusOf(kept)).toBe(200);
  // And it hears again.
  await signOut(kept);
  await eventually(async () => (await statusOf(kept)) === 401);
});

describe('what has ended', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  test('is remembered until its last access token has ended, and then no more', async () => {
    replica = undefined;
    const { accessToken } = await api.register('remembered@example.com');
    const { sid } = JSON.parse(
      Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString(),
    ) as { sid: string };
    vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] });
    const log = createLog('api', 'silent');
    const listener = new Listener({
      ...{ url: db.url('authenticator'), applicationName: 'gw-test-listen', log },
    });
    const revoked = new RevokedSessions(listener);
    await listener.start();
    await signOut(accessToken);
    while (!revoked.has(sid)) await new Promise((resolve) => setTimeout(resolve, 20));
    const minutes = (count: number): unknown => vi.advanceTimersByTime(count * 60_000);
    minutes(15);
    expect(revoked.has(sid)).toBe(true);
    minutes(1);
    expect(revoked.has(sid)).toBe(true);
    minutes(60);
    expect(revoked.has(sid)).toBe(false);
    revoked.stop();
    await listener.stop();
  });
});
