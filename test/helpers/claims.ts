import type { Transaction } from '../../src/postgres/connect.ts';
import { rolledBack, type TestDatabase } from './database.ts';
import { type DueUser, planDue } from './messages.ts';

export type Job = {
  job_id: string;
  user_id: string;
  message_id: string;
  scheduled_send_time: string;
};
export type Claimed = Job & { attempt: number; was_attempted: boolean; full_name: string };

/** Runs work as the worker, with that many messages due, in the order of their users. */
export const asWorkerOf = (
  db: TestDatabase,
  count: number,
  work: (sql: Transaction, jobs: Job[], users: DueUser[]) => Promise<void>,
) =>
  rolledBack(db.as('superuser'), async (sql) => {
    const users = await planDue(sql, count);
    const rows = await sql<Job[]>`
      select job.id as job_id, job.data ->> 'user_id' as user_id,
        job.data ->> 'message_id' as message_id,
        job.data ->> 'scheduled_send_time' as scheduled_send_time
      from unnest(${users.map(({ id }) => id)}::uuid[]) with ordinality as wanted (id, number)
      inner join pgboss.job on (job.data ->> 'user_id')::uuid = wanted.id
      order by wanted.number`;
    await sql`update pgboss.job set state = 'active'`;
    await sql`set local role gw_worker`;
    await work(sql, [...rows], users);
  });

/** Runs statements that the worker may not, then is the worker again. */
export async function asSuperuser<T>(sql: Transaction, work: () => Promise<T>): Promise<T> {
  await sql`set local role none`;
  const result = await work();
  await sql`set local role gw_worker`;
  return result;
}

/** Claims these jobs in one statement, as a batch is. */
export const claim = (sql: Transaction, jobs: readonly Job[]) => sql<Claimed[]>`
  select * from app_private.claim_messages(${sql.json([...jobs])}, 'http') order by full_name`;

/** What the receiver is to have answered. */
export interface Result {
  status: 'SENT' | 'REFUSED' | 'RETRYING' | 'FAILED';
  stage?: string;
  code?: number | null;
  body?: string | null;
  error?: string | null;
  retry_after_seconds?: number;
  is_uncertain?: boolean;
}

/** Records one result. */
export async function record(sql: Transaction, claimed: Claimed | undefined, result: Result) {
  const { job_id, user_id, message_id, scheduled_send_time, attempt } = claimed as Claimed;
  const results = [{ job_id, user_id, message_id, scheduled_send_time, attempt, ...result }];
  const [row] = await sql`
    select app_private.record_send_results(${sql.json(results)}, 'http') as count`;
  return row?.count;
}

/** What the log says of each message. */
export const logged = (sql: Transaction, jobs: readonly Job[]) =>
  asSuperuser(
    sql,
    () => sql`
      select message_logs.status, retry_count, last_retry_at is not null as "wasRetried",
        actual_send_time is not null as "isSent", api_response_code as code,
        api_response_body as body, error_message as error
      from unnest(${jobs.map((job) => job.message_id)}::uuid[]) with ordinality as job (id, number)
      inner join app_public.message_logs using (id)
      order by number`,
  );

/** The states of their jobs; those that are gone are missing. */
export const jobStates = (sql: Transaction) =>
  asSuperuser(sql, async () => {
    const rows = await sql`select state from pgboss.job where name = 'message-send'`;
    return rows.map(({ state }) => state as string);
  });

/** Sets columns of every message. */
export const set = (sql: Transaction, assignments: string) =>
  asSuperuser(sql, () => sql.unsafe(`update app_public.message_logs set ${assignments}`));
