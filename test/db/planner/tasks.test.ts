import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  rolledBack,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';
import { insertText } from '../../helpers/insert-text.ts';

const db = useDatabase();
const { asNewUser } = transactionsOf(db);

async function explain(sql: Transaction, query: string): Promise<string> {
  const lines = await sql.unsafe<{ 'QUERY PLAN': string }[]>(`explain (costs off) ${query}`);
  return lines.map((line) => line['QUERY PLAN']).join('\n');
}

const partitionsIn = (plan: string): number => new Set(plan.match(/tasks_h\d\d/g)).size;

describe('the partitions of tasks', () => {
  test('are 16 by hash, each vacuumed at 5 % dead rows', async () => {
    const rows = await db.as('owner')`
      select relid::regclass::text as name, reloptions,
        pg_get_expr(relpartbound, pg_class.oid) as bound
      from pg_partition_tree('app_public.tasks')
      inner join pg_class on pg_class.oid = relid
      where isleaf
      order by 1`;
    expect(rows).toEqual(
      Array.from({ length: 16 }, (_, remainder) => ({
        name: `app_partitions.tasks_h${String(remainder).padStart(2, '0')}`,
        reloptions: ['autovacuum_vacuum_scale_factor=0.05'],
        bound: `FOR VALUES WITH (modulus 16, remainder ${remainder})`,
      })),
    );
  });

  test('but one are pruned by the policy alone, which is inlined', async () => {
    await asNewUser(async (sql) => {
      for (const where of ['', "where status = 'todo'", 'order by created_at limit 10']) {
        const plan = await explain(sql, `select * from app_public.tasks ${where}`);
        expect(plan).toContain('Subplans Removed: 15');
        expect(partitionsIn(plan)).toBe(1);
        expect(plan).toContain('current_setting');
        expect(plan).not.toContain('current_app_user_id');
      }
    });
  });

  test('but one are pruned for a statement that names its user', async () => {
    await asNewUser(async (sql, userId) => {
      const plan = await explain(sql, `select * from app_public.tasks where user_id = '${userId}'`);
      expect(partitionsIn(plan)).toBe(1);
    });
  });

  test('would be reached through calls if the function did not inline', async () => {
    await asNewUser(async (sql) => {
      await sql`set local role none`;
      await sql`alter function app_hidden.current_app_user_id() set search_path = pg_catalog`;
      await sql`set local role app_user`;
      const plan = await explain(sql, 'select * from app_public.tasks');
      expect(plan).toContain('current_app_user_id()');
      expect(plan).not.toContain('current_setting');
    });
  });
});

test('tasks have the primary key (user_id, id)', async () => {
  const [key] = await db.as('owner')`
    select pg_get_constraintdef(oid) as definition from pg_constraint
    where conrelid = 'app_public.tasks'::regclass and contype = 'p'`;
  expect(key?.definition).toBe('PRIMARY KEY (user_id, id)');
});

test("a user may choose an id that another user's task has", async () => {
  await rolledBack(db.as('superuser'), async (sql) => {
    const id = randomUUID();
    for (const user of [await createUser(sql), await createUser(sql)]) {
      await become(sql, user.id);
      await sql`insert into app_public.tasks (id, title) values (${id}, 'mine')`;
      await expectRefusal(
        sql,
        '23505',
        (inner) => inner`insert into app_public.tasks (id, title) values (${id}, 'again')`,
      );
    }
    await sql`set local role none`;
    const [row] = await sql`select count(*)::int from app_public.tasks where id = ${id}`;
    expect(row?.count).toBe(2);
  });
});

describe('the columns of a task', () => {
  test.each<[what: string, columns: Record<string, string>, constraint: string]>([
    ['an empty title', { title: '' }, 'tasks_title_check'],
    ['a title of spaces', { title: ' \t\n' }, 'tasks_title_check'],
    ['a title of 501 characters', { title: 'é'.repeat(501) }, 'tasks_title_check'],
    [
      'a description of 20,001 characters',
      { title: 'x', description: 'x'.repeat(20_001) },
      'tasks_description_check',
    ],
    ['an unknown status', { title: 'x', status: 'DONE' }, 'tasks_status_check'],
    ['an unknown priority', { title: 'x', priority: 'asap' }, 'tasks_priority_check'],
    ['a due date before 1970', { title: 'x', due_date: '1969-12-31' }, 'tasks_due_date_check'],
    ['a due date of infinity', { title: 'x', due_date: 'infinity' }, 'tasks_due_date_check'],
  ])('refuse %s', async (_what, columns, constraint) => {
    await asNewUser(async (sql) => {
      expect(await insertText(sql, 'app_public.tasks', columns)).toBe(`23514 ${constraint}`);
    });
  });

  test('accept the longest title and description', async () => {
    await asNewUser(async (sql, userId) => {
      const columns = { title: '名'.repeat(500), description: 'é'.repeat(20_000) };
      const rows = await sql`insert into app_public.tasks ${sql(columns)} returning user_id`;
      expect(rows).toEqual([{ user_id: userId }]);
    });
  });
});

describe('completed_at', () => {
  const completed = async (sql: Transaction) => {
    const [task] = await sql`select status, completed_at = now() as is_now from app_public.tasks`;
    return task;
  };

  test('follows status both ways', async () => {
    await asNewUser(async (sql) => {
      await sql`insert into app_public.tasks (title) values ('x')`;
      expect(await completed(sql)).toEqual({ status: 'todo', is_now: null });
      for (const status of ['done', 'canceled', 'done', 'in_progress', 'done', 'todo']) {
        await sql`update app_public.tasks set status = ${status}`;
        const wanted = { status, is_now: status === 'done' ? true : null };
        expect(await completed(sql)).toEqual(wanted);
      }
    });
  });

  test('is set for a task that is done when it is made', async () => {
    await asNewUser(async (sql) => {
      await sql`insert into app_public.tasks (title, status) values ('x', 'done')`;
      expect(await completed(sql)).toEqual({ status: 'done', is_now: true });
    });
  });

  test('keeps its moment while a task stays done', async () => {
    await asNewUser(async (sql, userId) => {
      await sql`set local role none`;
      await sql`
        insert into app_public.tasks (user_id, title, status, completed_at)
        values (${userId}, 'x', 'done', '2020-02-02')`;
      await become(sql, userId);
      await sql`update app_public.tasks set status = 'done', title = 'y'`;
      const rows = await sql`select completed_at::text from app_public.tasks`;
      expect(rows).toEqual([{ completed_at: '2020-02-02 00:00:00+00' }]);
      await sql`set local role none`;
      const forged = await sql`
        update app_public.tasks set completed_at = now() returning completed_at::text`;
      expect(forged).toEqual([...rows]);
    });
  });

  test('cannot be written by a user', async () => {
    await asNewUser(async (sql) => {
      await sql`insert into app_public.tasks (title, status) values ('x', 'done')`;
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`update app_public.tasks set completed_at = '2020-02-02'`,
      );
      expect(await completed(sql)).toEqual({ status: 'done', is_now: true });
    });
  });

  test('follows status even for a loader that says otherwise', async () => {
    await asNewUser(async (sql, userId) => {
      await sql`set local role none`;
      await sql`
        insert into app_public.tasks (user_id, title, status, completed_at)
        values (${userId}, 'x', 'todo', now())`;
      expect(await completed(sql)).toEqual({ status: 'todo', is_now: null });
    });
  });
});
