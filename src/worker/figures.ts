import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { makeRegistry, measurePool, seconds } from '../metrics/registry.ts';
import type { MeasuredPool } from '../postgres/measured-pool.ts';
import type { Attempt, Channel } from './channels/channel.ts';

const outcomes = ['sent', 'unanswered', 'refused', 'uncertain'] as const;

/** A worker whose loop has not turned for so long does nothing any more. */
const stalledMs = 300_000;

/** For so long what the database said last holds. */
const freshMs = 30_000;

/** What a worker says of itself. */
export class WorkerFigures {
  readonly registry: Registry = makeRegistry('worker');
  readonly #deliveries: Counter<'channel' | 'outcome'>;
  readonly #durations: Histogram<'channel'>;
  readonly #batches: Histogram;
  readonly #returned: Counter;
  #inFlight = 0;
  /** When the loop of each channel turned last. */
  readonly #turnedAt = new Map<string, number>();
  #answeredAt = 0;

  constructor(channels: readonly Pick<Channel, 'name'>[], pool: MeasuredPool) {
    const registers = [this.registry];
    measurePool(this.registry, pool);
    this.#deliveries = new Counter({
      name: 'gw_deliveries_total',
      help: 'Calls to the receiver, by what came of them.',
      labelNames: ['channel', 'outcome'],
      registers,
    });
    // A rate needs a beginning.
    for (const { name: channel } of channels) {
      this.#turnedAt.set(channel, Date.now());
      for (const outcome of outcomes) this.#deliveries.inc({ channel, outcome }, 0);
    }
    this.#durations = new Histogram({
      name: 'gw_delivery_duration_seconds',
      help: 'Seconds that a call to the receiver took.',
      labelNames: ['channel'],
      buckets: seconds,
      registers,
    });
    this.#batches = new Histogram({
      name: 'gw_batch_messages',
      help: 'Messages that were claimed at once.',
      buckets: [1, 10, 30, 100, 300, 1000],
      registers,
    });
    this.#returned = new Counter({
      name: 'gw_messages_given_back_total',
      help: 'Messages that were claimed and not started when the worker stopped.',
      registers,
    });
    const figures = this;
    new Gauge({
      name: 'gw_deliveries_in_flight',
      help: 'Messages in calls that have not ended.',
      registers,
      collect() {
        this.set(figures.#inFlight);
      },
    });
    new Gauge({
      name: 'gw_worker_loop_age_seconds',
      help: 'How long ago the worker asked for work, or a call ended, in seconds.',
      registers,
      collect() {
        this.set(figures.#age / 1_000);
      },
    });
  }

  /** The loop of a channel asked for work, and the database answered or not. */
  turned(channel: string, isAnswered: boolean): void {
    this.#turnedAt.set(channel, Date.now());
    if (isAnswered) this.#answeredAt = Date.now();
  }

  claimed(messages: number): void {
    this.#batches.observe(messages);
  }

  gaveBack(messages: number): void {
    this.#returned.inc(messages);
  }

  /** Counts a call of some messages while it runs, and what came of it. */
  async call(channel: string, size: number, work: () => Promise<Attempt[]>): Promise<Attempt[]> {
    const end = this.#durations.startTimer({ channel });
    this.#inFlight += size;
    try {
      const attempts = await work();
      for (const { status, is_uncertain } of attempts) {
        const outcome = is_uncertain
          ? 'uncertain'
          : outcomes[status === 'SENT' ? 0 : status === 'RETRYING' ? 1 : 2];
        this.#deliveries.inc({ channel, outcome });
      }
      return attempts;
    } finally {
      this.#inFlight -= size;
      this.#turnedAt.set(channel, Date.now());
      end();
    }
  }

  get #age(): number {
    return Date.now() - Math.min(...this.#turnedAt.values());
  }

  get isAlive(): boolean {
    return this.#age < stalledMs;
  }

  checks(): Record<string, string> {
    const isFresh = Date.now() - this.#answeredAt < freshMs;
    return { database: isFresh ? 'ok' : 'has not answered for 30 s' };
  }
}
