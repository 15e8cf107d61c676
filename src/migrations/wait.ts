import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf, messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { fencedText } from '../postgres/fence.ts';
import { Probe } from '../postgres/probe.ts';
import { type Committed, conflictOfFiles, readCommitted } from './committed.ts';

/** What is asked of a database to know whether this code can work on it. */
export const migrationColumns = 'ops.last_migration() as last, ops.migration_hash($1) as ran';

export interface MigrationRow {
  last: string | null;
  ran: string | null;
}

/**
 * Whether the database ran the newest migration of this code. Ahead is fine: migrations come first.
 *
 * @returns "ok", or what is wrong
 */
export function migrationState(wanted: Committed | undefined, { ran, last }: MigrationRow): string {
  const conflict = conflictOfFiles();
  if (conflict !== undefined) return conflict.message;
  if (wanted === undefined || ran === wanted.hash) return 'ok';
  if (last === null) return 'the database has no migrations yet';
  return ran === null
    ? `the database is at ${last}, the code at ${wanted.name}`
    : `the database ran another ${wanted.name} than ${wanted.file}`;
}

/** The schema or the functions that say it are not there yet. */
const isEmpty = (code: string): boolean => ['3F000', '42883', '42P01'].includes(code);

/** Nobody answers, the server is starting, or the role or the database is not made yet. */
const isAway = (code: string): boolean =>
  /^(E[A-Z_]+|08...|53300|55000|57P0[1-3]|28...|3D000)$/.test(code);

export interface WaitOptions {
  /** The connection of the process that is to work. */
  url: string;
  /** Also wait for a server that does not answer, or has no such role or database. */
  forServer: boolean;
  /** Also wait until a copy is adopted. */
  forAdoption?: boolean;
  log: Log;
  /** Told what is waited for, each time that it changes. */
  onWait?: (what: string) => void;
}

const askMs = 500;
const sayMs = 30_000;

/**
 * Resolves when the database has run every migration of this code: what is built from its schema
 * is then right for as long as the process lives.
 *
 * @throws what the connection says, unless that is waited for
 */
export async function waitForMigrations(options: WaitOptions): Promise<void> {
  const { url, forServer, forAdoption = false, log, onWait } = options;
  const probe = new Probe({ url, applicationName: 'gw wait', timeoutMs: 5_000 });
  let [said, saidAt] = ['', 0];
  try {
    for (;;) {
      const state = await ask(probe, forServer, forAdoption);
      if (state === 'ok') break;
      if (state !== said || Date.now() - saidAt > sayMs) {
        log.warn({ reason: state }, 'waiting for the database');
        [said, saidAt] = [state, Date.now()];
      }
      onWait?.(state);
      await sleep(askMs);
    }
    if (said !== '') log.info('the database is ready');
  } finally {
    await probe.close();
  }
}

async function ask(probe: Probe, forServer: boolean, forAdoption: boolean): Promise<string> {
  const wanted = readCommitted().at(-1);
  try {
    const [row] = await probe.ask<MigrationRow>({
      text: `select ${migrationColumns}`,
      values: [wanted?.name],
    });
    const state = migrationState(wanted, row ?? { last: null, ran: null });
    if (state !== 'ok' || !forAdoption) return state;
    const [fence] = await probe.ask<{ reason: string | null }>({
      text: 'select ops.fence_reason() as reason',
    });
    return fence?.reason == null ? 'ok' : fencedText(fence.reason);
  } catch (error) {
    const code = codeOf(error) ?? '';
    if (isEmpty(code)) return 'the database has no migrations yet';
    // A server that goes down while we connect gives no code.
    const isCut = /^Connection terminated/.test(messageOf(error));
    if (forServer && (isAway(code) || isCut))
      return `the database cannot be reached (${code || 'cut'})`;
    throw error;
  }
}
