import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { become, createUser, rolledBack, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();

/** A row of each kind that is watched, as a user makes, changes and deletes it. */
const kinds = {
  task: {
    make: `insert into app_public.tasks (title) values ('one') returning id`,
    change: `update app_public.tasks set title = 'two'`,
    touch: 'update app_public.tasks set title = title',
    remove: 'delete from app_public.tasks',
  },
  goal: {
    make: `insert into app_public.goals (title) values ('one') returning id`,
    change: `update app_public.goals set status = 'achieved'`,
    touch: 'update app_public.goals set title = title',
    remove: 'delete from app_public.goals',
  },
  habit: {
    make: `insert into app_public.habits (name) values ('one') returning id`,
    change: `update app_public.habits set name = 'two'`,
    touch: 'update app_public.habits set name = name',
    remove: 'delete from app_public.habits',
  },
  habit_log: {
    make: `insert into app_public.habit_logs (habit_id, log_date)
      select id, current_date from app_public.habits returning habit_id as id`,
    change: `update app_public.habit_logs set note = 'far'`,
    touch: 'update app_public.habit_logs set note = note',
    remove: 'delete from app_public.habit_logs',
  },
  reflection: {
    make: `insert into app_public.reflections (reflection_date, mood_score)
      values (current_date, 3) returning id`,
    change: 'update app_public.reflections set mood_score = null',
    touch: 'update app_public.reflections set mood_score = mood_score',
    remove: 'delete from app_public.reflections',
  },
} as const;

/** Works as a new user, who has a habit that was there before. */
async function asUserWithHabit(work: (sql: Transaction, userId: string) => Promise<void>) {
  await rolledBack(db.as('superuser'), async (sql) => {
    const { id } = await createUser(sql);
    await sql`insert into app_public.habits (user_id, name) values (${id}, 'before')`;
    await sql`delete from app_public.user_activity where user_id = ${id}`;
    await become(sql, id);
    await work(sql, id);
  });
}

test('every kind of activity is walked', async () => {
  const [row] = await db.as('superuser')<{ definition: string }[]>`
    select pg_get_constraintdef(oid) as definition from pg_constraint
    where conname = 'user_activity_entity_type_check' and conparentid = 0`;
  const named = [...(row?.definition.matchAll(/'([a-z_]+)'/g) ?? [])].map(([, name]) => name);
  expect(named.sort()).toEqual(Object.keys(kinds).sort());
});

describe.each(Object.entries(kinds))('a %s', (kind, { make, change, touch, remove }) => {
  test('is in the log when it is made, changed and deleted, and not when nothing changes', async () => {
    await asUserWithHabit(async (sql) => {
      const log = () => sql<{ action: string; entity_id: string }[]>`
        select action, entity_id from app_public.user_activity
        where entity_type = ${kind}
        order by array_position(array['created', 'updated', 'deleted'], action)`;
      const [made] = await sql.unsafe(make);
      await sql.unsafe(touch);
      if (kind === 'habit') await sql`delete from app_public.habits where name = 'before'`;
      expect(await log()).toContainEqual({ action: 'created', entity_id: made?.id });
      expect((await log()).map(({ action }) => action)).not.toContain('updated');
      await sql.unsafe(change);
      await sql.unsafe(remove);
      const actions = (await log()).filter(({ entity_id }) => entity_id === made?.id);
      expect(actions.map(({ action }) => action)).toEqual(['created', 'updated', 'deleted']);
    });
  });

  test('takes the cached insights of its user away, whatever is done to it, and of nobody else', async () => {
    await asUserWithHabit(async (sql, userId) => {
      await sql`set local role none`;
      const other = await createUser(sql);
      await become(sql, userId);
      for (const statement of [make, change, remove]) {
        await sql`set local role none`;
        for (const id of [userId, other.id]) {
          await sql`insert into app_private.query_cache
            (cache_key, user_id, cached_data, tags, generation_time_ms, expires_at)
            values (${`insights ${id}`}, ${id}, '[]', array['insights'], 1,
              now() + interval '1 hour')
            on conflict do nothing`;
        }
        await become(sql, userId);
        await sql.unsafe(statement);
        await sql`set local role none`;
        const left = await sql`
          select user_id from app_private.query_cache where user_id in (${userId}, ${other.id})`;
        expect(left, statement).toEqual([{ user_id: other.id }]);
        await become(sql, userId);
      }
    });
  });
});

test('a task is completed once, however often it is edited afterwards', async () => {
  await asUserWithHabit(async (sql) => {
    await sql`insert into app_public.tasks (title) values ('one')`;
    await sql`update app_public.tasks set status = 'done'`;
    await sql`update app_public.tasks set title = 'two'`;
    const log = await sql`
      select action, count(*)::int as times from app_public.user_activity
      where entity_type = 'task' group by action order by action`;
    expect(log).toEqual([
      { action: 'completed', times: 1 },
      { action: 'created', times: 1 },
      { action: 'updated', times: 1 },
    ]);
  });
});
