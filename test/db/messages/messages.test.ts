import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  asSuperuser,
  asWorkerOf,
  type Claimed,
  claim,
  type Job,
  jobStates,
  logged,
  type Result,
  record,
  set,
} from '../../helpers/claims.ts';
import { become, expectRefusal, useDatabase } from '../../helpers/database.ts';
import type { DueUser } from '../../helpers/messages.ts';

const db = useDatabase();

const asWorker = (
  count: number,
  work: (sql: Transaction, jobs: Job[], users: DueUser[]) => Promise<void>,
) => asWorkerOf(db, count, work);

const untouched = {
  retry_count: 0,
  wasRetried: false,
  isSent: false,
  code: null,
  body: null,
  error: null,
};

describe('a message', () => {
  test('goes from QUEUED over SENDING to SENT, and its job is gone', async () => {
    await asWorker(1, async (sql, jobs, [user]) => {
      const [job] = jobs as [Job];
      expect(await logged(sql, jobs)).toEqual([{ status: 'QUEUED', ...untouched }]);
      const [claimed] = await claim(sql, jobs);
      expect(claimed).toEqual({
        job_id: job.job_id,
        message_id: job.message_id,
        user_id: job.user_id,
        scheduled_send_time: job.scheduled_send_time,
        message_type: 'BIRTHDAY',
        delivery_date: expect.any(Date),
        email: user?.email,
        full_name: 'Due0',
        message_subject: 'Happy birthday, Due0!',
        message_content: "Hey, Due0, it's your birthday! Have a great day.",
        idempotency_key: user?.key,
        attempt: 0,
        was_attempted: false,
        is_optional: true,
        locale: 'en',
        message_html: null,
        layout_id: null,
        endpoints: null,
      });
      expect(await logged(sql, jobs)).toEqual([{ status: 'SENDING', ...untouched }]);
      expect(await record(sql, claimed, { status: 'SENT', code: 202, body: 'ok' })).toBe(1);
      const sent = { status: 'SENT', ...untouched, isSent: true, code: 202, body: 'ok' };
      expect(await logged(sql, jobs)).toEqual([sent]);
      expect(await jobStates(sql)).toEqual([]);
    });
  });

  test('that is SENT stays SENT', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [claimed] = await claim(sql, jobs);
      await record(sql, claimed, { status: 'SENT', code: 202 });
      const sent = await logged(sql, jobs);
      expect(await claim(sql, jobs)).toEqual([]);
      for (const status of ['SENT', 'RETRYING', 'FAILED'] as const) {
        expect(await record(sql, claimed, { status, code: 500, error: 'late' })).toBe(0);
      }
      expect(await logged(sql, jobs)).toEqual(sent);
    });
  });

  test('that is RETRYING is tried again under its key and can be SENT', async () => {
    await asWorker(1, async (sql, jobs) => {
      for (const attempt of [1, 2]) {
        const [claimed] = await claim(sql, jobs);
        expect(claimed).toMatchObject({ was_attempted: attempt > 1, attempt: attempt - 1 });
        await record(sql, claimed, { status: 'RETRYING', code: 503, error: 'busy' });
        expect(await logged(sql, jobs)).toMatchObject([
          { status: 'RETRYING', retry_count: attempt, wasRetried: true, code: 503, error: 'busy' },
        ]);
        expect(await jobStates(sql)).toEqual(['retry']);
      }
      const [claimed] = await claim(sql, jobs);
      await record(sql, claimed, { status: 'SENT', code: 202 });
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'SENT', retry_count: 2, isSent: true, code: 202, error: null },
      ]);
      const [{ attempts } = {}] = await asSuperuser(
        sql,
        () => sql`select attempts from app_public.message_logs`,
      );
      expect(attempts).toMatchObject([
        { code: 503, error: 'busy', started_at: expect.any(String), retry_at: expect.any(String) },
        { code: 503, error: 'busy' },
      ]);
    });
  });

  test('waits longer each time, with full jitter, and as long as the receiver asks', async () => {
    await asWorker(60, async (sql, jobs) => {
      const waits = async (attempt: number, retryAfter?: number) => {
        await set(sql, `retry_count = ${attempt}`);
        const claimed = await claim(sql, jobs);
        for (const message of claimed) {
          await record(sql, message, {
            status: 'RETRYING',
            ...(retryAfter === undefined ? {} : { retry_after_seconds: retryAfter }),
          });
        }
        const rows = await asSuperuser(
          sql,
          () => sql<{ wait: number }[]>`
            select extract(epoch from start_after - clock_timestamp())::float as wait
            from pgboss.job where name = 'message-send' order by wait`,
        );
        return rows.map(({ wait }) => wait);
      };
      const first = await waits(0);
      expect(first.at(-1)).toBeLessThanOrEqual(30);
      expect(first.at(-1)).toBeGreaterThan(20);
      expect(first.at(0)).toBeLessThan(6);
      const fourth = await waits(3);
      expect(fourth.at(-1)).toBeLessThanOrEqual(240);
      expect(fourth.at(-1)).toBeGreaterThan(150);
      const later = await waits(18);
      expect(later.at(-1)).toBeLessThanOrEqual(1800);
      expect(later.at(-1)).toBeGreaterThan(1300);
      expect((await waits(0, 600)).at(0)).toBeGreaterThan(590);
      expect((await waits(0, 1e9)).at(-1)).toBeLessThanOrEqual(86_400);
    });
  });

  test('that was refused for good is FAILED, a dead letter, and not claimed again', async () => {
    await asWorker(1, async (sql, jobs, [user]) => {
      const [claimed] = await claim(sql, jobs);
      await record(sql, claimed, { status: 'FAILED', code: 400, error: 'no such address' });
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await logged(sql, jobs)).toEqual([
        { status: 'FAILED', ...untouched, code: 400, error: 'no such address' },
      ]);
      const dead = await asSuperuser(
        sql,
        () => sql`
          select data ->> 'user_id' as user_id, source_name, source_id, source_output
          from pgboss.job where name = 'message-send-dead'`,
      );
      expect([...dead]).toEqual([
        {
          user_id: user?.id,
          source_name: 'message-send',
          source_id: jobs[0]?.job_id,
          source_output: { error: 'no such address' },
        },
      ]);
    });
  });

  test('whose worker died in the call is uncertain until it is SENT', async () => {
    await asWorker(1, async (sql, jobs) => {
      const uncertain = async () =>
        (await asSuperuser(sql, () => sql`select uncertain_since from app_public.message_logs`))[0]
          ?.uncertain_since;
      await claim(sql, jobs);
      expect(await uncertain()).toBeNull();
      // The next worker finds it SENDING.
      const [claimed] = await claim(sql, jobs);
      expect(claimed).toMatchObject({ was_attempted: true, attempt: 1 });
      expect(await uncertain()).toBeInstanceOf(Date);
      // What the first worker says now, should it live, is of an attempt that is over.
      expect(await record(sql, { ...(claimed as Claimed), attempt: 0 }, { status: 'FAILED' })).toBe(
        0,
      );
      expect(await logged(sql, jobs)).toMatchObject([{ status: 'SENDING' }]);
      await record(sql, claimed, { status: 'SENT', code: 200 });
      expect(await uncertain()).toBeNull();
    });
  });

  test('whose uncertain attempt is older than the receiver remembers is UNKNOWN', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [claimed] = await claim(sql, jobs);
      await record(sql, claimed, { status: 'RETRYING', error: 'timeout', is_uncertain: true });
      await set(sql, "uncertain_since = now() - interval '25 hours'");
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'UNKNOWN', error: expect.stringContaining('may have been delivered') },
      ]);
      expect(await jobStates(sql)).toEqual([]);
      const alerts = await asSuperuser(
        sql,
        () => sql`select level from ops.alerts where check_name = 'health-unknown-deliveries'`,
      );
      expect([...alerts]).toEqual([{ level: 'warning' }]);
    });
  });

  test('that was certainly refused, however long ago, is not UNKNOWN', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [claimed] = await claim(sql, jobs);
      await record(sql, claimed, { status: 'RETRYING', code: 503, error: 'busy' });
      await set(sql, "attempted_at = now() - interval '25 hours'");
      expect(await claim(sql, jobs)).toHaveLength(1);
    });
  });

  test('that kills each worker is given up before the last', async () => {
    await asWorker(1, async (sql, jobs) => {
      for (let death = 0; death < 20; death += 1) {
        expect(await claim(sql, jobs), String(death)).toHaveLength(1);
      }
      expect(await claim(sql, jobs)).toHaveLength(1);
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await logged(sql, jobs)).toMatchObject([{ status: 'UNKNOWN' }]);
    });
  });

  test('is EXPIRED after the late window, or UNKNOWN when it may have been delivered', async () => {
    await asWorker(2, async (sql, jobs) => {
      const [one] = await claim(sql, jobs.slice(0, 1));
      await record(sql, one, { status: 'RETRYING', error: 'timeout', is_uncertain: true });
      await set(sql, "send_until = now() - interval '1 second'");
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'UNKNOWN' },
        { status: 'EXPIRED', error: expect.stringMatching(/^not sent until .* late window$/) },
      ]);
    });
  });

  test('is held in quiet hours, and its job sleeps until they end', async () => {
    await asWorker(1, async (sql, jobs) => {
      const [until] = await asSuperuser(
        sql,
        () => sql`
          update app_public.user_settings
          set quiet_from = (now() at time zone 'UTC' - interval '1 hour')::time,
            quiet_until = (now() at time zone 'UTC' + interval '2 hours')::time
          returning quiet_until`,
      );
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'QUEUED', retry_count: 0, error: expect.stringContaining('quiet hours') },
      ]);
      const [job] = await asSuperuser(
        sql,
        () => sql`
          select state, (start_after at time zone 'UTC')::time as wakes,
            start_after between now() and now() + interval '2 hours' as "isSoon"
          from pgboss.job where name = 'message-send'`,
      );
      expect(job).toEqual({ state: 'retry', wakes: until?.quiet_until, isSoon: true });
    });
  });
});

describe('at the last moment', () => {
  // Written past the triggers that would have canceled the message at once.
  test.each([
    ['the account was closed', 'update app_public.users set deleted_at = now()'],
    ['the date was changed', 'update app_public.users set birthday_date = birthday_date - 40'],
    ['the date was changed', "update app_public.users set birthday_date = '2020-12-24'"],
    [
      'the user does not want this message any more',
      'update app_public.user_settings set birthday_messages = false',
    ],
  ])('a message is CANCELED when %s', async (reason, change) => {
    await asWorker(1, async (sql, jobs) => {
      await asSuperuser(sql, async () => {
        await sql`set local session_replication_role = replica`;
        await sql.unsafe(change);
        await sql`set local session_replication_role = origin`;
      });
      expect(await claim(sql, jobs)).toEqual([]);
      expect(await logged(sql, jobs)).toMatchObject([{ status: 'CANCELED', error: reason }]);
      expect(await jobStates(sql)).toEqual([]);
      const ledger = await asSuperuser(sql, () => sql`select from app_private.message_ledger`);
      expect(ledger).toHaveLength(0);
    });
  });
});

describe('a batch', () => {
  test('moves each of its messages, whatever the others come to', async () => {
    await asWorker(4, async (sql, jobs) => {
      const claimed = await claim(sql, jobs);
      expect(claimed).toHaveLength(4);
      const outcomes: Result[] = [
        { status: 'SENT', code: 202 },
        { status: 'RETRYING', code: null, error: 'timeout' },
        { status: 'FAILED', code: 410, error: 'gone' },
      ];
      const results = outcomes.map((outcome, index) => {
        const { job_id, user_id, message_id, scheduled_send_time, attempt } = claimed[
          index
        ] as Claimed;
        return { job_id, user_id, message_id, scheduled_send_time, attempt, ...outcome };
      });
      const [row] = await sql`
        select app_private.record_send_results(${sql.json(results)}, 'http') as count`;
      expect(row?.count).toBe(3);
      const statuses = (await logged(sql, jobs)).map(({ status }) => status);
      expect(statuses).toEqual(['SENT', 'RETRYING', 'FAILED', 'SENDING']);
      expect((await jobStates(sql)).sort()).toEqual(['active', 'retry']);
    });
  });

  test("finds nothing under another user's id, another job or instant", async () => {
    await asWorker(2, async (sql, jobs) => {
      const [one, two] = jobs as [Job, Job];
      const wrong = [
        { ...one, user_id: two.user_id },
        { ...one, job_id: randomUUID() },
        { ...one, message_id: randomUUID() },
        { ...one, scheduled_send_time: '2026-06-15T09:00:01Z' },
      ];
      expect(await claim(sql, wrong)).toEqual([]);
      expect(await logged(sql, [one])).toMatchObject([{ status: 'QUEUED' }]);
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
      for (const call of [
        'app_private.plan_due_messages()',
        "app_private.replan_messages('{}')",
        "app_private.schedule_messages('{}')",
        'app_private.requeue_lost_messages()',
      ]) {
        await expectRefusal(sql, '42501', (inner) => inner.unsafe(`select ${call}`));
      }
      expect(await logged(sql, jobs)).toHaveLength(1);
    });
  });

  test('let users read their own, without what the vendor answered', async () => {
    await asWorker(2, async (sql, jobs) => {
      const [job] = jobs as [Job];
      await become(sql, job.user_id);
      const own = await sql`select id, message_subject from app_public.message_logs`;
      expect(own).toEqual([{ id: job.message_id, message_subject: 'Happy birthday, Due0!' }]);
      for (const column of ['api_response_body', 'attempts', 'recipient_email', 'job_id']) {
        await expectRefusal(
          sql,
          '42501',
          (inner) => inner`select ${inner(column)} from app_public.message_logs`,
        );
      }
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`select from app_private.claim_messages(${inner.json(jobs)}, 'http')`,
      );
    });
  });
});
