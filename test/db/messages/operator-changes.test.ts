import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, rolledBack, transactionsOf, useDatabase } from '../../helpers/database.ts';
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

describe('canceling', () => {
  const cancel = async (sql: Transaction, user: Planned, reason = 'a wrong text') => {
    const [row] = await sql`
      select status, refusal from ops.cancel_messages(
        ${reason}, p_message_id => ${user.messageId})`;
    return row;
  };

  test.each([
    ['SCHEDULED', 60],
    ['QUEUED', -1],
  ])('a %s message: without a job, for good, with its reason', async (status, minutes) => {
    await asOwner(async (sql) => {
      const user = await planned(sql, minutes);
      expect(await cancel(sql, user)).toEqual({ status, refusal: null });
      expect(await logOf(sql, user)).toMatchObject({
        status: 'CANCELED',
        job_id: null,
        error_message: 'canceled by a person: a wrong text',
      });
      expect(await jobsOf(sql, user)).toEqual([]);
      expect(await lastAudit(sql)).toMatchObject({
        action: 'messages.canceled',
        details: { messages: 1, reason: 'a wrong text' },
      });
      // Neither the planner nor a change of the user brings it back.
      await sql`update app_public.users set send_time = '23:59' where id = ${user.id}`;
      expect((await sql`select app_private.plan_due_messages() as count`)[0]).toEqual({ count: 0 });
      expect(await ledgerOf(sql, user)).toEqual([{ message_id: user.messageId }]);
      expect(said(await explain(sql, user.id, user.date), 'state')[0]).toMatch(
        /^CANCELED: canceled by a person: a wrong text\. It is not planned again/,
      );
    });
  });

  test('a RETRYING message keeps what was tried', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await attempt(sql, user, { status: 'RETRYING', code: 503, error: 'busy' });
      expect(await cancel(sql, user)).toEqual({ status: 'RETRYING', refusal: null });
      expect((await logOf(sql, user)).attempts).toEqual([
        expect.objectContaining({ code: 503 }),
        expect.objectContaining({ change: 'canceled', status: 'RETRYING', error: 'busy' }),
      ]);
      expect(await jobsOf(sql, user)).toEqual([]);
    });
  });

  test('a SENDING message is refused: the call is being made', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await claim(sql, user);
      expect(await cancel(sql, user)).toEqual({
        status: 'SENDING',
        refusal: 'the call is being made',
      });
      expect(await logOf(sql, user)).toMatchObject({ status: 'SENDING' });
      expect(await jobsOf(sql, user)).toHaveLength(1);
    });
  });

  test('needs a reason, and messages that wait', async () => {
    await asOwner(async (sql) => {
      await expectRefusal(sql, 'GW041', (inner) => inner`select from ops.cancel_messages(' ')`);
      await expectRefusal(
        sql,
        'GW041',
        (inner) => inner`
        select from ops.cancel_messages('why', array['SENT'])`,
      );
    });
  });
});

describe('resolving an unknown outcome', () => {
  test.each([
    ['SENT', null],
    ['FAILED', 'not delivered, as the receiver says'],
  ])('as %s', async (status, error_message) => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await lose(sql, user);
      const { uncertain_since } = await logOf(sql, user);
      await sql`select from ops.resolve_message(${user.messageId}, ${status})`;
      expect(await logOf(sql, user)).toMatchObject({
        status,
        error_message,
        uncertain_since: null,
        actual_send_time: status === 'SENT' ? uncertain_since : null,
        changes: [{ change: `resolved as ${status}`, status: 'UNKNOWN' }],
      });
      expect(await lastAudit(sql)).toMatchObject({
        action: 'messages.resolved',
        details: { message_id: user.messageId, status },
      });
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'attempt')).toHaveLength(1);
      expect(said(steps, 'state')[0]).toMatch(new RegExp(`^${status}: `));
    });
  });

  test('is refused for any other message, and for any other outcome', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      for (const [id, status] of [
        [user.messageId, 'SENT'],
        [randomUUID(), 'SENT'],
        [user.messageId, 'QUEUED'],
      ] as const) {
        await expectRefusal(
          sql,
          'GW041',
          (inner) => inner`
          select from ops.resolve_message(${id}, ${status})`,
        );
      }
    });
  });
});

describe('a limit', () => {
  test('holds from then on, and can be taken away', async () => {
    await asOwner(async (sql) => {
      const permits = async () => {
        const [row] = await sql`select permits from app_private.take_send_permits('http', 500)`;
        return row?.permits;
      };
      expect(await permits()).toBe(500);
      await sql`select ops.limit_channel('http', 3)`;
      expect(await permits()).toBeLessThanOrEqual(3);
      expect(await lastAudit(sql)).toMatchObject({
        action: 'messages.limited',
        details: { channel: 'http', messages_per_second: 3 },
      });
      await sql`select ops.limit_channel('http', null)`;
      expect(await permits()).toBe(500);
      await sql`select ops.limit_channel('http', 0)`;
      expect(await permits()).toBe(0);
      await expectRefusal(sql, 'GW041', (inner) => inner`select ops.limit_channel('http', 0.001)`);
      await expectRefusal(sql, 'GW013', (inner) => inner`select ops.limit_channel('fax', 1)`);
    });
  });
});

test('only the owner may do any of it', async () => {
  await rolledBack(db.as('superuser'), async (sql) => {
    for (const role of ['app_user', 'gw_monitor', 'gw_worker', 'gw_readonly', 'gw_cdc']) {
      await sql.unsafe(`set local role ${role}`);
      for (const call of [
        'ops.redrive_messages()',
        "ops.cancel_messages('why')",
        `ops.resolve_message('${randomUUID()}', 'SENT')`,
        "ops.limit_channel('http', 1)",
        'ops.replan_users()',
        "ops.hold_messages('why')",
        'ops.release_messages(1)',
        "ops.suppress_address('a@example.com', 'why')",
        "ops.lift_suppression('a@example.com', 'why')",
        'ops.find_moved_messages()',
      ]) {
        await expectRefusal(sql, '42501', (inner) => inner.unsafe(`select from ${call}`));
      }
    }
  });
});
