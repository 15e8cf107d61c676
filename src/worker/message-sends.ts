import type { Sql } from '../database/connect.ts';
import type { Log } from '../log.ts';
import { traceIdsOf } from '../trace.ts';
import type { Attempt, Channel, Message } from './channels/channel.ts';

/** What enqueue_messages() puts into a job; passed back to the database as it came. */
export type SendJob = {
  user_id: string;
  message_id: string;
  message_type: string;
  scheduled_send_time: string;
  /** Of the request that caused it, where one did. */
  traceparent?: string;
};

export interface SendOptions {
  sql: Sql;
  channel: Channel;
  log: Log;
  /** The link by which a user turns such messages off. */
  unsubscribeUrl?: ((userId: string, messageType: string) => string | undefined) | undefined;
}

export const sendQueue = 'message-send';

/**
 * Handles a batch of due messages: claims them, delivers, records what became of each. Two
 * statements a batch, however large it is; the database decides what may be sent, what is
 * tried again and when, and finishes the jobs.
 *
 * A worker that dies anywhere in between leaves rows that say how far it came. Their jobs
 * run again, and the receiver sees the same idempotency key.
 *
 * @throws when the database fails; pg-boss then gives the whole batch to another worker
 */
export async function sendMessages(
  jobs: readonly { id: string; data: SendJob }[],
  { sql, channel, log, unsubscribeUrl }: SendOptions,
): Promise<void> {
  const claims = jobs.map(({ id, data }) => ({ job_id: id, ...data }));
  const claimed = await sql<Message[]>`
    select job_id, message_id, user_id, scheduled_send_time, message_type,
      delivery_date::text, email, full_name, message_subject, message_content,
      idempotency_key, attempt, was_attempted
    from app_private.claim_messages(${sql.json(claims)}, ${channel.name})`;
  const messages = claimed.map((message) => ({
    ...message,
    unsubscribe_url: unsubscribeUrl?.(message.user_id, message.message_type),
  }));
  const counts: Record<string, number> = {};
  if (messages.length < jobs.length) counts.nothing_to_do = jobs.length - messages.length;
  if (messages.length > 0) {
    const attempts = await channel.deliver(messages);
    const results = messages.map((message, index) => resultOf(message, attempts[index]));
    await sql`select app_private.record_send_results(${sql.json(results)}, ${channel.name})`;
    for (const { status } of results) counts[status] = (counts[status] ?? 0) + 1;
  }
  log.info({ counts, channel: channel.description, trace_ids: traceIdsOf(jobs) }, 'batch done');
}

const resultOf = (message: Message, attempt: Attempt | undefined) => ({
  job_id: message.job_id,
  user_id: message.user_id,
  message_id: message.message_id,
  scheduled_send_time: message.scheduled_send_time,
  attempt: message.attempt,
  ...(attempt ?? { status: 'RETRYING' as const, error: 'the channel said nothing' }),
});
