import type pg from 'pg';
import { EXIT, GwError } from '../errors.ts';
import type { Log } from '../log.ts';
import { Consumer } from './consumer.ts';
import { lockHolder, locks, openLink, pause, tryLock } from './link.ts';
import { parseLsn } from './lsn.ts';
import type { Plugin } from './slot.ts';
import { ReplicationStream } from './stream.ts';

export interface Difference {
  user_id: string;
  agg_date: string;
  measure: string;
  /** What the tables say. */
  expected: number;
  /** What the aggregates say. */
  found: number;
}

export interface Reconciliation {
  /** The position at which both were compared. */
  lsn: string;
  /** How many user-days the tables give. */
  rows: number;
  differences: Difference[];
}

export interface ReconcileOptions {
  /** gw_cdc's connection. */
  url: string;
  slot: string;
  log: Log;
  plugin?: Plugin | undefined;
}

/** How long nothing may move before we give up, in milliseconds. */
const patience = 60_000;

/**
 * Runs a consumer for as long as some work takes, unless one runs already.
 *
 * @throws whatever the work throws, or the consumer
 */
export async function withConsumer<Result>(
  options: ReconcileOptions,
  client: pg.Client,
  work: () => Promise<Result>,
): Promise<Result> {
  if ((await lockHolder(client, locks.consumer)) !== undefined) return work();
  const consumer = new Consumer(options);
  const failure = consumer.run().then(() => new Promise<never>(() => {}));
  try {
    return await Promise.race([work(), failure]);
  } finally {
    await consumer.stop();
  }
}

/** Waits for the consumer to get to a position, for as long as it moves. */
async function waitUntilApplied(client: pg.Client, slot: string, lsn: string): Promise<void> {
  let [seen, since] = ['', Date.now()];
  for (;;) {
    const { rows } = await client.query<{ applied_lsn: string | null; error: string | null }>(
      'select applied_lsn, error from ops.change_capture where slot_name = $1',
      [slot],
    );
    const applied = rows[0]?.applied_lsn ?? null;
    if (applied !== null && parseLsn(applied) >= parseLsn(lsn)) return;
    if (rows[0]?.error) throw new GwError(`the consumer has failed: ${rows[0].error}`);
    if (seen !== applied) [seen, since] = [applied ?? '', Date.now()];
    if (Date.now() - since > patience) {
      throw new GwError(`the consumer has not moved from ${applied ?? 'nowhere'} for a minute`, {
        hint: 'See its log, and: npm run gw -- cdc status',
      });
    }
    await pause(20);
  }
}

/** Counts the tables at a position, and has the consumer stop just there. */
async function expectAt(
  client: pg.Client,
  stream: ReplicationStream,
  slot: string,
): Promise<{ lsn: string; rows: number }> {
  const temporary = `gw_cdc_reconcile_${process.pid}`;
  const { lsn, snapshot } = await stream.createSlot(temporary, 'pgoutput', true);
  await client.query('begin isolation level repeatable read');
  await client.query(`set transaction snapshot '${snapshot}'`);
  const { rows } = await client.query<{ n: string }>('select app_private.expect_aggregates() as n');
  await client.query('commit');
  await client.query('select app_private.hold_capture($1, $2)', [slot, lsn]);
  return { lsn, rows: Number(rows[0]?.n) };
}

/**
 * Compares the aggregates with the tables at one position of the log: the snapshot of a
 * temporary slot is the tables' state at the slot's position, and the consumer is made to
 * wait just there. Without a consumer one runs until that position.
 *
 * @throws GwError when there is no capture yet, or the consumer does not move
 */
export async function reconcile(options: ReconcileOptions): Promise<Reconciliation> {
  const { url, slot, log } = options;
  let broken: Error | undefined;
  const client = await openLink(url, (error) => {
    broken ??= error;
  });
  let stream: ReplicationStream | undefined;
  try {
    if (!(await tryLock(client, locks.reconcile))) {
      throw new GwError('another gw cdc reconcile runs', { exitCode: EXIT.usage });
    }
    stream = await ReplicationStream.connect(url);
    // Before the position is known the consumer may not run past it.
    const { rows: held } = await client.query(
      `select app_private.hold_capture($1, '0/0') as applied`,
      [slot],
    );
    if (held[0]?.applied === undefined || held[0].applied === null) {
      throw new GwError(`nothing has been captured with slot ${slot} yet`, {
        hint: 'Start the consumer once: npm run gw -- cdc',
      });
    }
    log.info('waiting for running transactions, for one position to compare at');
    const { lsn, rows } = await expectAt(client, stream, slot);
    return await withConsumer(options, client, async () => {
      // Something that comes after the position, so that the consumer knows it has passed.
      await client.query('select app_private.capture_heartbeat($1)', [slot]);
      await waitUntilApplied(client, slot, lsn);
      const { rows: differences } = await client.query<Difference>(
        `select user_id, agg_date::text, measure, coalesce(expected, 0) as expected,
           coalesce(found, 0) as found
         from app_private.capture_differences()`,
      );
      return { lsn, rows, differences };
    });
  } finally {
    if (broken === undefined) {
      await client
        .query('select app_private.hold_capture($1, null)', [slot])
        .catch((error: Error) =>
          log.warn({ error: error.message }, 'could not release the consumer'),
        );
    }
    await stream?.close();
    await client.end().catch(() => {});
  }
}

/**
 * Has everything counted anew, by the consumer that runs, or by one that runs until it is
 * done.
 *
 * @returns the position of the new snapshot
 */
export async function resnapshot(options: ReconcileOptions): Promise<string> {
  const { url, slot } = options;
  const client = await openLink(url, () => {});
  try {
    await client.query('select app_private.request_resnapshot($1)', [slot]);
    return await withConsumer(options, client, async () => {
      for (;;) {
        const { rows } = await client.query<{ lsn: string | null; error: string | null }>(
          `select case when state in ('running', 'stopped') and not resnapshot_requested
             then snapshot_lsn end as lsn, error
           from ops.change_capture where slot_name = $1`,
          [slot],
        );
        if (rows[0]?.lsn) return rows[0].lsn;
        if (rows[0]?.error) throw new GwError(`the consumer has failed: ${rows[0].error}`);
        await pause(50);
      }
    });
  } finally {
    await client.end().catch(() => {});
  }
}
