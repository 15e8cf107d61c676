import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../src/database/connect.ts';
import { become, createUser, expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';
import { plan } from './planner.ts';

const db = useDatabase();

type Job = { user_id: string; message_id: string; scheduled_send_time: string };

/** As the worker, with messages planned for that many users whose last names are numbers. */
const asWorker = (count: number, work: (sql: Transaction, jobs: Job[]) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    for (let number = 1; number <= count; number += 1) {
      await createUser(sql, { last_name: String(number), birthday_date: '1990-06-15' });
    }
    expect(await plan(sql, '2026-06-15T00:00Z')).toBe(count);
    const rows = await sql<{ data: Job }[]>`
      select job.data from pgboss.job
      inner join app_public.users on users.id = (job.data ->> 'user_id')::uuid
      order by users.last_name`;
    await sql`set local role gw_worker`;
    await work(
      sql,
      rows.map(({ data }) => data),
    );
  });

const claim = (sql: Transaction, jobs: readonly Job[]) => sql`
  select message_id, user_id, email, full_name, message_content, idempotency_key, was_attempted
  from app_private.claim_messages(${sql.json([...jobs])}) order by full_name`;

async function begin(sql: Transaction, jobs: readonly Job[]): Promise<number> {
  const [row] = await sql`select app_private.begin_sending(${sql.json([...jobs])}) as count`;
  return row?.count;
}

interface Result {
  status: 'SENT' | 'RETRYING' | 'FAILED';
  code?: number | null;
  body?: string | null;
  error?: string | null;
}

async function record(sql: Transaction, job: Job, result: Result): Promise<number> {
  const [row] = await sql`
    select app_private.record_send_results(${sql.json([{ ...job, ...result }])}) as count`;
  return row?.count;
}

/** What the log says of each message, as superuser; then is the worker again. */
async function logged(sql: Transaction, jobs: readonly Job[]) {
  await sql`set local role none`;
  const rows = await sql`
    select message_logs.status, retry_count, last_retry_at is not null as "wasRetried",
      actual_send_time is not null as "isSent", api_response_code as code,
      api_response_body as body, error_message as error
    from unnest(${jobs.map((job) => job.message_id)}::uuid[]) with ordinality as job (id, number)
    inner join app_public.message_logs using (id)
    order by number`;
  await sql`set local role gw_worker`;
  return rows;
}

const untouched = {
  retry_count: 0,
  wasRetried: false,
  isSent: false,
  code: null,
  body: null,
  error: null,
};

describe('a message', () => {
  test('goes from SCHEDULED over QUEUED and SENDING to SENT', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [job] = jobs as [Job];
      expect(await logged(sql, jobs)).toEqual([{ status: 'SCHEDULED', ...untouched }]);
      expect(await claim(sql, jobs)).toEqual([
        {
          message_id: job.message_id,
          user_id: job.user_id,
          email: expect.stringContaining('@example.com'),
          full_name: 'Test 1',
          message_content: "Hey, Test 1, it's your birthday! Have a great day.",
          idempotency_key: `${job.user_id}:BIRTHDAY:2026-06-15`,
          was_attempted: false,
        },
      ]);
      expect(await logged(sql, jobs)).toEqual([{ status: 'QUEUED', ...untouched }]);
      expect(await begin(sql, jobs)).toBe(1);
      expect(await logged(sql, jobs)).toEqual([{ status: 'SENDING', ...untouched }]);
      expect(await record(sql, job, { status: 'SENT', code: 202, body: 'ok' })).toBe(1);
      const sent = { status: 'SENT', ...untouched, isSent: true, code: 202, body: 'ok' };
      expect(await logged(sql, jobs)).toEqual([sent]);
    });
  });

  test('that is SENT stays SENT', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [job] = jobs as [Job];
      await claim(sql, jobs);
      await begin(sql, jobs);
      await record(sql, job, { status: 'SENT', code: 202 });
      const sent = await logged(sql, jobs);
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await begin(sql, jobs)).toBe(0);
      for (const status of ['SENT', 'RETRYING', 'FAILED'] as const) {
        expect(await record(sql, job, { status, code: 500, error: 'late' })).toBe(0);
      }
      expect(await logged(sql, jobs)).toEqual(sent);
    });
  });

  test('that is RETRYING is tried again and can be SENT', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [job] = jobs as [Job];
      for (const attempt of [1, 2]) {
        expect(await claim(sql, jobs)).toMatchObject([{ was_attempted: attempt > 1 }]);
        await begin(sql, jobs);
        await record(sql, job, { status: 'RETRYING', code: 503, error: 'busy' });
        expect(await logged(sql, jobs)).toMatchObject([
          { status: 'RETRYING', retry_count: attempt, wasRetried: true, code: 503, error: 'busy' },
        ]);
      }
      expect(await claim(sql, jobs)).toMatchObject([{ was_attempted: true }]);
      await begin(sql, jobs);
      await record(sql, job, { status: 'SENT', code: 202 });
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'SENT', retry_count: 2, isSent: true, code: 202, error: null },
      ]);
    });
  });

  test('that FAILED is not claimed again', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [job] = jobs as [Job];
      await claim(sql, jobs);
      await begin(sql, jobs);
      await record(sql, job, { status: 'FAILED', code: 400, error: 'no such address' });
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await begin(sql, jobs)).toBe(0);
      expect(await logged(sql, jobs)).toEqual([
        { status: 'FAILED', ...untouched, code: 400, error: 'no such address' },
      ]);
    });
  });

  test('was attempted once its call may have been made, not before', async () => {
    await asWorker(1, async (sql, jobs) => {
      const attempted = async () => (await claim(sql, jobs))[0]?.was_attempted;
      expect(await attempted()).toBe(false);
      // A worker died between claiming and sending.
      expect(await attempted()).toBe(false);
      await begin(sql, jobs);
      // A worker died while sending.
      expect(await attempted()).toBe(true);
    });
  });

  test('to a closed account becomes FAILED, and says why', async () => {
    await asWorker(2, async (sql, jobs) => {
      await sql`set local role none`;
      await sql`update app_public.users set deleted_at = now() where last_name = '1'`;
      await sql`set local role gw_worker`;
      expect(await claim(sql, jobs)).toMatchObject([{ full_name: 'Test 2' }]);
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'FAILED', error: expect.stringContaining('closed') },
        { status: 'QUEUED', error: null },
      ]);
      expect(await begin(sql, jobs)).toBe(1);
    });
  });

  test('is not SENDING before it was claimed', async () => {
    await asWorker(1, async (sql, jobs) => {
      expect(await begin(sql, jobs)).toBe(0);
      expect(await logged(sql, jobs)).toMatchObject([{ status: 'SCHEDULED' }]);
    });
  });
});

describe('a batch', () => {
  test('moves each of its messages, whatever the others come to', async () => {
    await asWorker(4, async (sql, jobs) => {
      const outcomes: Result[] = [
        { status: 'SENT', code: 202 },
        { status: 'RETRYING', code: null, error: 'timeout' },
        { status: 'FAILED', code: 410, error: 'gone' },
      ];
      expect(await claim(sql, jobs)).toHaveLength(4);
      expect(await begin(sql, jobs.slice(0, 3))).toBe(3);
      const results = outcomes.map((outcome, index) => ({ ...(jobs[index] as Job), ...outcome }));
      const [row] = await sql`
        select app_private.record_send_results(${sql.json(results)}) as count`;
      expect(row?.count).toBe(3);
      const statuses = (await logged(sql, jobs)).map(({ status }) => status);
      expect(statuses).toEqual(['SENT', 'RETRYING', 'FAILED', 'QUEUED']);
    });
  });

  test("finds nothing under another user's id, or at another instant", async () => {
    await asWorker(2, async (sql, jobs) => {
      const [one, two] = jobs as [Job, Job];
      const wrong = [
        { ...one, user_id: two.user_id },
        { ...one, message_id: randomUUID() },
        { ...one, scheduled_send_time: '2026-06-15T09:00:01Z' },
      ];
      expect(await claim(sql, wrong)).toEqual([]);
      expect(await logged(sql, [one])).toMatchObject([{ status: 'SCHEDULED' }]);
      expect(await claim(sql, [])).toEqual([]);
    });
  });
});

describe('the rights to messages', () => {
  test('let the worker move them on, but not read the tables', async () => {
    await asWorker(1, async (sql, jobs) => {
      for (const table of ['app_public.message_logs', 'app_public.users']) {
        await expectRefusal(sql, '42501', (inner) => inner`select from ${inner(table)}`);
      }
      await expectRefusal(sql, '42501', (inner) => inner`select app_private.plan_due_messages()`);
      expect(await logged(sql, jobs)).toHaveLength(1);
    });
  });

  test('let users read their own, without what the vendor answered', async () => {
    await asWorker(2, async (sql, jobs) => {
      const [job] = jobs as [Job];
      await become(sql, job.user_id);
      const own = await sql`select id from app_public.message_logs`;
      expect(own).toEqual([{ id: job.message_id }]);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`select api_response_body from app_public.message_logs`,
      );
      await expectRefusal(sql, '42501', (inner) => claim(inner, jobs));
    });
  });
});
