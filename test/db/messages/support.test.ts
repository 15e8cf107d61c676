import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { attempt, claim, type Planned, planned } from '../../helpers/message-stages.ts';

/*
 * Who helps users may explain, resend, suppress and lift, and nothing else.
 */
const db = useDatabase();

const asOwner = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local role gw_owner`;
    await work(sql);
  });

async function asSupport<T>(sql: Transaction, work: () => Promise<T>): Promise<T> {
  await sql`set local role none`;
  await sql`set local role gw_support`;
  const result = await work();
  await sql`set local role none`;
  await sql`set local role gw_owner`;
  return result;
}

const resend = (sql: Transaction, user: Planned, reason = 'the mail was lost') => sql`
  select ops.resend_message(${user.id}, ${user.messageId}, ${reason}) as copy`;

describe('support', () => {
  test('sends a copy with a new key to the present address, and says who and why', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await attempt(sql, user, { status: 'SENT', code: 202 });
      await sql`update app_public.users set email = 'new@example.com' where id = ${user.id}`;
      await sql`select set_config('groundwork.operator', 'Grace', true)`;
      const [row] = await asSupport(sql, () => resend(sql, user));
      const copy = { ...user, messageId: row?.copy as string };
      expect(await claim(sql, copy)).toMatchObject([
        {
          email: 'new@example.com',
          idempotency_key: expect.stringMatching(/:copy:[0-9a-f]{8}$/),
        },
      ]);
      const [audit] = await sql`select action, details from ops.audit_log order by id desc limit 1`;
      expect(audit).toMatchObject({
        action: 'messages.resent',
        details: { reason: 'the mail was lost', operator: 'Grace', message_id: user.messageId },
      });
    });
  });

  test('gives a reason each time, and resends only what was sent', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await expectRefusal(sql, 'GW041', (inner) => resend(inner, user));
      await attempt(sql, user, { status: 'SENT', code: 202 });
      await expectRefusal(sql, 'GW041', (inner) => resend(inner, user, ' '));
      await expectRefusal(sql, 'GW041', (inner) =>
        resend(inner, { ...user, messageId: randomUUID() }),
      );
      for (const call of ['suppress_address', 'lift_suppression']) {
        await expectRefusal(sql, 'GW041', (inner) =>
          inner.unsafe(`select ops.${call}('a@example.com', '')`),
        );
      }
    });
  });

  test('explains, suppresses and lifts, and may do nothing else', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await asSupport(sql, async () => {
        const steps = await sql`
          select * from ops.explain_message(${user.id}, 'BIRTHDAY', ${user.date}::text::date)`;
        expect(steps.length).toBeGreaterThan(3);
        await sql`select ops.suppress_address('a@example.com', 'asked')`;
        await sql`select ops.lift_suppression('a@example.com', 'asked again')`;
        for (const text of [
          'select from app_public.users',
          'select from app_public.message_logs',
          'select from app_private.address_states',
          'select from ops.audit_log',
          "select ops.hold_messages('x')",
          "select ops.cancel_messages('x')",
          'select ops.redrive_messages()',
          "select ops.audit('x.y')",
          `select app_hidden.send_message('BIRTHDAY', '${user.id}', 'k')`,
        ]) {
          await expectRefusal(sql, '42501', (inner) => inner.unsafe(text));
        }
      });
    });
  });
});
