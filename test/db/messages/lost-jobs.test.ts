import { expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { planDue, planOne } from '../../helpers/messages.ts';

const db = useDatabase();

test('without its queue nothing is planned, and the run fails', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    await createUser(sql, { birthday_date: '1990-06-15' });
    await sql`delete from pgboss.queue where name = 'message-send'`;
    await expectRefusal(sql, 'GW011', (inner) => inner`select app_private.plan_due_messages()`);
    expect(await sql`select from app_private.message_ledger`).toHaveLength(0);
  });
});

async function requeue(sql: Transaction): Promise<number> {
  const [row] = await sql`select app_private.requeue_lost_messages() as count`;
  return row?.count;
}

/** Makes what was written look as if it had been so long ago. */
const wait = (sql: Transaction, minutes = 16) =>
  sql.unsafe(`
  alter table app_public.message_logs disable trigger _100_timestamps;
  update app_public.message_logs set updated_at = now() - interval '${minutes} minutes';
  alter table app_public.message_logs enable trigger _100_timestamps`);

test.each(['QUEUED', 'SENDING', 'RETRYING'])(
  'a %s message whose job is gone gets another',
  async (status) => {
    await rolledBack(db.as('owner'), async (sql) => {
      await planOne(sql);
      await sql`update app_public.message_logs set status = ${status}`;
      await wait(sql);
      for (const state of ['created', 'retry', 'active'] as const) {
        await sql`update pgboss.job set state = ${state}`;
        expect(await requeue(sql), state).toBe(0);
      }
      await sql`delete from pgboss.job where name = 'message-send'`;
      expect(await requeue(sql)).toBe(1);
      const [found] = await sql`
      select message_logs.status, job.state
      from app_public.message_logs
      inner join pgboss.job on job.id = message_logs.job_id`;
      expect(found).toEqual({ status, state: 'created' });
      expect(await requeue(sql)).toBe(0);
    });
  },
);

test('a job is taken for lost after a quarter of an hour, and not before', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    await planOne(sql);
    await sql`delete from pgboss.job where name = 'message-send'`;
    for (const [minutes, count] of [
      [14, 0],
      [16, 1],
    ] as const) {
      await wait(sql, minutes);
      expect(await requeue(sql), `${minutes} minutes`).toBe(count);
    }
  });
});

test('a message that somebody is changing does not hold the others up', async () => {
  const owner = db.as('owner');
  const users = await planDue(owner, 2);
  await owner`delete from pgboss.job where name = 'message-send'`;
  await owner.begin((sql) => wait(sql));
  await owner.begin(async (sql) => {
    await sql`select from app_public.message_logs where user_id = ${users[0]?.id as string}
      for update`;
    const [row] = await db.as('owner', 1).begin(async (inner) => {
      await inner`set local lock_timeout = '5s'`;
      return inner`select app_private.requeue_lost_messages() as count`;
    });
    expect(row?.count).toBe(1);
  });
  await owner`delete from app_public.users where id = any (${users.map(({ id }) => id)})`;
  await owner`delete from pgboss.job where name = 'message-send'`;
});

test('what is done, planned for later, or changed just now is left alone', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    await planOne(sql);
    await sql`delete from pgboss.job`;
    expect(await requeue(sql)).toBe(0);
    for (const status of ['SCHEDULED', 'FAILED', 'CANCELED', 'EXPIRED', 'UNKNOWN']) {
      await sql`update app_public.message_logs set status = ${status}`;
      await wait(sql);
      expect(await requeue(sql), status).toBe(0);
    }
  });
});

test('the ledger forgets what is 60 days past, and nothing else', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    const user = await createUser(sql);
    await sql`
      insert into app_private.message_ledger
        (user_id, message_type, delivery_date, message_id, scheduled_send_time)
      select ${user.id}, 'BIRTHDAY', current_date - days, gen_random_uuid(), now()
      from unnest(array[0, 58, 62, 400]) as days`;
    const [row] = await sql`select ops.delete_expired_rows()::int as count`;
    expect(row?.count).toBe(2);
  });
});
