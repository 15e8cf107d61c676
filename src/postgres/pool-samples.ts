import type { Pool } from 'pg';
import { errorText, type Log } from '../log.ts';
import type { MeasuredPool } from './measured-pool.ts';

/** Milliseconds between the samples of a pool. */
const intervalMs = 15_000;

export interface SampleOptions {
  pool: MeasuredPool;
  /** As app_private.connection_pool_stats is to name it. */
  name: string;
  /** What the samples are written with, when not with the pool itself. */
  writer?: Pool;
  log: Log;
  /** Whether nothing may be written. */
  readsOnly?: () => boolean;
}

/**
 * Writes a sample of a pool into app_private.connection_pool_stats each 15 seconds. One that
 * cannot be written is lost: the next says what was since.
 *
 * @returns what ends it
 */
export function samplePool({
  pool,
  name,
  writer = pool,
  log,
  readsOnly = () => false,
}: SampleOptions): () => void {
  const timer = setInterval(() => {
    if (readsOnly()) return;
    const sample = pool.sample();
    writer
      .query({
        name: 'pool-sample',
        text: `insert into app_private.connection_pool_stats (pool_name, total_connections,
            active_connections, idle_connections, waiting_connections,
            avg_connection_time_ms, max_connection_time_ms, connection_errors)
          values ($1, $2, $3, $4, $5, $6, $7, $8)`,
        values: [
          name,
          sample.total,
          sample.active,
          sample.idle,
          sample.waiting,
          sample.avgMs,
          sample.maxMs,
          sample.errors,
        ],
      })
      .catch((error: unknown) => {
        log.debug({ error: errorText(error) }, 'cannot write a sample of the pool');
      });
  }, intervalMs).unref();
  return () => clearInterval(timer);
}
