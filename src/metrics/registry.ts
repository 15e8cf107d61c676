import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { droppedLines } from '../log-stream.ts';
import type { MeasuredPool } from '../postgres/measured-pool.ts';
import { projectRoot } from '../project.ts';

/** Upper bounds of histograms, in seconds. */
export const seconds = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
  version: string;
};

/** What every process of ours says of itself. */
export function makeRegistry(process: 'api' | 'worker' | 'cdc'): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  // Gauges that are called as only counters may be.
  for (const name of ['resources', 'handles', 'requests']) {
    registry.removeSingleMetric(`nodejs_active_${name}_total`);
  }
  new Gauge({
    name: 'gw_build_info',
    help: 'Always 1; which version of which process this is.',
    labelNames: ['process', 'version'],
    registers: [registry],
  }).set({ process, version }, 1);
  new Counter({
    name: 'gw_log_lines_dropped_total',
    help: 'Log lines that were dropped because nobody read those before.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(droppedLines());
    },
  });
  return registry;
}

/** Adds the figures of a process's pool. */
export function measurePool(registry: Registry, pool: MeasuredPool): void {
  const registers = [registry];
  new Gauge({
    name: 'gw_pool_connections',
    help: 'Connections of the pool, and callers that wait for one, by state.',
    labelNames: ['state'],
    registers,
    collect() {
      this.set({ state: 'active' }, pool.totalCount - pool.idleCount);
      this.set({ state: 'idle' }, pool.idleCount);
      this.set({ state: 'waiting' }, pool.waitingCount);
    },
  });
  new Gauge({
    name: 'gw_pool_size',
    help: 'Connections that the pool may have.',
    registers,
  }).set(pool.options.max ?? 0);
  const since = (name: string, help: string, read: () => number): void => {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  };
  since('gw_pool_waits_total', 'Times that a caller asked the pool for a connection.', () => {
    return pool.totals.count;
  });
  since('gw_pool_wait_seconds_total', 'Seconds that callers waited for a connection.', () => {
    return pool.totals.waitedMs / 1_000;
  });
  since('gw_pool_errors_total', 'Connections that broke or could not be had.', () => {
    return pool.totals.errors;
  });
}
