import { randomUUID } from 'node:crypto';
import type { Pool } from 'pg';
import { Counter, Gauge, Registry } from 'prom-client';

interface Figure {
  name: string;
  labels: Record<string, string>;
  value: number | null;
  help: string;
}

/** Milliseconds for which the figures are not asked for again. */
const freshMs = 5_000;

/** By which the database knows this process from the others. */
const processId = randomUUID();

/** The figures of the database in Prometheus' text form; more than one row makes a series. */
function format(figures: readonly Figure[]): Promise<string> {
  const registry = new Registry();
  const series = new Map<string, Gauge | Counter>();
  for (const { name, labels, value, help } of figures) {
    if (value === null) continue;
    let metric = series.get(name);
    if (metric === undefined) {
      const settings = { name, help, labelNames: Object.keys(labels), registers: [registry] };
      metric = name.endsWith('_total') ? new Counter(settings) : new Gauge(settings);
      series.set(name, metric);
    }
    metric.inc(labels, value);
  }
  return registry.metrics();
}

/**
 * Asks for ops.metrics() at most every five seconds, however often and by how many it is read. One
 * process of all gets them.
 */
export class DatabaseFigures {
  readonly #pool: Pool;
  #text = '';
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<string> | undefined;

  /** @param pool of gw_authenticator, and not the one that requests use */
  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Prometheus' text form; without figures, and `gw_database_up 0`, when the database is away. */
  read(): Promise<string> {
    if (performance.now() - this.#readAt < freshMs) return Promise.resolve(this.#text);
    this.#reading ??= this.#ask().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #ask(): Promise<string> {
    const up: Figure = {
      name: 'gw_database_up',
      labels: {},
      value: 1,
      help: 'Whether the database answered; its figures are missing when it did not.',
    };
    try {
      const { rows } = await this.#pool.query<Figure>({
        name: 'metrics',
        text: 'select name, labels, value, help from ops.metrics_of_fleet($1)',
        values: [processId],
      });
      this.#text = await format([up, ...rows]);
    } catch {
      this.#text = await format([{ ...up, value: 0 }]);
    }
    this.#readAt = performance.now();
    return this.#text;
  }
}
