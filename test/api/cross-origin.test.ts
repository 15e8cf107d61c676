import { expect, test } from 'vitest';
import { readOrigins } from '../../src/origins.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const closed = useApi(db);
const open = useApi(db, 'silent', {
  corsOrigins: 'https://app.example.com, https://*.preview.example.com, http://localhost:5173',
});
const limited = useApi(db, 'silent', {
  corsOrigins: 'http://localhost:5173',
  rates: { anonymous: 3, signIn: 0, user: 0 },
});
const anyOrigin = useApi(db, 'silent', { corsOrigins: '*' });

const ask = (origin: string, from: string, init: RequestInit = {}) =>
  fetch(`${origin}/graphql`, {
    method: 'POST',
    body: '{"query":"{ __typename }"}',
    ...init,
    headers: { 'content-type': 'application/json', origin: from, ...init.headers },
  });

const preflight = (origin: string, from: string) =>
  fetch(`${origin}/graphql`, {
    method: 'OPTIONS',
    headers: {
      origin: from,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type,traceparent',
    },
  });

const corsHeaders = ({ headers }: Response) =>
  Object.fromEntries([...headers].filter(([name]) => name.startsWith('access-control-')));

test('without origins nothing is said, and a preflight is refused', async () => {
  const answered = await ask(closed.origin, 'https://app.example.com');
  expect(answered.status).toBe(200);
  expect(corsHeaders(answered)).toEqual({});
  const refused = await preflight(closed.origin, 'https://app.example.com');
  expect([refused.status, corsHeaders(refused)]).toEqual([405, {}]);
});

test('an origin that is named may send a token, read the response, and is remembered', async () => {
  const asked = await preflight(open.origin, 'https://app.example.com');
  expect(asked.status).toBe(204);
  expect(corsHeaders(asked)).toEqual({
    'access-control-allow-origin': 'https://app.example.com',
    'access-control-allow-methods': 'GET,POST',
    'access-control-allow-headers': 'authorization,content-type,traceparent',
    'access-control-max-age': '7200',
    'access-control-expose-headers':
      'x-request-id,retry-after,ratelimit-limit,ratelimit-remaining,ratelimit-reset',
  });
  const answered = await ask(open.origin, 'https://app.example.com');
  expect(answered.headers.get('access-control-allow-origin')).toBe('https://app.example.com');
  expect(answered.headers.get('access-control-allow-credentials')).toBeNull();
  expect(answered.headers.get('vary')).toContain('Origin');
  expect(answered.headers.get('x-request-id')).not.toBeNull();
  expect(answered.headers.get('cache-control')).toBe('no-store');
});

test('an origin that is not named reads nothing', async () => {
  for (const from of ['https://app.example.com.evil.test', 'http://app.example.com', 'null']) {
    const answered = await ask(open.origin, from);
    expect([from, corsHeaders(answered)]).toEqual([from, {}]);
    expect(answered.headers.get('vary')).toContain('Origin');
    expect((await preflight(open.origin, from)).status).toBe(405);
  }
});

test('a refusal can be read as well', async () => {
  const from = 'http://localhost:5173';
  const bad = await ask(limited.origin, from, { headers: { authorization: 'Bearer none' } });
  const long = await ask(limited.origin, from, { body: 'x'.repeat(200_000) });
  const many = await Promise.all(Array.from({ length: 5 }, () => ask(limited.origin, from)));
  expect(bad.status).toBe(401);
  expect(long.status).toBe(413);
  expect(many.map(({ status }) => status)).toContain(429);
  for (const { headers } of [bad, long, ...many]) {
    expect(headers.get('access-control-allow-origin')).toBe(from);
  }
});

test('a star alone is every origin', async () => {
  const answered = await ask(anyOrigin.origin, 'https://elsewhere.test');
  expect(answered.headers.get('access-control-allow-origin')).toBe('https://elsewhere.test');
});

test('a pattern has one label in place of its star', () => {
  const allows = readOrigins('https://*.example.com https://*.example.com:8443');
  expect(
    [
      'https://a.example.com',
      'https://a-b_1.example.com',
      'https://a.example.com:8443',
      'https://example.com',
      'https://.example.com',
      'https://a.b.example.com',
      'https://evil.test/.example.com',
      'https://evil.test#.example.com',
      'https://a.example.com:444',
      'http://a.example.com',
      'https://a.example.com.',
      'https://aexample.com',
    ].filter(allows),
  ).toEqual(['https://a.example.com', 'https://a-b_1.example.com', 'https://a.example.com:8443']);
  expect(readOrigins('HTTPS://App.Example.com:443')('https://app.example.com')).toBe(true);
  for (const text of [
    '',
    'app.example.com',
    'https://',
    'https://*.*.example.com',
    'https://a*.example.com',
    'https://a.example.com/path',
    'https://user@a.example.com',
    'ftp://a.example.com',
    'https://*',
    '*.example.com',
  ]) {
    expect(() => readOrigins(text), text).toThrow(TypeError);
  }
});
