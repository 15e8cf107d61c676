import { expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import type { Job } from '../../helpers/claims.ts';
import { transactionsOf, useDatabase } from '../../helpers/database.ts';
import { createDue, planDue } from '../../helpers/messages.ts';

const db = useDatabase();
const { asSuperuser } = transactionsOf(db);
const waiting = 2_000;
const batch = 10;

/** How many rows of the queue and of the messages this transaction has read. */
async function rowsRead(sql: Transaction): Promise<number> {
  const [row] = await sql`
    select sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::integer as rows
    from pg_stat_xact_all_tables
    where schemaname = 'pgboss' or relname like 'message_logs_%'`;
  return (row?.rows as number | null) ?? 0;
}

/** Takes a batch, and finds its messages. */
async function take(sql: Transaction, worker: number): Promise<void> {
  const rows = await sql<{ id: string; data: Omit<Job, 'job_id'> }[]>`
    select id, data from app_private.take_send_jobs(${batch}, ${worker}, array[0, 1])`;
  const jobs = sql.json(rows.map(({ id, data }) => ({ job_id: id, ...data })));
  const [own] = await sql`
    select jsonb_array_length(app_private.own_jobs(${worker}, ${jobs})) as count`;
  expect(own).toEqual({ count: batch });
  const [found] = await sql`
    select count(*)::integer as count
    from app_private.find_claims(${jobs}) as found
    inner join app_private.user_messages as rules
      on rules.user_id = found.user_id and rules.message_type = found.message_type`;
  expect(found).toEqual({ count: batch });
}

test('a batch reads its own messages, however many wait', async () => {
  await asSuperuser(async (sql) => {
    const [worker] = await sql`select app_private.begin_send_worker('http') as key`;
    // Plans that are made while the queue is short stay for a while.
    await planDue(sql, batch);
    await take(sql, worker?.key as number);
    await createDue(sql, waiting);
    await sql`select app_private.plan_due_messages()`;
    await sql`analyze app_public.message_logs`;
    const before = await rowsRead(sql);
    await take(sql, worker?.key as number);
    expect((await rowsRead(sql)) - before).toBeLessThan(10 * batch);
  });
});
