import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, transactionsOf, useDatabase } from '../../helpers/database.ts';
import {
  attempt,
  claim,
  explain,
  jobsOf,
  lastAudit,
  ledgerOf,
  logOf,
  lose,
  type Planned,
  planned,
  said,
} from '../../helpers/message-stages.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

interface Options {
  statuses?: string[] | null;
  evenUnknown?: boolean;
}

/** Redrives one message, and says what was refused, if anything. */
async function redrive(sql: Transaction, user: Planned, options: Options = {}) {
  const rows = await sql`
    select status, refusal
    from ops.redrive_messages(p_statuses => ${options.statuses ?? null},
      p_message_id => ${user.messageId}, p_even_unknown => ${options.evenUnknown ?? false})`;
  return rows[0];
}

/** Does something, and takes it back. */
const tried = (sql: Transaction, work: (inner: Transaction) => Promise<void>) =>
  sql
    .savepoint(async (inner) => {
      await work(inner);
      throw new Error('taken back');
    })
    .catch((error: Error) => {
      if (error.message !== 'taken back') throw error;
    });

const refused = (sql: Transaction, user: Planned) =>
  attempt(sql, user, { status: 'FAILED', code: 400, error: 'no such address' });

describe('sending again', () => {
  test('a message that was refused: a new job, new tries, new time, the corrected address', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await refused(sql, user);
      expect(await jobsOf(sql, user, 'message-send-dead')).toHaveLength(1);
      const alerts = () => sql`
        select from ops.alerts where check_name = 'health-dead-letters' and resolved_at is null`;
      expect(await alerts()).toHaveLength(1);
      await sql`update app_public.users set email = 'new@example.com', first_name = 'New'
        where id = ${user.id}`;

      expect(await redrive(sql, user)).toEqual({ status: 'FAILED', refusal: null });
      const row = await logOf(sql, user);
      expect(row).toMatchObject({
        status: 'QUEUED',
        retry_count: 0,
        error_message: null,
        has_time: true,
        changes: [{ change: 'sent again', status: 'FAILED', error: 'no such address' }],
        message_content: expect.stringContaining('New'),
      });
      expect(row.attempts).toHaveLength(2);
      expect(await jobsOf(sql, user)).toEqual([{ id: row.job_id, state: 'created' }]);
      expect(await jobsOf(sql, user, 'message-send-dead')).toEqual([]);
      expect(await alerts()).toEqual([]);
      expect(await lastAudit(sql)).toMatchObject({
        action: 'messages.redriven',
        details: { messages: 1, message_id: user.messageId },
      });

      const [claimed] = await claim(sql, user);
      expect(claimed).toMatchObject({ email: 'new@example.com', attempt: 0 });
      expect(said(await explain(sql, user.id, user.date), 'by hand')).toEqual([
        'sent again, was FAILED: no such address',
      ]);
    });
  });

  test('leaves the alert open while another dead letter is there', async () => {
    await asOwner(async (sql) => {
      const [user, other] = [await planned(sql), await planned(sql)];
      await refused(sql, user);
      await refused(sql, other);
      await redrive(sql, user);
      expect(
        await sql`select from ops.alerts
          where check_name = 'health-dead-letters' and resolved_at is null`,
      ).toHaveLength(1);
    });
  });

  test('a message that expired gets another late window', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await sql`update app_public.message_logs set send_until = now() - interval '1 minute'
        where id = ${user.messageId}`;
      expect(await claim(sql, user)).toEqual([]);
      expect(await logOf(sql, user)).toMatchObject({ status: 'EXPIRED' });
      expect(await redrive(sql, user)).toEqual({ status: 'EXPIRED', refusal: null });
      expect(await claim(sql, user)).toMatchObject([{ message_id: user.messageId }]);
    });
  });

  test('a message that a person canceled before its time waits for it again', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      await sql`select from ops.cancel_messages('an error', p_message_id => ${user.messageId})`;
      expect(await redrive(sql, user)).toEqual({ status: 'CANCELED', refusal: null });
      expect(await logOf(sql, user)).toMatchObject({
        status: 'SCHEDULED',
        job_id: null,
        send_until: null,
      });
      expect(await jobsOf(sql, user)).toEqual([]);
    });
  });

  test('puts a message that the rules had canceled back into the ledger, and out of the schedule', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      const want = (wanted: boolean) => sql`
        update app_public.user_settings set birthday_messages = ${wanted}
        where user_id = ${user.id}`;
      await want(false);
      expect(await redrive(sql, user)).toEqual({
        status: 'CANCELED',
        refusal: 'the user does not want this message any more',
      });
      await want(true);
      expect(await ledgerOf(sql, user)).toEqual([]);
      expect(await redrive(sql, user)).toEqual({ status: 'CANCELED', refusal: null });
      expect(await ledgerOf(sql, user)).toEqual([{ message_id: user.messageId }]);
      const [next] = await sql`
        select delivery_date > ${user.date}::text::date as is_later
        from app_private.message_schedule where user_id = ${user.id}`;
      expect(next).toEqual({ is_later: true });
      expect((await sql`select app_private.plan_due_messages() as count`)[0]).toEqual({ count: 0 });
    });
  });

  test('refuses what another message has taken over, and of two the older', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      const toggle = async () => {
        for (const wanted of [false, true]) {
          await sql`update app_public.user_settings set birthday_messages = ${wanted}
            where user_id = ${user.id}`;
        }
      };
      await toggle();
      await sql`select app_private.plan_due_messages()`;
      const [other] = await ledgerOf(sql, user);
      expect(other?.message_id).not.toBe(user.messageId);
      expect(await redrive(sql, user)).toEqual({
        status: 'CANCELED',
        refusal: `another message has this occasion: ${other?.message_id}`,
      });
      await toggle();
      await sql`update app_public.message_logs set created_at = now() - interval '1 hour'
        where id = ${user.messageId}`;
      const rows = await sql`
        select message_id, refusal
        from ops.redrive_messages(array['CANCELED'], p_user_id => ${user.id})
        order by refusal nulls first`;
      expect(rows).toHaveLength(2);
      expect(rows.map(({ refusal }) => refusal)).toEqual([
        null,
        'a later message has this occasion',
      ]);
      expect(await ledgerOf(sql, user)).toEqual([{ message_id: rows[0]?.message_id }]);
    });
  });

  test.each([
    [
      'the account was closed',
      (sql: Transaction, id: string) =>
        sql`update app_public.users set deleted_at = now() where id = ${id}`,
    ],
    [
      'the date was changed',
      (sql: Transaction, id: string) =>
        sql`update app_public.users set birthday_date = birthday_date - 90 where id = ${id}`,
    ],
  ])('refuses what would be canceled again: %s', async (refusal, change) => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await refused(sql, user);
      await change(sql, user.id);
      expect(await redrive(sql, user)).toEqual({ status: 'FAILED', refusal });
      expect(await logOf(sql, user)).toMatchObject({ status: 'FAILED' });
      expect(await jobsOf(sql, user)).toEqual([]);
    });
  });

  // February 29 may be celebrated a day before or after: of one year's there is one message.
  test.each([
    [-30, true],
    [-31, false],
    [-2, true],
    [2, true],
    [30, true],
    [31, false],
  ])('an occasion %i days away is the same: %s', async (days, isSame) => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      for (const wanted of [false, true]) {
        await sql`update app_public.user_settings set birthday_messages = ${wanted}
          where user_id = ${user.id}`;
      }
      expect(await ledgerOf(sql, user)).toEqual([]);
      await sql`
        insert into app_private.message_ledger
          (user_id, message_type, delivery_date, message_id, scheduled_send_time)
        values (${user.id}, 'BIRTHDAY', ${user.date}::text::date + ${days}::integer,
          gen_random_uuid(), now())`;
      const answer = await redrive(sql, user);
      if (isSame) expect(answer?.refusal).toMatch(/^another message has this occasion/);
      else expect(answer?.refusal).toBeNull();
    });
  });

  test('UNKNOWN needs to be asked for, however short ago it was', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await lose(sql, user);
      await sql`update app_public.message_logs set uncertain_since = now()`;
      expect(await redrive(sql, user)).toMatchObject({
        refusal: expect.stringContaining('--even-unknown'),
      });
    });
  });

  test('a doubt counts for as long as the shortest memory of a receiver', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await refused(sql, user);
      await sql`update app_public.message_logs set uncertain_since = now() - interval '2 hours'`;
      await sql`update app_private.delivery_channels set key_lifetime = '1 day'`;
      await tried(sql, async (inner) => {
        expect(await redrive(inner, user)).toMatchObject({ refusal: null });
      });
      await sql`update app_private.delivery_channels set key_lifetime = '1 hour'
        where name = 'smtp'`;
      expect(await redrive(sql, user)).toMatchObject({
        refusal: expect.stringContaining('--even-unknown'),
      });
    });
  });

  test('what may have been delivered needs to be asked for, and goes as it was', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await lose(sql, user);
      await sql`update app_public.users set email = 'new@example.com' where id = ${user.id}`;
      expect(await redrive(sql, user)).toEqual({
        status: 'UNKNOWN',
        refusal: 'it may have been delivered already: --even-unknown sends it again',
      });
      const { uncertain_since } = await logOf(sql, user);
      expect(uncertain_since).not.toBeNull();
      expect(await redrive(sql, user, { evenUnknown: true })).toMatchObject({ refusal: null });
      expect(await logOf(sql, user)).toMatchObject({ uncertain_since: null, status: 'QUEUED' });
      expect(await claim(sql, user)).toMatchObject([{ email: user.email }]);
    });
  });

  test('what failed after a doubtful attempt keeps its doubt while the receiver remembers it', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await attempt(sql, user, { status: 'RETRYING', error: 'timed out', is_uncertain: true });
      await refused(sql, user);
      await sql.savepoint(async (inner) => {
        expect(await redrive(inner, user)).toEqual({ status: 'FAILED', refusal: null });
        const row = await logOf(inner, user);
        expect(row.uncertain_since).not.toBeNull();
        expect(await claim(inner, user)).toMatchObject([{ was_attempted: true }]);
        await sql`update app_public.message_logs
          set status = 'FAILED', uncertain_since = now() - interval '2 days'
          where id = ${user.messageId}`;
      });
      expect(await redrive(sql, user)).toMatchObject({
        refusal: expect.stringMatching(/may have/),
      });
    });
  });

  test('keeps to its filters', async () => {
    await asOwner(async (sql) => {
      const [user, other] = [await planned(sql), await planned(sql)];
      await refused(sql, user);
      await refused(sql, other);
      const count = async (filter: string) => {
        let count: unknown;
        await tried(sql, async (inner) => {
          const [row] = await inner.unsafe(
            `select count(*)::integer from ops.redrive_messages(${filter})`,
          );
          count = row?.count;
        });
        return count;
      };
      expect(await count("array['FAILED']")).toBe(2);
      expect(await count("array['EXPIRED']")).toBe(0);
      expect(await count(`p_user_id => '${user.id}'`)).toBe(1);
      expect(await count(`p_date => '${user.date}'`)).toBe(2);
      expect(await count(`p_date => '2020-01-01'`)).toBe(0);
      expect(await count("p_message_type => 'ANNIVERSARY'")).toBe(0);
      expect(await count("p_since => now() - interval '1 hour'")).toBe(2);
      expect(await count('p_since => now()')).toBe(0);
      await expectRefusal(
        sql,
        'GW041',
        (inner) => inner`
        select from ops.redrive_messages(array['SENT'])`,
      );
    });
  });
});
