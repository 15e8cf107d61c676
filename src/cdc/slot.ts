import { createHash } from 'node:crypto';
import { EXIT, GwError } from '../errors.ts';
import type { Link } from './link.ts';
import { parseLsn } from './lsn.ts';

export const plugins = ['wal2json', 'pgoutput'] as const;
export type Plugin = (typeof plugins)[number];

/** The slot of a database, by default: slots are a cluster's, so its name tells whose. */
export function slotNameOf(database: string): string {
  const plain = `gw_cdc_${database}`;
  if (/^[a-z0-9_]{1,63}$/.test(plain)) return plain;
  return `gw_cdc_${createHash('sha256').update(database).digest('hex').slice(0, 20)}`;
}

export interface SlotState {
  /** Every change before it is in the aggregates. */
  appliedLsn: bigint;
  plugin: Plugin;
}

interface Found {
  applied_lsn: string | null;
  state: string | null;
  resnapshot_requested: boolean | null;
  has_other_partitions: boolean | null;
  slot: string | null;
  database: string | null;
  plugin: Plugin | null;
  wal_status: string | null;
  confirmed_flush_lsn: string | null;
}

export type SlotFinding =
  | ({ usable: true } & SlotState)
  /**
   * `lost`: changes are gone that nobody asked to lose. `kept`: its plugin, when nothing is wrong
   * with the slot, which is read on while everything is counted anew.
   */
  | { usable: false; why: string; lost: boolean; exists: boolean; kept: Plugin | undefined };

/**
 * Whether reading can go on where it ended. We confirm nothing but what is applied, so a slot
 * that is ahead of the aggregates is not the one that we left.
 *
 * @param asked the plugin that the configuration names, if it does
 * @param logIsGone whether reading has shown that its log is gone
 * @throws GwError when the slot is another database's
 */
export async function findSlot(
  client: Link,
  name: string,
  asked: Plugin | undefined,
  logIsGone = false,
): Promise<SlotFinding> {
  const { rows } = await client.query<Found>(
    `select change_capture.applied_lsn, change_capture.state,
       change_capture.resnapshot_requested,
       change_capture.partitions <> app_private.task_partitions() as has_other_partitions, slots.slot_name as slot, slots.database,
       slots.plugin, slots.wal_status, slots.confirmed_flush_lsn
     from (values ($1::text)) as wanted (slot_name)
     left join ops.change_capture on change_capture.slot_name = wanted.slot_name
     left join pg_replication_slots as slots on slots.slot_name = wanted.slot_name`,
    [name],
  );
  const found = rows[0] as Found;
  const { rows: here } = await client.query<{ name: string }>('select current_database() as name');
  const exists = found.slot !== null;
  if (exists && found.database !== here[0]?.name) {
    throw new GwError(`replication slot ${name} belongs to database ${found.database}`, {
      hint: 'Set GW_CDC_SLOT to another name.',
      exitCode: EXIT.usage,
    });
  }
  const unusable = (why: string, lost: boolean, kept?: Plugin) => ({
    ...{ usable: false as const, why, lost, exists, kept },
  });
  if (found.applied_lsn === null) {
    if (found.resnapshot_requested) return unusable('it was asked for', false);
    const isFirst = found.state === null;
    return unusable(
      isFirst ? 'this is the first start' : 'no slot was made for the last count',
      false,
    );
  }
  const applied = parseLsn(found.applied_lsn);
  const broken = faultOf(found, applied, logIsGone);
  const { plugin } = found;
  const isOther = plugin === null || (asked !== undefined && plugin !== asked);
  const kept = broken === undefined && !isOther ? plugin : undefined;
  if (found.resnapshot_requested) return unusable('it was asked for', false, kept);
  if (broken !== undefined) return unusable(broken, true);
  if (isOther) return unusable(`the replication slot has plugin ${plugin}`, false);
  if (found.has_other_partitions) {
    return unusable('the partitions of tasks have changed', false, plugin);
  }
  return { usable: true, appliedLsn: applied, plugin };
}

/** Why changes are gone that nobody asked to lose. */
function faultOf(found: Found, applied: bigint, logIsGone: boolean): string | undefined {
  if (found.slot === null) return 'the replication slot is gone';
  if (logIsGone || found.wal_status === 'lost' || found.confirmed_flush_lsn === null) {
    return 'the replication slot was invalidated: it has lost its log';
  }
  return parseLsn(found.confirmed_flush_lsn) > applied
    ? 'the replication slot was moved or made anew by somebody else'
    : undefined;
}
