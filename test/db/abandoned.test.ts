import { expect, test } from 'vitest';
import type { Transaction } from '../../src/database/connect.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const asOwner = (work: (sql: Transaction) => Promise<void>) => rolledBack(db.as('owner'), work);
const plan = (sql: Transaction) =>
  sql`select app_private.plan_due_messages('2026-06-15T09:30Z') as planned`;
const due = (sql: Transaction) =>
  createUser(sql, { first_name: 'Due', birthday_date: '1990-06-15' });
const statuses = async (sql: Transaction) =>
  (await sql`select status, error_message from app_public.message_logs`).map((row) => ({ ...row }));

test.each([
  ['its queue', "delete from pgboss.queue where name = 'message-send'"],
  ['a template', "delete from app_private.message_templates where message_type = 'BIRTHDAY'"],
])('without %s nothing is planned, and the run fails', async (_, removal) => {
  await asOwner(async (sql) => {
    await due(sql);
    await sql.unsafe(removal);
    await expectRefusal(sql, 'GW011', plan);
    expect(await sql`select from app_private.message_ledger`).toHaveLength(0);
  });
});

test('a message whose job is gone is FAILED, and says so', async () => {
  await asOwner(async (sql) => {
    await due(sql);
    await plan(sql);
    const give = () => sql`select app_private.fail_abandoned_messages() as failed`;
    expect((await give())[0]?.failed).toBe(0);
    for (const state of ['created', 'retry', 'active'] as const) {
      await sql`update pgboss.job set state = ${state}`;
      expect((await give())[0]?.failed, state).toBe(0);
    }
    await sql`update app_public.message_logs set status = 'SENDING'`;
    await sql`update pgboss.job set state = 'failed'`;
    expect((await give())[0]?.failed).toBe(1);
    expect(await statuses(sql)).toEqual([
      {
        status: 'FAILED',
        error_message: 'given up while SENDING: no job is left that would send it',
      },
    ]);
  });
});

test('what is SENT, or not due for long enough, is left alone', async () => {
  await asOwner(async (sql) => {
    await due(sql);
    await plan(sql);
    await sql`delete from pgboss.job`;
    await sql`
      update app_public.message_logs set scheduled_send_time = now() - interval '14 minutes'`;
    expect((await sql`select app_private.fail_abandoned_messages() as n`)[0]?.n).toBe(0);
    await sql`
      update app_public.message_logs set scheduled_send_time = now() - interval '16 minutes',
        status = 'SENT', actual_send_time = now()`;
    expect((await sql`select app_private.fail_abandoned_messages() as n`)[0]?.n).toBe(0);
  });
});
