import { codeOf } from '../errors.ts';
import { readCommitted } from '../migrations/committed.ts';
import { type MigrationRow, migrationColumns, migrationState } from '../migrations/wait.ts';
import { type Fence, fencedText } from '../postgres/fence.ts';
import type { Probe } from '../postgres/probe.ts';
import { isAlive, readPids } from '../server/processes.ts';
import type { Drain } from './drain.ts';
import type { FullDisk } from './full-disk.ts';

export interface Readiness {
  ready: boolean;
  /** Each thing that is looked at: "ok", or what is wrong with it. */
  checks: Record<string, string>;
}

/** Which processes `gw up` runs, as pids.json says. */
const supervised = ['worker', 'cdc'] as const;

async function checkDatabase(probe: Probe): Promise<Record<string, string>> {
  try {
    const wanted = readCommitted().at(-1);
    const [row] = await probe.ask<
      MigrationRow & { user: boolean; anonymous: boolean; reads_only: boolean }
    >({
      name: 'readiness',
      text: `select ${migrationColumns},
        pg_has_role(session_user, 'app_user', 'member') as user,
        pg_has_role(session_user, 'app_anonymous', 'member') as anonymous,
        pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as reads_only`,
      values: [wanted?.name],
    });
    return {
      database: row?.reads_only ? 'it takes no writes' : 'ok',
      migrations: migrationState(wanted, row ?? { last: null, ran: null }),
      role:
        row?.user && row.anonymous
          ? 'ok'
          : 'the role of this process may not become app_user and app_anonymous',
    };
  } catch (error) {
    // Anybody may ask: no host, no user, no text of the server.
    return { database: `cannot be asked (${codeOf(error) ?? 'no answer'})` };
  }
}

function checkProcesses(): Record<string, string> {
  if (process.env.GW_SUPERVISED !== '1') return {};
  const pids = readPids();
  if (Object.keys(pids).length === 0) return { supervisor: 'pids.json is missing' };
  const wanted = (process.env.GW_SUPERVISED_PROCESSES ?? '').split(',');
  return Object.fromEntries(
    supervised
      .filter((name) => wanted.includes(name))
      .map((name) => [name, isAlive(pids[name]) ? 'ok' : 'is not running']),
  );
}

/** Whether requests should be sent here: database, migrations, role, fence and sibling processes. */
export async function readiness(
  probe: Probe,
  drain: Drain,
  disk: FullDisk,
  fence: Pick<Fence, 'reason'>,
): Promise<Readiness> {
  const checks = {
    ...(drain.hasBegun ? { process: 'is about to end' } : {}),
    ...(await checkDatabase(probe)),
    ...(disk.isFull ? { disk: 'the database refuses to write: its disk is full' } : {}),
    ...(fence.reason === undefined ? {} : { fence: fencedText(fence.reason) }),
    ...checkProcesses(),
  };
  return { ready: Object.values(checks).every((text) => text === 'ok'), checks };
}
