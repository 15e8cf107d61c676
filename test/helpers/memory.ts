import { chmodSync, mkdtempSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { isAlive } from '../../src/server/processes.ts';

/** What a run of the tests needs at most, with room to spare. */
const needed = 6e9;
const parent = '/dev/shm';

/**
 * Has the servers of this run live in memory, where making and dropping a database costs a
 * fraction; not where there is too little of it. Folders of runs that were killed are removed.
 *
 * @returns what removes the folder, once no server runs in it
 */
export function serversInMemory(): () => void {
  // Somebody has chosen.
  if (process.env.GW_SCRATCH_DIR) return () => {};
  try {
    for (const name of readdirSync(parent)) {
      const pid = Number(/^groundwork-test-(\d+)-/.exec(name)?.[1]);
      if (pid && !isAlive(pid)) rmSync(join(parent, name), { recursive: true, force: true });
    }
    const { bavail, bsize } = statfsSync(parent);
    if (Math.min(bavail * bsize, freemem()) < needed) return () => {};
    const folder = mkdtempSync(join(parent, `groundwork-test-${process.pid}-`));
    // The server's user passes through it.
    chmodSync(folder, 0o711);
    process.env.GW_SCRATCH_DIR = folder;
    return () => rmSync(folder, { recursive: true, force: true });
  } catch {
    return () => {};
  }
}
