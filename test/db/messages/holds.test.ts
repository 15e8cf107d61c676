import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { asSuperuser, asWorkerOf, claim, type Job, logged, record } from '../../helpers/claims.ts';
import { expectRefusal, useDatabase } from '../../helpers/database.ts';

/*
 * A person stops messages, and lets them go.
 */
const db = useDatabase();

type Hold = { type?: string; channel?: string; zone?: string; until?: string };

const hold = (sql: Transaction, { type, channel, zone, until }: Hold = {}) =>
  asSuperuser(sql, async () => {
    const [row] = await sql`
      select ops.hold_messages('a wrong text', ${type ?? null}, ${channel ?? null},
        ${zone ?? null}, ${until ?? null}::text::timestamptz) as id`;
    return row?.id as number;
  });

const release = (sql: Transaction, id: number, then: string) =>
  asSuperuser(sql, async () => {
    const [row] = await sql`select ops.release_messages(${id}, ${then}) as messages`;
    return row?.messages;
  });

const jobsOf = (sql: Transaction) =>
  asSuperuser(sql, async () => [
    ...(await sql`
      select state, start_after <= now() as "isDue", start_after < now() + interval '10 years' as "hasTime"
      from pgboss.job where name = 'message-send'`),
  ]);

/** Makes the jobs active, as a worker that takes them does. */
const take = (sql: Transaction) =>
  asSuperuser(sql, () => sql`update pgboss.job set state = 'active' where name = 'message-send'`);

const letPass = (sql: Transaction, hours: number) =>
  asSuperuser(
    sql,
    () => sql`
      update app_public.message_logs
      set scheduled_send_time = scheduled_send_time - make_interval(hours => ${hours})`,
  );

/** The jobs as they are, after their messages' times have changed. */
const again = (sql: Transaction, jobs: readonly Job[]) =>
  asSuperuser(sql, async () => [
    ...(await sql<Job[]>`
      select job_id, user_id, id as message_id, scheduled_send_time::text
      from app_public.message_logs
      where id = any (${jobs.map(({ message_id }) => message_id)}::uuid[])`),
  ]);

describe('a hold', () => {
  test.each([
    [{}, true],
    [{ type: 'BIRTHDAY' }, true],
    [{ type: 'DIGEST' }, false],
    [{ channel: 'http' }, true],
    [{ channel: 'smtp' }, false],
    [{ zone: 'UTC' }, true],
    [{ zone: 'Europe/Paris' }, false],
    [{ type: 'BIRTHDAY', zone: 'Europe/Paris' }, false],
  ])('of %j keeps a birthday in UTC by http: %s', async (which, isHeld) => {
    await asWorkerOf(db, 1, async (sql, jobs) => {
      const id = await hold(sql, which);
      expect(await claim(sql, jobs)).toHaveLength(isHeld ? 0 : 1);
      if (!isHeld) return;
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'QUEUED', error: `held by hold ${id}: a wrong text` },
      ]);
      expect(await jobsOf(sql)).toEqual([{ state: 'retry', isDue: false, hasTime: false }]);
    });
  });

  test('makes nothing late, and is seen', async () => {
    await asWorkerOf(db, 2, async (sql, jobs) => {
      const id = await hold(sql);
      await claim(sql, jobs);
      await letPass(sql, 30);
      await asSuperuser(sql, async () => {
        expect(await sql`select from ops.overdue_messages('1 hour')`).toHaveLength(0);
        const [status] = await sql`select hold, reason, messages from ops.message_holds_status()`;
        expect(status).toEqual({ hold: id, reason: 'a wrong text', messages: '2' });
        const [audit] = await sql`
          select action, details ->> 'reason' as reason from ops.audit_log order by id desc limit 1`;
        expect(audit).toEqual({ action: 'messages.held', reason: 'a wrong text' });
      });
    });
  });

  test('of which what it held is sent, however late it is', async () => {
    await asWorkerOf(db, 2, async (sql, jobs) => {
      const id = await hold(sql);
      await claim(sql, jobs);
      await letPass(sql, 30);
      expect(await release(sql, id, 'send')).toBe(2);
      expect(await jobsOf(sql)).toEqual([
        { state: 'retry', isDue: true, hasTime: true },
        { state: 'retry', isDue: true, hasTime: true },
      ]);
      await take(sql);
      expect(await claim(sql, await again(sql, jobs))).toHaveLength(2);
    });
  });

  test('of which what it held is left out', async () => {
    await asWorkerOf(db, 2, async (sql, jobs) => {
      const id = await hold(sql);
      await claim(sql, jobs);
      expect(await release(sql, id, 'skip')).toBe(2);
      expect(await logged(sql, jobs)).toMatchObject([
        { status: 'CANCELED', error: `skipped by a person, when hold ${id} was released` },
        { status: 'CANCELED' },
      ]);
      expect(await jobsOf(sql)).toEqual([]);
      await asSuperuser(sql, async () => {
        // Not planned again.
        await sql`select app_private.plan_due_messages()`;
        expect(await sql`select from app_public.message_logs`).toHaveLength(2);
      });
    });
  });

  test('does not say canceled of what may have arrived', async () => {
    await asWorkerOf(db, 1, async (sql, jobs) => {
      const [claimed] = await claim(sql, jobs);
      await record(sql, claimed, { status: 'RETRYING', error: 'reset', is_uncertain: true });
      const id = await hold(sql);
      await take(sql);
      expect(await claim(sql, jobs)).toHaveLength(0);
      expect(await release(sql, id, 'skip')).toBe(1);
      expect(await logged(sql, jobs)).toMatchObject([{ status: 'UNKNOWN' }]);
    });
  });

  test("of which what it held waits for the users' next send time", async () => {
    await asWorkerOf(db, 1, async (sql, jobs, [user]) => {
      const id = await hold(sql);
      await claim(sql, jobs);
      expect(await release(sql, id, 'next-morning')).toBe(1);
      const [job] = await asSuperuser(
        sql,
        () => sql`
          select extract(epoch from start_after - now()) / 3600 as hours,
            (start_after at time zone 'UTC')::time = users.send_time as "isSendTime",
            message_logs.send_until - start_after as window
          from pgboss.job
          cross join app_public.users
          inner join app_public.message_logs on message_logs.user_id = users.id
          where users.id = ${user?.id ?? ''} and job.name = 'message-send'`,
      );
      expect(job).toMatchObject({ isSendTime: true, window: '12:00:00' });
      expect(Number(job?.hours)).toBeGreaterThan(20);
      expect(Number(job?.hours)).toBeLessThanOrEqual(24);
    });
  });

  test('that ends by itself lets them go, and makes them not late', async () => {
    await asWorkerOf(db, 1, async (sql, jobs) => {
      const soon = new Date(Date.now() + 3_600_000).toISOString();
      const id = await hold(sql, { until: soon });
      await claim(sql, jobs);
      expect(await logged(sql, jobs)).toMatchObject([
        { error: expect.stringMatching(new RegExp(`^held by hold ${id} until .* UTC: a wrong`)) },
      ]);
      expect(await jobsOf(sql)).toEqual([{ state: 'retry', isDue: false, hasTime: true }]);
      await letPass(sql, 20);
      await asSuperuser(
        sql,
        () => sql`update app_private.message_holds set held_until = now() - interval '1 second'`,
      );
      await take(sql);
      expect(await claim(sql, await again(sql, jobs))).toHaveLength(1);
    });
  });

  test('beside another does not let go what the other holds', async () => {
    await asWorkerOf(db, 1, async (sql, jobs) => {
      const first = await hold(sql);
      await claim(sql, jobs);
      await hold(sql, { type: 'BIRTHDAY' });
      await release(sql, first, 'send');
      await take(sql);
      expect(await claim(sql, jobs)).toHaveLength(0);
    });
  });

  test('refuses what it cannot mean', async () => {
    await asWorkerOf(db, 1, async (sql) => {
      await asSuperuser(sql, async () => {
        for (const [code, call] of [
          ['GW041', "ops.hold_messages(' ')"],
          ['GW041', "ops.hold_messages('x', p_timezone => 'Mars/Base')"],
          ['GW041', "ops.hold_messages('x', p_until => now())"],
          ['GW040', "ops.hold_messages('x', 'NO_SUCH_TYPE')"],
          ['GW013', "ops.hold_messages('x', p_channel => 'fax')"],
          ['GW041', 'ops.release_messages(1)'],
          ['GW041', "ops.release_messages(1, 'burn')"],
        ] as const) {
          await expectRefusal(sql, code, (inner) => inner.unsafe(`select from ${call}`));
        }
      });
    });
  });
});
