import { setTimeout as sleep } from 'node:timers/promises';
import { PgBoss } from 'pg-boss';
import { workerPool } from '../connections.ts';
import { codeOf, GwError, messageOf } from '../errors.ts';
import { errorText, type Log } from '../log.ts';
import { MeasuredPool } from '../postgres/measured-pool.ts';
import { samplePool } from '../postgres/pool-samples.ts';
import { type AlertDestination, workAlerts } from './alerts.ts';
import { type SealOptions, sealAuditLog } from './audit-seals.ts';
import type { Channel } from './channels/channel.ts';
import { WorkerFigures } from './figures.ts';
import type { SendOptions } from './message-sends.ts';
import { Presence } from './presence.ts';
import { startSendLoop } from './send-loop.ts';

export interface WorkerOptions {
  /** gw_worker's connection. */
  workerUrl: string;
  /** Sends what has no route, and what is routed to it. */
  channel: Channel;
  /** Others, to which messages may be routed. */
  vendors?: readonly Channel[];
  /** Who is told of alerts; nobody unless given. */
  alerts?: AlertDestination[];
  log: Log;
  /** Where the audit log is sealed; nowhere unless given. */
  seals?: Pick<SealOptions, 'key' | 'url'> | undefined;
  /** See SendOptions; without it messages have no link. */
  unsubscribeUrl?: SendOptions['unsubscribeUrl'];
  /** See SendOptions; without it mail is returned to its sender. */
  returnPath?: SendOptions['returnPath'];
}

export interface Worker {
  /** What it says of itself. */
  figures: WorkerFigures;
  /**
   * Takes no new jobs, gives back what was not started, waits for calls in flight, records
   * them, and closes connections.
   *
   * @param graceMs how long calls in flight may take; 3 seconds unless given
   */
  close(graceMs?: number): Promise<void>;
}

/** The schema version that this pg-boss works on, as migrations/fixtures/pgboss has it. */
export const pgBossSchemaVersion = 43;

/**
 * Starts working on the queues. Resolves when jobs are being fetched.
 *
 * @throws GwError when the database has another version of pg-boss's schema
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { workerUrl, channel, log, unsubscribeUrl, returnPath } = options;
  // One pool, pg-boss's too: its samples show all that the worker asks.
  const pool = new MeasuredPool({
    connectionString: workerUrl,
    max: workerPool,
    application_name: 'gw-worker',
    connectionTimeoutMillis: 10_000,
    // A server that is alive answers before it is given up.
    statement_timeout: 15_000,
    silenceMs: 20_000,
  });
  // A connection that dies while idle is replaced.
  pool.on('error', (error) => log.warn({ error: errorText(error) }, 'lost a connection'));
  const boss = new PgBoss({
    db: { executeSql: (text, values) => pool.query(text, values) },
    schema: 'pgboss',
    // The schema is made by a migration; this role may not change it.
    migrate: false,
    createSchema: false,
    reindex: false,
    schedule: false,
    superviseIntervalSeconds: 5,
    monitorIntervalSeconds: 5,
  });
  boss.on('error', (error) => log.error({ error: errorText(error) }, 'queue error'));
  // Its data may have a statement with its values.
  boss.on('warning', ({ message }) => log.warn({ warning: message }, 'queue warning'));
  try {
    await boss.start();
    const version = await boss.schemaVersion();
    if (version !== pgBossSchemaVersion) {
      await boss.stop({ graceful: false });
      throw new GwError(
        `the database has pg-boss schema ${version}, this worker needs ${pgBossSchemaVersion}`,
        { hint: 'Run: npm run gw -- migrate' },
      );
    }
  } catch (error) {
    await pool.end();
    throw error;
  }

  const channels = [channel, ...(options.vendors ?? [])];
  const figures = new WorkerFigures(channels, pool);
  // Each channel has a session and a loop of its own: none waits for another.
  const presences: Presence[] = [];
  try {
    for (const each of channels) presences.push(await Presence.begin(workerUrl, each, log));
  } catch (error) {
    await Promise.all(presences.map((presence) => presence.stop()));
    await boss.stop({ graceful: false });
    await pool.end();
    if (codeOf(error) !== 'GW013') throw error;
    throw new GwError(messageOf(error), {
      hint: "As gw_owner: insert into app_private.delivery_channels (name, protocol) values ('ses', 'smtp')",
      cause: error,
    });
  }
  const loops = presences.map((presence, index) =>
    startSendLoop({
      ...{ presence, pool, figures, log, unsubscribeUrl, returnPath },
      channel: channels[index] ?? channel,
      isDefault: index === 0,
      batchSize: 1000,
      atOnce: 2,
    }),
  );

  await workAlerts(boss, { destinations: options.alerts ?? [], log });
  const stopSampling = samplePool({ pool, name: 'worker', log });

  const stopSealing = options.seals && sealAuditLog({ ...options.seals, pool, log });

  let closing: Promise<void> | undefined;
  async function close(graceMs: number): Promise<void> {
    stopSampling();
    stopSealing?.();
    // Notices of alerts are calls in flight too.
    await Promise.all([
      ...loops.map((loop) => loop.stop(graceMs)),
      boss.stop({ graceful: true, timeout: Math.max(graceMs, 1_000) }),
    ]);
    await Promise.all(channels.map((each) => each.close()));
    await Promise.all(loops.map((loop) => loop.end()));
    await Promise.all(presences.map((presence) => presence.stop()));
    await Promise.race([pool.end(), sleep(1_000, undefined, { ref: false })]);
  }
  return { figures, close: (graceMs = 3_000) => (closing ??= close(graceMs)) };
}
