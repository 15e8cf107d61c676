import { expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { asSuperuser, asWorkerOf, claim, type Job, record } from '../../helpers/claims.ts';
import { useDatabase } from '../../helpers/database.ts';

const db = useDatabase();

/** Since when each message may have arrived, in seconds before now; null when it has not. */
const doubts = (sql: Transaction) =>
  asSuperuser(sql, async () => {
    const rows = await sql<{ seconds: number | null }[]>`
      select extract(epoch from now() - uncertain_since)::float8 as seconds
      from app_public.message_logs`;
    return rows.map(({ seconds }) => seconds);
  });

/** Lets what was tried have been tried a while ago, and its job be due again. */
const letPass = (sql: Transaction, seconds: number) =>
  asSuperuser(sql, async () => {
    await sql`
      update app_public.message_logs
      set attempted_at = attempted_at - make_interval(secs => ${seconds}),
        uncertain_since = uncertain_since - make_interval(secs => ${seconds})`;
    await sql`update pgboss.job set state = 'active' where name = 'message-send'`;
  });

/**
 * Claims the message anew and records what came of it. The claim is made to have been at the
 * time at which the transaction's clock stands, so that only letPass() lets time go by.
 */
async function attempt(
  sql: Transaction,
  jobs: Job[],
  result: Parameters<typeof record>[2],
): Promise<void> {
  const [claimed] = await claim(sql, jobs);
  await asSuperuser(sql, () => sql`update app_public.message_logs set attempted_at = now()`);
  expect(await record(sql, claimed, result)).toBe(1);
}

test('a doubt lasts, whatever comes after it, until the message is delivered', async () => {
  await asWorkerOf(db, 1, async (sql, jobs) => {
    await attempt(sql, jobs, { status: 'RETRYING', code: 500 });
    expect(await doubts(sql)).toEqual([null]);
    await letPass(sql, 100);
    await attempt(sql, jobs, { status: 'RETRYING', code: 504, is_uncertain: true });
    expect(await doubts(sql)).toEqual([0]);
    await letPass(sql, 100);
    // That this one has not arrived says nothing of the one before.
    await attempt(sql, jobs, { status: 'RETRYING', code: 503 });
    expect(await doubts(sql)).toEqual([100]);
    await letPass(sql, 100);
    await attempt(sql, jobs, { status: 'RETRYING', error: 'reset', is_uncertain: true });
    expect(await doubts(sql)).toEqual([200]);
    await attempt(sql, jobs, { status: 'SENT', code: 200 });
    expect(await doubts(sql)).toEqual([null]);
  });
});

test('a message that failed for good keeps its doubt', async () => {
  await asWorkerOf(db, 1, async (sql, jobs) => {
    await attempt(sql, jobs, { status: 'RETRYING', code: 502, is_uncertain: true });
    await letPass(sql, 10);
    await attempt(sql, jobs, { status: 'FAILED', code: 400 });
    expect(await doubts(sql)).toEqual([10]);
  });
});
