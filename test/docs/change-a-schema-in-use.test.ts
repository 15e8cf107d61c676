import { afterAll, expect, test } from 'vitest';
import { startApi } from '../../src/api/server.ts';
import { createLog } from '../../src/log.ts';
import { findIncompatible } from '../../src/toolkit/lint/compatibility.ts';
import { jwtSecret, TestApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { Guide } from '../helpers/guide.ts';

const guide = new Guide('change-a-schema-in-use');
const db = useDatabase();
const running: TestApi[] = [];
afterAll(async () => {
  await Promise.all(running.map(({ api }) => api.close()));
});

/** A process that begins now, with the GraphQL schema of now. */
async function begin(): Promise<TestApi> {
  const test = new TestApi();
  test.api = await startApi({
    authenticatorUrl: db.url('authenticator'),
    jwtSecret,
    host: '127.0.0.1',
    port: 0,
    poolSize: 3,
    log: createLog('api', 'silent'),
  });
  running.push(test);
  return test;
}

test('old and new processes work side by side on the expanded schema, as the guide says', async () => {
  const sql = db.as('owner');
  const old = await begin();
  const { accessToken } = await old.register('expand@example.com');
  const create = (api: TestApi, column: string, text: string) =>
    api.query<{ createGoal: { goal: { rowId: string } } }>(
      `mutation { createGoal(input: { goal: { title: "Goal", ${column}: "${text}" } }) {
        goal { rowId ${column} } } }`,
      {},
      accessToken,
    );
  const read = (api: TestApi, column: string) =>
    api.query<{ goals: { nodes: Record<string, string>[] } }>(
      `{ goals(orderBy: CREATED_AT_ASC) { nodes { ${column} } } }`,
      {},
      accessToken,
    );
  const columns = async () => {
    const rows = await sql`select description, summary from app_public.goals order by created_at`;
    return rows.map(({ description, summary }) => [description, summary]);
  };

  await create(old, 'description', 'before');
  for (const _ of [1, 2]) await sql.unsafe(guide.at('migrations/current/0001-expand.sql'));
  const next = await begin();
  expect((await create(old, 'description', 'by the old')).errors).toEqual([]);
  expect((await create(next, 'summary', 'by the new')).errors).toEqual([]);
  expect(await columns()).toEqual([
    ['before', null],
    ['by the old', 'by the old'],
    ['by the new', 'by the new'],
  ]);

  const move = guide.at('as gw_owner: until it says UPDATE 0');
  expect((await sql.unsafe(move)).count).toBe(1);
  expect((await sql.unsafe(move)).count).toBe(0);
  const texts = ['before', 'by the old', 'by the new'];
  for (const [api, column] of [
    [old, 'description'],
    [next, 'summary'],
  ] as const) {
    const { data } = await read(api, column);
    expect(data.goals.nodes.map((goal) => goal[column])).toEqual(texts);
  }

  // The old processes are gone: they could not bear what comes.
  for (const _ of [1, 2]) await sql.unsafe(guide.at('migrations/current/0002-contract.sql'));
  expect((await read(old, 'description')).errors).not.toEqual([]);
  const last = await begin();
  expect((await create(last, 'summary', 'after')).errors).toEqual([]);
  expect((await read(last, 'summary')).data.goals.nodes).toHaveLength(4);
});

test('gw lint marks what running code may need, and not what a reviewer has looked at', () => {
  const expand = guide.at('migrations/current/0001-expand.sql');
  expect(findIncompatible('0001.sql', expand)).toEqual([]);
  const text = `
    -- drop function app_public.a();
    drop function if exists app_public.search();
    -- Nobody calls it.
    -- compatibility-ignore drop-function
    drop function app_public.old();
    select 'drop view x';
    create or replace function app_public.f() returns text language sql as $$ drop view y $$;
    drop materialized view app_public.m;
    alter function app_public.f() rename to g;
    revoke all on function app_public.f() from public;
    revoke select on app_public.goals from app_user;
    drop type app_public.t;`;
  expect(
    findIncompatible('x.sql', text).map(({ name, detail }) => [name, detail.slice(0, 8)]),
  ).toEqual([
    ['compatibility:drop-function', 'line 3: '],
    ['compatibility:drop-view', 'line 9: '],
    ['compatibility:drop-type', 'line 13:'],
    ['compatibility:rename', 'line 10:'],
    ['compatibility:revoke', 'line 12:'],
  ]);
  expect(findIncompatible('0002.sql', guide.at('migrations/current/0002-contract.sql'))).toEqual(
    [],
  );
});
