import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Job, PgBoss } from 'pg-boss';
import { errorText } from '../log.ts';
import { inSpan } from '../tracing.ts';
import type { WorkerFigures } from './figures.ts';
import { type SendJob, type SendOptions, sendMessages, sendQueue } from './message-sends.ts';

export interface SendLoopOptions extends SendOptions {
  figures: WorkerFigures;
  boss: PgBoss;
  /** Messages in a batch, at most. */
  batchSize: number;
  /** Batches at the same time: while one is called out, another is claimed. */
  lanes: number;
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

/** How often an empty queue is asked again. */
const idleMs = 100;

/**
 * How long the messages of a batch should take. A batch is as large as that, so that a worker
 * whose receiver is slow leaves the rest to others, and one whose receiver is fast claims with
 * few statements.
 */
const batchMs = 500;

/**
 * Sends what is due, as many batches at once as there are lanes, never more than the
 * channel's limits allow. pg-boss's own work() cannot ask for permits before it fetches, and
 * would settle the jobs once more.
 */
export function startSendLoop(options: SendLoopOptions): SendLoop {
  const { boss, pool, channel, figures, log, batchSize, lanes } = options;
  const stopping = new AbortController();
  const ending = new AbortController();
  const running = new Set<Promise<void>>();
  const limit = pLimit(channel.concurrency);
  const least = 2 * channel.concurrency * channel.messagesPerCall;
  let share = Math.min(least, batchSize);

  async function handle(jobs: Job<SendJob>[]): Promise<void> {
    const claims = jobs.map(({ id }) => id);
    // Jobs that are not touched for as long are a dead worker's, and are given away.
    const [{ heartbeatSeconds = null } = {}] = jobs;
    const touch = setInterval(
      () => {
        boss.touch(sendQueue, claims).catch((error: unknown) => {
          log.warn({ error: errorText(error) }, 'heartbeat failed');
        });
      },
      ((heartbeatSeconds ?? 10) * 1000) / 3,
    );
    const began = performance.now();
    try {
      const tools = { ...options, limit, stopping: stopping.signal, ending: ending.signal };
      const attributes = { 'messaging.batch.message_count': jobs.length };
      await inSpan(sendQueue, attributes, () => sendMessages(jobs, tools));
      const fitting = (jobs.length * batchMs) / (performance.now() - began);
      share = Math.min(Math.max(Math.round(fitting), least), batchSize);
    } catch (error) {
      // Nobody touches these jobs any more: they are given away again.
      log.error({ error: errorText(error) }, 'batch failed');
    } finally {
      clearInterval(touch);
    }
  }

  /** Starts a batch. Resolves with the milliseconds to wait before the next. */
  async function next(): Promise<number> {
    const {
      rows: [permit],
    } = await pool.query<{ permits: number; wait_ms: number }>({
      name: 'take-send-permits',
      text: 'select permits, wait_ms from app_private.take_send_permits($1, $2)',
      values: [channel.name, share],
    });
    const permits = permit?.permits ?? 0;
    // A probe that is on its way may be answered, and open everything, any moment.
    figures.turned(true);
    if (permits === 0) return Math.min(Math.max(permit?.wait_ms ?? idleMs, 10), 1_000);
    const jobs = await boss.fetch<SendJob>(sendQueue, { batchSize: permits });
    if (jobs.length > 0) {
      figures.claimed(jobs.length);
      const batch = handle(jobs).finally(() => running.delete(batch));
      running.add(batch);
    }
    return jobs.length < permits ? idleMs : 0;
  }

  async function loop(): Promise<void> {
    const { signal } = stopping;
    while (!signal.aborted) {
      if (running.size >= lanes) await Promise.race(running);
      const pause = await next().catch((error: unknown) => {
        figures.turned(false);
        if (!signal.aborted) log.error({ error: errorText(error) }, 'cannot fetch messages');
        return 1_000;
      });
      if (pause > 0) await sleep(pause, undefined, { signal }).catch(() => {});
    }
  }
  const looping = loop();
  const within = async (milliseconds: number): Promise<void> => {
    const ended = looping.then(() => Promise.all(running));
    await Promise.race([ended, sleep(milliseconds, undefined, { ref: false })]);
  };

  return {
    async stop(patienceMs) {
      stopping.abort();
      await within(patienceMs);
    },
    async end() {
      ending.abort();
      await within(1_000);
    },
  };
}
