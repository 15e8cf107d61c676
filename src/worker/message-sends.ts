import type { JobResult, JobWithMetadata } from 'pg-boss';
import type { Sql } from '../database/connect.ts';
import type { Log } from '../log.ts';
import { traceIdsOf } from '../trace.ts';
import type { Attempt, Channel, Message } from './channels/channel.ts';

/** What plan_due_messages() puts into a job; passed back to the database as it came. */
export type SendJob = {
  user_id: string;
  message_id: string;
  scheduled_send_time: string;
  /** Of the request that caused it, where one did. */
  traceparent?: string;
};

export const sendQueue = 'message-send';

/**
 * Handles a batch of due messages: claims them, marks them SENDING, delivers, records what
 * became of each. Three statements a batch, however large it is.
 *
 * A worker that dies anywhere in between leaves rows that say how far it came. Their jobs
 * run again, and the receiver sees the same idempotency key.
 *
 * @throws when the database fails; pg-boss then runs the whole batch again
 */
export async function sendMessages(
  jobs: readonly JobWithMetadata<SendJob>[],
  { sql, channel, log }: { sql: Sql; channel: Channel; log: Log },
): Promise<JobResult[]> {
  const payloads = new Map(jobs.map(({ data }) => [data.message_id, data]));
  const claimed = await sql<Omit<Message, 'scheduled_send_time'>[]>`
    select message_id, user_id, message_type, delivery_date::text, email, full_name,
      message_content, idempotency_key, was_attempted
    from app_private.claim_messages(${sql.json([...payloads.values()])})`;
  const messages: Message[] = claimed.map((row) => ({
    ...row,
    scheduled_send_time: payloads.get(row.message_id)?.scheduled_send_time ?? '',
  }));

  const attempts = new Map<string, Attempt>();
  if (messages.length > 0) {
    const keys = messages.map(({ message_id }) => payloads.get(message_id) as SendJob);
    await sql`select app_private.begin_sending(${sql.json(keys)})`;
    const answers = await channel.deliver(messages);
    messages.forEach(({ message_id }, index) => {
      attempts.set(message_id, answers[index] as Attempt);
    });
  }

  // The last attempt that pg-boss allows is the last.
  const outcomeOf = (job: JobWithMetadata<SendJob>, attempt: Attempt): Attempt =>
    attempt.status === 'RETRYING' && job.retryCount >= job.retryLimit
      ? { ...attempt, status: 'FAILED' }
      : attempt;

  const results = jobs.flatMap((job) => {
    const attempt = attempts.get(job.data.message_id);
    return attempt === undefined ? [] : [{ ...job.data, ...outcomeOf(job, attempt) }];
  });
  if (results.length > 0) {
    await sql`select app_private.record_send_results(${sql.json(results)})`;
  }

  const counts: Record<string, number> = { nothing_to_do: jobs.length - results.length };
  for (const { status } of results) counts[status] = (counts[status] ?? 0) + 1;
  log.info({ counts, channel: channel.description, trace_ids: traceIdsOf(jobs) }, 'batch done');

  return jobs.map((job): JobResult => {
    const attempt = attempts.get(job.data.message_id);
    // Not claimed: already sent, failed, or deleted with its user. The job is done.
    if (attempt === undefined || attempt.status === 'SENT') {
      return { id: job.id, status: 'completed' };
    }
    return {
      id: job.id,
      // A refusal that time does not cure skips the remaining tries.
      status: attempt.status === 'FAILED' ? 'deadletter' : 'failed',
      output: { code: attempt.code, error: attempt.error },
    };
  });
}
