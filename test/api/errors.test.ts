import { describe, expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';

const db = useDatabase();
const api = useApi(db);

const register = (fields: string): string =>
  `mutation { register(input: { ${fields} }) { result { userId } } }`;
const createTask = `mutation ($task: TaskInput!) {
  createTask(input: { task: $task }) { task { rowId title } } }`;

let count = 0;
const someone = async () => {
  count += 1;
  return (await api.register(`errors${count}@example.com`)).accessToken;
};

describe('errors have a code, and a field where there is one', () => {
  test.each([
    [
      'a taken e-mail',
      'email: "TAKEN@example.com", password: "12345678", firstName: "A"',
      'UNIQUE_VIOLATION',
      'email',
      /^this e-mail address is taken$/,
    ],
    [
      'an e-mail that is none',
      'email: "nonsense", password: "12345678", firstName: "A"',
      'CHECK_VIOLATION',
      'email',
      /looks like name@example.com/,
    ],
    [
      'a password too short',
      'email: "a@b.cc", password: "1234567", firstName: "A"',
      'VALIDATION_FAILED',
      'password',
      /password/,
    ],
    [
      'an empty name',
      'email: "a@b.cc", password: "12345678", firstName: ""',
      'CHECK_VIOLATION',
      'firstName',
      /^a first name has 1 to 100 characters/,
    ],
    [
      'an unknown zone',
      'email: "a@b.cc", password: "12345678", firstName: "A", timezone: "Mars/X"',
      'FOREIGN_KEY_VIOLATION',
      'timezone',
      /^there is no such timezone$/,
    ],
  ])('%s', async (_, fields, code, field, message) => {
    await api.register('taken@example.com').catch(() => {});
    const { errors } = await api.query(register(fields));
    expect(errors).toHaveLength(1);
    expect(errors[0]?.extensions).toEqual({ code, field });
    expect(errors[0]?.message).toMatch(message);
  });

  test('a check on a partitioned table names its field', async () => {
    const { errors } = await api.query(createTask, { task: { title: ' ' } }, await someone());
    expect(errors[0]?.extensions).toEqual({ code: 'CHECK_VIOLATION', field: 'title' });
  });

  test('a key that is used twice', async () => {
    const token = await someone();
    const task = { title: 'once', rowId: '5f0c1b9e-6d57-4b52-9d9c-0d3c5c4c6f11' };
    expect(await api.codes(createTask, { task }, token)).toEqual([]);
    const { errors } = await api.query(createTask, { task }, token);
    expect(errors[0]?.extensions).toEqual({ code: 'UNIQUE_VIOLATION', field: 'rowId' });
  });

  test('a row that is not there, and a patch that changes nothing', async () => {
    const token = await someone();
    const id = '00000000-0000-4000-8000-000000000000';
    const on = `rowId: "${id}"`;
    const update = `mutation { updateTask(input: { ${on}, patch: { title: "x" } }) { clientMutationId } }`;
    const remove = `mutation { deleteTask(input: { ${on} }) { clientMutationId } }`;
    const empty = `mutation { updateTask(input: { ${on}, patch: {} }) { clientMutationId } }`;
    expect(await api.codes(update, {}, token)).toEqual(['NOT_FOUND']);
    expect(await api.codes(remove, {}, token)).toEqual(['NOT_FOUND']);
    expect(await api.codes(empty, {}, token)).toEqual(['VALIDATION_FAILED']);
  });

  test('what anonymous may not do', async () => {
    expect(await api.codes('{ tasks { nodes { title } } }')).toEqual(['UNAUTHENTICATED']);
    expect(await api.codes(createTask, { task: { title: 'x' } })).toEqual(['UNAUTHENTICATED']);
  });

  test('a document or variable that the schema does not know', async () => {
    expect(await api.codes('{ nothing }')).toEqual(['GRAPHQL_VALIDATION_FAILED']);
    expect(await api.codes('{ viewer {')).toEqual(['GRAPHQL_VALIDATION_FAILED']);
    expect(await api.codes('subscription { viewer }')).toContain('GRAPHQL_VALIDATION_FAILED');
    expect(await api.codes('subscription { __typename }')).toEqual(['GRAPHQL_VALIDATION_FAILED']);
    expect(await api.codes(createTask, { task: { title: 7 } })).toEqual([
      'GRAPHQL_VALIDATION_FAILED',
    ]);
    expect(await api.codes(createTask, { task: { userId: 'x', title: 'x' } })).toEqual([
      'GRAPHQL_VALIDATION_FAILED',
    ]);
  });

  test('anything else is masked, with an id and without a word of the database', async () => {
    const sql = db.as('superuser');
    await sql.unsafe(`
      create function app_private.tg_break() returns trigger language plpgsql as
        $$ begin raise exception 'secret detail of table tasks' using errcode = 'XX001'; end $$;
      create trigger _999_break before insert on app_public.tasks for each row
        when (new.title = 'break') execute function app_private.tg_break();
    `);
    const { errors } = await api.query(createTask, { task: { title: 'break' } }, await someone());
    expect(errors[0]?.extensions).toEqual({
      code: 'INTERNAL',
      errorId: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(JSON.stringify(errors)).not.toMatch(/secret|XX001/);
    expect(errors[0]?.message).toContain(errors[0]?.extensions.errorId);
  });

  test('a statement that takes longer than five seconds is ended', {
    timeout: patience(15_000),
  }, async () => {
    await db.as('superuser').unsafe(`
      create function app_private.tg__slow() returns trigger language plpgsql as
        $$ begin perform pg_sleep(30); return new; end $$;
      create trigger _999_slow before insert on app_public.tasks for each row
        when (new.title = 'slow') execute function app_private.tg__slow();
    `);
    const started = Date.now();
    expect(await api.codes(createTask, { task: { title: 'slow' } }, await someone())).toEqual([
      'TIMEOUT',
    ]);
    expect(Date.now() - started).toBeGreaterThan(4_500);
  });
});
