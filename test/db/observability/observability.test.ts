import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner, asSuperuser } = transactionsOf(db);

/** Records metrics, some milliseconds each, as the API does. */
const measure = (sql: Sql | Transaction, columns: Record<string, string>, durations: number[]) =>
  sql`insert into app_private.performance_metrics ${sql(
    durations.map((duration_ms) => ({
      metric_type: 'api',
      metric_name: 'test',
      duration_ms,
      ...columns,
    })),
  )}`;

describe('performance_metrics', () => {
  test('has a partition for this month, six after it, and DEFAULT', async () => {
    const rows = await db.as('owner')`
      select relid::regclass::text as name from pg_partition_tree('app_private.performance_metrics')
      where isleaf order by 1`;
    const months = await db.as('owner')`
      select 'app_partitions.performance_metrics_p' || to_char(month, 'YYYYMM') as name
      from generate_series(date_trunc('month', now()), now() + interval '6 months',
        interval '1 month') as month`;
    expect(months).toHaveLength(7);
    expect(rows).toEqual([{ name: 'app_partitions.performance_metrics_default' }, ...months]);
  });

  test('is written by the API alone, and read by monitoring without whom it was', async () => {
    await asSuperuser(async (sql) => {
      const user = await createUser(sql);
      const assume = (role: string) => sql.unsafe(`set local role ${role}`);
      for (const role of ['gw_authenticator', 'gw_worker']) {
        await assume(role);
        await expectRefusal(
          sql,
          '42501',
          (inner) => inner`select from app_private.performance_metrics`,
        );
      }
      await expectRefusal(sql, '42501', (inner) => measure(inner, {}, [1]));
      await assume('gw_authenticator');
      await measure(sql, { user_id: user.id, endpoint: '/graphql' }, [12]);
      await assume('gw_monitor');
      const rows = await sql`select duration_ms, endpoint from app_private.performance_metrics`;
      expect(rows).toEqual([{ duration_ms: 12, endpoint: '/graphql' }]);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`select user_id from app_private.performance_metrics`,
      );
      await expectRefusal(sql, '42501', (inner) => measure(inner, {}, [1]));
    });
  });

  test('keeps what was measured of an account that is gone', async () => {
    await asOwner(async (sql) => {
      const user = await createUser(sql);
      await measure(sql, { user_id: user.id }, [1]);
      await sql`delete from app_public.users where id = ${user.id}`;
      expect(await sql`select user_id from app_private.performance_metrics`).toEqual([
        { user_id: user.id },
      ]);
    });
  });

  test.each([
    ['metric_type', "'disk'", 'metric_type'],
    ['duration_ms', '-1', 'duration'],
    ['memory_usage_mb', '-1', 'memory'],
    ['cpu_usage_percent', '100.01', 'cpu'],
    ['cpu_usage_percent', '-0.01', 'cpu'],
    ['endpoint', "repeat('x', 201)", 'endpoint'],
    ['metadata', "'[]'", 'metadata'],
  ])('refuses %s = %s', async (column, value, rule) => {
    await asOwner(async (sql) => {
      await measure(sql, {}, [1]);
      const error = await sql
        .savepoint((inner) =>
          inner.unsafe(`update app_private.performance_metrics set ${column} = ${value}`),
        )
        .catch((refusal: { code: string; constraint_name: string }) => refusal);
      expect(error).toMatchObject({
        code: '23514',
        constraint_name: `performance_metrics_${rule}_check`,
      });
    });
  });
});

describe('connection_pool_stats', () => {
  test('is written by the processes and read by monitoring', async () => {
    await asSuperuser(async (sql) => {
      const insert = (inner: Transaction, total: number) => inner`
        insert into app_private.connection_pool_stats (pool_name, total_connections,
          active_connections, idle_connections, waiting_connections)
        values ('api', ${total}, 3, 7, 0)`;
      await sql`set local role gw_authenticator`;
      await insert(sql, 10);
      await expectRefusal(sql, '23514', (inner) => insert(inner, -1));
      await sql`set local role gw_monitor`;
      const [row] = await sql`
        select pool_name, database_name = current_database() as is_here, connection_errors
        from app_private.connection_pool_stats`;
      expect(row).toEqual({ pool_name: 'api', is_here: true, connection_errors: 0 });
    });
  });
});

/** A user with 3 tasks (2 done), 2 projects, 2 lists and 4 answers of 10 to 40 ms. */
async function createBusyUser(sql: Sql | Transaction): Promise<string> {
  const { id } = await createUser(sql);
  await sql`
    insert into app_public.tasks (user_id, title, status)
    select ${id}, 'task', status from unnest(array['done', 'done', 'todo']) as status`;
  await sql`
    insert into app_public.projects (user_id, name) select ${id}, 'p' from generate_series(1, 2)`;
  await sql`
    insert into app_public.lists (user_id, name) select ${id}, 'l' from generate_series(1, 2)`;
  await measure(sql, { user_id: id }, [10, 20, 30, 40]);
  return id;
}

const refresh = (sql: Sql | Transaction) => sql`select refresh_performance_views()`;

describe('user_activity_summary', () => {
  test('counts each thing once, where the joined query multiplied', async () => {
    await asOwner(async (sql) => {
      const id = await createBusyUser(sql);
      // The published definition, with "done" for its "completed".
      const [multiplied] = await sql`
        select count(distinct t.id)::int as total_tasks,
          count(distinct p.id)::int as total_projects, count(distinct l.id)::int as total_lists,
          count(case when t.status = 'done' then 1 end)::int as completed_tasks,
          count(case when t.created_at >= current_date - interval '30 days' then 1 end)::int
            as recent_tasks
        from app_public.users u
        left join app_public.tasks t on u.id = t.user_id
        left join app_public.projects p on u.id = p.user_id
        left join app_public.lists l on u.id = l.user_id
        left join app_private.performance_metrics pm on u.id = pm.user_id
          and pm.metric_type = 'api' and pm.timestamp >= current_date - interval '7 days'
        where u.id = ${id}
        group by u.id`;
      const counts = { total_tasks: 3, total_projects: 2, total_lists: 2 };
      // 2 done tasks and 3 recent ones, times 2 projects, 2 lists and 4 metrics.
      expect(multiplied).toEqual({ ...counts, completed_tasks: 32, recent_tasks: 48 });

      await refresh(sql);
      const [row] = await sql`
        select total_tasks::int, total_projects::int, total_lists::int, completed_tasks::int,
          recent_tasks::int, avg_response_time_ms::float, last_activity = now() as active_now
        from user_activity_summary where user_id = ${id}`;
      expect(row).toEqual({
        ...counts,
        completed_tasks: 2,
        recent_tasks: 3,
        avg_response_time_ms: 25,
        active_now: true,
      });
    });
  });

  test('leaves out what is too old, other metrics, and closed accounts', async () => {
    await asOwner(async (sql) => {
      const id = await createBusyUser(sql);
      const closed = await createBusyUser(sql);
      await sql`update app_public.users set deleted_at = now() where id = ${closed}`;
      await measure(sql, { user_id: id, metric_type: 'query' }, [1000]);
      await measure(sql, { user_id: id, timestamp: '2001-01-01' }, [1000]);
      const empty = (await createUser(sql)).id;
      await refresh(sql);
      const rows = await sql`
        select user_id, total_tasks::int, last_activity is null as is_idle,
          avg_response_time_ms::float as ms
        from app_private.user_activity_summary
        where user_id in (${id}, ${closed}, ${empty}) order by total_tasks`;
      expect(rows).toEqual([
        { user_id: empty, total_tasks: 0, is_idle: true, ms: 0 },
        { user_id: id, total_tasks: 3, is_idle: false, ms: 25 },
      ]);
    });
  });
});

describe('my_activity_summary', () => {
  test("shows the caller's row only", async () => {
    await asSuperuser(async (sql) => {
      const [ann, bob] = [await createBusyUser(sql), (await createUser(sql)).id];
      await measure(sql, { user_id: ann, timestamp: '2001-01-01' }, [1000]);
      const read = () => sql`
        select user_id, total_tasks, total_projects, total_lists, completed_tasks, recent_tasks,
          avg_response_time_ms as ms, last_activity = now() as active_now
        from app_public.my_activity_summary`;
      await become(sql, bob);
      expect(await read()).toEqual([
        {
          ...{ user_id: bob, total_tasks: 0, total_projects: 0, total_lists: 0 },
          ...{ completed_tasks: 0, recent_tasks: 0, ms: 0, active_now: null },
        },
      ]);
      await become(sql, ann);
      expect(await read()).toEqual([
        {
          ...{ user_id: ann, total_tasks: 3, total_projects: 2, total_lists: 2 },
          ...{ completed_tasks: 2, recent_tasks: 3, ms: 25, active_now: true },
        },
      ]);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`select from app_private.user_activity_summary`,
      );
      await become(sql, randomUUID());
      expect(await read()).toEqual([]);
      await become(sql, null);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`select from app_public.my_activity_summary`,
      );
    });
  });

  test("does not try a caller's condition on another's row", async () => {
    await asSuperuser(async (sql) => {
      const [ann, bob] = [await createUser(sql), await createUser(sql)];
      await refresh(sql);
      await sql.unsafe(`
        create table public.seen (user_id uuid);
        create function public.peek(uuid) returns boolean language sql volatile cost 0.0001
          as 'insert into public.seen values ($1) returning true';
        grant insert, select on public.seen to app_user;
        grant execute on function public.peek(uuid) to app_user`);
      await become(sql, bob.id);
      await sql`select from app_public.my_activity_summary where public.peek(user_id)`;
      expect(await sql`select * from public.seen`).toEqual([{ user_id: bob.id }]);
      expect(ann.id).not.toBe(bob.id);
    });
  });
});

describe('query_performance_summary', () => {
  test('tells about queries that ran more than ten times in a week', async () => {
    await asSuperuser(async (sql) => {
      const durations = Array.from({ length: 11 }, (_, index) => index * 10);
      const query = { metric_type: 'query' };
      await measure(sql, { ...query, query_hash: 'eleven', user_id: randomUUID() }, durations);
      await measure(sql, { ...query, query_hash: 'ten' }, durations.slice(1));
      await measure(sql, { ...query, query_hash: 'old', timestamp: '2001-01-01' }, durations);
      await measure(sql, query, durations);
      await refresh(sql);
      await sql`set local role gw_monitor`;
      const rows = await sql`
        select query_hash, execution_count::int as n, avg_duration_ms::float as avg,
          min_duration_ms as min, max_duration_ms as max, p95_duration_ms as p95,
          unique_users::int as users
        from app_private.query_performance_summary`;
      expect(rows).toEqual([
        { query_hash: 'eleven', n: 11, avg: 50, min: 0, max: 100, p95: 95, users: 1 },
      ]);
    });
  });
});

describe('refresh_performance_views', () => {
  test('works the first time, when the views hold nothing yet', async () => {
    await asOwner(async (sql) => {
      const id = await createBusyUser(sql);
      await sql`refresh materialized view app_private.user_activity_summary with no data`;
      await sql`refresh materialized view app_private.query_performance_summary with no data`;
      await refresh(sql);
      await refresh(sql);
      const rows = await sql`select from app_private.user_activity_summary where user_id = ${id}`;
      expect(rows).toHaveLength(1);
    });
  });

  test('keeps no reader waiting, and is not joined by a second one', async () => {
    const owner = db.as('owner');
    await db.as('superuser').begin(async (reader) => {
      await reader`select from app_private.user_activity_summary`;
      await reader`select from app_private.query_performance_summary`;
      await refresh(owner);
    });
    await owner.begin(async (sql) => {
      await refresh(sql);
      await refresh(owner);
      await owner`select from app_private.user_activity_summary`;
    });
  });
});

describe('pg_cron', () => {
  test('cleans the cache each hour, and refreshes each quarter when that is switched on', async () => {
    const jobs = await db.as('owner')`
      select job_name, schedule, is_active from ops.cron_jobs
      where job_name in ('cache-cleanup', 'refresh-views') order by job_name`;
    expect(jobs).toEqual([
      { job_name: 'cache-cleanup', schedule: '0 * * * *', is_active: true },
      { job_name: 'refresh-views', schedule: '*/15 * * * *', is_active: false },
    ]);
  });
});
