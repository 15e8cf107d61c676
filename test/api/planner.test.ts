import { beforeAll, describe, expect, test } from 'vitest';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);
let ann: Session;
let bob: Session;

async function ask<Data>(token: string, query: string, variables = {}): Promise<Data> {
  const { data, errors } = await api.query<Data>(query, variables, token);
  expect(errors).toEqual([]);
  return data;
}

beforeAll(async () => {
  ann = await api.register('ann@example.com');
  bob = await api.register('bob@example.com');
  const owner = db.as('owner');
  for (const { userId } of [ann, bob]) {
    await owner`
      insert into app_public.tasks (user_id, title, status, priority, due_date)
      select ${userId}::uuid, title, status, priority, due::date
      from (values ('one', 'todo', 'low', '2030-01-01'), ('two', 'done', 'high', null),
        ('three', 'in_progress', 'high', '2030-03-03')) as task (title, status, priority, due)`;
  }
});

type Tasks = { tasks: { nodes: { title: string }[]; totalCount: number } };
const titles = async (token: string, filter: string): Promise<string[]> =>
  (
    await ask<Tasks>(
      token,
      `{ tasks(filter: ${filter}, orderBy: CREATED_AT_ASC) { nodes { title } totalCount } }`,
    )
  ).tasks.nodes
    .map(({ title }) => title)
    .sort();

describe('filters', () => {
  test.each([
    ['equality', '{ status: { equalTo: done } }', ['two']],
    ['one of several', '{ status: { in: [todo, done] } }', ['one', 'two']],
    ['null', '{ dueDate: { isNull: true } }', ['two']],
    ['a range', '{ dueDate: { greaterThan: "2030-01-01", lessThan: "2031-01-01" } }', ['three']],
    [
      'and, or, not',
      '{ or: [{ status: { equalTo: todo } }, { not: { priority: { equalTo: low } } }] }',
      ['one', 'three', 'two'],
    ],
  ])('%s', async (_, filter, expected) => {
    expect(await titles(ann.accessToken, filter)).toEqual(expected);
  });

  test('find words, with other conditions, in lists of related rows and in a search', async () => {
    const { userId, accessToken } = await api.register('words@example.com');
    await db.as('owner')`
      with project as (
        insert into app_public.projects (user_id, name) values (${userId}, 'Garden')
        returning user_id, id
      )
      insert into app_public.tasks (user_id, title, description, status, project_id)
      select user_id, title, description, status, id from project,
        (values ('Buy roses', 'three red ones', 'todo'), ('Water the rose', '', 'done'),
          ('Paint the fence', 'rose or white', 'todo')) as task (title, description, status)`;
    const found = (filter: string) => titles(accessToken, filter);
    expect(await found('{ search: "rose" }')).toHaveLength(3);
    expect(await found('{ search: "rose -fence", status: { equalTo: todo } }')).toEqual([
      'Buy roses',
    ]);
    expect(await found('{ not: { search: "rose" } }')).toEqual([]);
    expect(await found('{ search: "\\"red ones\\" or water" }')).toHaveLength(2);
    expect(await found('{ search: "\'; --" }')).toEqual([]);
    expect(await found('{ search: null }')).toHaveLength(3);
    const data = await ask(
      accessToken,
      `{ projects(filter: { tasks: { some: { search: "fence" } } }) {
          nodes { tasks(filter: { search: "water" }) { nodes { title } aggregates { count } } } }
        searchTasks(query: "rose", filter: { status: { equalTo: done } }) {
          totalCount nodes { title } aggregates { count } } }`,
    );
    expect(data).toEqual({
      projects: {
        nodes: [{ tasks: { nodes: [{ title: 'Water the rose' }], aggregates: { count: 1 } } }],
      },
      searchTasks: {
        ...{ totalCount: 1, nodes: [{ title: 'Water the rose' }] },
        aggregates: { count: 1 },
      },
    });
    // The rows of a table are read where they lie, those of a function are found by their ids.
    expect(
      await ask(
        accessToken,
        '{ searchTasks(query: "rose", filter: { search: "water" }) { nodes { title } } }',
      ),
    ).toEqual({ searchTasks: { nodes: [{ title: 'Water the rose' }] } });
    const statements = await db.as('superuser')<{ query: string }[]>`
      select query from pg_stat_statements
      inner join pg_database on pg_database.oid = dbid and datname = current_database()
      where query like '%matching_tasks%' and query like '%search_tasks%' is false`;
    const isByPlace = ({ query }: { query: string }) =>
      query.includes('.ctid = any') && !query.includes('.id in (select');
    expect(statements.filter(isByPlace).length).toBeGreaterThan(0);
    expect(await titles(bob.accessToken, '{ search: "rose" }')).toEqual([]);
    expect(await ask(bob.accessToken, '{ searchTasks(query: "rose") { totalCount } }')).toEqual({
      searchTasks: { totalCount: 0 },
    });
  });

  test('reach no row of another user, through relations either', async () => {
    const filter = `{ user: { rowId: { equalTo: "${bob.userId}" } } }`;
    expect(await titles(bob.accessToken, filter)).toHaveLength(3);
    expect(await titles(ann.accessToken, filter)).toEqual([]);
  });

  test('and orders are offered where an index serves them, and only there', async () => {
    type Fields = { __type: { inputFields?: { name: string }[]; enumValues?: { name: string }[] } };
    const filter = await ask<Fields>(
      ann.accessToken,
      '{ __type(name: "TaskFilter") { inputFields { name } } }',
    );
    const filters = (filter.__type.inputFields ?? []).map(({ name }) => name);
    expect(filters).toEqual(expect.arrayContaining(['status', 'dueDate', 'title', 'completedAt']));
    expect(filters).not.toContain('description');
    const order = await ask<Fields>(
      ann.accessToken,
      '{ __type(name: "TaskOrderBy") { enumValues { name } } }',
    );
    const orders = (order.__type.enumValues ?? []).map(({ name }) => name);
    expect(orders).toEqual(
      expect.arrayContaining(['DUE_DATE_ASC', 'TITLE_ASC', 'COMPLETED_AT_DESC']),
    );
    expect(orders).not.toContain('DESCRIPTION_ASC');
  });

  test('that are empty or null are refused, as what they are', async () => {
    for (const filter of [
      '{}',
      '{ status: {} }',
      '{ status: null }',
      '{ user: {} }',
      '{ not: {} }',
    ]) {
      const codes = await api.codes(
        `{ tasks(filter: ${filter}) { totalCount } }`,
        {},
        ann.accessToken,
      );
      expect(codes, filter).toEqual(['VALIDATION_FAILED']);
    }
  });
});

test('a goal has tasks and a task has goals, a habit a streak, a week a summary', async () => {
  const cleo = await api.register('cleo@example.com');
  const token = cleo.accessToken;
  type Made = { rowId: string };
  const made = await ask<{
    createGoal: { goal: Made };
    createHabit: { habit: Made };
    createTask: { task: Made };
  }>(
    token,
    `mutation {
      createGoal(input: { goal: { title: "Run a marathon" } }) { goal { rowId } }
      createHabit(input: { habit: { name: "Run" } }) { habit { rowId } }
      createTask(input: { task: { title: "Buy running shoes" } }) { task { rowId } }
    }`,
  );
  const [goalId, habitId, taskId] = [
    made.createGoal.goal.rowId,
    made.createHabit.habit.rowId,
    made.createTask.task.rowId,
  ];
  await ask(
    token,
    `mutation ($link: GoalsTaskInput!, $log: HabitLogInput!) {
      createGoalsTask(input: { goalsTask: $link }) { clientMutationId }
      createHabitLog(input: { habitLog: $log }) { clientMutationId }
    }`,
    {
      link: { goalId, taskId },
      log: { habitId, logDate: new Date().toISOString().slice(0, 10) },
    },
  );
  const data = await ask(
    token,
    `{
      goals { nodes { title tasks(first: 10) { nodes { title goals(first: 10) { nodes { title } } } } } }
      habits { nodes { name streak longestStreak habitLogs { totalCount } } }
      searchTasks(query: "shoe") { nodes { title } }
      weeklySummaries { nodes { tasksTotal tasksCompleted reflectionsCount } }
      userActivities(last: 1) { nodes { entityType } }
    }`,
  );
  expect(data).toEqual({
    goals: {
      nodes: [
        {
          title: 'Run a marathon',
          tasks: {
            nodes: [
              { title: 'Buy running shoes', goals: { nodes: [{ title: 'Run a marathon' }] } },
            ],
          },
        },
      ],
    },
    habits: { nodes: [{ name: 'Run', streak: 1, longestStreak: 1, habitLogs: { totalCount: 1 } }] },
    searchTasks: { nodes: [{ title: 'Buy running shoes' }] },
    weeklySummaries: {
      nodes: [{ tasksTotal: 1, tasksCompleted: 0, reflectionsCount: 0 }],
    },
    userActivities: { nodes: [{ entityType: expect.any(String) }] },
  });

  // Nothing of it can be linked to another user's.
  expect(
    await api.codes(
      'mutation ($link: GoalsTaskInput!) { createGoalsTask(input: { goalsTask: $link }) { clientMutationId } }',
      { link: { goalId, taskId } },
      bob.accessToken,
    ),
  ).toEqual(['FOREIGN_KEY_VIOLATION']);
});
