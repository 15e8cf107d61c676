import { setTimeout as sleep } from 'node:timers/promises';
import type { LimitFunction } from 'p-limit';
import type { Pool } from 'pg';
import { errorText, type Log } from '../log.ts';
import { traceIdsOf } from '../trace.ts';
import { inCallSpan } from '../tracing.ts';
import type { Attempt, Channel, Message } from './channels/channel.ts';
import type { WorkerFigures } from './figures.ts';
import type { Layouts } from './layouts.ts';

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
  /** The address to which mail servers return a message. */
  returnPath?: ((userId: string, idempotencyKey: string, due: string) => string) | undefined;
}

export const sendQueue = 'message-send';

export interface SendTools extends SendOptions {
  figures: WorkerFigures;
  layouts: Layouts;
  /** The worker, as the database knows it. */
  key: number;
  /** Whether the jobs are still this worker's; resolves when its session is there. */
  isMine: () => boolean | Promise<boolean>;
  /** Lets so many calls be in flight at once, of all batches. */
  limit: LimitFunction;
  /** Aborted when nothing more is to be started. */
  stopping: AbortSignal;
  /** Aborted when nobody waits any longer. */
  ending: AbortSignal;
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
 * @throws when the database fails; the whole batch is then given to another worker
 */
export async function sendMessages(
  jobs: readonly { id: string; data: SendJob }[],
  tools: SendTools,
): Promise<void> {
  const { pool, channel, log, unsubscribeUrl, returnPath } = tools;
  const claims = jobs.map(({ id, data }) => ({ job_id: id, ...data }));
  if (tools.stopping.aborted) return giveBackJobs(claims, tools);
  const { rows: claimed } = await pool.query<Message>({
    name: 'claim-messages',
    text: `
      select job_id, message_id, user_id, scheduled_send_time, message_type,
        delivery_date::text, email, full_name, message_subject, message_content,
        idempotency_key, attempt, was_attempted, is_optional, locale, message_html, layout_id,
        endpoints
      from app_private.claim_messages($1, $2, $3)`,
    values: [JSON.stringify(claims), channel.name, tools.key],
  });
  const messages = (await tools.layouts.add(claimed)).map((message) => ({
    ...message,
    unsubscribe_url: message.is_optional
      ? unsubscribeUrl?.(message.user_id, message.message_type)
      : undefined,
    return_path: returnPath?.(
      message.user_id,
      message.idempotency_key,
      message.scheduled_send_time,
    ),
  }));
  const traces = new Map(jobs.map(({ id, data }) => [id, data.traceparent]));
  const counts: Record<string, number> = {};
  if (messages.length < jobs.length) counts.nothing_to_do = jobs.length - messages.length;
  if (messages.length > 0) {
    for (const { status } of await deliver(messages, traces, tools)) {
      counts[status] = (counts[status] ?? 0) + 1;
    }
  }
  log.info({ counts, channel: channel.description, trace_ids: traceIdsOf(jobs) }, 'batch done');
}

/**
 * Delivers and records. One slow call holds back only its own result: what else has ended is
 * recorded meanwhile, so that a worker that dies leaves little that is delivered again. When
 * the worker is to stop, what has not been started is given back at once.
 */
async function deliver(
  messages: readonly Message[],
  traces: ReadonlyMap<string, string | undefined>,
  tools: SendTools,
): Promise<Result[]> {
  const { channel, figures, limit, stopping } = tools;
  const waiting = new Set(messages);
  const results: Result[] = [];
  let ended: Result[] = [];
  let recording = Promise.resolve();
  const flush = (): Promise<void> => {
    const batch = ended;
    ended = [];
    if (batch.length > 0) recording = recording.then(() => record(batch, tools));
    return recording;
  };
  const timer = setInterval(() => {
    // Its failure is the batch's, below.
    flush().catch(() => {});
  }, flushMs);
  let returning = Promise.resolve();
  const giveBack = (): void => {
    const rest = [...waiting];
    waiting.clear();
    returning = giveBackJobs(rest, tools);
  };
  stopping.addEventListener('abort', giveBack, { once: true });
  if (stopping.aborted) giveBack();
  try {
    await Promise.all(
      callsOf(messages, channel.messagesPerCall).map((call) =>
        limit(async () => {
          const asked = tools.isMine();
          const isMine = typeof asked === 'boolean' ? asked : await asked;
          const mine = call.filter((message) => waiting.delete(message));
          if (!isMine) return;
          if (mine.length === 0) return;
          const [first] = mine;
          const span = {
            name: `deliver ${channel.name}`,
            attributes: { 'messaging.batch.message_count': mine.length },
            traceparent: mine.length === 1 ? traces.get(first?.job_id ?? '') : undefined,
          };
          const attempts = await inCallSpan(span, () =>
            figures.call(channel.name, mine.length, () => channel.deliver(mine)),
          );
          const made = mine.map((message, index) => resultOf(message, attempts[index]));
          results.push(...made);
          ended.push(...made);
        }),
      ),
    );
  } finally {
    stopping.removeEventListener('abort', giveBack);
    clearInterval(timer);
    await flush();
    await returning;
  }
  return results;
}

function callsOf(messages: readonly Message[], size: number): Message[][] {
  const calls: Message[][] = [];
  for (let at = 0; at < messages.length; at += size) calls.push(messages.slice(at, at + size));
  return calls;
}

/** Lets another worker have jobs of which nothing was started. Nothing counts as an attempt. */
async function giveBackJobs(
  jobs: readonly (Omit<SendJob, 'message_type'> & { job_id: string; attempt?: number })[],
  { pool, log, figures }: SendTools,
): Promise<void> {
  if (jobs.length === 0) return;
  const given = jobs.map(({ job_id, user_id, message_id, scheduled_send_time, attempt }) => ({
    ...{ job_id, user_id, message_id, scheduled_send_time },
    attempt: attempt ?? null,
  }));
  try {
    await pool.query('select app_private.give_back_messages($1)', [JSON.stringify(given)]);
    figures.gaveBack(jobs.length);
    log.info({ count: jobs.length }, 'gave back what was not started');
  } catch (error) {
    // Their jobs are not touched any more: they are given away after their heartbeat.
    log.warn({ error: errorText(error), count: jobs.length }, 'cannot give messages back');
  }
}

type Result = ReturnType<typeof resultOf>;

/**
 * Writes results down. What was delivered would be delivered again if nobody did: while the
 * database is away, it is asked again. Results that it has already change nothing.
 */
async function record(results: Result[], tools: SendTools): Promise<void> {
  const { pool, channel, log, ending } = tools;
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
      if (ending.aborted || Date.now() > deadline) throw error;
      log.warn({ error: errorText(error), count: results.length }, 'cannot record results');
      await sleep(pause, undefined, { signal: ending }).catch(() => {});
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
