import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  rolledBack,
  useDatabase,
} from '../../helpers/database.ts';

const db = useDatabase();
const inTransaction = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), work);

/** What the seed document's own definition answers: tasks joined with reflections. */
const seedDefinition = (sql: Transaction) => sql`
  select count(distinct t.id) filter (where t.status = 'done')::int as completed,
    count(t.id) filter (where t.status = 'done')::int as completed_rows,
    round(avg(r.mood_score), 2)::float as mood
  from app_public.tasks t
  left join app_public.reflections r on r.user_id = t.user_id
    and date_trunc('week', r.reflection_date) = date_trunc('week', t.created_at::date)
  group by t.user_id, date_trunc('week', t.created_at::date)`;

describe('the weekly summary', () => {
  async function fill(sql: Transaction): Promise<string> {
    const { id } = await createUser(sql);
    await sql`
      insert into app_public.tasks (user_id, title, status, created_at)
      select ${id}::uuid, 'task', status, date_trunc('week', now()) + interval '1 hour'
      from unnest(array['done', 'done', 'todo']) as status`;
    // This week twice, and a week ago, when no task was made.
    await sql`
      insert into app_public.reflections (user_id, reflection_date, mood_score)
      select ${id}::uuid, date_trunc('week', now())::date - days, mood
      from (values (0, 5), (0, 2), (7, 1)) as entry (days, mood)`;
    return id;
  }

  test('counts each task and reflection once, and keeps weeks without tasks', async () => {
    await inTransaction(async (sql) => {
      await fill(sql);
      // The join doubles each task and loses the week that has a reflection only.
      expect(await seedDefinition(sql)).toEqual([{ completed: 2, completed_rows: 4, mood: 3.5 }]);
      await sql`select app_private.refresh_weekly_summary()`;
      const rows = await sql`
        select (date_trunc('week', now())::date - week_start) as ago, tasks_completed::int,
          tasks_total::int, avg_mood::float, reflections_count::int
        from app_private.mv_user_weekly_summary
        order by week_start desc`;
      expect(rows).toEqual([
        { ago: 0, tasks_completed: 2, tasks_total: 3, avg_mood: 3.5, reflections_count: 2 },
        { ago: 7, tasks_completed: 0, tasks_total: 0, avg_mood: 1, reflections_count: 1 },
      ]);
    });
  });

  test('shows users their own weeks, and nobody the materialized view', async () => {
    await inTransaction(async (sql) => {
      const ann = await fill(sql);
      const bob = await fill(sql);
      const all = await sql`
        select count(distinct user_id)::integer as users
        from app_public.tasks where user_id in (${ann}, ${bob})`;
      expect(all).toEqual([{ users: 2 }]);
      for (const id of [ann, bob]) {
        await become(sql, id);
        const rows = await sql`
          select user_id, (date_trunc('week', now())::date - week_start) as ago,
            tasks_completed, tasks_total, avg_mood::float, reflections_count
          from app_public.weekly_summaries order by week_start desc`;
        expect(rows).toEqual([
          {
            ...{ user_id: id, ago: 0, tasks_completed: 2, tasks_total: 3, avg_mood: 3.5 },
            reflections_count: 2,
          },
          {
            ...{ user_id: id, ago: 7, tasks_completed: 0, tasks_total: 0, avg_mood: 1 },
            reflections_count: 1,
          },
        ]);
        await expectRefusal(
          sql,
          '42501',
          (inner) => inner`select from app_private.mv_user_weekly_summary`,
        );
      }
    });
  });
});

describe('the activity log', () => {
  const log = (sql: Transaction, userId: string) => sql`
    select action, entity_type as type, count(*)::int as times
    from app_public.user_activity
    where user_id = ${userId}
    group by action, entity_type
    order by entity_type, action`;

  test('has what a user did, by statements of any size', async () => {
    await inTransaction(async (sql) => {
      const { id } = await createUser(sql);
      await become(sql, id);
      await sql`
        insert into app_public.tasks (title) select 'task ' || n from generate_series(1, 5) as n`;
      await sql`update app_public.tasks set status = 'done' where title in ('task 1', 'task 2')`;
      await sql`update app_public.tasks set priority = 'high' where title = 'task 1'`;
      await sql`update app_public.tasks set priority = 'high' where title = 'task 1'`;
      await sql`delete from app_public.tasks where title = 'task 5'`;
      await sql`insert into app_public.habits (name) values ('Run')`;
      await sql`
        insert into app_public.habit_logs (habit_id, log_date)
        select id, current_date - n from app_public.habits, generate_series(0, 2) as n`;
      await sql`update app_public.habit_logs set note = 'far' where log_date = current_date`;
      expect(await log(sql, id)).toEqual([
        { action: 'created', type: 'habit', times: 1 },
        { action: 'created', type: 'habit_log', times: 3 },
        { action: 'updated', type: 'habit_log', times: 1 },
        { action: 'completed', type: 'task', times: 2 },
        { action: 'created', type: 'task', times: 5 },
        { action: 'deleted', type: 'task', times: 1 },
        // The second update changed nothing.
        { action: 'updated', type: 'task', times: 1 },
      ]);
    });
  });

  test('cannot be written, changed or emptied by the user', async () => {
    await inTransaction(async (sql) => {
      const { id } = await createUser(sql);
      await become(sql, id);
      await sql`insert into app_public.tasks (title) values ('one')`;
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`
          insert into app_public.user_activity (user_id, action, entity_type, entity_id)
          values (${id}, 'created', 'task', gen_random_uuid())`,
      );
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`update app_public.user_activity set action = 'deleted'`,
      );
      await expectRefusal(sql, '42501', (inner) => inner`delete from app_public.user_activity`);
      expect(await log(sql, id)).toHaveLength(1);
    });
  });

  test('goes with the user, whose rows cascade through the triggers', async () => {
    await inTransaction(async (sql) => {
      const { id } = await createUser(sql);
      await sql`insert into app_public.tasks (user_id, title) values (${id}, 'one')`;
      await sql`delete from app_public.users where id = ${id}`;
      expect(await log(sql, id)).toEqual([]);
    });
  });
});

test('snapshots keep counts as they were, and two of them are compared', async () => {
  await inTransaction(async (sql) => {
    const ann = await createUser(sql);
    const bob = await createUser(sql);
    // Of everything that is counted, another user has some.
    await become(sql, bob.id);
    await sql`insert into app_public.tasks (title, status)
      values ('b', 'todo'), ('b', 'in_progress'), ('b', 'done'), ('b', 'canceled')`;
    await sql`insert into app_public.goals (title, status)
      values ('b', 'active'), ('b', 'achieved')`;
    await sql`insert into app_public.habits (name) values ('b')`;
    await sql`insert into app_public.habit_logs (habit_id, log_date)
      select id, current_date from app_public.habits`;
    await sql`insert into app_public.reflections (reflection_date) values (current_date)`;
    const [whole] = await sql`select content from app_public.take_snapshot('all of mine')`;
    expect(whole?.content).toEqual({
      ...{ tasks_total: 4, tasks_done: 1, tasks_open: 2, goals_total: 2, goals_achieved: 1 },
      ...{ habits_total: 1, habit_days: 1, reflections_total: 1 },
    });
    await become(sql, ann.id);
    const [none] = await sql`select content from app_public.take_snapshot('nothing yet')`;
    expect(new Set(Object.values(none?.content as object))).toEqual(new Set([0]));
    const take = async (name: string) =>
      (await sql`select id from app_public.take_snapshot(${name})`)[0]?.id as string;
    await sql`insert into app_public.tasks (title, status) values ('a', 'todo'), ('b', 'done')`;
    const first = await take('before');
    await sql`update app_public.tasks set status = 'done'`;
    await sql`insert into app_public.goals (title) values ('g')`;
    const second = await take('after');
    const changed = await sql`
      select measure, before::int, after::int, change::int
      from app_public.compare_snapshots(${first}, ${second}) where change <> 0`;
    expect(changed).toEqual([
      { measure: 'goals_total', before: 0, after: 1, change: 1 },
      { measure: 'tasks_done', before: 1, after: 2, change: 1 },
      { measure: 'tasks_open', before: 1, after: 0, change: -1 },
    ]);
    // One that does not exist leaves nothing to compare.
    const nowhere = '00000000-0000-4000-8000-000000000000';
    for (const [before, after] of [
      [first, nowhere],
      [nowhere, second],
      [first, first],
    ] as const) {
      expect(await sql`select from app_public.compare_snapshots(${before}, ${after})`).toEqual([]);
    }
    await become(sql, bob.id);
    expect(await sql`select from app_public.compare_snapshots(${first}, ${second})`).toEqual([]);
    await become(sql, null);
    await expectRefusal(sql, '42501', (inner) => inner`select app_public.take_snapshot('x')`);
  });
});

test('the mood average of the dashboard follows sum and count', async () => {
  await inTransaction(async (sql) => {
    const { id } = await createUser(sql);
    await sql`
      insert into app_public.user_dashboard_aggregates (user_id, agg_date, mood_sum, mood_count)
      values (${id}, '2026-01-01', 10, 3), (${id}, '2026-01-02', 0, 0)`;
    expect(
      await sql`select avg_mood::float from app_public.user_dashboard_aggregates order by agg_date`,
    ).toEqual([{ avg_mood: 3.33 }, { avg_mood: null }]);
  });
});
