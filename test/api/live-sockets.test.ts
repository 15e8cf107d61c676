import { randomUUID } from 'node:crypto';
import { get } from 'node:http';
import { describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { signAccessToken } from '../../src/api/tokens.ts';
import { jwtSecret, type Session } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { BareSocket, LiveClient, type TaskChange, taskChanged, useLive } from '../helpers/live.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const { api, connect, startOther, someone, makeTask, rename } = useLive(db);

const inSeconds = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds;

describe('how sockets end', () => {
  test('without connection_init: 4408', async () => {
    const socket = new BareSocket(api.api.port);
    expect((await socket.closed).code).toBe(4408);
  });

  test('a subscription before connection_init: 4401', async () => {
    const socket = new BareSocket(api.api.port);
    await socket.send({ id: '1', type: 'subscribe', payload: { query: taskChanged } });
    expect((await socket.closed).code).toBe(4401);
  });

  test('no subprotocol: 4406', async () => {
    const socket = new BareSocket(api.api.port, []);
    expect((await socket.closed).code).toBe(4406);
  });

  test('a forged token: 4401, which ends it; an expired one: 4403, which clients retry', async () => {
    const { userId: sub, accessToken } = await someone();
    const expired = await signAccessToken(
      { sub, sid: randomUUID(), exp: inSeconds(-1) },
      jwtSecret,
    );
    for (const [token, code, reason] of [
      [`${accessToken}x`, 4401, 'token not valid'],
      [expired, 4403, 'token expired'],
    ]) {
      const socket = new BareSocket(api.api.port);
      await socket.send({ type: 'connection_init', payload: { Authorization: `Bearer ${token}` } });
      expect(await socket.closed).toEqual({ code, reason });
    }
  });

  test('a token that expires: 4403, at that moment and not before', async () => {
    const { userId: sub } = await someone();
    const exp = inSeconds(4);
    const client = connect({
      token: await signAccessToken({ sub, sid: randomUUID(), exp }, jwtSecret),
    });
    const followed = await client.follow<TaskChange>(taskChanged);
    await makeTask(sub, 'in time');
    await eventually(async () => followed.events.length === 1);
    expect(client.closings).toEqual([]);
    await eventually(async () => client.closings.length > 0);
    expect(client.closings).toEqual([{ code: 4403, reason: 'token expired' }]);
    expect(Date.now()).toBeGreaterThanOrEqual(exp * 1000);
    expect(Date.now()).toBeLessThan(exp * 1000 + 1_500);
  });

  test('a session that ends: 4401, and the user’s other session goes on', async () => {
    const email = `${randomUUID()}@example.com`;
    const one = await api.register(email);
    const { data } = await api.query<{ login: { result: Session } }>(
      `mutation ($email: String!) { login(input: { email: $email, password: "correct horse" }) {
        result { accessToken } } }`,
      { email },
    );
    const first = connect({ token: one.accessToken });
    const second = connect({ token: data.login.result.accessToken });
    await first.follow(taskChanged);
    const kept = await second.follow<TaskChange>(taskChanged);
    await api.query('mutation { logout(input: {}) { result } }', {}, one.accessToken);
    await eventually(async () => first.closings.length > 0);
    expect(first.closings).toEqual([{ code: 4401, reason: 'session ended' }]);
    await makeTask(one.userId, 'heard');
    await eventually(async () => kept.events.length > 0);
    expect(second.closings).toEqual([]);
    // Nor can it come back.
    const again = new BareSocket(api.api.port);
    await again.send({
      type: 'connection_init',
      payload: { authorization: `Bearer ${one.accessToken}` },
    });
    expect(await again.closed).toEqual({ code: 4401, reason: 'session ended' });
  });

  test('a lost listening connection: 1012, and graphql-ws comes back by itself', async () => {
    const { userId, accessToken } = await someone();
    const client = connect({ token: accessToken, retryAttempts: 50 });
    const followed = await client.follow<TaskChange>(taskChanged);
    await db.as('superuser')`
      select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'gw-api-listen' and datname = current_database()`;
    await eventually(async () => client.closings.length > 0);
    expect(client.closings[0]?.code).toBe(1012);
    await eventually(async () => {
      await makeTask(userId, 'heard again');
      return followed.events.length > 0;
    });
    expect(followed.isOver).toBe(false);
  });

  test('a peer that does not answer pings is cut off', async () => {
    const { accessToken } = await someone();
    const socket = new BareSocket(api.api.port);
    await socket.signIn(accessToken);
    socket.socket.pause();
    await eventually(async () => api.api.live.counts.sockets === 0);
    socket.socket.resume();
    expect((await socket.closed).code).toBe(1006);
  });

  test('a peer that does not read its answers is cut off, however often it would answer pings', async () => {
    const { userId, accessToken } = await someone();
    const other = await startOther({ maxBufferedBytes: 100_000, keepAliveMs: 600_000 });
    const id = await makeTask(userId, 'long');
    const long = 'x'.repeat(20_000);
    await db.as('owner')`update app_public.tasks set description = ${long} where id = ${id}`;
    const fields = Array.from({ length: 60 }, (_, number) => `d${number}: description`);
    const query = `subscription { taskChanged { task { ${fields.join(' ')} } } }`;
    const socket = new BareSocket(other.port);
    await socket.signIn(accessToken);
    for (const name of ['1', '2', '3']) {
      await socket.send({ id: name, type: 'subscribe', payload: { query } });
    }
    await eventually(async () => other.live.counts.subscriptions === 3);
    socket.socket.pause();
    await eventually(async () => {
      await rename(id, `long ${Date.now()}`);
      return other.live.counts.sockets === 0;
    });
    socket.socket.resume();
    expect([1006, 1013]).toContain((await socket.closed).code);
    expect(other.live.counts.subscriptions).toBe(0);
    await other.close();
  });

  test('to a peer that reads slowly a burst is told as it ended, not step by step', async () => {
    const { userId, accessToken } = await someone();
    const other = await startOther({ keepAliveMs: 600_000 });
    const id = await makeTask(userId, 'long');
    const long = 'x'.repeat(20_000);
    await db.as('owner')`update app_public.tasks set description = ${long} where id = ${id}`;
    const fields = Array.from({ length: 100 }, (_, number) => `d${number}: description`);
    const query = `subscription { taskChanged { task { title ${fields.join(' ')} } } }`;
    const socket = new BareSocket(other.port);
    await socket.signIn(accessToken);
    await socket.send({ id: '1', type: 'subscribe', payload: { query } });
    await eventually(async () => other.live.counts.subscriptions === 1);
    socket.socket.pause();
    for (let step = 1; step <= 60; step += 1) await rename(id, `step ${step}`);
    socket.socket.resume();
    const titles = (): string[] =>
      socket.messages.flatMap(({ payload }) => {
        const { data } = (payload ?? {}) as { data?: { taskChanged: { task: { title: string } } } };
        return data === undefined ? [] : [data.taskChanged.task.title];
      });
    await eventually(async () => titles().at(-1) === 'step 60');
    expect(titles().length).toBeLessThan(30);
    await other.close();
  });

  test('a server that stops: 1001', async () => {
    const { accessToken } = await someone();
    const other = await startOther();
    const client = new LiveClient(other, { token: accessToken });
    await client.follow(taskChanged);
    const began = Date.now();
    await other.close();
    expect(Date.now() - began).toBeLessThan(2_500);
    expect(client.closings).toEqual([{ code: 1001, reason: 'the server stops' }]);
    await client.close();
  });
});

describe('what sockets may', () => {
  test('a user has no more sockets than subscriptions', async () => {
    const { accessToken } = await someone();
    const sockets = [1, 2, 3, 4].map(() => new BareSocket(api.api.port));
    for (const socket of sockets) await socket.signIn(accessToken);
    const fifth = new BareSocket(api.api.port);
    await fifth.send({
      type: 'connection_init',
      payload: { authorization: `Bearer ${accessToken}` },
    });
    expect(await fifth.closed).toEqual({ code: 4429, reason: 'too many sockets' });
    for (const { socket } of sockets) socket.close();
  });

  test('a long document is read in its turn, and its error or its events come', async () => {
    const { userId, accessToken } = await someone();
    const socket = new BareSocket(api.api.port);
    await socket.signIn(accessToken);
    const long = `# ${'x'.repeat(5_000)}`;
    const wrong = 'subscription { unknown }';
    await socket.send({ id: '1', type: 'subscribe', payload: { query: `${wrong} ${long}` } });
    await socket.send({ id: '2', type: 'subscribe', payload: { query: `${taskChanged} ${long}` } });
    await eventually(async () => api.api.live.counts.subscriptions === 1);
    await makeTask(userId, 'heard');
    await eventually(async () =>
      socket.messages.some(({ id, type }) => id === '2' && type === 'next'),
    );
    const [error] = socket.messages.filter(({ id }) => id === '1');
    expect(error).toMatchObject({
      type: 'error',
      payload: [{ extensions: { code: 'GRAPHQL_VALIDATION_FAILED' } }],
    });
    socket.socket.close();
  });

  test('a message of more than 1,000,000 bytes closes the socket with 1009', async () => {
    const { accessToken } = await someone();
    const socket = new BareSocket(api.api.port);
    await socket.signIn(accessToken);
    await socket.send({ type: 'ping', payload: { text: 'x'.repeat(1_000_001) } });
    expect((await socket.closed).code).toBe(1009);
  });

  test('a client that offers another upgrade is answered as if it had not', async () => {
    const status = await new Promise((resolve, reject) => {
      const headers = { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c' };
      get(`${api.origin}/healthz`, { headers }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).on('error', reject);
    });
    expect(status).toBe(200);
  });

  test('a socket at another path is refused', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${api.api.port}/elsewhere`);
    const error = await new Promise((resolve) => socket.once('error', resolve));
    expect(String(error)).toContain('404');
  });
});
