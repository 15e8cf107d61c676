import { beforeEach, describe, expect, test } from 'vitest';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);
let ann: Session;
let bob: Session;
let count = 0;

beforeEach(async () => {
  count += 1;
  ann = await api.register(`ann${count}@example.com`);
  bob = await api.register(`bob${count}@example.com`);
});

const create = `mutation ($tasks: [TaskInput!]!) {
  createTasks(input: { tasks: $tasks, clientMutationId: "mine" }) {
    clientMutationId tasks { rowId title status priority } query { tasks { totalCount } }
  }
}`;
const update = `mutation ($patches: [UpdateTasksItem!]!) {
  updateTasks(input: { patches: $patches }) { tasks { rowId title status } }
}`;
const remove = `mutation ($keys: [DeleteTasksItem!]!) {
  deleteTasks(input: { keys: $keys }) { deletedTaskIds }
}`;

interface Task {
  rowId: string;
  title: string;
  status: string;
}

async function made(titles: string[], session = ann): Promise<Task[]> {
  const tasks = titles.map((title) => ({ title }));
  const { data, errors } = await api.query<{ createTasks: { tasks: Task[] } }>(
    create,
    { tasks },
    session.accessToken,
  );
  expect(errors).toEqual([]);
  return data.createTasks.tasks;
}

async function told(query: string, variables: Record<string, unknown>, session = ann) {
  const { data, errors } = await api.query(query, variables, session.accessToken);
  expect(Object.values(data ?? {}).every((value) => value === null)).toBe(true);
  return errors.map(({ message, extensions }) => [
    (extensions as { index?: number }).index,
    extensions.field,
    message,
    extensions.code,
  ]);
}

const titles = async ({ userId }: Session): Promise<string[]> => {
  const rows = await db.as('owner')<{ title: string }[]>`
    select title from app_public.tasks where user_id = ${userId} order by title`;
  return rows.map(({ title }) => title);
};

describe('many rows are created', () => {
  test('in the order of the input, with the defaults of what is not given', async () => {
    const tasks = [
      { title: 'b', priority: 'urgent' },
      { title: 'a', status: 'done', description: null },
      { title: 'c' },
    ];
    const { data, errors } = await api.query<{ createTasks: object }>(
      create,
      { tasks: tasks.map(({ description: _, ...task }) => task) },
      ann.accessToken,
    );
    expect(errors).toEqual([]);
    expect(data.createTasks).toMatchObject({
      clientMutationId: 'mine',
      tasks: [
        { title: 'b', status: 'todo', priority: 'urgent' },
        { title: 'a', status: 'done', priority: 'medium' },
        { title: 'c', status: 'todo', priority: 'medium' },
      ],
      query: { tasks: { totalCount: 3 } },
    });
    expect(await told(create, { tasks })).toEqual([
      [1, 'description', 'description must not be empty', 'VALIDATION_FAILED'],
    ]);
  });

  test('a hundred in one statement, and no more', async () => {
    const statements = async () => {
      const [row] = await db.as('superuser')<{ calls: string }[]>`
        select coalesce(sum(calls), 0) as calls from pg_stat_statements
        where query ~* '^insert into "?app_public"?."?tasks"?'`;
      return Number(row?.calls ?? 0);
    };
    const before = await statements();
    const hundred = await made(Array.from({ length: 100 }, (_, n) => `task ${n}`));
    expect(hundred.map(({ title }) => title)).toEqual(
      Array.from({ length: 100 }, (_, n) => `task ${n}`),
    );
    expect((await statements()) - before).toBe(1);
    for (const tasks of [[], Array.from({ length: 101 }, () => ({ title: 'x' }))]) {
      expect(await told(create, { tasks })).toEqual([
        [
          undefined,
          'tasks',
          `tasks has 1 to 100 rows, and this ${tasks.length}`,
          'VALIDATION_FAILED',
        ],
      ]);
    }
  });

  test('all or none: each that is wrong is told, with its place', async () => {
    const [there] = await made(['there']);
    const tasks = [
      { title: 'good' },
      { title: '', positionInList: -1 },
      { title: 'good too' },
      { title: 'twice', rowId: there?.rowId },
      { title: 'lost', listId: bob.userId },
    ];
    const title = 'a title has 1 to 500 characters, not only white space';
    expect(await told(create, { tasks })).toEqual([
      [1, 'positionInList', 'a position is 0 or more', 'CHECK_VIOLATION'],
      [1, 'title', title, 'CHECK_VIOLATION'],
      [3, 'rowId', 'you have a task with this id already', 'UNIQUE_VIOLATION'],
      [4, 'listId', 'there is no such list', 'FOREIGN_KEY_VIOLATION'],
    ]);
    expect(await titles(ann)).toEqual(['there']);
  });

  test('two that are each other’s fault are told as the second', async () => {
    const rowId = '5f0c1b9e-6d57-4b52-9d9c-0d3c5c4c6f11';
    const tasks = [
      { title: 'one', rowId },
      { title: 'two', rowId },
    ];
    expect((await told(create, { tasks })).map(([index]) => index)).toEqual([1]);
    expect(await titles(ann)).toEqual([]);
  });

  test('tables with keys of several columns, and rows of nothing but defaults', async () => {
    const { data } = await api.query<{ createChats: { chats: { title: string }[] } }>(
      'mutation { createChats(input: { chats: [{}, {}, { title: "named" }] }) { chats { title } } }',
      {},
      ann.accessToken,
    );
    expect(data.createChats.chats.map(({ title }) => title)).toEqual([
      ...['New chat', 'New chat', 'named'],
    ]);
    const all = await api.query<{ createChats: { chats: object[] } }>(
      'mutation { createChats(input: { chats: [{}, {}] }) { chats { title } } }',
      {},
      ann.accessToken,
    );
    expect(all.data.createChats.chats).toHaveLength(2);
  });
});

describe('many rows are changed', () => {
  test('each by its own patch, and nothing else of it', async () => {
    const [one, two] = await made(['one', 'two']);
    const patches = [
      { rowId: two?.rowId, patch: { title: 'second' } },
      { rowId: one?.rowId, patch: { status: 'done' } },
    ];
    const { data, errors } = await api.query(update, { patches }, ann.accessToken);
    expect(errors).toEqual([]);
    expect(data).toEqual({
      updateTasks: {
        tasks: [
          { rowId: two?.rowId, title: 'second', status: 'todo' },
          { rowId: one?.rowId, title: 'one', status: 'done' },
        ],
      },
    });
  });

  test('all or none: what is not there, wrong, named twice or empty', async () => {
    const [one, two] = await made(['one', 'two']);
    const [theirs] = await made(['theirs'], bob);
    const patch = { title: 'new' };
    const [a, b, c] = [one?.rowId, two?.rowId, theirs?.rowId];
    const refused = (patches: object[]) => told(update, { patches });
    expect(
      await refused([
        { rowId: a, patch },
        { rowId: c, patch },
        { rowId: b, patch: { title: '' } },
      ]),
    ).toEqual([
      [1, undefined, 'there is no such row', 'NOT_FOUND'],
      [2, 'title', 'a title has 1 to 500 characters, not only white space', 'CHECK_VIOLATION'],
    ]);
    expect(
      (
        await refused([
          { rowId: a, patch },
          { rowId: c, patch },
        ])
      )[0]?.[0],
    ).toBe(1);
    expect(
      (
        await refused([
          { rowId: a, patch },
          { rowId: a?.toUpperCase(), patch },
        ])
      )[0]?.[2],
    ).toBe('a row is named twice');
    expect((await refused([{ rowId: a, patch: {} }]))[0]?.[3]).toBe('VALIDATION_FAILED');
    expect(await titles(ann)).toEqual(['one', 'two']);
    expect(await titles(bob)).toEqual(['theirs']);
  });
});

describe('many rows are deleted', () => {
  test('with the ids of the single mutation, all or none', async () => {
    const [one, two, three] = await made(['one', 'two', 'three']);
    const [theirs] = await made(['theirs'], bob);
    const keys = (...rows: (Task | undefined)[]) => ({
      keys: rows.map((row) => ({ rowId: row?.rowId })),
    });
    expect(await told(remove, keys(one, theirs))).toEqual([
      [1, undefined, 'there is no such row', 'NOT_FOUND'],
    ]);
    const single = await api.query<{ deleteTask: { deletedTaskId: string } }>(
      `mutation { deleteTask(input: { rowId: "${three?.rowId}" }) { deletedTaskId } }`,
      {},
      ann.accessToken,
    );
    const { data } = await api.query<{ deleteTasks: { deletedTaskIds: string[] } }>(
      remove,
      keys(two, one),
      ann.accessToken,
    );
    const decode = (id: string) => JSON.parse(Buffer.from(id, 'base64').toString());
    expect(data.deleteTasks.deletedTaskIds.map(decode)).toEqual([
      ['Task', ann.userId, two?.rowId],
      ['Task', ann.userId, one?.rowId],
    ]);
    expect(decode(single.data.deleteTask.deletedTaskId)).toEqual([
      'Task',
      ann.userId,
      three?.rowId,
    ]);
    expect(await titles(ann)).toEqual([]);
    expect(await titles(bob)).toEqual(['theirs']);
  });
});

describe('an upsert', () => {
  const upsert = `mutation ($log: HabitLogInput!) {
    upsertHabitLog(input: { habitLog: $log }) { habitLog { logDate note habit { name } } }
  }`;
  const habitOf = async ({ accessToken }: Session): Promise<string> => {
    const { data } = await api.query<{ createHabits: { habits: { rowId: string }[] } }>(
      'mutation { createHabits(input: { habits: [{ name: "read" }] }) { habits { rowId } } }',
      {},
      accessToken,
    );
    return data.createHabits.habits[0]?.rowId ?? '';
  };

  test('creates a row, changes the one that is there, and says what is now', async () => {
    const log = { habitId: await habitOf(ann), logDate: '2030-01-31' };
    const ask = async (given: object) =>
      (
        await api.query<{ upsertHabitLog: { habitLog: object } }>(
          upsert,
          { log: given },
          ann.accessToken,
        )
      ).data.upsertHabitLog.habitLog;
    const habit = { name: 'read' };
    expect(await ask(log)).toEqual({ logDate: '2030-01-31', note: '', habit });
    expect(await ask({ ...log, note: 'ten pages' })).toMatchObject({ note: 'ten pages' });
    expect(await ask(log)).toMatchObject({ note: 'ten pages' });
    const [row] = await db.as('owner')`
      select count(*)::int as logs from app_public.habit_logs where user_id = ${ann.userId}`;
    expect(row?.logs).toBe(1);
  });

  test('reaches no row of another user', async () => {
    const log = { habitId: await habitOf(ann), logDate: '2030-01-31', note: 'mine' };
    await api.query(upsert, { log }, ann.accessToken);
    const { errors } = await api.query(
      upsert,
      { log: { ...log, note: 'stolen' } },
      bob.accessToken,
    );
    expect(errors[0]?.extensions).toMatchObject({ code: 'FOREIGN_KEY_VIOLATION' });
    const [row] = await db.as('owner')`
      select note from app_public.habit_logs where user_id = ${ann.userId}`;
    expect(row?.note).toBe('mine');
  });

  test('of a reflection is by its day and kind, which is asked for', async () => {
    const upsertReflection = `mutation ($reflection: ReflectionInput!) {
      upsertReflection(input: { reflection: $reflection }) {
        reflection { rowId reflectionDate kind moodScore content } } }`;
    interface Data {
      upsertReflection: { reflection: { rowId: string } };
    }
    const ask = (reflection: object) =>
      api.query<Data>(upsertReflection, { reflection }, ann.accessToken);
    const day = { reflectionDate: '2030-01-31' };
    const made = await ask({ ...day, kind: 'daily', content: 'from the phone' });
    expect(made.errors).toEqual([]);
    const { reflection } = made.data.upsertReflection;
    const { data } = await ask({ ...day, kind: 'daily', moodScore: 4 });
    expect(data.upsertReflection.reflection).toEqual({ ...reflection, moodScore: 4 });
    const other = await ask({ ...day, kind: 'evening' });
    expect(other.data.upsertReflection.reflection.rowId).not.toBe(reflection.rowId);
    for (const kind of [undefined, null]) {
      const { errors } = await ask({ ...day, kind });
      expect(errors[0]?.extensions).toMatchObject({ code: 'VALIDATION_FAILED', field: 'kind' });
    }
    const twice = await api.query(
      `mutation ($reflection: ReflectionInput!) {
        createReflection(input: { reflection: $reflection }) { reflection { rowId } } }`,
      { reflection: { ...day, kind: 'daily' } },
      ann.accessToken,
    );
    expect(twice.errors[0]).toMatchObject({
      message: 'you have a reflection of this kind for that day already',
      extensions: { code: 'UNIQUE_VIOLATION' },
    });
    const [row] = await db.as('owner')`
      select count(*)::int as n from app_public.reflections where user_id = ${ann.userId}`;
    expect(row?.n).toBe(2);
  });

  test('of an integration is by its provider', async () => {
    const of = (name: string) => `mutation { upsertIntegration(input: { integration: {
      provider: "google", credentialReference: "vault://team/${name}" } }) {
        integration { provider credentialReference } } }`;
    for (const name of ['one', 'two']) {
      const { data, errors } = await api.query(of(name), {}, ann.accessToken);
      expect(errors).toEqual([]);
      expect(data).toEqual({
        upsertIntegration: {
          integration: { provider: 'google', credentialReference: `vault://team/${name}` },
        },
      });
    }
  });
});

test('a hundred rows that are wrong cost one question, and leave connections to others', async () => {
  const asked = async () => {
    const [row] = await db.as('superuser')<{ calls: string }[]>`
      select coalesce(sum(calls), 0) as calls from pg_stat_statements
      inner join pg_database on pg_database.oid = dbid and datname = current_database()
      where query like 'select app_private.violated_checks%'`;
    return Number(row?.calls);
  };
  const before = await asked();
  const tasks = Array.from({ length: 100 }, () => ({ title: '', positionInList: -1 }));
  const { errors } = await api.query(
    'mutation ($tasks: [TaskInput!]!) { createTasks(input: { tasks: $tasks }) { clientMutationId } }',
    { tasks },
    ann.accessToken,
  );
  expect(errors).toHaveLength(200);
  expect((await asked()) - before).toBe(1);
});

test('each table that has a single mutation has one of many, and asks who it is', async () => {
  const { data } = await api.query<{ __type: { fields: { name: string }[] } }>(
    '{ __type(name: "Mutation") { fields { name } } }',
  );
  const names = new Set(data.__type.fields.map(({ name }) => name));
  const single = [...names].filter(
    (name) => /^(create|update|delete)/.test(name) && !/(s|ById|By[A-Z]\w*)$/.test(name),
  );
  const lonely = single.filter((name) => !names.has(`${name}s`));
  // A user has one row of these.
  expect(lonely.sort()).toEqual(['updateUser', 'updateUserSetting']);
  expect(single.length).toBeGreaterThan(30);
  for (const query of [create, update, remove]) {
    const variables = {
      tasks: [{ title: 'x' }],
      patches: [{ rowId: ann.userId, patch: { title: 'x' } }],
      keys: [{ rowId: ann.userId }],
    };
    expect(await api.codes(query, variables)).toEqual(['UNAUTHENTICATED']);
  }
});
