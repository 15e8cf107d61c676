import { randomBytes, randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { plugins } from '../../src/cdc/slot.ts';
import { asReplica, daysOf, expectDays, insertTask, useCapture } from '../helpers/capture.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

// A slot reads the log of the whole server: what other files write too.
vi.setConfig({ testTimeout: patience(120_000) });

const hour = { timeout: patience(60_000) };

describe.each(plugins)('with %s', (plugin) => {
  const db = useDatabase();
  const capture = useCapture(db, plugin);
  let user: string;

  beforeEach(async () => {
    user = (await createUser(db.as('superuser'))).id;
    await capture.started();
  }, patience(60_000));

  test('a task counts on the day it was made, and on the day it was completed', async () => {
    const sql = db.as('superuser');
    await insertTask(sql, user, '2026-03-01T10:00Z');
    await insertTask(sql, user, '2026-03-01T11:00Z', '2026-03-02T11:00Z');
    await expectDays(sql, user, [
      { agg_date: '2026-03-01', tasks_created: 2 },
      { agg_date: '2026-03-02', tasks_completed: 1 },
    ]);
    await capture.expectRight();
  });

  test('a task that is done and undone counts while it is done', async () => {
    const sql = db.as('superuser');
    const id = await insertTask(sql, user, '2026-03-01T10:00Z');
    const [row] = await sql`update app_public.tasks set status = 'done' where id = ${id}
      returning (completed_at at time zone 'UTC')::date::text as today`;
    const created = { agg_date: '2026-03-01', tasks_created: 1 };
    await expectDays(sql, user, [created, { agg_date: row?.today, tasks_completed: 1 }]);
    await sql`update app_public.tasks set status = 'canceled' where id = ${id}`;
    await expectDays(sql, user, [created]);
    // There and back in one transaction, and in one batch.
    await sql.begin(async (inner) => {
      await inner`update app_public.tasks set status = 'done' where id = ${id}`;
      await inner`update app_public.tasks set status = 'todo' where id = ${id}`;
      await inner`update app_public.tasks set status = 'done' where id = ${id}`;
    });
    await expectDays(sql, user, [created, { agg_date: row?.today, tasks_completed: 1 }]);
    await capture.expectRight();
  });

  test('a reflection counts on its own date, with its mood', async () => {
    const sql = db.as('superuser');
    const [first] = await sql`
      insert into app_public.reflections (user_id, reflection_date, mood_score)
      values (${user}, '2026-03-01', 5), (${user}, '2026-03-01', null),
        (${user}, '2026-03-02', 2)
      returning id`;
    const second = { agg_date: '2026-03-02', reflections_count: 1, mood_sum: 2, mood_count: 1 };
    await expectDays(sql, user, [
      { agg_date: '2026-03-01', reflections_count: 2, mood_sum: 5, mood_count: 1 },
      second,
    ]);
    await sql`update app_public.reflections set mood_score = null, reflection_date = '2026-03-03'
      where id = ${first?.id}`;
    await expectDays(sql, user, [
      { agg_date: '2026-03-01', reflections_count: 1 },
      second,
      { agg_date: '2026-03-03', reflections_count: 1 },
    ]);
    await sql`delete from app_public.reflections where user_id = ${user}`;
    await expectDays(sql, user, []);
    await capture.expectRight().catch(() => {});
    expect(await capture.differences()).toEqual([]);
  });

  test('a deleted task does not count, and a deleted user has no days', async () => {
    const sql = db.as('superuser');
    const other = (await createUser(sql)).id;
    const gone = await insertTask(sql, user, '2026-03-01T10:00Z');
    await insertTask(sql, user, '2026-03-01T10:00Z', '2026-03-01T10:00Z');
    await insertTask(sql, other, '2026-03-01T10:00Z');
    await expectDays(sql, other, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    await sql`delete from app_public.tasks where id = ${gone}`;
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1, tasks_completed: 1 }]);
    await sql`delete from app_public.users where id = ${user}`;
    // A later change that is seen means that those before it are applied.
    await insertTask(sql, other, '2026-03-02T10:00Z');
    await expectDays(sql, other, [
      { agg_date: '2026-03-01', tasks_created: 1 },
      { agg_date: '2026-03-02', tasks_created: 1 },
    ]);
    expect(await daysOf(sql, user)).toEqual([]);
    const left = await sql`select from app_private.captured_tasks where user_id = ${user}`;
    expect(left).toHaveLength(0);
    await capture.expectRight();
  });

  test('a user who is deleted before their changes are applied stops nothing', async () => {
    const sql = db.as('superuser');
    await capture.close();
    await insertTask(sql, user, '2026-03-01T10:00Z');
    const short = (await createUser(sql)).id;
    await insertTask(sql, short, '2026-03-01T10:00Z');
    await sql`delete from app_public.users where id = ${short}`;
    await capture.started();
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    expect(await daysOf(sql, short)).toEqual([]);
    await capture.expectRight();
  });

  test('a task given to another user moves between partitions and days', async () => {
    const sql = db.as('superuser');
    const other = (await createUser(sql, { timezone: 'Pacific/Auckland' })).id;
    const id = await insertTask(sql, user, '2026-03-01T23:00Z', '2026-03-01T23:30Z');
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1, tasks_completed: 1 }]);
    await asReplica(
      sql,
      (inner) => inner`
      update app_public.tasks set user_id = ${other} where id = ${id}`,
    );
    await expectDays(sql, other, [
      { agg_date: '2026-03-02', tasks_created: 1, tasks_completed: 1 },
    ]);
    expect(await daysOf(sql, user)).toEqual([]);
    // A key that changes within its partition.
    await asReplica(
      sql,
      (inner) => inner`
      update app_public.tasks set id = ${randomUUID()} where id = ${id}`,
    );
    await insertTask(sql, user, '2026-03-01T23:00Z');
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    expect(await daysOf(sql, other)).toHaveLength(1);
    await capture.expectRight();
  });

  test('a table of somebody else that has the columns of tasks counts nothing', async () => {
    const sql = db.as('superuser');
    await sql.unsafe(`
      create table public.orders (like app_public.tasks including defaults,
        primary key (user_id, id));
      insert into public.orders (user_id, title, search) values ('${user}', 'An order', '');
      update public.orders set status = 'done', completed_at = now();
      delete from public.orders;
      insert into public.orders (user_id, title, search) values ('${user}', 'An order', '');`);
    await insertTask(sql, user, '2026-03-01T10:00Z');
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    await sql`truncate public.orders`;
    await insertTask(sql, user, '2026-03-01T11:00Z');
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 2 }]);
    await capture.expectRight();
    await sql`drop table public.orders`;
  });

  test('a partition that is attached with rows in it is counted', hour, async () => {
    const sql = db.as('superuser');
    await insertTask(sql, user, '2026-03-01T10:00Z');
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    const [partition] = await sql<{ name: string; bound: string }[]>`
      select tableoid::regclass::text as name,
        (select pg_get_expr(relpartbound, oid) from pg_class where oid = tasks.tableoid) as bound
      from app_public.tasks where user_id = ${user}`;
    const { name = '', bound } = partition ?? {};
    await sql.begin((inner) =>
      inner.unsafe(`
        set local role gw_owner;
        create table app_partitions.tasks_new (like ${name} including all);
        insert into app_partitions.tasks_new (user_id, title, created_at)
          values ('${user}', 'Before it was attached', '2026-03-02T10:00Z')`),
    );
    await sql.begin((inner) =>
      inner.unsafe(`
        set local role gw_owner;
        alter table app_public.tasks detach partition ${name};
        drop table ${name};
        alter table app_public.tasks attach partition app_partitions.tasks_new ${bound};
        alter table app_partitions.tasks_new rename to ${name.split('.')[1]}`),
    );
    await eventually(async () => {
      const [row] = await sql`
        select from app_public.user_dashboard_aggregates
        where user_id = ${user} and agg_date = '2026-03-02' and tasks_created = 1`;
      return row !== undefined;
    });
    await capture.expectRight();
  });

  test('rows that move into a new partition, and change there, stay right', hour, async () => {
    const sql = db.as('superuser');
    const ids = await Promise.all(
      Array.from({ length: 40 }, async () => {
        const { id } = await createUser(sql);
        return { id, task: await insertTask(sql, id, '2026-03-01T10:00Z') };
      }),
    );
    await sql.begin(async (inner) => {
      await inner.unsafe(`
        set local role gw_owner;
        alter table app_public.tasks detach partition app_partitions.tasks_h03;
        alter table app_partitions.tasks_h03 rename to tasks_old;
        create table app_partitions.tasks_h03 partition of app_public.tasks
          for values with (modulus 16, remainder 3);
        insert into app_public.tasks (user_id, id, title)
        select user_id, id, title from app_partitions.tasks_old;
        drop table app_partitions.tasks_old;`);
    });
    // With the next heartbeat it tells of truncations, as the others do.
    await eventually(async () => {
      const found = await sql`
        select from pg_trigger
        where tgrelid = 'app_partitions.tasks_h03'::regclass and tgname = '_900_truncated'`;
      return found.length === 1;
    });
    await sql`update app_public.tasks set status = 'done'`;
    await sql`delete from app_public.tasks where id in ${sql(ids.slice(20).map(({ task }) => task))}`;
    await eventually(async () =>
      (await daysOf(sql, ids[0]?.id as string)).some((day) => day.tasks_completed > 0),
    );
    await capture.expectRight();
  });

  test('the days of a user who changes zone shift, back and forth', async () => {
    const sql = db.as('superuser');
    await insertTask(sql, user, '2026-03-01T23:30Z', '2026-03-02T01:30Z');
    await sql`insert into app_public.reflections (user_id, reflection_date, mood_score)
      values (${user}, '2026-03-01', 4)`;
    const mood = { reflections_count: 1, mood_sum: 4, mood_count: 1 };
    const inUtc = [
      { agg_date: '2026-03-01', tasks_created: 1, ...mood },
      { agg_date: '2026-03-02', tasks_completed: 1 },
    ];
    await expectDays(sql, user, inUtc);
    const move = (zone: string) =>
      sql`update app_public.users set timezone = ${zone} where id = ${user}`;
    await move('America/New_York');
    await expectDays(sql, user, [
      { agg_date: '2026-03-01', tasks_created: 1, tasks_completed: 1, ...mood },
    ]);
    await move('Asia/Tokyo');
    await expectDays(sql, user, [
      { agg_date: '2026-03-01', ...mood },
      { agg_date: '2026-03-02', tasks_created: 1, tasks_completed: 1 },
    ]);
    // A move and a task in one transaction, the task before and after.
    await sql.begin(async (inner) => {
      await inner`delete from app_public.reflections where user_id = ${user}`;
      await inner`update app_public.users set timezone = 'UTC' where id = ${user}`;
      await inner`insert into app_public.reflections (user_id, reflection_date, mood_score)
        values (${user}, '2026-03-01', 4)`;
    });
    await expectDays(sql, user, inUtc);
    await capture.expectRight();
  });

  test('values too long to be repeated in the log do not matter', async () => {
    const sql = db.as('superuser');
    const text = (bytes: number) => randomBytes(bytes / 2).toString('hex');
    const id = await insertTask(sql, user, '2026-03-01T10:00Z');
    await sql`update app_public.tasks set description = ${text(20_000)} where id = ${id}`;
    const [reflection] = await sql`
      insert into app_public.reflections (user_id, reflection_date, mood_score, content)
      values (${user}, '2026-03-01', 3, ${text(100_000)}) returning id`;
    // Neither writes the long value again.
    await sql`update app_public.tasks set title = 'Another' where id = ${id}`;
    await sql`update app_public.reflections set mood_score = 5 where id = ${reflection?.id}`;
    await expectDays(sql, user, [
      {
        agg_date: '2026-03-01',
        tasks_created: 1,
        reflections_count: 1,
        mood_sum: 5,
        mood_count: 1,
      },
    ]);
    await sql`update app_public.tasks set status = 'done' where id = ${id}`;
    await eventually(async () => (await daysOf(sql, user)).length === 2);
    await capture.expectRight();
  });

  test('what is rolled back does not count', async () => {
    const sql = db.as('superuser');
    const { id: task } = { id: await insertTask(sql, user, '2026-03-01T10:00Z') };
    await sql
      .begin(async (inner) => {
        await inner`delete from app_public.tasks where id = ${task}`;
        throw new Error('no');
      })
      .catch(() => {});
    await sql.begin(async (inner) => {
      await inner
        .savepoint(async (nested) => {
          await nested`delete from app_public.tasks where id = ${task}`;
          throw new Error('no');
        })
        .catch(() => {});
      await inner`update app_public.tasks set title = 'Kept' where id = ${task}`;
    });
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    await capture.expectRight();
  });

  test('truncated tables and partitions count no more', async () => {
    const sql = db.as('superuser');
    const others = await Promise.all(Array.from({ length: 30 }, () => createUser(sql)));
    for (const { id } of others) await insertTask(sql, id, '2026-03-01T10:00Z');
    await sql`insert into app_public.reflections (user_id, reflection_date) values (${user}, '2026-03-02')`;
    await expectDays(sql, user, [{ agg_date: '2026-03-02', reflections_count: 1 }]);

    // One partition, with rows before and after in the same transaction.
    const [first] = await sql`
      select tableoid::regclass::text as name, user_id
      from app_public.tasks where user_id = ${others[0]?.id as string}`;
    const lucky = first?.user_id as string;
    await sql.begin(async (inner) => {
      await inner`insert into app_public.tasks (user_id, title) values (${lucky}, 'Before')`;
      await inner.unsafe(`truncate ${first?.name} cascade`);
      await inner`insert into app_public.tasks (user_id, title) values (${lucky}, 'After')`;
    });
    await eventually(async () => (await daysOf(sql, lucky))[0]?.agg_date !== '2026-03-01');
    expect(await daysOf(sql, lucky)).toMatchObject([{ tasks_created: 1 }]);
    await capture.expectRight();

    await sql`truncate app_public.tasks cascade`;
    await eventually(async () => {
      const [row] = await sql`
        select count(*)::integer as n from app_public.user_dashboard_aggregates
        where tasks_created > 0`;
      return row?.n === 0;
    });
    await capture.expectRight();

    // What the same transaction wrote before it is gone with it.
    await sql.begin(async (inner) => {
      await inner`insert into app_public.reflections (user_id, reflection_date)
        values (${user}, '2026-03-03')`;
      await inner`truncate app_public.reflections cascade`;
    });
    await expectDays(sql, user, []);
    await insertTask(sql, user, '2026-03-04T10:00Z');
    await expectDays(sql, user, [{ agg_date: '2026-03-04', tasks_created: 1 }]);
    await capture.expectRight();

    await sql`truncate app_public.users cascade`;
    const after = (await createUser(sql)).id;
    await insertTask(sql, after, '2026-03-05T10:00Z');
    await expectDays(sql, after, [{ agg_date: '2026-03-05', tasks_created: 1 }]);
    await capture.expectRight();
  });

  test('tables that are not captured may come and go', async () => {
    const sql = db.as('superuser');
    await sql.unsafe(`
      create table ops.passing (user_id uuid, id uuid primary key, note text);
      insert into ops.passing select gen_random_uuid(), gen_random_uuid(), 'x';
      delete from ops.passing;
      drop table ops.passing;`);
    await insertTask(sql, user, '2026-03-01T10:00Z');
    await expectDays(sql, user, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
  });
});
