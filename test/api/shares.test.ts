import { beforeAll, expect, test } from 'vitest';
import { limits } from '../../src/api/limits.ts';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { giveEverything, idOf } from '../helpers/everything.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const api = useApi(db, 'silent', { poolSize: 4 });
let greedy: Session;
let modest: Session;

beforeAll(async () => {
  greedy = await api.register('greedy@example.com');
  modest = await api.register('modest@example.com');
  await giveEverything(db.as('superuser', 1), greedy.userId);
}, patience(60_000));

const update = `mutation ($id: UUID!, $title: String!) {
  updateTask(input: { rowId: $id, patch: { title: $title } }) { task { title } } }`;

const rename = (title: string) => ({
  id: idOf(greedy.userId, 'task', 1),
  title,
});

/** Statements of the API that wait for a lock. */
const waiting = async (): Promise<number> => {
  const rows = await db.as('superuser')`
    select from pg_stat_activity
    where datname = current_database() and application_name = 'gw-api'
      and wait_event_type = 'Lock'`;
  return rows.length;
};

/** Holds the row that rename() changes while something happens. */
async function whileLocked(work: () => Promise<void>): Promise<void> {
  await db.as('owner').begin(async (sql) => {
    await sql`select from app_public.tasks where user_id = ${greedy.userId} for update`;
    await work();
  });
}

test('a user whose requests wait leaves half of the connections to others', async () => {
  let answers: ReturnType<typeof api.codes>[] = [];
  await whileLocked(async () => {
    answers = Array.from({ length: 10 }, (_, n) =>
      api.codes(update, rename(`new ${n}`), greedy.accessToken),
    );
    await eventually(async () => (await waiting()) === 2);
    const { data } = await api.query('{ viewer { rowId } }', {}, modest.accessToken);
    expect(data).toEqual({ viewer: { rowId: modest.userId } });
    expect(await waiting()).toBe(2);
  });
  expect((await Promise.all(answers)).flat()).toEqual([]);
});

test('of very many requests of one user the last are refused at once', async () => {
  const refused: Awaited<ReturnType<typeof api.query>>[] = [];
  let answers: Promise<unknown>[] = [];
  await whileLocked(async () => {
    answers = Array.from({ length: 40 }, async (_, n) => {
      const answer = await api.query(update, rename(`new ${n}`), greedy.accessToken);
      if (answer.errors.length > 0) refused.push(answer);
    });
    // Two run, and twenty wait.
    await eventually(async () => refused.length === 18);
  });
  await Promise.all(answers);
  expect(refused).toHaveLength(18);
  for (const { status, errors } of refused) {
    expect([status, errors[0]?.extensions.code]).toEqual([429, 'RATE_LIMITED']);
  }
});

test('what nobody waits for any more is ended', async () => {
  const before = await db.as('owner')`
    select title from app_public.tasks where user_id = ${greedy.userId} order by id`;
  await whileLocked(async () => {
    const controller = new AbortController();
    const requests = Array.from({ length: 5 }, () =>
      fetch(`${api.origin}/graphql`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          authorization: `Bearer ${greedy.accessToken}`,
        },
        body: JSON.stringify({ query: update, variables: rename('too late') }),
        signal: controller.signal,
      }),
    );
    await eventually(async () => (await waiting()) === 2);
    controller.abort();
    const aborted = performance.now();
    await Promise.allSettled(requests);
    await eventually(async () => (await waiting()) === 0);
    // Sooner than they would have ended by themselves.
    expect(performance.now() - aborted).toBeLessThan(1_000 * (limits.statementSeconds - 1));
  });
  // Those that waited for their turn did not begin.
  expect(await api.codes('{ tasks { totalCount } }', {}, greedy.accessToken)).toEqual([]);
  const after = await db.as('owner')`
    select title from app_public.tasks where user_id = ${greedy.userId} order by id`;
  expect([...after]).toEqual([...before]);
});

test('a response has at most 10 MB, from the database or by aliases', async () => {
  const { userId, accessToken } = await api.register('much@example.com');
  await db.as('owner').begin(async (sql) => {
    const [chat] = await sql<{ id: string }[]>`
      insert into app_public.chats (user_id) values (${userId}) returning id`;
    await sql`
      insert into app_public.chat_messages (user_id, chat_id, role, content)
      select ${userId}, ${chat?.id ?? ''}, 'user', repeat(md5(n::text), 6250)
      from generate_series(1, 60) as n`;
  });
  const ask = (document: string) =>
    api.query<{ chatMessages: { nodes: object[] } }>(document, {}, accessToken);
  const some = await ask('{ chatMessages(first: 40) { nodes { content } } }');
  expect(some.errors).toEqual([]);
  expect(some.data.chatMessages.nodes).toHaveLength(40);
  const all = await ask('{ chatMessages { nodes { content } } }');
  expect(all.errors.map(({ extensions }) => extensions.code)).toEqual(['RESPONSE_TOO_LARGE']);
  const aliases = Array.from({ length: 100 }, (_, n) => `c${n}: content`).join(' ');
  const again = await ask(`{ chatMessages(first: 1) { nodes { ${aliases} } } }`);
  expect(again.errors.map(({ extensions }) => extensions.code)).toEqual(['RESPONSE_TOO_LARGE']);
  expect((await ask('{ chatMessages(first: 40) { nodes { content } } }')).errors).toEqual([]);
});
