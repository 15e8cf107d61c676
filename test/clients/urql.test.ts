import { randomUUID } from 'node:crypto';
import { Client, cacheExchange, fetchExchange, gql } from '@urql/core';
import { expect, test } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { jwtSecret } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { useServed } from '../helpers/served.ts';

const db = useDatabase();
const api = useServed(db);

/** urql as it comes, which asks by GET as long as the URL is short. */
function connect(token: string) {
  const methods: string[] = [];
  const client = new Client({
    url: api.url,
    exchanges: [cacheExchange, fetchExchange],
    fetchOptions: { headers: { authorization: `Bearer ${token}` } },
    fetch: (input, init) => {
      methods.push(init?.method ?? 'GET');
      return fetch(input, init);
    },
  });
  return { client, methods };
}

test('urql queries by GET, changes by POST, and reads its own changes', async () => {
  const { accessToken } = await api.signUp('urql@example.com');
  const { client, methods } = connect(accessToken);
  const query = gql`
    query Tasks($first: Int!) {
      tasks(first: $first) { nodes { id rowId title } totalCount }
    }
  `;
  const none = await client.query(query, { first: 5 }).toPromise();
  expect(none.error).toBeUndefined();
  expect(none.data.tasks.totalCount).toBe(0);
  const made = await client
    .mutation(
      gql`mutation ($title: String!) {
        createTask(input: { task: { title: $title } }) { task { id title } }
      }`,
      { title: 'from urql' },
    )
    .toPromise();
  expect(made.error).toBeUndefined();
  const some = await client.query(query, { first: 5 }, { requestPolicy: 'network-only' });
  expect(some.data.tasks.nodes).toMatchObject([{ title: 'from urql' }]);
  expect(methods).toEqual(['GET', 'POST', 'GET']);
});

test('urql is told why, with the code', async () => {
  const sub = randomUUID();
  const exp = Math.floor(Date.now() / 1000) - 1;
  const { client } = connect(await signAccessToken({ sub, sid: randomUUID(), exp }, jwtSecret));
  const { error } = await client.query('{ viewer { email } }', {}).toPromise();
  expect(error?.response.status).toBe(401);
  expect(error?.graphQLErrors[0]?.extensions).toMatchObject({ code: 'TOKEN_EXPIRED' });
  const { accessToken } = await api.signUp('urql-wrong@example.com');
  const wrong = await connect(accessToken)
    .client.mutation(
      'mutation { createTask(input: { task: { title: "" } }) { task { rowId } } }',
      {},
    )
    .toPromise();
  expect(wrong.error?.graphQLErrors[0]?.extensions).toMatchObject({
    code: 'CHECK_VIOLATION',
    field: 'title',
  });
});
