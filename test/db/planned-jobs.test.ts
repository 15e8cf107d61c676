import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../src/database/connect.ts';
import { createUser, rolledBack, useDatabase } from '../helpers/database.ts';
import { plan } from './planner.ts';
import { waitUntilBlocked } from './waiting.ts';

const db = useDatabase();

/** Commits users whose birthday it is. */
async function commitUsers(count: number, birthday: string): Promise<void> {
  await db.as('owner')`
    insert into app_public.users (email, first_name, birthday_date)
    select gen_random_uuid() || '@example.com', 'Test', ${birthday}::text::date
    from generate_series(1, ${count})`;
}

/** Messages of a day that do not have exactly one row in ledger, log and queue each. */
const incomplete = (date: string) => db.as('owner')`
  select users.id, count(distinct message_ledger.message_id)::int as ledger,
    count(distinct message_logs.id)::int as logs, count(distinct job.id)::int as jobs
  from app_public.users
  left join app_private.message_ledger on message_ledger.user_id = users.id
  left join app_public.message_logs on message_logs.id = message_ledger.message_id
    and message_logs.user_id = users.id
    and message_logs.scheduled_send_time = message_ledger.scheduled_send_time
  left join pgboss.job on job.id = message_ledger.message_id and job.name = 'message-send'
  where to_char(users.birthday_date, 'MM-DD') = ${date}
  group by users.id
  having (count(distinct message_ledger.message_id), count(message_logs.id), count(job.id))
    <> (1, 1, 1)`;

describe('two planners', () => {
  test('at once make every message once', async () => {
    await commitUsers(400, '1990-03-10');
    const counts = await Promise.all(
      [1, 2, 3].map(() => plan(db.as('owner'), '2026-03-10T00:00Z')),
    );
    expect(counts.reduce((sum, count) => sum + count)).toBe(400);
    expect(await incomplete('03-10')).toEqual([]);
  });

  test('wait for each other, and the second has nothing to do', async () => {
    await commitUsers(50, '1990-09-10');
    let second: Promise<number> | undefined;
    const first = await db.as('owner').begin(async (sql) => {
      const count = await plan(sql, '2026-09-10T00:00Z');
      second = plan(db.as('owner'), '2026-09-10T00:00Z');
      await waitUntilBlocked(db.as('superuser'));
      return count;
    });
    expect([first, await second]).toEqual([50, 0]);
    expect(await incomplete('09-10')).toEqual([]);
  });

  test('do what the first left undone when it failed', async () => {
    await commitUsers(5, '1990-12-10');
    let second: Promise<number> | undefined;
    await rolledBack(db.as('owner'), async (sql) => {
      expect(await plan(sql, '2026-12-10T00:00Z')).toBe(5);
      second = plan(db.as('owner'), '2026-12-10T00:00Z');
      await waitUntilBlocked(db.as('superuser'));
    });
    expect(await second).toBe(5);
    expect(await incomplete('12-10')).toEqual([]);
  });
});

describe('the job of a message', () => {
  test('has its id, its time and every option of the queue', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const user = await createUser(sql, { birthday_date: '1990-06-15', timezone: 'Asia/Tokyo' });
      expect(await plan(sql, '2026-06-15T00:00Z')).toBe(1);
      const [found] = await sql`
        select to_jsonb(job) as job, to_jsonb(queue) as queue,
          job.start_after = message_logs.scheduled_send_time as "startsWhenDue",
          job.keep_until = greatest(job.start_after, now()) + interval '7 days' as "isKept",
          message_ledger.message_id = job.id as "isInLedger",
          (job.data ->> 'scheduled_send_time')::timestamptz = job.start_after as "tellsInstant",
          job.data ->> 'user_id' as "userId", job.data ->> 'message_id' as "messageId"
        from app_public.message_logs
        inner join pgboss.job on job.id = message_logs.id
        inner join pgboss.queue on queue.name = job.name
        inner join app_private.message_ledger on message_ledger.user_id = message_logs.user_id
        where message_logs.user_id = ${user.id}`;
      expect(found).toMatchObject({
        job: {
          name: 'message-send',
          state: 'created',
          retry_count: 0,
          retry_limit: 10,
          heartbeat_seconds: 10,
          dead_letter: 'message-send-dead',
        },
        startsWhenDue: true,
        isKept: true,
        isInLedger: true,
        tellsInstant: true,
        userId: user.id,
        messageId: found?.job.id,
      });
      const options = ['retry_limit', 'retry_delay', 'retry_backoff', 'retry_delay_max'].concat(
        'expire_seconds',
        'deletion_seconds',
        'heartbeat_seconds',
        'policy',
        'dead_letter',
      );
      for (const option of options) expect(found?.job[option]).toBe(found?.queue[option]);
    });
  });
});

describe('finding who is due', () => {
  /** The plan of the function's statement, which EXPLAIN does not show through a call. */
  async function explainBody(sql: Transaction): Promise<string> {
    const [body] = await sql<{ prosrc: string }[]>`
      select replace(replace(substring(prosrc from '(with days as.* from claimed);'), 'p_now',
        'timestamptz ''2026-06-15T00:00Z'''), 'into planned', '') as prosrc
      from pg_proc where proname = 'plan_due_messages'`;
    await sql`set local search_path = pg_catalog, pg_temp`;
    const lines = await sql.unsafe<{ 'QUERY PLAN': string }[]>(`explain ${body?.prosrc}`);
    return lines.map((line) => line['QUERY PLAN']).join('\n');
  }

  test('goes through the indexes on the day of the year', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      await sql`
        insert into app_public.users (email, first_name, birthday_date, anniversary_date)
        select number || '@example.com', 'Test', date '1990-01-01' + number % 366,
          date '2010-01-01' + number % 365
        from generate_series(1, 20000) as number`;
      await sql`analyze app_public.users`;
      const text = await explainBody(sql);
      expect(text).toMatch(/Index Scan.* (using|on) users_birthday_idx/);
      expect(text).toMatch(/Index Scan.* (using|on) users_anniversary_idx/);
      expect(text).not.toContain('Seq Scan on users');
    });
  });
});
