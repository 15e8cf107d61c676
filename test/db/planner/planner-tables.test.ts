import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  type NewUser,
  rolledBack,
  useDatabase,
} from '../../helpers/database.ts';

const db = useDatabase();

/** Work as a fresh user, in a transaction that leaves nothing. */
const asUser = (
  work: (sql: Transaction, user: NewUser) => Promise<void>,
  columns: Record<string, string> = {},
) =>
  rolledBack(db.as('superuser'), async (sql) => {
    const user = await createUser(sql, columns);
    await become(sql, user.id);
    await work(sql, user);
  });

async function insert(sql: Transaction, table: string, row: Record<string, unknown>) {
  const [made] =
    await sql`insert into ${sql(`app_public.${table}`)} ${sql(row as never)} returning *`;
  return made as Record<string, never> & { id: string };
}

describe('lists, projects and the tasks in them', () => {
  test('a task outlives its list and its project', async () => {
    await asUser(async (sql) => {
      const project = await insert(sql, 'projects', { name: 'House' });
      const list = await insert(sql, 'lists', { name: 'Kitchen', project_id: project.id });
      const task = await insert(sql, 'tasks', {
        title: 'Paint',
        list_id: list.id,
        project_id: project.id,
        position_in_list: 3,
      });
      await sql`delete from app_public.projects where id = ${project.id}`;
      expect(await sql`select from app_public.lists`).toHaveLength(0);
      const [left] = await sql`
        select project_id, list_id, position_in_list from app_public.tasks where id = ${task.id}`;
      expect(left).toEqual({ project_id: null, list_id: null, position_in_list: null });
    });
  });

  test('a user who is deleted takes lists, projects and their tasks along', async () => {
    await asUser(async (sql, user) => {
      const project = await insert(sql, 'projects', { name: 'House' });
      const list = await insert(sql, 'lists', { name: 'Kitchen', project_id: project.id });
      await insert(sql, 'tasks', { title: 'Paint', list_id: list.id, project_id: project.id });
      await sql`reset role`;
      await sql`delete from app_public.users where id = ${user.id}`;
      // What is checked at the end of the transaction is checked now.
      await sql`set constraints all immediate`;
      const [left] = await sql`
        select (select count(*)::integer from app_public.tasks where user_id = ${user.id}) as tasks,
          (select count(*)::integer from app_public.user_activity where user_id = ${user.id})
            as activity`;
      expect(left).toEqual({ tasks: 0, activity: 0 });
    });
  });

  test("another user's list cannot be used, and it does not show whether it exists", async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const ann = await createUser(sql);
      const bob = await createUser(sql);
      await become(sql, ann.id);
      const hers = await insert(sql, 'lists', { name: 'Hers' });
      await become(sql, bob.id);
      for (const listId of [hers.id, '00000000-0000-4000-8000-000000000000']) {
        await expectRefusal(
          sql,
          '23503',
          (inner) => inner`
            insert into app_public.tasks (title, list_id) values ('x', ${listId})`,
        );
      }
    });
  });

  test('the search finds words of title and description, best first, of this user only', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const ann = await createUser(sql);
      const bob = await createUser(sql);
      await become(sql, bob.id);
      await insert(sql, 'tasks', { title: 'Painting for Bob' });
      await become(sql, ann.id);
      await insert(sql, 'tasks', { title: 'Paint the wall', description: 'and paint the door' });
      await insert(sql, 'tasks', { title: 'Buy brushes', description: 'for painting' });
      await insert(sql, 'tasks', { title: 'Sleep' });
      // The best one is not the newest.
      await sql`set local role none`;
      await sql`set local session_replication_role = replica`;
      await sql`update app_public.tasks set created_at = now() - interval '1 day'
        where title = 'Paint the wall'`;
      await sql`set local session_replication_role = origin`;
      await become(sql, ann.id);
      const found = async (query: string) =>
        (await sql`select title from app_public.search_tasks(${query})`).map(({ title }) => title);
      expect(await found('paint')).toEqual(['Paint the wall', 'Buy brushes']);
      expect(await found('paint -wall')).toEqual(['Buy brushes']);
      expect(await found('"the wall" or sleeping')).toEqual(
        expect.arrayContaining(['Paint the wall', 'Sleep']),
      );
      expect(await found("'; drop table app_public.tasks; --")).toEqual([]);
    });
  });
});

describe('habits', () => {
  const streaks = async (sql: Transaction) => {
    const [row] = await sql`
      select app_public.habits_streak(habits) as now,
        app_public.habits_longest_streak(habits) as longest
      from app_public.habits`;
    return row;
  };

  async function keep(sql: Transaction, daysAgo: number[], zone = 'UTC'): Promise<void> {
    const habit = await insert(sql, 'habits', { name: 'Run' });
    await sql`
      insert into app_public.habit_logs (habit_id, log_date)
      select ${habit.id}::uuid, (now() at time zone ${zone})::date - ago
      from unnest(${daysAgo}::integer[]) as ago`;
  }

  test.each([
    ['none', [], 0, 0],
    ['today', [0], 1, 1],
    ['yesterday and before, while today is not over', [1, 2, 3], 3, 3],
    ['not since the day before yesterday', [2, 3, 4], 0, 3],
    ['a gap between', [0, 1, 3, 4, 5, 6], 2, 4],
    ['a day to come does not count', [-1, 0, 1], 2, 3],
  ])('streak: %s', async (_, daysAgo, now, longest) => {
    await asUser(async (sql) => {
      await keep(sql, daysAgo);
      expect(await streaks(sql)).toEqual({ now, longest });
    });
  });

  test("today is the user's own", async () => {
    for (const zone of ['Pacific/Kiritimati', 'Pacific/Pago_Pago']) {
      await asUser(
        async (sql) => {
          await keep(sql, [0, 1], zone);
          expect(await streaks(sql)).toMatchObject({ now: 2 });
        },
        { timezone: zone },
      );
      // In one of the two the date is not that of UTC, at any hour.
      await asUser(
        async (sql) => {
          await keep(sql, [1], zone);
          expect(await streaks(sql)).toMatchObject({ now: 1 });
        },
        { timezone: zone },
      );
    }
  });

  test('is logged once a day', async () => {
    await asUser(async (sql) => {
      const habit = await insert(sql, 'habits', { name: 'Run' });
      const log = (inner: Transaction) => inner`
        insert into app_public.habit_logs (habit_id, log_date) values (${habit.id}, '2026-01-01')`;
      await log(sql);
      await expectRefusal(sql, '23505', log);
    });
  });
});

describe('integrations', () => {
  test.each([
    'sk_live_4eC39HqLyjWDarjtT1zdp7dc',
    'vault://sk_live_4eC39HqLy',
    'vault://ghp_16C7e42F292c6912E7710c838347Ae178B4a',
    'env://AKIAIOSFODNN7EXAMPLE',
    'vault://eyJhbGciOiJIUzI1NiJ9.e30.x',
    'https://user:password@example.com',
    'hunter2',
    'vault://0123456789abcdef0123456789abcdef',
  ])('refuse what looks like a credential: %s', async (reference) => {
    await asUser(async (sql) => {
      await expectRefusal(
        sql,
        '23514',
        (inner) => inner`
          insert into app_public.integrations (provider, credential_reference)
          values ('calendar', ${reference})`,
      );
    });
  });

  test('refuse settings that name a secret, also deep inside', async () => {
    await asUser(async (sql) => {
      const add = (settings: object) => (inner: Transaction) =>
        inner`
        insert into app_public.integrations (provider, credential_reference, settings)
        values ('calendar', 'vault://users/calendar', ${inner.json(settings as never)})`;
      for (const settings of [{ apiKey: 'x' }, { a: [{ client_secret: 'x' }] }, { Password: 1 }]) {
        await expectRefusal(sql, '23514', add(settings));
      }
      await add({ colour: 'blue', calendars: ['a'] })(sql);
    });
  });
});
