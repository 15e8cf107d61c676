import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { makeRegistry, seconds } from '../metrics/registry.ts';

export type CaptureState = 'connecting' | 'waiting' | 'counting' | 'reading';

const states: readonly CaptureState[] = ['connecting', 'waiting', 'counting', 'reading'];

/** What a consumer of the log says of itself. */
export class CaptureFigures {
  readonly registry: Registry = makeRegistry('cdc');
  /** waiting: another consumer applies changes; counting: everything is read from the tables. */
  state: CaptureState = 'connecting';
  readonly #transactions: Counter;
  readonly #changes: Counter;
  readonly #batches: Histogram;
  #committedAt: number | undefined;

  constructor() {
    const registers = [this.registry];
    const figures = this;
    this.#transactions = new Counter({
      name: 'gw_capture_transactions_total',
      help: 'Transactions of the log that were applied.',
      registers,
    });
    this.#changes = new Counter({
      name: 'gw_capture_changes_total',
      help: 'Changed rows in transactions that were applied.',
      registers,
    });
    this.#batches = new Histogram({
      name: 'gw_capture_batch_seconds',
      help: 'Seconds that it took to apply a batch of transactions.',
      buckets: seconds,
      registers,
    });
    new Gauge({
      name: 'gw_capture_state',
      help: 'Whether this consumer is in a state: 1 for the one that it is in.',
      labelNames: ['state'],
      registers,
      collect() {
        for (const state of states) this.set({ state }, state === figures.state ? 1 : 0);
      },
    });
    new Gauge({
      name: 'gw_capture_commit_age_seconds',
      help: 'How long ago the last transaction was committed that was applied, in seconds.',
      registers,
      collect() {
        this.reset();
        if (figures.#committedAt !== undefined) {
          this.set((Date.now() - figures.#committedAt) / 1_000);
        }
      },
    });
  }

  /** A batch was applied. */
  applied(batch: { transactions: number; changes: number; committedAt: string; ms: number }): void {
    this.#transactions.inc(batch.transactions);
    this.#changes.inc(batch.changes);
    this.#batches.observe(batch.ms / 1_000);
    const at = Date.parse(batch.committedAt);
    if (!Number.isNaN(at)) this.#committedAt = at;
  }

  checks(): Record<string, string> {
    return { database: this.state === 'connecting' ? 'is not connected' : 'ok' };
  }
}
