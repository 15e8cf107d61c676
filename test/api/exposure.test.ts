import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { clientAddress, readTrust } from '../../src/client-address.ts';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();

describe('a production API', () => {
  let server: GwProcess;
  let port: number;
  const folder = mkdtempSync(join(tmpdir(), 'groundwork-operations-'));
  const file = join(folder, 'persisted-documents.json');
  const known = 'query Me { viewer { rowId } }';
  const hash = createHash('sha256').update(known).digest('hex');

  const start = async (env: Record<string, string>) => {
    port = await randomPort();
    server = new GwProcess(['serve'], {
      DATABASE_URL: db.url('owner'),
      GW_AUTHENTICATOR_PASSWORD: new URL(db.url('authenticator')).password,
      GW_JWT_SECRET: jwtSecret,
      NODE_ENV: 'production',
      GW_PORT: String(port),
      GW_DRAIN_SECONDS: '0',
      GW_LOG_LEVEL: 'info',
      ...env,
    });
    await server.ready();
  };
  const post = async (body: object) => {
    const response = await fetch(`http://127.0.0.1:${port}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    type Body = { data?: unknown; errors?: { message: string; extensions: { code: string } }[] };
    return { status: response.status, ...((await response.json()) as Body) };
  };

  beforeAll(() => writeFileSync(file, JSON.stringify({ [hash]: known })));
  afterAll(async () => {
    await server?.kill();
    rmSync(folder, { recursive: true });
  });

  test('does not show its schema, and answers', { timeout: patience(60_000) }, async () => {
    // A package that prints on the console, as some do.
    const prints = 'process.on("SIGUSR2", () => console.error("a package prints"))';
    await start({ NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(prints)}` });
    expect(await post({ query: known })).toEqual({ status: 200, data: { viewer: null } });
    for (const query of ['{ __schema { types { name } } }', '{ __type(name: "Task") { name } }']) {
      expect((await post({ query })).errors?.[0]?.extensions.code).toBe(
        'GRAPHQL_VALIDATION_FAILED',
      );
    }
    // Its own name is known to whoever asks, and clients that cache need it.
    expect((await post({ query: '{ __typename }' })).data).toEqual({ __typename: 'Query' });
    const { errors } = await post({ query: '{ viewr { rowId } }' });
    expect(errors?.[0]?.message).toBe('Cannot query field "viewr" on type "Query".');
    const order = 'query ($by: [TaskOrderBy!]) { tasks(orderBy: $by) { totalCount } }';
    const wrong = await post({ query: order, variables: { by: ['DUE_DAT_ASC'] } });
    expect(JSON.stringify(wrong)).not.toContain('DUE_DATE_ASC');
    const graphiql = await fetch(`http://127.0.0.1:${port}/`, { headers: { accept: 'text/html' } });
    expect(graphiql.status).toBe(404);
    server.signal('SIGUSR2');
    await eventually(async () => server.output.includes('a package prints'));
    await server.stop();
    const lines = server.output.split('\n').filter((line) => line !== '');
    expect(lines.length).toBeGreaterThan(5);
    for (const line of lines) expect(() => JSON.parse(line), line).not.toThrow();
  });

  test('runs persisted operations alone, when it is told so', {
    timeout: patience(60_000),
  }, async () => {
    await start({ GW_OPERATIONS: 'persisted', GW_PERSISTED_OPERATIONS: file });
    const answer = { status: 200, data: { viewer: null } };
    expect(await post({ documentId: hash })).toEqual(answer);
    const apollo = { extensions: { persistedQuery: { version: 1, sha256Hash: hash } } };
    expect(await post(apollo)).toEqual(answer);
    for (const body of [{ query: known }, { documentId: 'x' }, { documentId: '__proto__' }]) {
      expect((await post(body)).errors?.[0]?.extensions.code, JSON.stringify(body)).toBe(
        'BAD_REQUEST',
      );
    }
    await server.stop();
  });
});

describe('how often somebody may ask', () => {
  const api = useApi(db, 'silent', {
    trustProxy: '127.0.0.1, 192.0.2.0/24',
    rates: { anonymous: 5, signIn: 2, user: 4 },
  });
  const ask = async (headers: Record<string, string>, query = '{ viewer { rowId } }') => {
    const response = await fetch(`${api.origin}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ query }),
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  const from = (address: string) => ({ 'x-forwarded-for': address });

  test('an address without a token, whatever it claims', async () => {
    const answers = [];
    for (let n = 0; n < 6; n += 1) answers.push(await ask(from(`10.9.8.${n}, 203.0.113.1`)));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 429]);
    const last = answers.at(-1);
    expect(last?.text).toContain('"RATE_LIMITED"');
    expect(last?.headers.get('ratelimit-limit')).toBe('5');
    expect(last?.headers.get('ratelimit-remaining')).toBe('0');
    expect(Number(last?.headers.get('retry-after'))).toBeGreaterThan(50);
    expect(answers[0]?.headers.get('ratelimit-remaining')).toBe('4');
    // Others are served, also behind a second proxy.
    expect((await ask(from('203.0.113.2, 192.0.2.7'))).status).toBe(200);
    // Nor does it get a socket.
    const socket = new WebSocket(`ws://127.0.0.1:${api.api.port}/graphql`, 'graphql-transport-ws', {
      headers: from('203.0.113.1'),
    });
    await expect(once(socket, 'open')).rejects.toThrow('429');
  });

  test('an IPv6 client counts with all addresses of its network', async () => {
    const statuses = [];
    for (let n = 1; n <= 6; n += 1) statuses.push((await ask(from(`2001:db8:1:2::${n}`))).status);
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429]);
    expect((await ask(from('2001:db8:1:3::1'))).status).toBe(200);
  });

  test('signing in', async () => {
    const login =
      'mutation { login(input: { email: "a@b.c", password: "wrong pass" }) { clientMutationId } }';
    const statuses = [];
    for (let n = 0; n < 3; n += 1) statuses.push(await ask(from('203.0.113.3'), login));
    expect(statuses.map(({ status }) => status)).toEqual([200, 200, 429]);
    expect(statuses[2]?.text).toContain('an address may sign in, or try to, 2 times in a minute');
    expect(Number(statuses[2]?.headers.get('retry-after'))).toBeGreaterThan(50);
    expect((await ask(from('203.0.113.3'))).status).toBe(200);
  });

  test('a user, from wherever', async () => {
    const guest = 'mutation { continueAsGuest(input: {}) { result { accessToken } } }';
    const { text } = await ask(from('203.0.113.4'), guest);
    const token = JSON.parse(text).data.continueAsGuest.result.accessToken as string;
    const statuses = [];
    for (let n = 0; n < 5; n += 1) {
      const headers = { ...from(`203.0.113.${50 + n}`), authorization: `Bearer ${token}` };
      statuses.push((await ask(headers)).status);
    }
    expect(statuses).toEqual([200, 200, 200, 200, 429]);
  });
});

test.each([
  ['', '127.0.0.1', '198.51.100.1', '127.0.0.1'],
  ['loopback', '127.0.0.1', '198.51.100.1', '198.51.100.1'],
  ['loopback', '127.0.0.1', '10.0.0.1, 198.51.100.1', '198.51.100.1'],
  ['loopback, 10.0.0.0/8', '::ffff:10.1.2.3', '198.51.100.1, 10.0.0.9', '198.51.100.1'],
  ['loopback', '127.0.0.1', 'nonsense', '127.0.0.1'],
])(
  'who trusts %j takes a request from %s for %j to be of %s',
  (trust, socket, forwarded, expected) => {
    const request = {
      socket: { remoteAddress: socket },
      connection: { remoteAddress: socket },
      headers: { 'x-forwarded-for': forwarded },
    };
    expect(clientAddress(request as never, readTrust(trust))).toBe(expected);
  },
);
