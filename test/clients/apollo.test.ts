import { randomUUID } from 'node:crypto';
import { ApolloClient, gql, HttpLink, InMemoryCache } from '@apollo/client';
import { CombinedGraphQLErrors } from '@apollo/client/errors';
import { expect, test } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { jwtSecret } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { useServed } from '../helpers/served.ts';

const db = useDatabase();
const api = useServed(db);

const connect = (token: string) =>
  new ApolloClient({
    link: new HttpLink({ uri: api.url, headers: { authorization: `Bearer ${token}` } }),
    cache: new InMemoryCache(),
  });

test('Apollo keeps a task by its id, and sees what a mutation changed in it', async () => {
  const { accessToken } = await api.signUp('apollo@example.com');
  const client = connect(accessToken);
  const made = await client.mutate<{ createTask: { task: { id: string; rowId: string } } }>({
    mutation: gql`mutation { createTask(input: { task: { title: "one" } }) { task { id rowId } } }`,
  });
  const query = gql`{ tasks { nodes { id title } } }`;
  type Tasks = { tasks: { nodes: { id: string; title: string }[] } };
  const before = await client.query<Tasks>({ query });
  expect(before.data?.tasks.nodes).toMatchObject([{ title: 'one' }]);
  await client.mutate({
    mutation: gql`mutation ($id: ID!) {
      updateTaskById(input: { id: $id, patch: { title: "two" } }) { task { id title } }
    }`,
    variables: { id: made.data?.createTask.task.id },
  });
  const cached = await client.query<Tasks>({ query, fetchPolicy: 'cache-only' });
  expect(cached.data?.tasks.nodes).toMatchObject([{ title: 'two' }]);
});

test('Apollo reads why a request was refused', async () => {
  const sub = randomUUID();
  const exp = Math.floor(Date.now() / 1000) - 1;
  const client = connect(await signAccessToken({ sub, sid: randomUUID(), exp }, jwtSecret));
  const { error } = await client.query({
    query: gql`{ viewer { email } }`,
    errorPolicy: 'all',
  });
  expect(CombinedGraphQLErrors.is(error)).toBe(true);
  expect((error as CombinedGraphQLErrors).errors[0]?.extensions).toMatchObject({
    code: 'TOKEN_EXPIRED',
  });
});
