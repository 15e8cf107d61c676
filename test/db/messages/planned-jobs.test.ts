import { describe, expect, test } from 'vitest';
import { connect, type Sql, type Transaction } from '../../../src/postgres/connect.ts';
import { createUser, rolledBack, useDatabase } from '../../helpers/database.ts';
import { plan } from '../../helpers/planner.ts';

const db = useDatabase();

/** Commits users whose birthday it is. */
async function commitUsers(count: number, birthday: string): Promise<void> {
  await db.as('owner')`
    insert into app_public.users (email, first_name, birthday_date)
    select gen_random_uuid() || '@example.com', 'Test', ${birthday}::text::date
    from generate_series(1, ${count})`;
  await db.as('owner')`
    insert into app_public.user_settings (user_id, weekly_digest)
    select id, false from app_public.users
    on conflict do nothing`;
}

/** Schedules as if it were that instant. */
async function schedule(now: string): Promise<void> {
  await db.as('owner')`delete from app_private.message_schedule`;
  await db.as('owner')`
    select app_private.schedule_messages(array_agg(id), ${now}::text::timestamptz)
    from app_public.users`;
}

/** What a tick does at that instant; resolves with how many messages it planned. */
async function tick(sql: Sql | Transaction, now: string): Promise<number> {
  const [row] = await sql`
    select app_private.plan_due_messages(${now}::text::timestamptz) as count`;
  return row?.count;
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
  left join pgboss.job on job.id = message_logs.job_id and job.name = 'message-send'
  where to_char(users.birthday_date, 'MM-DD') = ${date}
  group by users.id
  having (count(distinct message_ledger.message_id), count(message_logs.id), count(job.id))
    <> (1, 1, 1)`;

describe('two planners', () => {
  test('at once make every message once', async () => {
    await commitUsers(400, '1990-03-10');
    await schedule('2026-03-10T09:00Z');
    const counts = await Promise.all(
      [1, 2, 3].map(() => tick(db.as('owner'), '2026-03-10T09:00Z')),
    );
    expect(counts.reduce((sum, count) => sum + count)).toBe(400);
    expect(await incomplete('03-10')).toEqual([]);
  });

  test('do not wait for each other, and the second has nothing to do', async () => {
    await commitUsers(50, '1990-09-10');
    await schedule('2026-09-10T09:00Z');
    const counts = await db
      .as('owner')
      .begin(async (sql) => [
        await tick(sql, '2026-09-10T09:00Z'),
        await tick(db.as('owner'), '2026-09-10T09:00Z'),
      ]);
    expect(counts).toEqual([50, 0]);
    expect(await incomplete('09-10')).toEqual([]);
  });

  test('do what the first left undone when it failed', async () => {
    await commitUsers(5, '1990-12-10');
    await schedule('2026-12-10T09:00Z');
    await rolledBack(db.as('owner'), async (sql) => {
      expect(await tick(sql, '2026-12-10T09:00Z')).toBe(5);
    });
    expect(await tick(db.as('owner'), '2026-12-10T09:00Z')).toBe(5);
    expect(await incomplete('12-10')).toEqual([]);
  });
});

describe('queueing', () => {
  /** Which of these users have a message of that status. Other tests leave theirs. */
  const withStatus = async (sql: Sql | Transaction, status: string, ids: string[]) => {
    const rows = await sql<{ user_id: string }[]>`
      select user_id from app_public.message_logs
      where status = ${status} and user_id = any (${ids}) order by user_id`;
    return rows.map(({ user_id }) => user_id);
  };

  /** Users whose birthday is told on 2026-06-15 at 09:00 in UTC, scheduled the day before. */
  async function makeUsers(sql: Sql | Transaction, count: number): Promise<string[]> {
    const ids: string[] = [];
    for (let n = 0; n < count; n += 1) {
      ids.push((await createUser(sql, { birthday_date: '1990-06-15' })).id);
    }
    await sql`select app_private.schedule_messages(${ids}::uuid[], '2026-06-14T12:00Z')`;
    return ids.sort();
  }
  const planned = '2026-06-14T12:00Z';

  /** In another session, which does not wait for a lock for long. */
  const inTime = (work: (sql: Transaction) => PromiseLike<unknown>) =>
    db.as('owner', 1).begin(async (sql) => {
      await sql`set local lock_timeout = '5s'`;
      await work(sql);
    });

  test('takes what is due by the next tick, and nothing later', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const ids = await makeUsers(sql, 1);
      await tick(sql, planned);
      expect(await withStatus(sql, 'SCHEDULED', ids)).toEqual(ids);
      for (const [instant, users] of [
        ['2026-06-15T08:58:29Z', []],
        ['2026-06-15T08:58:30Z', ids],
      ] as const) {
        await sql`select app_private.queue_due_messages(${instant}::text::timestamptz)`;
        expect(await withStatus(sql, 'QUEUED', ids), instant).toEqual(users);
      }
    });
  });

  test('does not wait for a message that somebody is changing', async () => {
    const owner = db.as('owner');
    const ids = await makeUsers(owner, 2);
    await tick(owner, planned);
    const due = (sql: Sql | Transaction) =>
      sql`select app_private.queue_due_messages('2026-06-15T09:00Z')`;
    await owner.begin(async (sql) => {
      await sql`select from app_public.message_logs where user_id = ${ids[0] as string}
        for update`;
      await inTime(due);
      expect(await withStatus(owner, 'QUEUED', ids)).toEqual([ids[1]]);
    });
    await due(owner);
    expect(await withStatus(owner, 'QUEUED', ids)).toEqual(ids);
    await owner`delete from app_public.users where id = any (${ids})`;
  });

  test('and planning do not wait for a user who is being changed', async () => {
    const owner = db.as('owner');
    const ids = await makeUsers(owner, 2);
    await owner.begin(async (sql) => {
      await sql`select from app_private.message_schedule where user_id = ${ids[0] as string}
        for update`;
      await inTime((other) => tick(other, planned));
      expect(await withStatus(owner, 'SCHEDULED', ids)).toEqual([ids[1]]);
    });
    await tick(owner, planned);
    expect(await withStatus(owner, 'SCHEDULED', ids)).toEqual(ids);
    await owner`delete from app_public.users where id = any (${ids})`;
  });
});

describe('the job of a message', () => {
  test('has its time and every option of the queue, and is the only one that may send it', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const user = await createUser(sql, { birthday_date: '1990-06-15', timezone: 'Asia/Tokyo' });
      expect(await plan(sql, '2026-06-15T00:00Z')).toBe(1);
      const [found] = await sql`
        select to_jsonb(job) as job, to_jsonb(queue) as queue,
          job.start_after = message_logs.scheduled_send_time as "startsWhenDue",
          job.keep_until = greatest(job.start_after, now()) + interval '7 days' as "isKept",
          message_logs.status, message_logs.id as "messageId", job.data
        from app_public.message_logs
        inner join pgboss.job on job.id = message_logs.job_id
        inner join pgboss.queue on queue.name = job.name
        where message_logs.user_id = ${user.id}`;
      expect(found).toMatchObject({
        job: {
          name: 'message-send',
          state: 'created',
          retry_count: 0,
          heartbeat_seconds: null,
          dead_letter: 'message-send-dead',
        },
        startsWhenDue: true,
        isKept: true,
        status: 'QUEUED',
        data: {
          user_id: user.id,
          message_id: found?.messageId,
          message_type: 'BIRTHDAY',
          scheduled_send_time: '2026-06-15T00:00:00+00:00',
        },
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

describe('a tick with nothing due', () => {
  /** The plans of a function's statements, as auto_explain would show them. */
  async function plansOf(sql: Transaction, call: string): Promise<string> {
    const notices: string[] = [];
    await sql`load 'auto_explain'`;
    await sql.unsafe(`set local auto_explain.log_min_duration = 0;
      set local auto_explain.log_nested_statements = on;
      set local auto_explain.log_analyze = on;
      set local client_min_messages = log`);
    explained = notices;
    await sql.unsafe(call);
    explained = undefined;
    return notices.join('\n');
  }
  let explained: string[] | undefined;

  test('reads the schedule and what is planned by their indexes, not the users', async () => {
    const sql = connect(db.url('superuser'), {
      max: 1,
      onnotice: (notice) => explained?.push(String(notice.message)),
    });
    await rolledBack(sql, async (inner) => {
      await inner`
        insert into app_public.users (email, first_name, birthday_date, anniversary_date)
        select number || '@example.com', 'Test', current_date - 9000 - number % 300 - 20,
          current_date - 5000 - number % 300 - 20
        from generate_series(1, 20000) as number`;
      await inner`delete from app_private.message_schedule
        where scheduled_send_time < now() + interval '2 days'`;
      // Today's, which are done.
      await inner`
        insert into app_public.message_logs (user_id, id, message_type, delivery_date,
          message_content, scheduled_send_time, status, actual_send_time, idempotency_key)
        select id, gen_random_uuid(), 'BIRTHDAY', current_date, 'Hey', now(),
          'SENT', now(), id::text
        from app_public.users`;
      await inner`analyze app_private.message_schedule`;
      await inner`analyze app_public.users`;
      await inner`analyze app_public.message_logs`;
      const text = await plansOf(inner, 'select app_private.plan_due_messages()');
      expect(text).toMatch(/Index Scan using message_schedule_scheduled_send_time_idx/);
      expect(text).toMatch(/Index Scan using message_logs_p\d+_stage_scheduled_send_time_idx/);
      expect(text).not.toMatch(/Seq Scan on (users|message_schedule|message_logs_p)/);
    });
    await sql.end();
  });
});
