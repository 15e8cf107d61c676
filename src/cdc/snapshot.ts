import { codeOf, messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Link } from './link.ts';
import type { Plugin } from './slot.ts';
import type { ReplicationStream } from './stream.ts';

export interface SnapshotOptions {
  /** Has the consumer's lock. */
  apply: Link;
  control: Link;
  stream: ReplicationStream;
  slot: string;
  /** Unset: wal2json, or pgoutput where the server does not have it. */
  plugin: Plugin | undefined;
  exists: boolean;
  /** The plugin of a slot that is read on. */
  kept: Plugin | undefined;
  log: Log;
}

/** Whether the server lacks an output plugin, or does not allow it. */
export const lacksPlugin = (error: unknown): boolean =>
  ['58P01', '42501', '22023', '55000', '0A000', '42704'].includes(codeOf(error) ?? '') &&
  /wal2json|output plugin/i.test(messageOf(error));

async function createSlot(options: SnapshotOptions) {
  const { stream, slot, log } = options;
  if (options.plugin !== undefined) {
    return { plugin: options.plugin, ...(await stream.createSlot(slot, options.plugin)) };
  }
  try {
    return { plugin: 'wal2json' as const, ...(await stream.createSlot(slot, 'wal2json')) };
  } catch (error) {
    if (!lacksPlugin(error)) throw error;
    log.info({ why: messageOf(error) }, 'wal2json is not to be had: using pgoutput');
    return { plugin: 'pgoutput' as const, ...(await stream.createSlot(slot, 'pgoutput')) };
  }
}

/** Says what the server waits for while it makes a slot. */
function sayWaiting({ control, log }: SnapshotOptions): NodeJS.Timeout {
  return setInterval(() => {
    control
      .query<{ n: string; oldest: string }>(
        `select count(*) as n, round(extract(epoch from max(now() - xact_start))) as oldest
         from pg_stat_activity
         where backend_xid is not null`,
      )
      .then(({ rows: [row] }) =>
        log.info(
          { transactions: Number(row?.n), oldestSeconds: Number(row?.oldest) },
          'making the slot: waiting for the transactions that run to end',
        ),
      )
      .catch(() => {});
  }, 5_000);
}

/**
 * Begins to count everything anew. The slot is read from its position on, and the tables are
 * counted beside it, see Recount. A slot that has lost something is made anew first.
 *
 * @returns the position from which it is read, and the plugin that it has
 */
export async function beginSnapshot(
  options: SnapshotOptions,
): Promise<{ lsn: string; plugin: Plugin }> {
  const { apply, slot, kept, log } = options;
  // A slot of another name that was read before would keep the log for nobody.
  await apply.query(
    `select pg_drop_replication_slot(slots.slot_name)
     from ops.change_capture
     inner join pg_replication_slots as slots on slots.slot_name = change_capture.slot_name
     where slots.slot_name <> $1
       and slots.database = current_database()
       and not slots.active`,
    [slot],
  );
  const { rows } = await apply.query<{ lsn: string | null }>(
    'select app_private.begin_capture_snapshot($1, $2, $3) as lsn',
    [slot, kept ?? options.plugin ?? 'wal2json', kept !== undefined],
  );
  const from = rows[0]?.lsn;
  if (kept !== undefined && from != null) return { lsn: from, plugin: kept };
  if (options.exists) {
    // We have the consumer's lock: whoever holds the slot was killed, and does not know it.
    await apply.query(
      `select pg_terminate_backend(active_pid, 5000)
       from pg_replication_slots
       where slot_name = $1
         and active`,
      [slot],
    );
    await apply.query('select pg_drop_replication_slot($1)', [slot]);
  }
  log.info({ slot }, 'making the replication slot: waits for running transactions');
  const waiting = sayWaiting(options);
  const { lsn, plugin } = await createSlot(options).finally(() => clearInterval(waiting));
  await apply.query('select app_private.place_capture($1, $2, $3)', [slot, plugin, lsn]);
  return { lsn, plugin };
}
