import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { useDatabase } from '../helpers/database.ts';
import { oneTask, type TaskChange, taskChanged, useLive } from '../helpers/live.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const { api, connect, someone, makeTask, rename } = useLive(db);

describe('what subscriptions say', () => {
  test('a task that is made, changed and deleted through the API is told, as it is now', async () => {
    const { accessToken } = await someone();
    const followed = await connect({ token: accessToken }).follow<TaskChange>(taskChanged);
    const { data } = await api.query<{ createTask: { task: { rowId: string; id: string } } }>(
      'mutation { createTask(input: { task: { title: "one" } }) { task { rowId id } } }',
      {},
      accessToken,
    );
    const { rowId, id } = data.createTask.task;
    await eventually(async () => followed.events.length === 1);
    await api.query(
      `mutation ($id: ID!) { updateTaskById(input: { id: $id, patch: { title: "two" } }) {
        task { title } } }`,
      { id },
      accessToken,
    );
    await rename(rowId, 'two');
    await eventually(async () => followed.events.length >= 2);
    await db.as('owner')`delete from app_public.tasks where id = ${rowId}`;
    await eventually(async () => followed.events.at(-1)?.taskChanged.event === 'DELETE');
    const told = followed.events.map(({ taskChanged: change }) => change);
    expect(told[0]).toEqual({ event: 'INSERT', rowId, task: { title: 'one' } });
    expect(told[1]).toEqual({ event: 'UPDATE', rowId, task: { title: 'two' } });
    expect(told.at(-1)).toEqual({ event: 'DELETE', rowId, task: null });
    expect(followed.errors).toEqual([]);
  });

  test('with rowId, other tasks are not told', async () => {
    const { userId, accessToken } = await someone();
    const id = await makeTask(userId, 'mine');
    const other = await makeTask(userId, 'other');
    // A client may write an id in capitals.
    const followed = await connect({ token: accessToken }).follow<TaskChange>(oneTask, {
      id: id.toUpperCase(),
    });
    await rename(other, 'changed first');
    await rename(id, 'changed');
    await eventually(async () => followed.events.length > 0);
    expect(followed.events).toEqual([
      { taskChanged: { event: 'UPDATE', rowId: id, task: { title: 'changed' } } },
    ]);
  });

  test('the dashboard is told day by day, with the counts as they are', async () => {
    const { userId, accessToken } = await someone();
    const followed = await connect({ token: accessToken }).follow(
      `subscription { dashboardChanged {
        aggDate aggregates { aggDate tasksCreated } query { viewer { rowId } } } }`,
    );
    const cdc = db.as('cdc');
    await cdc`insert into app_public.user_dashboard_aggregates (user_id, agg_date, tasks_created)
      values (${userId}, '2026-05-01', 3), (${userId}, '2026-05-02', 4)`;
    await eventually(async () => followed.events.length === 2);
    const day = (aggDate: string, tasksCreated: number) => ({
      dashboardChanged: {
        aggDate,
        aggregates: [{ aggDate, tasksCreated }],
        query: { viewer: { rowId: userId } },
      },
    });
    expect(followed.events).toEqual(
      expect.arrayContaining([day('2026-05-01', 3), day('2026-05-02', 4)]),
    );
    await cdc`update app_public.user_dashboard_aggregates set tasks_created = 9
      where user_id = ${userId} and agg_date = '2026-05-02'`;
    await eventually(async () => followed.events.length === 3);
    expect(followed.events[2]).toEqual(day('2026-05-02', 9));
    await cdc`insert into app_public.user_dashboard_aggregates (user_id, agg_date)
      select ${userId}, date '2026-06-01' + day from generate_series(0, 39) as day`;
    await eventually(async () => followed.events.length === 4);
    const many = followed.events[3] as {
      dashboardChanged: { aggDate: null; aggregates: { aggDate: string }[] };
    };
    expect(many.dashboardChanged.aggDate).toBeNull();
    expect(many.dashboardChanged.aggregates).toHaveLength(31);
    expect(many.dashboardChanged.aggregates[0]?.aggDate).toBe('2026-07-10');
  });

  test('a message is told when its status changes, and not when something else does', async () => {
    const { userId, accessToken } = await someone();
    const owner = db.as('owner');
    const id = randomUUID();
    const followed = await connect({ token: accessToken }).follow(
      'subscription { messageStatusChanged { rowId messageLog { rowId status retryCount } } }',
    );
    await owner`
      insert into app_public.message_logs (user_id, id, message_type, delivery_date,
        message_content, scheduled_send_time, idempotency_key)
      values (${userId}, ${id}, 'BIRTHDAY', '2026-06-15', 'hello',
        '2026-06-15 09:00:00.123456+00', ${id})`;
    await owner`update app_public.message_logs set retry_count = 1 where id = ${id}`;
    await owner`update app_public.message_logs set status = 'QUEUED' where id = ${id}`;
    await eventually(async () => followed.events.length > 0);
    expect(followed.events).toEqual([
      {
        messageStatusChanged: {
          rowId: id,
          messageLog: { rowId: id, status: 'QUEUED', retryCount: 1 },
        },
      },
    ]);
  });

  test('a statement that changes many tasks of a user is one event that says so', async () => {
    const { userId, accessToken } = await someone();
    const followed = await connect({ token: accessToken }).follow<TaskChange>(taskChanged);
    await db.as('owner')`insert into app_public.tasks (user_id, title)
      select ${userId}, 'task ' || number from generate_series(1, 3000) as number`;
    // Until it is told, it stands for what follows too.
    await eventually(async () => followed.events.length > 0);
    await makeTask(userId, 'last');
    await eventually(async () => followed.events.length >= 2);
    expect(followed.events.map((event) => event.taskChanged)).toEqual([
      { event: 'MANY', rowId: null, task: null },
      { event: 'INSERT', rowId: expect.any(String), task: { title: 'last' } },
    ]);
  });

  test('a change from a transaction that began before the subscription is not missed', async () => {
    const { userId, accessToken } = await someone();
    const id = await makeTask(userId, 'before');
    const one = await db.as('owner').reserve();
    await one`begin`;
    await one`update app_public.tasks set title = 'after' where id = ${id}`;
    const client = connect({ token: accessToken });
    const followed = await client.follow<TaskChange>(oneTask, { id });
    await one`commit`;
    one.release();
    await eventually(async () => followed.events.length > 0);
    expect(followed.events[0]?.taskChanged.task).toEqual({ title: 'after' });
  });
});

describe('tenants', () => {
  test('another user hears nothing, whatever the first does', async () => {
    const [a, b] = [await someone(), await someone()];
    const first = await connect({ token: a.accessToken }).follow<TaskChange>(taskChanged);
    const client = connect({ token: b.accessToken });
    const second = await client.follow<TaskChange>(taskChanged);
    const id = await makeTask(a.userId, 'of a');
    const third = await client.follow<TaskChange>(oneTask, { id });
    await eventually(async () => first.events.length > 0);
    await rename(id, 'still of a');
    await eventually(async () => first.events.length >= 2);
    // What B does is the first that B hears of, so nothing of A's is on its way.
    await makeTask(b.userId, 'of b');
    await eventually(async () => second.events.length > 0);
    expect(second.events.map((event) => event.taskChanged.task?.title)).toEqual(['of b']);
    expect(third.events).toEqual([]);
    expect(first.events.map((event) => event.taskChanged.task?.title)).not.toContain('of b');
  });

  test('users who subscribe at the same moment all hear, each of their own', async () => {
    const sessions = [await someone(), await someone(), await someone(), await someone()];
    const all = sessions.map(({ accessToken }) =>
      connect({ token: accessToken }).open<TaskChange>(taskChanged),
    );
    await eventually(async () => api.api.live.counts.subscriptions === all.length);
    for (const { userId } of sessions) await makeTask(userId, userId);
    await eventually(async () => all.every(({ events }) => events.length > 0));
    expect(all.map(({ events }) => events.map((event) => event.taskChanged.task?.title))).toEqual(
      sessions.map(({ userId }) => [userId]),
    );
  });

  test('a notification shows nothing: the row is read again as the user', async () => {
    const [a, b] = [await someone(), await someone()];
    const id = await makeTask(a.userId, 'of a');
    const followed = await connect({ token: b.accessToken }).follow<TaskChange>(taskChanged);
    const payload = { topic: 'task', event: 'UPDATE', users: [[b.userId, [id]]] };
    await db.as('owner')`select pg_notify('gw_live', ${JSON.stringify(payload)})`;
    await eventually(async () => followed.events.length > 0);
    expect(followed.events).toEqual([{ taskChanged: { event: 'UPDATE', rowId: id, task: null } }]);
  });

  test('without a token there is nothing to subscribe to', async () => {
    expect(await connect({}).refusal(taskChanged)).toEqual(['UNAUTHENTICATED']);
  });
});

describe('limits', () => {
  test('a user has so many subscriptions, counted across sockets; one that ends makes room', async () => {
    const { accessToken } = await someone();
    const [one, two] = [connect({ token: accessToken }), connect({ token: accessToken })];
    const first = await one.follow(taskChanged);
    await one.follow(taskChanged);
    await two.follow(taskChanged);
    await two.follow(taskChanged);
    expect(await one.refusal(taskChanged)).toEqual(['TOO_MANY_SUBSCRIPTIONS']);
    expect(await two.refusal(taskChanged)).toEqual(['TOO_MANY_SUBSCRIPTIONS']);
    first.stop();
    await eventually(async () => api.api.live.counts.subscriptions === 3);
    await two.follow(taskChanged);
    // A socket that is closed gives back what it had.
    await two.close();
    await eventually(async () => api.api.live.counts.subscriptions === 1);
    for (let number = 0; number < 3; number += 1) await one.follow(taskChanged);
    const other = await someone();
    await connect({ token: other.accessToken }).follow(taskChanged);
  });

  test('what is refused does not count', async () => {
    const { accessToken } = await someone();
    const client = connect({ token: accessToken });
    for (let number = 0; number < 6; number += 1) {
      expect(await client.refusal('subscription { nothing }')).toEqual([
        'GRAPHQL_VALIDATION_FAILED',
      ]);
      expect(await client.refusal('{ viewer { email } }')).toEqual(['BAD_REQUEST']);
    }
    await client.follow(taskChanged);
  });

  test('a document nested too deeply is refused', async () => {
    const { accessToken } = await someone();
    const nest = (depth: number): string =>
      depth === 0 ? 'title' : `user { tasks { nodes { ${nest(depth - 1)} } } }`;
    const client = connect({ token: accessToken });
    expect(await client.refusal(`subscription { taskChanged { task { ${nest(4)} } } }`)).toEqual([
      'GRAPHQL_VALIDATION_FAILED',
    ]);
  });

  test('over HTTP a subscription is refused', async () => {
    const { accessToken } = await someone();
    expect(await api.codes(taskChanged, {}, accessToken)).toEqual(['GRAPHQL_VALIDATION_FAILED']);
  });
});
