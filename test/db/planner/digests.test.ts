import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { joinedAt, pastTasks, wantDigest } from '../../helpers/past.ts';

const db = useDatabase();

interface Figures {
  tasks_created: number;
  tasks_done: number;
  goals_touched: number;
  habit_days: number;
  reflections: number;
  mood_average: number | null;
}

interface Content extends Figures {
  week_start: string;
  timezone: string;
  mood_sum: number;
  mood_count: number;
  habits: { id: string; name: string; done: number; streak: number }[];
  previous: (Figures & { week_start: string }) | null;
  change: Figures | null;
}

/** In a transaction with a user who joined long ago. */
const withUser = (
  timezone: string,
  work: (sql: Transaction, userId: string) => Promise<void>,
): Promise<void> =>
  rolledBack(db.as('superuser'), async (sql) => {
    const { id } = await createUser(sql, { timezone });
    await joinedAt(sql, id, '2020-01-01T00:00Z');
    await work(sql, id);
  });

async function digestOf(sql: Transaction, userId: string, week: string): Promise<Content> {
  const [row] = await sql<{ content: Content }[]>`
    select content from app_private.digest_contents(
      array[${userId}::uuid], array[${week}::text::date])`;
  return row?.content as Content;
}

async function habit(sql: Transaction, userId: string, name: string, days: readonly string[]) {
  const [row] = await sql<{ id: string }[]>`
    insert into app_public.habits (user_id, name) values (${userId}, ${name}) returning id`;
  const id = row?.id ?? '';
  await sql`
    insert into app_public.habit_logs (user_id, habit_id, log_date)
    select ${userId}, ${id}, day from unnest(${days}::text[]::date[]) as day`;
  return id;
}

async function goal(sql: Transaction, userId: string): Promise<string> {
  const [row] = await sql<{ id: string }[]>`
    insert into app_public.goals (user_id, title) values (${userId}, 'Goal') returning id`;
  return row?.id ?? '';
}

async function reflect(sql: Transaction, userId: string, date: string, mood: number | null) {
  const [row] = await sql<{ id: string }[]>`
    insert into app_public.reflections (user_id, reflection_date, mood_score)
    values (${userId}, ${date}::text::date, ${mood}) returning id`;
  return row?.id ?? '';
}

describe('a digest', () => {
  test('counts a week and compares it with the week before', async () => {
    await withUser('Europe/Berlin', async (sql, userId) => {
      await pastTasks(sql, userId, [
        { created: '2026-06-02T10:00Z', done: '2026-06-03T10:00Z' },
        { created: '2026-06-05T10:00Z', done: '2026-06-09T10:00Z' },
        { created: '2026-06-09T10:00Z', done: '2026-06-11T10:00Z' },
        { created: '2026-06-12T10:00Z', done: '2026-06-17T10:00Z' },
        { created: '2026-06-13T10:00Z' },
      ]);
      await reflect(sql, userId, '2026-06-03', 5);
      for (const [day, mood] of [
        ['2026-06-08', 4],
        ['2026-06-11', 4],
        ['2026-06-14', 3],
        ['2026-06-12', null],
      ] as const) {
        await reflect(sql, userId, day, mood);
      }
      const run = await habit(sql, userId, 'Run', ['2026-06-08', '2026-06-13', '2026-06-14']);
      const previous = {
        week_start: '2026-06-01',
        ...{ tasks_created: 2, tasks_done: 1, goals_touched: 0, habit_days: 0, reflections: 1 },
        ...{ mood_sum: 5, mood_count: 1, mood_average: 5 },
      };
      expect(await digestOf(sql, userId, '2026-06-08')).toEqual({
        week_start: '2026-06-08',
        timezone: 'Europe/Berlin',
        ...{ tasks_created: 3, tasks_done: 2, goals_touched: 0, habit_days: 3, reflections: 4 },
        ...{ mood_sum: 11, mood_count: 3, mood_average: 3.67 },
        habits: [{ id: run, name: 'Run', done: 3, streak: 2 }],
        previous,
        change: {
          ...{ tasks_created: 1, tasks_done: 1, goals_touched: 0, habit_days: 3, reflections: 3 },
          mood_average: -1.33,
        },
      });
    });
  });

  // The first instant of the week, and the first of the next, in UTC.
  test.each([
    ['UTC', '2026-06-08', '2026-06-08T00:00Z', '2026-06-15T00:00Z'],
    ['Asia/Kathmandu', '2026-06-08', '2026-06-07T18:15Z', '2026-06-14T18:15Z'],
    ['Pacific/Kiritimati', '2026-06-08', '2026-06-07T10:00Z', '2026-06-14T10:00Z'],
    ['Pacific/Pago_Pago', '2026-06-08', '2026-06-08T11:00Z', '2026-06-15T11:00Z'],
    ['Europe/Berlin', '2026-03-23', '2026-03-22T23:00Z', '2026-03-29T22:00Z'],
    ['Europe/Berlin', '2026-10-19', '2026-10-18T22:00Z', '2026-10-25T23:00Z'],
  ])('in %s, the week of %s begins and ends at local midnight', async (zone, week, from, to) => {
    await withUser(zone, async (sql, userId) => {
      const second = (instant: string, by: number) =>
        new Date(Date.parse(instant) + by * 1000).toISOString();
      const instants = [second(from, -1), from, second(to, -1), to];
      await pastTasks(
        sql,
        userId,
        instants.map((at) => ({ created: at, done: at })),
      );
      expect(await digestOf(sql, userId, week)).toMatchObject({
        tasks_created: 2,
        tasks_done: 2,
        previous: { tasks_created: 1, tasks_done: 1 },
      });
    });
  });

  test('shows streaks as they were on that Sunday', async () => {
    await withUser('America/New_York', async (sql, userId) => {
      const days = (from: string, count: number) =>
        Array.from({ length: count }, (_, day) =>
          new Date(Date.parse(from) + day * 86_400_000).toISOString().slice(0, 10),
        );
      await habit(sql, userId, 'on and on', days('2026-05-30', 30));
      await habit(sql, userId, 'since the week before', days('2026-06-06', 9));
      await habit(sql, userId, 'not on Sunday', days('2026-06-01', 13));
      await habit(
        sql,
        userId,
        'begun anew',
        ['2026-06-10', '2026-06-12', '2026-06-13'].concat('2026-06-14'),
      );
      const { habits } = await digestOf(sql, userId, '2026-06-08');
      expect(habits.map(({ name, done, streak }) => [name, done, streak])).toEqual([
        ['on and on', 7, 16],
        ['since the week before', 7, 9],
        ['not on Sunday', 6, 0],
        ['begun anew', 4, 3],
      ]);
    });
  });

  test('names the habits that were kept up then, done or not', async () => {
    await withUser('UTC', async (sql, userId) => {
      const made = async (name: string, created: string, archived: string | null) => {
        await sql`set local session_replication_role = replica`;
        await sql`
          insert into app_public.habits (user_id, name, created_at, archived_at)
          values (${userId}, ${name}, ${created}::text::timestamptz,
            ${archived}::text::timestamptz)`;
        await sql`set local session_replication_role = origin`;
      };
      await made('kept', '2026-01-01T00:00Z', null);
      await made('given up in it', '2026-01-01T00:00Z', '2026-06-08T12:00Z');
      await made('given up before', '2026-01-01T00:00Z', '2026-06-07T12:00Z');
      await made('begun on its last day', '2026-06-14T23:00Z', null);
      await made('begun later', '2026-06-15T00:00Z', null);
      const { habits } = await digestOf(sql, userId, '2026-06-08');
      expect(habits.map(({ name }) => name)).toEqual([
        'begun on its last day',
        'given up in it',
        'kept',
      ]);
    });
  });

  test('counts a goal once, for its change, its tasks and its reflections', async () => {
    await withUser('UTC', async (sql, userId) => {
      const [task = ''] = await pastTasks(sql, userId, [
        { created: '2026-06-02T10:00Z', done: '2026-06-09T10:00Z' },
      ]);
      const reflection = await reflect(sql, userId, '2026-06-09', null);
      const [byTask, byReflection, byChange, byAll] = [
        await goal(sql, userId),
        await goal(sql, userId),
        await goal(sql, userId),
        await goal(sql, userId),
      ];
      await goal(sql, userId);
      await sql`
        insert into app_public.goals_tasks (user_id, goal_id, task_id)
        select ${userId}, id, ${task} from unnest(${[byTask, byAll]}::uuid[]) as id`;
      await sql`
        insert into app_public.reflection_goals (user_id, goal_id, reflection_id)
        select ${userId}, id, ${reflection}
        from unnest(${[byReflection, byAll]}::uuid[]) as id`;
      await sql`
        insert into app_public.user_activity
          (user_id, activity_date, occurred_at, action, entity_type, entity_id)
        select ${userId}, '2026-06-10', '2026-06-10T10:00Z', 'updated', 'goal', id
        from unnest(${[byChange, byAll]}::uuid[]) as id`;
      expect(await digestOf(sql, userId, '2026-06-08')).toMatchObject({
        goals_touched: 4,
        previous: { goals_touched: 2 },
        change: { goals_touched: 2 },
      });
    });
  });

  test('of the week in which the user joined has nothing to be compared with', async () => {
    await withUser('Asia/Tokyo', async (sql, userId) => {
      await reflect(sql, userId, '2026-06-09', 3);
      // Monday in Tokyo.
      await joinedAt(sql, userId, '2026-06-07T15:00Z');
      const joined = { reflections: 1, previous: null, change: null };
      expect(await digestOf(sql, userId, '2026-06-08')).toMatchObject(joined);
      await joinedAt(sql, userId, '2026-06-07T14:59Z');
      expect(await digestOf(sql, userId, '2026-06-08')).toMatchObject({
        previous: { week_start: '2026-06-01', reflections: 0, mood_average: null },
        change: { reflections: 1, mood_average: null },
      });
    });
  });

  test("counts nobody else's", async () => {
    await withUser('UTC', async (sql, userId) => {
      const other = await createUser(sql, { timezone: 'Asia/Tokyo' });
      await reflect(sql, other.id, '2026-06-09', 3);
      await habit(sql, other.id, 'Run', ['2026-06-09']);
      await pastTasks(sql, other.id, [{ created: '2026-06-09T10:00Z' }]);
      const rows = await sql`
        select user_id, is_empty from app_private.digest_contents(
          ${[userId, other.id]}::uuid[], array['2026-06-08', '2026-06-08']::date[])`;
      expect(new Set(rows)).toEqual(
        new Set([
          { user_id: userId, is_empty: true },
          { user_id: other.id, is_empty: false },
        ]),
      );
    });
  });

  test('reads tasks, habits and reflections by index, however many others have', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`
        insert into app_public.users (email, first_name)
        select number || '@example.com', 'Test' from generate_series(1, 300) as number`;
      await sql`
        insert into app_public.tasks (user_id, title, status)
        select id, 'Task', case number % 2 when 0 then 'done' else 'todo' end
        from app_public.users cross join generate_series(1, 60) as number`;
      await sql`
        insert into app_public.reflections (user_id, reflection_date)
        select id, current_date - number
        from app_public.users cross join generate_series(1, 60) as number`;
      await sql`analyze app_public.users, app_public.tasks, app_public.reflections`;
      const scans = async () => {
        const rows = await sql<{ relname: string; seq_scan: string }[]>`
          select relname, seq_scan from pg_stat_xact_all_tables
          where relname like 'tasks\_h%' or relname = 'reflections'`;
        return new Map(rows.map(({ relname, seq_scan }) => [relname, Number(seq_scan)]));
      };
      const before = await scans();
      expect(before.size).toBe(17);
      const [row] = await sql`
        select count(*)::int as digests,
          sum((content ->> 'tasks_created')::integer)::int as tasks
        from (
          select array_agg(id) as users,
            array_agg(date_trunc('week', now() at time zone 'UTC')::date) as weeks
          from (select id from app_public.users limit 100) as a_third
        ) as given
        cross join lateral app_private.digest_contents(users, weeks)`;
      expect(row).toEqual({ digests: 100, tasks: 6000 });
      expect(await scans()).toEqual(before);
    });
  });
});

describe('a backfill', () => {
  const backfill = async (sql: Transaction, userId: string, weeks: number, recompute = false) => {
    const [row] = await sql<{ written: number }[]>`
      select app_private.backfill_digests(array[${userId}::uuid], ${weeks}, ${recompute})
        as written`;
    return row?.written;
  };

  test('makes the latest complete weeks, once, and no message', async () => {
    await withUser('Pacific/Auckland', async (sql, userId) => {
      await wantDigest(sql, userId);
      expect(await backfill(sql, userId, 12)).toBe(12);
      const [made] = await sql`
        select count(*)::int as weeks, max(week_start) - min(week_start) as days,
          max(week_start) + 7 = date_trunc('week', now() at time zone 'Pacific/Auckland')
            as "isLatest"
        from app_public.digests where user_id = ${userId}`;
      expect(made).toEqual({ weeks: 12, days: 77, isLatest: true });
      expect(await backfill(sql, userId, 12)).toBe(0);
      expect(await backfill(sql, userId, 14)).toBe(2);
      expect(await sql`select from app_public.message_logs where user_id = ${userId}`).toEqual([]);
    });
  });

  test('keeps what is there, unless it is to be counted anew', async () => {
    await withUser('UTC', async (sql, userId) => {
      await backfill(sql, userId, 2);
      await sql`
        insert into app_public.reflections (user_id, reflection_date)
        values (${userId}, date_trunc('week', now() at time zone 'UTC')::date - 1)`;
      const latest = async () => {
        const [row] = await sql`
          select content -> 'reflections' as count from app_public.digests
          where user_id = ${userId} order by week_start desc limit 1`;
        return row?.count;
      };
      expect(await backfill(sql, userId, 2)).toBe(0);
      expect(await latest()).toBe(0);
      expect(await backfill(sql, userId, 2, true)).toBe(1);
      expect(await latest()).toBe(1);
    });
  });

  test('begins with the week in which the user joined, and leaves closed accounts out', async () => {
    await withUser('UTC', async (sql, userId) => {
      const [sunday] = await sql<{ at: string }[]>`
        select (date_trunc('week', now() at time zone 'UTC') - interval '14 days 1 hour')::text
          as at`;
      await joinedAt(sql, userId, `${sunday?.at}Z`);
      expect(await backfill(sql, userId, 12)).toBe(3);
      const { id: closed } = await createUser(sql);
      await joinedAt(sql, closed, '2020-01-01T00:00Z');
      await sql`update app_public.users set deleted_at = now() where id = ${closed}`;
      expect(await backfill(sql, closed, 12)).toBe(0);
    });
  });

  test('is of 1 to 52 weeks', async () => {
    await withUser('UTC', async (sql, userId) => {
      for (const weeks of [0, 53]) {
        await expectRefusal(
          sql,
          '22023',
          (inner) => inner`select app_private.backfill_digests(array[${userId}::uuid], ${weeks})`,
        );
      }
      expect(await backfill(sql, userId, 52)).toBe(52);
    });
  });
});
