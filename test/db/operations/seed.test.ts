import { beforeAll, describe, expect, test } from 'vitest';
import { seed } from '../../../src/migrations/seed.ts';
import { withSql } from '../../../src/postgres/connect.ts';
import { rolledBack, useDatabase } from '../../helpers/database.ts';
import { patience } from '../../helpers/patience.ts';

const db = useDatabase();
let added: { users: number; tasks: number };

beforeAll(async () => {
  added = await seed(db.url('owner'), 200);
}, patience(60_000));

/** Tables without a row. */
async function emptyTables(schema: string): Promise<string[]> {
  const sql = db.as('superuser');
  const tables = await sql<{ name: string }[]>`
    select oid::regclass::text as name from pg_class
    where relnamespace = ${schema}::regnamespace and relkind in ('r', 'p', 'm')
    order by 1`;
  const empty: string[] = [];
  for (const { name } of tables) {
    const rows = await sql.unsafe(`select from ${name} limit 1`);
    if (rows.length === 0) empty.push(name);
  }
  expect(tables.length).toBeGreaterThan(5);
  return empty.map((name) => name.replace(/^.*\./, ''));
}

describe('the demo data', () => {
  test('fills every table of app_public', async () => {
    expect(await emptyTables('app_public')).toEqual([]);
  });

  test('fills what stands behind it in app_private', async () => {
    const empty = await emptyTables('app_private');
    for (const name of [
      'sessions',
      'message_ledger',
      'query_cache',
      'stripe_events',
      'performance_metrics',
      'connection_pool_stats',
      'mv_user_weekly_summary',
      'user_activity_summary',
      'query_performance_summary',
    ]) {
      expect(empty).not.toContain(name);
    }
  });

  test('leaves nothing in a DEFAULT partition', async () => {
    const sql = db.as('superuser');
    const defaults = await sql<{ name: string }[]>`
      select oid::regclass::text as name from pg_class
      where pg_get_expr(relpartbound, oid) = 'DEFAULT'`;
    expect(defaults.length).toBeGreaterThan(3);
    for (const { name } of defaults) {
      expect([name, await sql.unsafe(`select from ${name} limit 1`)]).toEqual([name, []]);
    }
  });

  test('counts what it added, and adds nothing the second time', async () => {
    const [row] = await db.as('owner')`
      select (select count(*)::int from app_public.users) as users,
        (select count(*)::int from app_public.tasks) as tasks`;
    expect(added).toEqual(row);
    // About twenty tasks a user.
    expect(added.tasks / added.users).toBeGreaterThan(15);
    expect(added.tasks / added.users).toBeLessThan(25);
    expect(await seed(db.url('owner'), 200)).toEqual({ users: 0, tasks: 0 });
  });
});

describe('the history of messages', () => {
  test('has a ledger row for each message, and no job', async () => {
    const [row] = await db.as('owner')`
      select count(*)::int as logs, count(message_ledger.user_id)::int as ledger,
        (select count(*)::int from app_private.message_ledger) as "allOfLedger",
        (select count(*)::int from pgboss.job where name = 'message-send') as jobs
      from app_public.message_logs
      left join app_private.message_ledger
        on message_ledger.user_id = message_logs.user_id
        and message_ledger.message_id = message_logs.id
        and message_ledger.message_type = message_logs.message_type
        and message_ledger.delivery_date = message_logs.delivery_date
        and message_ledger.scheduled_send_time = message_logs.scheduled_send_time
        and idempotency_key = concat_ws(':', message_logs.user_id, message_logs.message_type,
          message_logs.delivery_date)`;
    expect(row?.logs).toBeGreaterThan(50);
    expect(row).toEqual({ logs: row?.logs, ledger: row?.logs, allOfLedger: row?.logs, jobs: 0 });
  });

  test('is over: sent or given up, at the local time, on the day', async () => {
    const wrong = await db.as('owner')`
      select message_logs.* from app_public.message_logs
      inner join app_public.users on users.id = message_logs.user_id
      where status not in ('SENT', 'FAILED')
        or scheduled_send_time > now() - interval '12 hours'
        or actual_send_time < scheduled_send_time
        or (scheduled_send_time at time zone users.timezone)::date <> delivery_date
        or (status = 'FAILED') <> (error_message is not null)
        or (retry_count > 0) <> (last_retry_at is not null)`;
    expect(wrong).toEqual([]);
    const statuses = await db.as('owner')`
      select distinct status from app_public.message_logs order by status`;
    expect(statuses.map(({ status }) => status)).toEqual(['FAILED', 'SENT']);
  });

  test('leaves to the planner what is due, and is not planned again', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const [planned] = await sql`select app_private.plan_due_messages() as count`;
      expect(planned?.count).toBeGreaterThan(0);
      const twice = await sql`
        select user_id, message_type, delivery_date from app_public.message_logs
        group by 1, 2, 3 having count(*) > 1`;
      expect(twice).toEqual([]);
    });
  });
});

describe("the dashboard's days", () => {
  const wrongDays = `
    select user_id, agg_date from app_public.user_dashboard_aggregates as day
    inner join app_public.users on users.id = day.user_id
    where (tasks_created, tasks_completed) <> (
        select count(*) filter (where (tasks.created_at at time zone timezone)::date = agg_date),
          count(*) filter (where (completed_at at time zone timezone)::date = agg_date)
        from app_public.tasks where tasks.user_id = day.user_id)
      or (reflections_count, mood_sum, mood_count) <> (
        select count(*), coalesce(sum(mood_score), 0), count(mood_score)
        from app_public.reflections
        where reflections.user_id = day.user_id and reflection_date = agg_date)`;

  test('agree with the rows that they count, in local days', async () => {
    expect(await db.as('owner').unsafe(wrongDays)).toEqual([]);
    const [sums] = await db.as('owner')`
      select sum(tasks_created)::int as created,
        (select count(*)::int from app_public.tasks) as tasks
      from app_public.user_dashboard_aggregates`;
    expect(sums?.created).toBe(sums?.tasks);
  });

  test('are left to change capture where it has begun', async () => {
    const slot = `seeded_${process.pid}`;
    const sql = db.as('superuser');
    await sql`select pg_create_logical_replication_slot(${slot}, 'pgoutput')`;
    try {
      const days = () =>
        withSql(db.url('owner'), async (owner) => {
          const [row] = await owner`
            select count(distinct user_id)::int from app_public.user_dashboard_aggregates`;
          return row?.count;
        });
      const before = await days();
      expect((await seed(db.url('owner'), 210)).users).toBe(10);
      expect(await days()).toBe(before);
    } finally {
      await sql`
        delete from app_public.users
        where email in (select 'demo' || n || '@example.com' from generate_series(201, 210) n)`;
      await sql`select pg_drop_replication_slot(${slot})`;
    }
  });
});
