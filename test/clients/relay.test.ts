import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ConcreteRequest, GraphQLResponse } from 'relay-runtime';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { useServed } from '../helpers/served.ts';

// It is CommonJS, and does not name what it exports.
const relay = createRequire(import.meta.url)('relay-runtime') as typeof import('relay-runtime');
const run = promisify(execFile);
const db = useDatabase();
const api = useServed(db);
/** A frontend's project. */
const project = mkdtempSync(join(tmpdir(), 'groundwork-relay-'));
const generated = join(project, 'src', '__generated__');

const source = `import { graphql } from 'relay-runtime';

export const list = graphql\`
  fragment Tasks_query on Query
  @refetchable(queryName: "TasksPaginationQuery")
  @argumentDefinitions(count: { type: "Int", defaultValue: 2 }, cursor: { type: "Cursor" }) {
    tasks(first: $count, after: $cursor, orderBy: [DUE_DATE_ASC]) @connection(key: "Tasks_tasks") {
      totalCount
      edges { node { id title priority } }
    }
  }
\`;
export const page = graphql\`query TasksQuery { ...Tasks_query }\`;
export const add = graphql\`
  mutation TasksAddMutation($input: CreateTaskInput!, $connections: [ID!]!) {
    createTask(input: $input) {
      taskEdge @appendEdge(connections: $connections) { node { id title } }
    }
  }
\`;
export const remove = graphql\`
  mutation TasksRemoveMutation($input: DeleteTaskByIdInput!, $connections: [ID!]!) {
    deleteTaskById(input: $input) { deletedTaskId @deleteEdge(connections: $connections) }
  }
\`;
`;

beforeAll(async () => {
  mkdirSync(generated, { recursive: true });
  writeFileSync(join(project, 'src', 'Tasks.js'), source);
  writeFileSync(
    join(project, 'relay.config.json'),
    JSON.stringify({
      ...{ src: './src', artifactDirectory: './src/__generated__', language: 'javascript' },
      ...{ schema: './schema.graphql', eagerEsModules: false },
    }),
  );
  writeFileSync(
    join(project, 'schema.graphql'),
    readFileSync(join(projectRoot, 'docs', 'schema.graphql')),
  );
  writeFileSync(join(project, 'package.json'), '{"type": "commonjs"}');
  await run(join(projectRoot, 'node_modules', '.bin', 'relay-compiler'), [], {
    cwd: project,
  }).catch(({ stdout, stderr }) => {
    throw new Error(`${stdout}${stderr}`);
  });
}, patience(60_000));
afterAll(() => rmSync(project, { recursive: true }));

const artifact = (name: string): ConcreteRequest =>
  createRequire(import.meta.url)(join(generated, `${name}.graphql.js`));

interface Page {
  tasks: {
    totalCount: number;
    edges: { node: { id: string; title: string } }[];
    pageInfo: { endCursor: string; hasNextPage: boolean };
  };
}

test('Relay compiles pagination, walks all pages, and keeps its connections current', {
  timeout: patience(60_000),
}, async () => {
  expect(readdirSync(generated)).toContain('TasksPaginationQuery.graphql.js');
  const { userId, accessToken } = await api.signUp('relay@example.com');
  await db.as('owner')`
    insert into app_public.tasks (user_id, title, due_date)
    select ${userId}, 'task ' || number, case when number < 4 then date '2030-01-01' + number end
    from generate_series(1, 5) as number`;
  const environment = new relay.Environment({
    store: new relay.Store(new relay.RecordSource()),
    network: relay.Network.create(async ({ text }, variables) => {
      const response = await fetch(api.url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          accept: 'application/graphql-response+json',
          authorization: `Bearer ${accessToken}`,
        },
        body: JSON.stringify({ query: text, variables }),
      });
      return (await response.json()) as GraphQLResponse;
    }),
  });
  const read = async (name: string, variables: object): Promise<Page> => {
    const operation = relay.createOperationDescriptor(artifact(name), variables as never);
    await relay.fetchQuery(environment, artifact(name), variables as never).toPromise();
    const { data } = environment.lookup(operation.fragment) as unknown as { data: object };
    const [fragment] = Object.entries((data as { __fragments: object }).__fragments);
    expect(fragment?.[0]).toBe('Tasks_query');
    const selector = relay.getSingularSelector(
      artifact('Tasks_query') as never,
      data as never,
    ) as never;
    return environment.lookup(selector).data as unknown as Page;
  };

  const titles: string[] = [];
  let page = await read('TasksQuery', {});
  titles.push(...page.tasks.edges.map(({ node }) => node.title));
  while (page.tasks.pageInfo.hasNextPage) {
    page = await read('TasksPaginationQuery', { count: 2, cursor: page.tasks.pageInfo.endCursor });
    titles.splice(0, titles.length, ...page.tasks.edges.map(({ node }) => node.title));
  }
  expect(titles.slice(0, 3)).toEqual(['task 1', 'task 2', 'task 3']);
  expect([...titles].sort()).toEqual(['task 1', 'task 2', 'task 3', 'task 4', 'task 5']);
  expect(page.tasks.totalCount).toBe(5);

  const mutate = (name: string, variables: object) =>
    new Promise<object>((resolve, reject) => {
      relay.commitMutation(environment, {
        mutation: artifact(name),
        variables: variables as never,
        onError: reject,
        onCompleted: (response, errors) =>
          errors == null ? resolve(response as object) : reject(new Error(JSON.stringify(errors))),
      });
    });
  const connections = [
    relay.ConnectionHandler.getConnectionID('client:root', 'Tasks_tasks', {
      orderBy: ['DUE_DATE_ASC'],
    }),
  ];
  const made = (await mutate('TasksAddMutation', {
    ...{ connections, input: { task: { title: 'added' } } },
  })) as { createTask: { taskEdge: { node: { id: string } } } };
  const { id } = made.createTask.taskEdge.node;
  expect((await mutate('TasksRemoveMutation', { connections, input: { id } })) as object).toEqual({
    deleteTaskById: { deletedTaskId: id },
  });
});
