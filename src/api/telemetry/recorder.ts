import type { Pool } from 'pg';
import { errorText, type Log } from '../../log.ts';

/** A row of app_private.performance_metrics. */
export interface Measurement {
  metric_type: 'api' | 'query';
  metric_name: string;
  /** Milliseconds, whole. */
  duration_ms: number;
  user_id: string | undefined;
  session_id: string | undefined;
  request_id: string;
  endpoint: string;
  query_hash: string | undefined;
  user_agent: string | undefined;
  ip_address: string | undefined;
  /** When it began: milliseconds since 1970. */
  began: number;
  metadata?: Record<string, unknown>;
}

export interface RecorderOptions {
  /** Of gw_authenticator, and not the one that requests use. */
  pool: Pool;
  log: Log;
  /** Whether nothing may be written: measurements are dropped then, and not counted. */
  readsOnly?: () => boolean;
  /** Measurements that wait to be written; more are dropped and counted. */
  capacity?: number;
  /** Milliseconds between writes. */
  intervalMs?: number;
}

const batchSize = 1000;

/**
 * Writes measurements in batches, beside the requests and not on their connections. It
 * never makes anybody wait: what does not fit is dropped and counted.
 */
export class Recorder {
  readonly #pool: Pool;
  readonly #log: Log;
  readonly #capacity: number;
  readonly #readsOnly: () => boolean;
  readonly #timer: NodeJS.Timeout;
  #waiting: Measurement[] = [];
  #writing: Promise<void> | undefined;
  #isFailing = false;
  /** Since the process began. */
  readonly counts = { written: 0, dropped: 0 };

  constructor({
    pool,
    log,
    readsOnly = () => false,
    capacity = 10_000,
    intervalMs = 1_000,
  }: RecorderOptions) {
    this.#pool = pool;
    this.#log = log;
    this.#capacity = capacity;
    this.#readsOnly = readsOnly;
    this.#timer = setInterval(() => this.#start(), intervalMs).unref();
  }

  /** How many measurements wait to be written. */
  get backlog(): number {
    return this.#waiting.length;
  }

  add(measurement: Measurement): void {
    if (this.#readsOnly()) return;
    if (this.#waiting.length >= this.#capacity) {
      this.counts.dropped += 1;
      return;
    }
    this.#waiting.push(measurement);
  }

  /** Stops, and writes what waits. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#writing;
    this.#start();
    await this.#writing;
  }

  #start(): void {
    if (this.#writing !== undefined || this.#waiting.length === 0) return;
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Never rejects. What the database refuses is dropped: figures are not worth a retry. */
  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, batchSize);
      try {
        await this.#pool.query({
          name: 'measurements',
          text: `insert into app_private.performance_metrics (metric_type, metric_name,
              duration_ms, user_id, session_id, request_id, endpoint, query_hash, user_agent,
              ip_address, "timestamp", metadata)
            select metric_type, metric_name, duration_ms, user_id, session_id, request_id,
              endpoint, query_hash, user_agent, ip_address,
              to_timestamp(began / 1000), coalesce(metadata, '{}')
            from json_to_recordset($1) as batch (metric_type text, metric_name text,
              duration_ms integer, user_id uuid, session_id text, request_id text,
              endpoint text, query_hash text, user_agent text, ip_address inet,
              began double precision, metadata jsonb)`,
          values: [JSON.stringify(batch)],
        });
        this.counts.written += batch.length;
        this.#isFailing = false;
      } catch (error) {
        this.counts.dropped += batch.length;
        // Once, not each second of an outage.
        if (!this.#isFailing) {
          this.#log.warn(
            { error: errorText(error), dropped: batch.length },
            'cannot write metrics',
          );
        }
        this.#isFailing = true;
        return;
      }
    }
  }
}
