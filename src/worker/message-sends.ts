import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import { errorText, type Log } from '../log.ts';
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
  /** gw_worker's connections. */
  pool: Pool;
  channel: Channel;
  log: Log;
  /** The link by which a user turns such messages off. */
  unsubscribeUrl?: ((userId: string, messageType: string) => string) | undefined;
}

export const sendQueue = 'message-send';

export interface SendTools extends SendOptions {
  /** Aborted when the worker is to end. */
  signal: AbortSignal;
}

/** For so long a database that does not take results is asked again: a restart takes less. */
const recordMs = 60_000;

/** A batch that takes longer has what it knows recorded as often. */
const flushMs = 500;

/**
 * Handles a batch of due messages: claims them, delivers, records what became of each. Two
 * statements a batch that is quick, however large it is; the database decides what may be
 * sent, what is tried again and when, and finishes the jobs.
 *
 * A worker that dies anywhere in between leaves rows that say how far it came. Their jobs
 * run again, and the receiver sees the same idempotency key.
 *
 * @throws when the database fails; pg-boss then gives the whole batch to another worker
 */
export async function sendMessages(
  jobs: readonly { id: string; data: SendJob }[],
  tools: SendTools,
): Promise<void> {
  const { pool, channel, log, unsubscribeUrl } = tools;
  const claims = jobs.map(({ id, data }) => ({ job_id: id, ...data }));
  const { rows: claimed } = await pool.query<Message>({
    name: 'claim-messages',
    text: `
      select job_id, message_id, user_id, scheduled_send_time, message_type,
        delivery_date::text, email, full_name, message_subject, message_content,
        idempotency_key, attempt, was_attempted, is_optional
      from app_private.claim_messages($1, $2)`,
    values: [JSON.stringify(claims), channel.name],
  });
  const messages = claimed.map((message) => ({
    ...message,
    unsubscribe_url: message.is_optional
      ? unsubscribeUrl?.(message.user_id, message.message_type)
      : undefined,
  }));
  const counts: Record<string, number> = {};
  if (messages.length < jobs.length) counts.nothing_to_do = jobs.length - messages.length;
  if (messages.length > 0) {
    for (const { status } of await deliver(messages, tools)) {
      counts[status] = (counts[status] ?? 0) + 1;
    }
  }
  log.info({ counts, channel: channel.description, trace_ids: traceIdsOf(jobs) }, 'batch done');
}

/**
 * Delivers and records. One slow call holds back only its own result: what else has ended is
 * recorded meanwhile, so that a worker that dies leaves little that is delivered again.
 */
async function deliver(messages: Message[], tools: SendTools): Promise<Result[]> {
  const open = new Map(messages.entries());
  let ended: Result[] = [];
  let recording = Promise.resolve();
  const flush = (): Promise<void> => {
    const results = ended;
    ended = [];
    if (results.length > 0) recording = recording.then(() => record(results, tools));
    return recording;
  };
  const timer = setInterval(() => {
    // Its failure is the batch's, below.
    flush().catch(() => {});
  }, flushMs);
  const results: Result[] = [];
  const end = (index: number, attempt: Attempt | undefined): void => {
    const message = open.get(index);
    if (message === undefined || !open.delete(index)) return;
    const result = resultOf(message, attempt);
    results.push(result);
    ended.push(result);
  };
  try {
    const attempts = await tools.channel.deliver(messages, end);
    for (const index of [...open.keys()]) end(index, attempts[index]);
  } finally {
    clearInterval(timer);
    await flush();
  }
  return results;
}

type Result = ReturnType<typeof resultOf>;

/**
 * Writes results down. What was delivered would be delivered again if nobody did: while the
 * database is away, it is asked again. Results that it has already change nothing.
 */
async function record(results: Result[], { pool, channel, log, signal }: SendTools): Promise<void> {
  const deadline = Date.now() + recordMs;
  for (let pause = 100; ; pause = Math.min(pause * 2, 2_000)) {
    try {
      await pool.query({
        name: 'record-send-results',
        text: 'select app_private.record_send_results($1, $2)',
        values: [JSON.stringify(results), channel.name],
      });
      return;
    } catch (error) {
      if (signal.aborted || Date.now() > deadline) throw error;
      log.warn({ error: errorText(error), count: results.length }, 'cannot record results');
      await sleep(pause, undefined, { signal }).catch(() => {});
    }
  }
}

const resultOf = (message: Message, attempt: Attempt | undefined) => ({
  job_id: message.job_id,
  user_id: message.user_id,
  message_id: message.message_id,
  scheduled_send_time: message.scheduled_send_time,
  attempt: message.attempt,
  ...(attempt ?? { status: 'RETRYING' as const, error: 'the channel said nothing' }),
});
