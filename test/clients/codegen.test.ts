import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { generate } from '@graphql-codegen/cli';
import { buildSchema, isScalarType, isSpecifiedScalarType } from 'graphql';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { projectRoot } from '../../src/project.ts';
import { jwtSecret } from '../helpers/api.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { code, expectTable, readPage } from '../helpers/reference.ts';
import { useServed } from '../helpers/served.ts';

const run = promisify(execFile);
const db = useDatabase();
const sdl = join(projectRoot, 'docs', 'schema.graphql');
const cache = join(projectRoot, 'node_modules', '.cache');
mkdirSync(cache, { recursive: true });
/** A frontend's project, whose packages are those of this one. */
const project = mkdtempSync(join(cache, 'codegen-'));
const persisted = join(project, 'src', 'gql', 'persisted-documents.json');

const source = `import { graphql } from './gql';

export const addTask = graphql(\`mutation AddTask($task: TaskInput!) {
  createTask(input: { task: $task }) { task { rowId title status priority dueDate createdAt } }
}\`);
export const listTasks = graphql(\`query ListTasks($status: TaskStatus!, $before: Date) {
  tasks(filter: { status: { equalTo: $status }, dueDate: { lessThan: $before } }) {
    nodes { rowId title status dueDate } totalCount
  }
}\`);
`;

/** Uses every type as a frontend would; what does not fit does not compile. */
const uses = `import type { ResultOf, VariablesOf } from '@graphql-typed-document-node/core';
import type { addTask, listTasks } from './operations';

const variables: VariablesOf<typeof listTasks> = { status: 'in_progress', before: '2030-01-31' };
// @ts-expect-error: there is no such status
const wrong: VariablesOf<typeof listTasks> = { status: 'doing' };
export const titles = (data: ResultOf<typeof listTasks>): string[] =>
  data.tasks?.nodes.map(({ title, dueDate }) => title + (dueDate ?? '')) ?? [];
export const made = (data: ResultOf<typeof addTask>): string | undefined =>
  data.createTask?.task?.createdAt;
export { variables, wrong };
`;

beforeAll(async () => {
  mkdirSync(join(project, 'src'));
  writeFileSync(join(project, 'src', 'operations.ts'), source);
  writeFileSync(join(project, 'src', 'uses.ts'), uses);
  const [, text = ''] = /```json\n({\s*"schema"[\s\S]*?)```/.exec(readPage('graphql')) ?? [];
  const config = JSON.parse(text);
  await generate({ ...config, schema: sdl, cwd: project, silent: true, errorsOnly: true }, true);
}, patience(60_000));
afterAll(() => rmSync(project, { recursive: true }));

const api = useServed(db, () => ({
  GW_PERSISTED_OPERATIONS: persisted,
  GW_OPERATIONS: 'persisted',
}));

test('every scalar has its type for TypeScript in the reference', () => {
  const scalars = Object.values(buildSchema(readFileSync(sdl, 'utf8')).getTypeMap())
    .filter((type) => isScalarType(type) && !isSpecifiedScalarType(type))
    .map(({ name }) => ({ scalar: code(name) }));
  expectTable('graphql', 'Scalars', scalars);
});

test('what the client preset generates compiles, and refuses a value that does not exist', {
  timeout: patience(60_000),
}, async () => {
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        ...{ strict: true, noEmit: true, skipLibCheck: true, types: [] },
        ...{ module: 'esnext', moduleResolution: 'bundler', target: 'es2022' },
      },
      include: ['src'],
    }),
  );
  const tsc = join(projectRoot, 'node_modules', '.bin', 'tsc');
  const { stdout } = await run(tsc, ['-p', project]).catch((error) => error);
  expect(stdout).toBe('');
});

test('its hashes are the persisted operations of the API, and nothing else is run', async () => {
  const documents = JSON.parse(readFileSync(persisted, 'utf8')) as Record<string, string>;
  const hashOf = (name: string): string =>
    Object.entries(documents).find(([, text]) => text.includes(` ${name}(`))?.[0] ?? '';
  expect(Object.keys(documents)).toHaveLength(2);
  const send = async (body: object, token?: string) => {
    const response = await fetch(api.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify(body),
    });
    return (await response.json()) as {
      data?: unknown;
      errors?: { extensions: { code: string } }[];
    };
  };
  const refused = await send({ query: '{ __typename }' });
  expect(refused.errors?.[0]?.extensions.code).toBe('BAD_REQUEST');
  const anonymous = await send({
    documentId: hashOf('ListTasks'),
    variables: { status: 'todo', before: '2030-01-31' },
  });
  expect(anonymous.errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  const { userId } = await createUser(db.as('owner')).then(({ id }) => ({ userId: id }));
  const exp = Math.floor(Date.now() / 1000) + 60;
  const token = await signAccessToken({ sub: userId, sid: userId, exp }, jwtSecret);
  const task = { title: 'generated', priority: 'urgent', dueDate: '2029-01-31' };
  const made = await send({ documentId: hashOf('AddTask'), variables: { task } }, token);
  expect(made.data).toMatchObject({ createTask: { task: { ...task, status: 'todo' } } });
  const variables = { status: 'todo', before: '2030-01-31' };
  const extensions = { persistedQuery: { version: 1, sha256Hash: hashOf('ListTasks') } };
  expect((await send({ variables, extensions }, token)).data).toMatchObject({
    tasks: { totalCount: 1, nodes: [{ title: 'generated' }] },
  });
  const { stdout } = await run(process.execPath, [
    join(projectRoot, 'src', 'cli.ts'),
    ...['operations', persisted],
  ]);
  expect(stdout).toContain('2');
});
