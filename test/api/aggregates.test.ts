import { beforeAll, describe, expect, test } from 'vitest';
import { type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);
let ann: Session;
let bob: Session;

async function ask(token: string, query: string): Promise<unknown> {
  const { data, errors } = await api.query(query, {}, token);
  expect(errors).toEqual([]);
  return data;
}

interface Group {
  keys: string[] | null;
  count: number;
}

/** The counts of a grouping, by key. */
async function counts(token: string, list: string, groupBy: string, args = ''): Promise<object> {
  const data = (await ask(
    token,
    `{ ${list}${args} { groupedAggregates(groupBy: [${groupBy}]) { keys count } } }`,
  )) as Record<string, { groupedAggregates: Group[] }>;
  const groups = data[list]?.groupedAggregates ?? [];
  return Object.fromEntries(groups.map(({ keys, count }) => [String(keys), count]));
}

beforeAll(async () => {
  ann = await api.register('ann@example.com');
  bob = await api.register('bob@example.com');
  const owner = db.as('owner');
  const [project] = await owner<{ id: string }[]>`
    insert into app_public.projects (user_id, name) values (${ann.userId}, 'House')
    returning id`;
  await owner`
    insert into app_public.tasks (user_id, title, status, priority, due_date, project_id)
    select ${ann.userId}::uuid, 'task ' || number, status, priority, due::date, project::uuid
    from (values (1, 'todo', 'low', '2030-01-01', ${project?.id ?? null}),
      (2, 'todo', 'high', '2030-01-02', ${project?.id ?? null}),
      (3, 'done', 'high', '2030-01-08', null), (4, 'done', 'high', null, null),
      (5, 'done', 'low', '2030-01-01', null))
      as task (number, status, priority, due, project)`;
  await owner`
    insert into app_public.tasks (user_id, title)
    select ${bob.userId}, 'task ' || number from generate_series(1, 130) as number`;
  await owner`
    insert into app_public.reflections (user_id, reflection_date, mood_score)
    values (${ann.userId}, '2026-01-05', 2), (${ann.userId}, '2026-01-11', 5),
      (${ann.userId}, '2026-01-12', 4), (${ann.userId}, '2026-01-13', null)`;
  await owner`
    with habit as (
      insert into app_public.habits (user_id, name) values (${ann.userId}, 'Run'),
        (${ann.userId}, 'Read')
      returning user_id, id, name
    )
    insert into app_public.habit_logs (user_id, habit_id, log_date)
    select user_id, id, day from habit,
      unnest(case name when 'Run' then array['2026-01-05', '2026-01-06']::date[]
        else array['2026-01-06']::date[] end) as day`;
  await owner`
    with chat as (
      insert into app_public.chats (user_id) values (${ann.userId}) returning user_id, id
    )
    insert into app_public.chat_messages (user_id, chat_id, role, content, created_at)
    select user_id, id, 'user', 'hello', moment from chat,
      unnest(array['2026-01-05 23:59+00', '2026-01-06 00:00+00', '2026-01-06 12:00+00']
        ::timestamptz[]) as moment`;
});

describe('aggregates', () => {
  test('count all pages, and only what the filter leaves', async () => {
    expect(await ask(bob.accessToken, '{ tasks(first: 1) { aggregates { count } } }')).toEqual({
      tasks: { aggregates: { count: 130 } },
    });
    const filter = '(filter: { status: { equalTo: done } }, first: 1)';
    expect(await ask(ann.accessToken, `{ tasks${filter} { aggregates { count } } }`)).toEqual({
      tasks: { aggregates: { count: 3 } },
    });
  });

  test('are grouped by status, by priority, by both, by due date, by its week', async () => {
    const by = (groupBy: string) => counts(ann.accessToken, 'tasks', groupBy);
    expect(await by('STATUS')).toEqual({ todo: 2, done: 3 });
    expect(await by('PRIORITY')).toEqual({ low: 2, high: 3 });
    expect(await by('STATUS, PRIORITY')).toEqual({
      ...{ 'todo,low': 1, 'todo,high': 1, 'done,low': 1, 'done,high': 2 },
    });
    expect(await by('DUE_DATE')).toMatchObject({ '2030-01-01': 2, '2030-01-08': 1 });
    expect(await by('DUE_DATE_TRUNCATED_TO_WEEK')).toEqual({
      ...{ '2029-12-31': 3, '2030-01-07': 1, '': 1 },
    });
    expect(Object.values(await by('PROJECT_ID')).sort()).toEqual([2, 3]);
  });

  test('are those of one project, below it', async () => {
    const data = await ask(
      ann.accessToken,
      '{ projects { nodes { tasks { groupedAggregates(groupBy: [STATUS]) { keys count } } } } }',
    );
    expect(data).toEqual({
      projects: { nodes: [{ tasks: { groupedAggregates: [{ keys: ['todo'], count: 2 }] } }] },
    });
  });

  test('of reflections have the average mood of each week', async () => {
    const data = (await ask(
      ann.accessToken,
      `{ reflections { groupedAggregates(groupBy: [REFLECTION_DATE_TRUNCATED_TO_WEEK]) {
        keys count average { moodScore } min { moodScore } max { moodScore } } } }`,
    )) as { reflections: { groupedAggregates: { keys: string[]; average: object }[] } };
    const groups = data.reflections.groupedAggregates.map((group) => ({
      ...group,
      average: Number(Object.values(group.average)),
    }));
    expect(groups.sort((a, b) => String(a.keys).localeCompare(String(b.keys)))).toEqual([
      {
        ...{ keys: ['2026-01-05'], count: 2, average: 3.5 },
        ...{ min: { moodScore: 2 }, max: { moodScore: 5 } },
      },
      {
        ...{ keys: ['2026-01-12'], count: 2, average: 4 },
        ...{ min: { moodScore: 4 }, max: { moodScore: 4 } },
      },
    ]);
  });

  test('count the logs of each habit and of each day, and messages of each day in UTC', async () => {
    const { accessToken } = ann;
    expect(Object.values(await counts(accessToken, 'habitLogs', 'HABIT_ID')).sort()).toEqual([
      ...[1, 2],
    ]);
    expect(await counts(accessToken, 'habitLogs', 'LOG_DATE')).toEqual({
      ...{ '2026-01-05': 1, '2026-01-06': 2 },
    });
    expect(await counts(accessToken, 'chatMessages', 'CREATED_AT_TRUNCATED_TO_DAY')).toEqual({
      ...{ '2026-01-05': 1, '2026-01-06': 2 },
    });
  });

  test('of the dashboard add up its days, to one week or to all', async () => {
    await db.as('superuser')`
      insert into app_public.user_dashboard_aggregates
        (user_id, agg_date, tasks_created, tasks_completed)
      values (${ann.userId}, '2026-01-05', 3, 1), (${ann.userId}, '2026-01-06', 4, 2),
        (${ann.userId}, '2026-01-12', 5, 5), (${bob.userId}, '2026-01-05', 100, 100)`;
    const sums = 'sum { tasksCreated tasksCompleted }';
    const data = (await ask(
      ann.accessToken,
      `{ userDashboardAggregates(filter: { aggDate: { lessThan: "2026-02-01" } }) {
        aggregates { ${sums} }
        groupedAggregates(groupBy: [AGG_DATE_TRUNCATED_TO_WEEK]) { keys ${sums} } } }`,
    )) as { userDashboardAggregates: { aggregates: object; groupedAggregates: object[] } };
    expect(data.userDashboardAggregates.aggregates).toEqual({
      sum: { tasksCreated: 12, tasksCompleted: 8 },
    });
    expect(data.userDashboardAggregates.groupedAggregates).toEqual(
      expect.arrayContaining([
        { keys: ['2026-01-05'], sum: { tasksCreated: 7, tasksCompleted: 3 } },
        { keys: ['2026-01-12'], sum: { tasksCreated: 5, tasksCompleted: 5 } },
      ]),
    );
  });

  test("never count another user's rows", async () => {
    expect(await counts(bob.accessToken, 'tasks', 'STATUS')).toEqual({ todo: 130 });
    const filter = `(filter: { user: { rowId: { equalTo: "${ann.userId}" } } })`;
    expect(await counts(bob.accessToken, 'tasks', 'STATUS', filter)).toEqual({});
    const data = await ask(
      bob.accessToken,
      `{ tasks${filter} { aggregates { count } } reflections { aggregates {
        count average { moodScore } max { moodScore } } } }`,
    );
    expect(data).toEqual({
      tasks: { aggregates: { count: 0 } },
      reflections: {
        aggregates: { count: 0, average: { moodScore: null }, max: { moodScore: null } },
      },
    });
    expect(await api.codes('{ tasks { aggregates { count } } }')).toEqual(['UNAUTHENTICATED']);
  });

  test('are of chosen columns and tables only, and nothing is ordered or filtered by them', async () => {
    for (const query of [
      '{ tasks { aggregates { sum { positionInList } } } }',
      '{ tasks { groupedAggregates(groupBy: [TITLE]) { keys } } }',
      '{ tasks { groupedAggregates(groupBy: [UPDATED_AT]) { keys } } }',
      '{ tasks { groupedAggregates(groupBy: [CREATED_AT]) { keys } } }',
      '{ tasks { groupedAggregates(groupBy: [STATUS], having: {}) { keys } } }',
      '{ reflections { aggregates { stddevSample { moodScore } } } }',
      '{ integrations { aggregates { count } } }',
      '{ projects(orderBy: TASKS_COUNT_ASC) { totalCount } }',
      '{ projects(filter: { tasks: { aggregates: {} } }) { totalCount } }',
    ]) {
      expect(await api.codes(query, {}, ann.accessToken), query).toEqual([
        'GRAPHQL_VALIDATION_FAILED',
      ]);
    }
  });

  test('have a thousand groups at most', async () => {
    const { userId, accessToken } = await api.register('busy@example.com');
    await db.as('owner')`
      insert into app_public.tasks (user_id, title, due_date)
      select ${userId}, 'daily', date '2026-01-01' + number
      from generate_series(1, 1100) as number`;
    expect(Object.keys(await counts(accessToken, 'tasks', 'DUE_DATE'))).toHaveLength(1000);
  });

  test('count towards the depth and the nesting of lists', async () => {
    const nest = (depth: number): string =>
      depth === 0
        ? 'groupedAggregates(groupBy: [STATUS]) { keys }'
        : `nodes { project { tasks { ${nest(depth - 1)} } } }`;
    const deep = `{ tasks { ${nest(4)} } }`;
    expect(await api.codes(deep, {}, ann.accessToken)).toEqual(['GRAPHQL_VALIDATION_FAILED']);
  });
});
