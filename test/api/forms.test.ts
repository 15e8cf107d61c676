import { beforeAll, describe, expect, test } from 'vitest';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);
let ann: Session;

beforeAll(async () => {
  ann = await api.register('forms@example.com');
});

/** What a form shows: each field with its sentence. */
async function told(query: string, variables: Record<string, unknown> = {}) {
  const { errors } = await api.query(query, variables, ann.accessToken);
  return errors
    .map(({ message, extensions }) => [extensions.field, message, extensions.code])
    .sort();
}

const createTask =
  'mutation ($task: TaskInput!) { createTask(input: { task: $task }) { task { rowId } } }';
const check = 'CHECK_VIOLATION';
const invalid = 'VALIDATION_FAILED';

describe('a form is told', () => {
  test('what each field takes, in words', async () => {
    expect(await told(createTask, { task: { title: '' } })).toEqual([
      ['title', 'a title has 1 to 500 characters, not only white space', check],
    ]);
    expect(await told(createTask, { task: { title: 'x', listId: ann.userId } })).toEqual([
      ['listId', 'there is no such list', 'FOREIGN_KEY_VIOLATION'],
    ]);
  });

  test('of all fields that are wrong, not only of the first', async () => {
    const task = { title: ' ', description: 'x'.repeat(20_001), positionInList: -1 };
    const all = [
      ['description', 'a description has at most 20,000 characters', check],
      ['positionInList', 'a position is 0 or more', check],
      ['title', 'a title has 1 to 500 characters, not only white space', check],
    ];
    expect(await told(createTask, { task })).toEqual(all);
    // Written into the document, behind an alias and a fragment.
    const literal = `mutation { ...f } fragment f on Mutation { mine: createTask(input: { task: {
      title: " ", description: "${'x'.repeat(20_001)}", positionInList: -1 } }) { clientMutationId } }`;
    expect(await told(literal)).toEqual(all);
    const profile = `mutation { updateUser(input: { rowId: "${ann.userId}", patch: {
      firstName: "", birthdayDate: "2300-01-01" } }) { clientMutationId } }`;
    expect((await told(profile)).map(([field]) => field)).toEqual(['birthdayDate', 'firstName']);
    const register = `mutation { register(input: {
      email: "none", password: "correct horse", firstName: "" }) { result { userId } } }`;
    expect((await told(register)).map(([field]) => field)).toEqual(['email', 'firstName']);
  });

  test('what is there twice', async () => {
    const { data } = await api.query<{ createHabit: { habit: { rowId: string } } }>(
      'mutation { createHabit(input: { habit: { name: "read" } }) { habit { rowId } } }',
      {},
      ann.accessToken,
    );
    const log = `mutation { createHabitLog(input: { habitLog: {
      habitId: "${data.createHabit.habit.rowId}", logDate: "2030-01-31" } }) { clientMutationId } }`;
    expect(await told(log)).toEqual([]);
    expect((await told(log)).map(([, ...rest]) => rest)).toEqual([
      ['this habit is already logged for that day', 'UNIQUE_VIOLATION'],
    ]);
  });

  test('of dates, times, instants and ids that are none, in variables and in documents', async () => {
    const looks = 'a date looks like 2030-01-31';
    for (const dueDate of [
      '2030-01-31T23:30:00Z',
      '2030-02-30',
      '2030-1-31',
      '31.01.2030',
      'tomorrow',
      'infinity',
      '0044-03-15 BC',
      '+12030-01-01',
      '',
      20300131,
    ]) {
      expect(await told(createTask, { task: { title: 'x', dueDate } }), String(dueDate)).toEqual([
        ['dueDate', looks, invalid],
      ]);
    }
    const both = { title: 'x', dueDate: 'soon', rowId: 'none', listId: 'none' };
    expect((await told(createTask, { task: both })).map(([field]) => field)).toEqual([
      ...['dueDate', 'listId', 'rowId'],
    ]);
    const literal =
      'mutation { createTask(input: { task: { title: "x", dueDate: "2030-02-30" } }) { clientMutationId } }';
    expect(await told(literal)).toEqual([['dueDate', looks, invalid]]);
    expect(await told('{ task(rowId: "7") { title } }')).toMatchObject([
      ['rowId', expect.stringContaining('an id looks like'), invalid],
    ]);
    const one = 'query ($id: UUID!) { task(rowId: $id) { title } }';
    expect(await told(one, { id: 'x' })).toMatchObject([['id', expect.anything(), invalid]]);
    const many =
      'query ($days: [Date!]) { tasks(filter: { dueDate: { in: $days } }) { totalCount } }';
    expect(await told(many, { days: ['2030-01-31', 'x'] })).toEqual([['days', looks, invalid]]);
    const send = (text: string) =>
      told(`mutation { updateUser(input: { rowId: "${ann.userId}", patch: {
        sendTime: "${text}" } }) { clientMutationId } }`);
    for (const wrong of ['24:00', '9:30', '09:30:60', '09:30+02', 'noon']) {
      expect(await send(wrong), wrong).toEqual([
        ['sendTime', 'a time of day looks like 09:30:00', invalid],
      ]);
    }
    expect(await send('09:30')).toEqual([]);
    const since = (text: string) =>
      told(`{ tasks(filter: { createdAt: { lessThan: "${text}" } }) { totalCount } }`);
    for (const wrong of [
      'now',
      'infinity',
      '2030-01-31',
      '2030-01-31T09:30:00',
      '2030-02-30T09:30Z',
    ]) {
      expect(
        (await since(wrong)).map(([field]) => field),
        wrong,
      ).toEqual(['lessThan']);
    }
    for (const right of ['2030-01-31T09:30:00.123Z', '2030-01-31T09:30+05:45']) {
      expect(await since(right), right).toEqual([]);
    }
  });

  test('of null characters, which PostgreSQL cannot hold', async () => {
    const sentence = 'a text has no null characters';
    expect(await told(createTask, { task: { title: 'a\0b' } })).toEqual([
      ['title', sentence, invalid],
    ]);
    const literal = String.raw`mutation { createTask(input: { task: { title: "a\u0000b" } }) { clientMutationId } }`;
    expect(await told(literal)).toEqual([['title', sentence, invalid]]);
    expect(await told(literal.replace('\\u0000', '\0'))).toEqual([['title', sentence, invalid]]);
    const search = 'query ($words: String!) { searchTasks(query: $words) { totalCount } }';
    expect(await told(search, { words: '\0' })).toEqual([['words', sentence, invalid]]);
    const data = { name: 'x', data: { 'a\0': 1 } };
    const workspace =
      'mutation ($it: WorkspaceInput!) { createWorkspace(input: { workspace: $it }) { clientMutationId } }';
    expect(await told(workspace, { it: data })).toEqual([['data', sentence, invalid]]);
  });

  test('to sign in first, whatever it asks for', async () => {
    for (const query of [
      '{ tasks { totalCount } }',
      '{ userSetting { theme } }',
      '{ searchTasks(query: "x") { totalCount } }',
      'mutation { createTask(input: { task: { title: "x" } }) { clientMutationId } }',
      `mutation { deleteTask(input: { rowId: "${ann.userId}" }) { clientMutationId } }`,
      'mutation { takeSnapshot(input: { name: "x" }) { clientMutationId } }',
    ]) {
      expect(await api.codes(query), query).toEqual(['UNAUTHENTICATED']);
    }
  });

  test('that a global id finds nothing', async () => {
    const list = await api.query<{ createList: { list: { id: string; rowId: string } } }>(
      'mutation { createList(input: { list: { name: "x" } }) { list { id rowId } } }',
      {},
      ann.accessToken,
    );
    const { id, rowId } = list.data.createList.list;
    const gone = Buffer.from(JSON.stringify(['tasks', ann.userId, rowId])).toString('base64');
    for (const wrong of ['garbage', '', id, rowId, gone, 'WyJ0YXNrcyJd', 'WyJ0YXNrcyIsMV0=']) {
      for (const field of [
        `updateTaskById(input: { id: "${wrong}", patch: { title: "x" } })`,
        `deleteTaskById(input: { id: "${wrong}" })`,
      ]) {
        const codes = await api.codes(
          `mutation { ${field} { clientMutationId } }`,
          {},
          ann.accessToken,
        );
        expect(codes, field).toHaveLength(1);
        expect(['NOT_FOUND', invalid], `${field}: ${codes}`).toContain(codes[0]);
      }
    }
  });
});

interface Tasks {
  tasks: { nodes: { title: string }[]; pageInfo: { endCursor: string; hasNextPage: boolean } };
}

describe("an enum is a CHECK's list", () => {
  test('a value that does not exist is refused, wherever it stands', async () => {
    for (const query of [
      '{ tasks(filter: { status: { equalTo: doing } }) { totalCount } }',
      '{ tasks(condition: { priority: highest }) { totalCount } }',
      'mutation { createTask(input: { task: { title: "x", status: doing } }) { clientMutationId } }',
      'mutation { createTask(input: { task: { title: "x", status: "done" } }) { clientMutationId } }',
      '{ messageLogs(condition: { status: LOST }) { totalCount } }',
    ]) {
      expect(await api.codes(query, {}, ann.accessToken), query).toEqual([
        'GRAPHQL_VALIDATION_FAILED',
      ]);
    }
  });

  test('its values are described, and come in the order of the CHECK', async () => {
    const { data } = await api.query<{
      __type: { description: string; enumValues: { name: string; description: string }[] };
    }>('{ __type(name: "TaskPriority") { description enumValues { name description } } }');
    expect(data.__type.description).toBe('A priority is low, medium, high or urgent.');
    expect(data.__type.enumValues.map(({ name }) => name)).toEqual([
      ...['low', 'medium', 'high', 'urgent'],
    ]);
    for (const { description } of data.__type.enumValues)
      expect(description).toMatch(/^[A-Z].*\.$/);
  });

  test('an order by it is that of the CHECK, a page at a time and by an index', async () => {
    const { userId, accessToken } = await api.register('order@example.com');
    await db.as('owner')`
      insert into app_public.tasks (user_id, title, priority)
      select ${userId}, priority, priority
      from unnest(array['high', 'low', 'urgent', 'medium', 'low']) as priority`;
    const walk = async (order: string) => {
      const titles: string[] = [];
      let after: string | null = null;
      for (;;) {
        const { data }: { data: Tasks } = await api.query<Tasks>(
          `query ($after: Cursor) { tasks(first: 2, after: $after, orderBy: ${order}) {
            nodes { title } pageInfo { endCursor hasNextPage } } }`,
          { after },
          accessToken,
        );
        titles.push(...data.tasks.nodes.map(({ title }) => title));
        if (!data.tasks.pageInfo.hasNextPage) return titles;
        after = data.tasks.pageInfo.endCursor;
      }
    };
    expect(await walk('PRIORITY_ASC')).toEqual(['low', 'low', 'medium', 'high', 'urgent']);
    expect(await walk('PRIORITY_DESC')).toEqual(['urgent', 'high', 'medium', 'low', 'low']);
    const plan = await db.as('owner').begin(async (sql) => {
      await sql`set local enable_sort = off`;
      return sql<{ 'QUERY PLAN': string }[]>`
        explain select id from app_public.tasks where user_id = ${userId}
        order by array_position(array['low'::text, 'medium'::text, 'high'::text, 'urgent'::text],
          tasks.priority), id`;
    });
    expect(plan.map((row) => row['QUERY PLAN']).join('\n')).toMatch(/Index Scan(?![\s\S]*Sort)/);
  });
});
