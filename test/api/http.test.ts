import { request } from 'node:http';
import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);

type Body = { data?: unknown; errors?: { message: string; extensions: { code: string } }[] };

const get = (query: Record<string, string>, headers: Record<string, string> = {}) =>
  fetch(`${api.origin}/graphql?${new URLSearchParams(query)}`, { headers });

test('a query may come by GET, with its variables and the name of its operation', async () => {
  const { accessToken } = await api.register('get@example.com');
  const response = await get(
    {
      query: 'query A { __typename } query B($first: Int!) { tasks(first: $first) { totalCount } }',
      operationName: 'B',
      variables: '{"first": 3}',
    },
    { authorization: `Bearer ${accessToken}`, accept: 'application/graphql-response+json' },
  );
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toContain('application/graphql-response+json');
  expect(response.headers.get('cache-control')).toBe('no-store');
  expect(await response.json()).toEqual({ data: { tasks: { totalCount: 0 } } });
});

test('a mutation by GET is refused, and does nothing', async () => {
  const response = await get({
    query: 'mutation { continueAsGuest(input: {}) { result { userId } } }',
  });
  expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST']);
  const { errors } = (await response.json()) as Body;
  expect(errors?.[0]?.extensions.code).toBe('BAD_REQUEST');
  const [row] = await db.as(
    'superuser',
  )`select count(*)::int as users from app_public.users where is_guest`;
  expect(row?.users).toBe(0);
});

test('what a URL says wrongly is told, with the limits of a body', async () => {
  const refused = async (query: Record<string, string>) => {
    const response = await get(query);
    const { errors } = (await response.json()) as Body;
    return [response.status, errors?.[0]?.extensions.code];
  };
  expect(await refused({})).toEqual([400, 'BAD_REQUEST']);
  expect(await refused({ query: '{ __typename }', variables: '{' })).toEqual([400, 'BAD_REQUEST']);
  expect(await refused({ query: '{ __typename }', variables: '[1]' })).toEqual([
    400,
    'BAD_REQUEST',
  ]);
  expect(await refused({ query: '{'.repeat(100) })).toEqual([400, 'QUERY_TOO_COMPLEX']);
  const twice = await fetch(`${api.origin}/graphql?query={__typename}&query={__typename}`);
  expect(twice.status).toBe(400);
  for (const method of ['PUT', 'DELETE', 'OPTIONS']) {
    const response = await fetch(`${api.origin}/graphql`, { method });
    expect([method, response.status, response.headers.get('allow')]).toEqual([
      method,
      405,
      'GET, POST',
    ]);
  }
});

/** What the API sends, as it is on the wire. */
function raw(query: string, acceptEncoding: string | undefined, accept = 'application/json') {
  return new Promise<{ headers: Record<string, unknown>; body: Buffer }>((resolve, reject) => {
    const sent = request(`${api.origin}/graphql`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept,
        ...(acceptEncoding === undefined ? {} : { 'accept-encoding': acceptEncoding }),
      },
    });
    sent.once('error', reject);
    sent.once('response', async (response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      resolve({ headers: response.headers, body: Buffer.concat(chunks) });
    });
    sent.end(JSON.stringify({ query }));
  });
}

test('what is longer than a kilobyte is compressed, as the client accepts it', async () => {
  const query = '{ __schema { types { name description } } }';
  const plain = await raw(query, undefined);
  expect(plain.headers).not.toHaveProperty('content-encoding');
  expect(plain.headers.vary).toContain('Accept-Encoding');
  const text = plain.body.toString();
  for (const [accepted, encoding, decode] of [
    ['gzip, deflate, br, zstd', 'br', brotliDecompressSync],
    ['gzip;q=1.0, br;q=0, *;q=0.1', 'gzip', gunzipSync],
    ['*', 'br', brotliDecompressSync],
  ] as const) {
    const { headers, body } = await raw(query, accepted);
    expect(headers).toMatchObject({
      'content-encoding': encoding,
      'content-length': String(body.length),
      'content-type': 'application/json;charset=utf-8',
    });
    expect(body.length).toBeLessThan(plain.body.length / 5);
    expect(decode(body).toString()).toBe(text);
  }
  for (const accepted of ['identity', 'deflate', 'br;q=0, gzip;q=0', '']) {
    const { headers, body } = await raw(query, accepted);
    expect(headers).not.toHaveProperty('content-encoding');
    expect(body.toString()).toBe(text);
  }
  const short = await raw('{ __typename }', 'br');
  expect(short.headers).not.toHaveProperty('content-encoding');
});

test('an error without data is read by its status where the client takes that type', async () => {
  const { headers, body } = await raw('{ nothing }', 'br', 'application/graphql-response+json');
  expect(headers['content-type']).toContain('application/graphql-response+json');
  expect((JSON.parse(body.toString()) as Body).errors?.[0]?.extensions.code).toBe(
    'GRAPHQL_VALIDATION_FAILED',
  );
  const expired = await fetch(`${api.origin}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/graphql-response+json, application/json;q=0.9',
      authorization: 'Bearer none',
    },
    body: '{"query":"{ __typename }"}',
  });
  expect(expired.status).toBe(401);
  expect(expired.headers.get('content-type')).toContain('application/graphql-response+json');
});
