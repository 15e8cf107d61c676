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
  /** Up to this position the log is applied. */
  lsn: string;
  /** How many user-days there are. */
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
  counted_users: string;
  isCounting: boolean;
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
      `select applied_lsn, state, resnapshot_requested, counted_users,
         snapshot_started_at is not null as "isCounting", snapshot_lsn, error
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
    // While a slot is made, or a slice waits for a transaction, nothing moves.
    if (now - moved > patience && progress?.isCounting !== true) {
      throw new GwError('the consumer has not moved for a minute', {
        hint: 'See its log, and: npm run gw -- cdc status',
      });
    }
    await pause(20);
  }
}

/** How many users are looked at by themselves at a time. */
const chunk = 1_000;

/** How often users who differ are looked at again, before they are compared at one position. */
const looks = 3;

/** How often it says how far it is. */
const sayMs = 5_000;

type Compared = Omit<Reconciliation, 'lsn'>;

/** Everything that is committed now is applied when it resolves. */
async function catchUp(client: Link, slot: string): Promise<string> {
  // Something that comes after the position, so that the consumer knows it has passed.
  const { rows } = await client.query<{ lsn: string }>(
    `select lsn from pg_current_wal_insert_lsn() as lsn, app_private.capture_heartbeat($1)`,
    [slot],
  );
  const lsn = rows[0]?.lsn ?? '0/0';
  await follow(client, slot, ({ applied_lsn: applied, isCounting }) =>
    !isCounting && applied !== null && parseLsn(applied) >= parseLsn(lsn) ? true : undefined,
  );
  return lsn;
}

interface Slice {
  user_ids: string[];
  days: string;
  below: string | null;
}

/** Compares users by users, each slice in a snapshot of its own. What differs may be late. */
async function findSuspects(client: Link, log: Log): Promise<{ suspects: string[]; rows: number }> {
  const suspects: string[] = [];
  let [rows, saidAt] = [0, Date.now()];
  let from: string | null = '00000000-0000-0000-0000-000000000000';
  while (from !== null) {
    const found: { rows: Slice[] } = await client.query<Slice>(
      'select user_ids, days, below from app_private.compare_capture($1)',
      [from],
    );
    const [slice] = found.rows;
    suspects.push(...(slice?.user_ids ?? []));
    rows += Number(slice?.days);
    from = slice?.below ?? null;
    if (Date.now() - saidAt > sayMs) {
      saidAt = Date.now();
      log.info({ rows, differing: suspects.length }, 'comparing');
    }
  }
  return { suspects, rows };
}

/** Those who differ still when the log up to now is applied. */
async function lookAgain(client: Link, slot: string, suspects: string[]): Promise<string[]> {
  await catchUp(client, slot);
  const left: string[] = [];
  for (let at = 0; at < suspects.length; at += chunk) {
    const { rows } = await client.query<{ users: string[] }>(
      'select app_private.compare_captured_users($1) as users',
      [suspects.slice(at, at + chunk)],
    );
    left.push(...(rows[0]?.users ?? []));
  }
  return left;
}

/**
 * Compares some users at one position of the log: the snapshot of a temporary slot is the tables'
 * state at the slot's position, and the consumer is made to wait just there.
 */
async function compareAtOnePosition(
  client: Link,
  { url, slot, log }: ReconcileOptions,
  users: string[],
): Promise<Difference[]> {
  const stream = await ReplicationStream.connect(url);
  try {
    // Before the position is known the consumer may not run past it.
    await client.query(`select app_private.hold_capture($1, '0/0')`, [slot]);
    log.info('waiting for running transactions, for one position to compare at');
    const temporary = `gw_cdc_reconcile_${process.pid}`;
    const { lsn, snapshot } = await stream.createSlot(temporary, 'pgoutput', true);
    await client.query('begin isolation level repeatable read');
    await client.query(`set transaction snapshot '${snapshot}'`);
    await client.query('select app_private.expect_aggregates($1)', [users]);
    await client.query('commit');
    await client.query('select app_private.hold_capture($1, $2)', [slot, lsn]);
    await client.query('select app_private.capture_heartbeat($1)', [slot]);
    await follow(client, slot, ({ applied_lsn: applied, isCounting }) => {
      if (isCounting) throw new GwError('everything is being counted anew; try again');
      return applied !== null && parseLsn(applied) >= parseLsn(lsn) ? true : undefined;
    });
    const { rows } = await client.query<Difference>(
      `select user_id, agg_date::text, measure, coalesce(expected, 0) as expected,
         coalesce(found, 0) as found
       from app_private.capture_differences($1)`,
      [users],
    );
    return rows;
  } finally {
    await client
      .query('select app_private.hold_capture($1, null)', [slot])
      .catch((error: Error) =>
        log.warn({ error: error.message }, 'could not release the consumer'),
      );
    await stream.close();
  }
}

async function compare(client: Link, options: ReconcileOptions): Promise<Compared> {
  const { slot, log } = options;
  const { suspects, rows } = await findSuspects(client, log);
  let left = suspects;
  for (let look = 0; look < looks && left.length > 0; look += 1) {
    left = await lookAgain(client, slot, left);
  }
  let differences: Difference[] = [];
  for (let at = 0; at < left.length; at += chunk) {
    const users = left.slice(at, at + chunk);
    // Not by push(...): a thousand users of some years are more than a call has arguments.
    differences = differences.concat(await compareAtOnePosition(client, options, users));
  }
  return { rows, differences };
}

/**
 * Compares the aggregates with the tables: users by users in short statements, then once more,
 * at one position of the log, those who differ and are not only late. Without a consumer one
 * runs for as long as that takes.
 *
 * @throws GwError when there is no capture yet, or the consumer does not move
 */
export async function reconcile(options: ReconcileOptions): Promise<Reconciliation> {
  const { url, slot } = options;
  const client = await openLink(url, { onLoss: () => {} });
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
    const { rows: captures } = await client.query(
      'select from ops.change_capture where slot_name = $1 and applied_lsn is not null',
      [slot],
    );
    if (captures.length === 0) {
      throw new GwError(`nothing has been captured with slot ${slot} yet`, {
        hint: 'Start the consumer once: npm run gw -- cdc',
      });
    }
    return await withConsumer(options, client, async () => {
      await catchUp(client, slot);
      const compared = await compare(client, options);
      return { lsn: await catchUp(client, slot), ...compared };
    });
  } finally {
    await client.end().catch(() => {});
  }
}

/**
 * Has everything counted anew, by the consumer that runs, or by one that runs until it is
 * done.
 *
 * @returns where counting ended
 */
export async function resnapshot(options: ReconcileOptions): Promise<string> {
  const { url, slot } = options;
  const client = await openLink(url, { onLoss: () => {} });
  try {
    await client.query('select app_private.request_resnapshot($1)', [slot]);
    return await withConsumer(options, client, () =>
      follow(client, slot, ({ isCounting, resnapshot_requested: asked, snapshot_lsn: lsn }) =>
        !asked && !isCounting ? (lsn ?? undefined) : undefined,
      ),
    );
  } finally {
    await client.end().catch(() => {});
  }
}
