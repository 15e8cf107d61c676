import { EXIT, GwError } from '../errors.ts';
import type { Log } from '../log.ts';
import { Consumer } from './consumer.ts';
import { type Link, lockHolder, locks, openLink, pause, tryLock } from './link.ts';
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
  client: Link,
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

interface Progress {
  applied_lsn: string | null;
  state: string;
  resnapshot_requested: boolean;
  snapshot_lsn: string | null;
  error: string | null;
}

/** Waits for the consumer to get somewhere, for as long as it lives and moves. */
async function follow<Result>(
  client: Link,
  slot: string,
  arrived: (progress: Progress) => Result | undefined,
): Promise<Result> {
  let [seen, moved, alive] = ['', Date.now(), Date.now()];
  for (;;) {
    const { rows } = await client.query<Progress>(
      `select applied_lsn, state, resnapshot_requested, snapshot_lsn, error
       from ops.change_capture where slot_name = $1`,
      [slot],
    );
    const [progress] = rows;
    const result = progress && arrived(progress);
    if (result !== undefined) return result;
    const now = Date.now();
    if (seen !== JSON.stringify(progress)) [seen, moved] = [JSON.stringify(progress), now];
    if ((await lockHolder(client, locks.consumer)) !== undefined) alive = now;
    if (now - alive > 5_000) {
      throw new GwError(`the consumer has ended: ${progress?.error ?? 'see its log'}`);
    }
    // A snapshot of many rows shows nothing while it is made.
    if (now - moved > patience && progress?.state !== 'snapshotting') {
      throw new GwError('the consumer has not moved for a minute', {
        hint: 'See its log, and: npm run gw -- cdc status',
      });
    }
    await pause(20);
  }
}

/** Counts the tables at a position, and has the consumer stop just there. */
async function expectAt(
  client: Link,
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
  const client = await openLink(url, {
    onLoss: (error) => {
      broken ??= error;
    },
  });
  let stream: ReplicationStream | undefined;
  try {
    // The consumer has it for an instant, and a session that ends has it a little longer.
    const deadline = Date.now() + 1_000;
    while (!(await tryLock(client, locks.reconcile))) {
      if (Date.now() < deadline) {
        await pause(20);
        continue;
      }
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
      await follow(client, slot, ({ applied_lsn: applied }) =>
        applied !== null && parseLsn(applied) >= parseLsn(lsn) ? true : undefined,
      );
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
  const client = await openLink(url, { onLoss: () => {} });
  try {
    await client.query('select app_private.request_resnapshot($1)', [slot]);
    return await withConsumer(options, client, () =>
      follow(client, slot, ({ state, resnapshot_requested: asked, snapshot_lsn: lsn }) =>
        !asked && ['running', 'stopped'].includes(state) ? (lsn ?? undefined) : undefined,
      ),
    );
  } finally {
    await client.end().catch(() => {});
  }
}
