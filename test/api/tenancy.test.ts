import { beforeAll, describe, expect, test } from 'vitest';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);

let ann: Session;
let bob: Session;
let task: { id: string; rowId: string; userId: string };

beforeAll(async () => {
  ann = await api.register('ann@example.com');
  bob = await api.register('bob@example.com');
  const { data } = await api.query<{ createTask: { task: typeof task } }>(
    'mutation { createTask(input: { task: { title: "only mine" } }) { task { id rowId userId } } }',
    {},
    ann.accessToken,
  );
  ({ task } = data.createTask);
});

describe("one user cannot reach another's task", () => {
  test.each([
    ['all', () => '{ tasks { nodes { title } totalCount } }'],
    ['by key', () => `{ task(rowId: "${task.rowId}") { title } }`],
    ['by id', () => `{ taskById(id: "${task.id}") { title } }`],
    ['as a node', () => `{ node(id: "${task.id}") { id } }`],
    ['by condition', () => `{ tasks(condition: { rowId: "${task.rowId}" }) { nodes { title } } }`],
    [
      'through the user',
      () => `{ user(rowId: "${task.userId}") { email tasks { nodes { title } } } }`,
    ],
    ['through users', () => '{ users { nodes { email tasks { nodes { title } } } } }'],
    [
      'through settings',
      () => `{ user(rowId: "${task.userId}") { userSetting { theme user { email } } } }`,
    ],
    ['in the order of a cursor', () => '{ tasks(orderBy: [DUE_DATE_ASC]) { edges { cursor } } }'],
  ])('reading: %s', async (_, query) => {
    const mine = await api.query(query(), {}, ann.accessToken);
    expect(mine.errors).toEqual([]);
    const theirs = await api.query(query(), {}, bob.accessToken);
    expect(theirs.errors).toEqual([]);
    expect(JSON.stringify(theirs.data)).not.toMatch(/only mine|ann@example/);
    expect(theirs.data).not.toEqual(mine.data);
  });

  test.each([
    [
      'updating by key',
      () => `updateTask(input: { rowId: "${task.rowId}", patch: { title: "stolen" } })`,
    ],
    [
      'updating by id',
      () => `updateTaskById(input: { id: "${task.id}", patch: { status: done } })`,
    ],
    ['deleting by key', () => `deleteTask(input: { rowId: "${task.rowId}" })`],
    ['deleting by id', () => `deleteTaskById(input: { id: "${task.id}" })`],
    [
      'their profile',
      () => `updateUser(input: { rowId: "${task.userId}", patch: { firstName: "stolen" } })`,
    ],
  ])('writing: %s', async (_, field) => {
    const document = `mutation { ${field()} { clientMutationId } }`;
    expect(await api.codes(document, {}, bob.accessToken)).toEqual(['NOT_FOUND']);
    const [row] = await db.as('owner')`
      select tasks.title, tasks.status, users.first_name, user_settings.theme
      from app_public.tasks
      inner join app_public.users on users.id = tasks.user_id
      inner join app_public.user_settings on user_settings.user_id = tasks.user_id
      where tasks.id = ${task.rowId}`;
    expect(row).toEqual({
      title: 'only mine',
      status: 'todo',
      first_name: 'Test',
      theme: 'system',
    });
  });

  test('what has one row for a user is the own one', async () => {
    const change =
      'mutation { updateUserSetting(input: { patch: { theme: dark } }) { clientMutationId } }';
    expect(await api.codes(change, {}, bob.accessToken)).toEqual([]);
    const { data } = await api.query('{ userSetting { theme } }', {}, ann.accessToken);
    expect(data).toEqual({ userSetting: { theme: 'system' } });
    expect(await api.codes('{ userSetting { theme } }')).toEqual(['UNAUTHENTICATED']);
  });

  test('a task cannot be made in another name', async () => {
    const { data } = await api.query<{ __type: { inputFields: { name: string }[] } }>(
      '{ __type(name: "TaskInput") { inputFields { name } } }',
    );
    const names = data.__type.inputFields.map(({ name }) => name);
    expect(names).toContain('title');
    expect(names).not.toContain('userId');
  });
});

test('users read and write themselves, their settings and their tasks', async () => {
  const { data, errors } = await api.query(
    `mutation {
      updateUser(input: { rowId: "${bob.userId}", patch: {
        timezone: "Asia/Kathmandu", birthdayDate: "1990-02-28", leapDayPolicy: mar1 } }) {
        user { timezone birthdayDate sendTime } }
      updateUserSetting(input: { patch: { theme: dark } }) {
        userSetting { theme } }
      createTask(input: { task: { title: "write", dueDate: "2030-01-31", priority: high } }) {
        task { title status priority dueDate } }
    }`,
    {},
    bob.accessToken,
  );
  expect(errors).toEqual([]);
  expect(data).toEqual({
    updateUser: {
      user: { timezone: 'Asia/Kathmandu', birthdayDate: '1990-02-28', sendTime: '09:00:00' },
    },
    updateUserSetting: { userSetting: { theme: 'dark' } },
    createTask: {
      task: { title: 'write', status: 'todo', priority: 'high', dueDate: '2030-01-31' },
    },
  });
});

test('nothing that a frontend must not call is in the schema', async () => {
  const { data } = await api.query<{ __schema: { types: { name: string }[] } }>(
    '{ __schema { types { name fields { name } } } }',
  );
  const text = JSON.stringify(data);
  expect(text).toContain('"createTask"');
  expect(text).not.toMatch(
    /setAppUser|setConfig|secret|passwordHash|Ledger|createUser"|deleteUser"/i,
  );
});
