import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import { errorText } from '../log.ts';
import { inSpan } from '../tracing.ts';
import type { WorkerFigures } from './figures.ts';
import { Layouts } from './layouts.ts';
import { type SendJob, type SendOptions, sendMessages, sendQueue } from './message-sends.ts';
import type { Presence } from './presence.ts';

export interface SendLoopOptions extends SendOptions {
  figures: WorkerFigures;
  /** The session by which jobs are this worker's. */
  presence: Presence;
  /** Whether it sends what has no route. */
  isDefault: boolean;
  /** Messages in a batch, at most. */
  batchSize: number;
  /** Batches at the same time: while one is called out, another is claimed. */
  atOnce: number;
}

/** Where the channel's messages wait. Which lane is served first changes with each turn. */
async function lanesOf({ pool, channel, isDefault }: SendLoopOptions): Promise<number[]> {
  const { rows } = await pool.query<{ lane: number }>(
    'select app_private.channel_lane($1) as lane',
    [channel.name],
  );
  return [...(isDefault ? [0] : []), ...rows.map(({ lane }) => lane)];
}

export interface SendLoop {
  /**
   * Takes no more jobs, and gives back those of which nothing was started. Resolves when the
   * calls in flight have ended and are recorded, or the time is over.
   */
  stop(patienceMs: number): Promise<void>;
  /** Resolves when what was cut off, by closing the channel, is recorded. */
  end(): Promise<void>;
}

type SendJobs = { id: string; data: SendJob }[];

/** How often an empty queue is asked again. */
const idleMs = 100;

/** How often dead workers are looked for. */
const lookMs = 2_000;

/** How often a worker looks for jobs of its own that it does not know of, when there may be some. */
const forgetMs = 6_000;

/**
 * How long the messages of a batch should take. A batch is as large as that, so that a worker
 * whose receiver is slow leaves the rest to others, and one whose receiver is fast claims with
 * few statements.
 */
const batchMs = 500;

/**
 * Sends what is due by one channel, some batches at once, never more than the
 * channel's limits allow. pg-boss's own work() cannot ask for permits before it fetches, and
 * would settle the jobs once more.
 */
export function startSendLoop(options: SendLoopOptions): SendLoop {
  const { presence, pool, channel, figures, log, batchSize, atOnce } = options;
  const stopping = new AbortController();
  const ending = new AbortController();
  const running = new Set<Promise<void>>();
  const limit = pLimit(channel.concurrency);
  const layouts = new Layouts(pool);
  const held = new Set<string>();
  /** Whether there may be jobs of ours that are not held: an answer was lost, a batch failed. */
  let hasForgotten = false;
  let [failedAt, forgottenAt] = [0, 0];
  let { sessions } = presence;
  let lanes: number[] = [];
  const least = 2 * channel.concurrency * channel.messagesPerCall;
  let share = Math.min(least, batchSize);

  async function handle(jobs: SendJobs, key: number): Promise<void> {
    const began = performance.now();
    try {
      const tools = {
        ...options,
        layouts,
        limit,
        key,
        isMine: () => presence.has(key) || presence.here().then(() => presence.has(key)),
        stopping: stopping.signal,
        ending: ending.signal,
      };
      const attributes = { 'messaging.batch.message_count': jobs.length };
      await inSpan(sendQueue, attributes, () => sendMessages(jobs, tools));
      const fitting = (jobs.length * batchMs) / (performance.now() - began);
      share = Math.min(Math.max(Math.round(fitting), least), batchSize);
    } catch (error) {
      // Others get these jobs, see look().
      [hasForgotten, failedAt] = [true, Date.now()];
      log.error({ error: errorText(error) }, 'batch failed');
    } finally {
      for (const { id } of jobs) held.delete(id);
    }
  }

  /** Starts a batch. Resolves with the milliseconds to wait before the next. */
  async function next(): Promise<number> {
    await presence.here();
    if (stopping.signal.aborted) return 0;
    lanes = lanes.length === 0 ? await lanesOf(options) : [...lanes.slice(1), ...lanes.slice(0, 1)];
    const {
      rows: [permit],
    } = await pool.query<{ permits: number; wait_ms: number; is_metered: boolean }>({
      name: 'take-send-permits',
      text: 'select permits, wait_ms, is_metered from app_private.take_send_permits($1, $2, $3)',
      values: [channel.name, share, lanes],
    });
    const permits = permit?.permits ?? 0;
    // A probe that is on its way may be answered, and open everything, any moment.
    figures.turned(channel.name, true);
    if (permits === 0) return Math.min(Math.max(permit?.wait_ms ?? idleMs, 10), 1_000);
    const { key } = presence;
    const { rows: jobs } = await pool.query<SendJobs[number]>({
      name: 'take-send-jobs',
      text: 'select id, data from app_private.take_send_jobs($1, $2, $3)',
      values: [permits, key, lanes],
    });
    if (permit?.is_metered === true && jobs.length < permits) {
      await pool.query({
        name: 'return-send-permits',
        text: 'select app_private.return_send_permits($1, $2)',
        values: [channel.name, permits - jobs.length],
      });
    }
    if (jobs.length > 0) {
      for (const { id } of jobs) held.add(id);
      figures.claimed(jobs.length);
      const batch = handle(jobs, key).finally(() => running.delete(batch));
      running.add(batch);
    }
    return jobs.length < permits ? idleMs : 0;
  }

  async function loop(): Promise<void> {
    const { signal } = stopping;
    while (!signal.aborted) {
      if (running.size >= atOnce) await Promise.race(running);
      const pause = await next().catch((error: unknown) => {
        figures.turned(channel.name, false);
        [hasForgotten, failedAt] = [true, Date.now()];
        if (!signal.aborted) log.error({ error: errorText(error) }, 'cannot fetch messages');
        return 1_000;
      });
      if (pause > 0) await sleep(pause, undefined, { signal }).catch(() => {});
    }
  }
  /** Has the jobs of dead workers given away, and those of which this one does not know. */
  async function look(): Promise<void> {
    if (!presence.has(presence.key)) return;
    if (presence.sessions > sessions) {
      // Also after a failover, by which the end of jobs may be lost.
      sessions = presence.sessions;
      [hasForgotten, failedAt] = [true, Date.now()];
    }
    await pool.query('select app_private.give_away_jobs()');
    if (!hasForgotten || Date.now() - forgottenAt < forgetMs) return;
    forgottenAt = Date.now();
    const { rows } = await pool.query<{ returned: number }>(
      'select app_private.return_forgotten_jobs($1, $2) as returned',
      [presence.key, [...held]],
    );
    // What was taken just before is not returned yet: once more, until nothing is left.
    hasForgotten = (rows[0]?.returned ?? 0) > 0 || Date.now() - failedAt < 2 * forgetMs;
  }
  const lookSafely = (): void => {
    look().catch((error: unknown) => {
      log.warn({ error: errorText(error) }, 'cannot look for jobs of dead workers');
    });
  };
  lookSafely();
  const looking = setInterval(lookSafely, lookMs);
  const looping = loop();
  const within = async (milliseconds: number): Promise<void> => {
    const ended = looping.then(() => Promise.all(running));
    await Promise.race([ended, sleep(milliseconds, undefined, { ref: false })]);
  };

  return {
    async stop(patienceMs) {
      clearInterval(looking);
      stopping.abort();
      await within(patienceMs);
    },
    async end() {
      ending.abort();
      await within(1_000);
    },
  };
}
