import { expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);

async function someoneWithTasks(email: string, count: number): Promise<string> {
  const { userId, accessToken } = await api.register(email);
  await db.as('owner')`
    insert into app_public.tasks (user_id, title)
    select ${userId}, 'task ' || number from generate_series(1, ${count}) as number`;
  return accessToken;
}

const page = (args: string): string => `{ tasks${args} { nodes { title } totalCount } }`;
type Page = { tasks: { nodes: unknown[]; totalCount: number } };

test('a page has 100 rows unless fewer are asked for', async () => {
  const token = await someoneWithTasks('pages@example.com', 130);
  const length = async (args: string): Promise<number> =>
    (await api.query<Page>(page(args), {}, token)).data.tasks.nodes.length;
  expect(await length('')).toBe(100);
  expect(await length('(first: 7)')).toBe(7);
  expect(await length('(first: 100)')).toBe(100);
  expect(await length('(last: 5)')).toBe(5);
  expect(await length('(first: 0)')).toBe(0);
  expect((await api.query<Page>(page(''), {}, token)).data.tasks.totalCount).toBe(130);
});

test('more than 100, or fewer than 0, are refused, on nested connections too', async () => {
  const token = await someoneWithTasks('greedy@example.com', 1);
  for (const args of ['(first: 101)', '(last: 101)', '(first: -1)']) {
    expect(await api.codes(page(args), {}, token)).toEqual(['VALIDATION_FAILED']);
  }
  const asked = 'query ($n: Int) { tasks(first: $n) { nodes { title } } }';
  expect(await api.codes(asked, { n: 100_000 }, token)).toEqual(['VALIDATION_FAILED']);
  const nested = '{ viewer { tasks(first: 101) { nodes { title } } } }';
  expect(await api.codes(nested, {}, token)).toEqual(['VALIDATION_FAILED']);
});

test('cursors walk through all pages once', async () => {
  const token = await someoneWithTasks('walk@example.com', 25);
  const seen: string[] = [];
  let after: string | null = null;
  do {
    const answer: {
      data: {
        tasks: {
          nodes: { rowId: string }[];
          pageInfo: { endCursor: string | null; hasNextPage: boolean };
        };
      };
    } = await api.query(
      `query ($after: Cursor) { tasks(first: 10, after: $after) {
        nodes { rowId } pageInfo { endCursor hasNextPage } } }`,
      { after },
      token,
    );
    const { nodes, pageInfo } = answer.data.tasks;
    seen.push(...nodes.map(({ rowId }) => rowId));
    after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  } while (after !== null);
  expect(new Set(seen).size).toBe(25);
  expect(seen).toHaveLength(25);
});

test('a document nested too deeply is refused before it runs', async () => {
  const { accessToken } = await api.register('deep@example.com');
  const nest = (depth: number): string =>
    depth === 0 ? 'title' : `user { tasks { nodes { ${nest(depth - 1)} } } }`;
  const deep = `{ viewer { tasks { nodes { ${nest(4)} } } } }`;
  expect(await api.codes(deep, {}, accessToken)).toEqual(['GRAPHQL_VALIDATION_FAILED']);
});

test('introspection, as GraphiQL asks for it, is within the limits', async () => {
  const { getIntrospectionQuery } = await import('graphql');
  expect(await api.codes(getIntrospectionQuery())).toEqual([]);
});

test('a body of more than 1 MB is refused, also when its length is not told', async () => {
  const body = JSON.stringify({ query: '{ viewer { email } }', extensions: 'x'.repeat(1_100_000) });
  const headers = { 'content-type': 'application/json' };
  const told = await fetch(`${api.origin}/graphql`, { method: 'POST', headers, body });
  expect(told.status).toBe(413);
  expect(await told.json()).toMatchObject({ errors: [{ extensions: { code: 'BODY_TOO_LARGE' } }] });
  const stream = new Blob([body]).stream();
  const untold = await fetch(`${api.origin}/graphql`, {
    method: 'POST',
    headers,
    body: stream,
    duplex: 'half',
  } as RequestInit);
  expect(untold.status).toBe(413);
  expect(await untold.json()).toMatchObject({
    errors: [{ extensions: { code: 'BODY_TOO_LARGE' } }],
  });
});

test('a body that is no JSON, or has no query, is a bad request', async () => {
  for (const body of ['{', '{}', '[]', '']) {
    const answer = await fetch(`${api.origin}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    expect(answer.status, body).toBe(400);
    const { errors } = (await answer.json()) as { errors: { extensions: { code: string } }[] };
    expect(errors[0]?.extensions.code, body).toBe('BAD_REQUEST');
  }
});
