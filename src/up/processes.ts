import { existsSync, readFileSync, rmSync } from 'node:fs';
import { paths, writePrivately } from '../server/state.ts';

/** Name → process id of what `gw up` runs, as pids.json has it. */
export type Pids = Record<string, number>;

export function readPids(): Pids {
  if (!existsSync(paths.pids)) return {};
  try {
    return JSON.parse(readFileSync(paths.pids, 'utf8')) as Pids;
  } catch {
    return {};
  }
}

export const writePids = (pids: Pids): void =>
  writePrivately(paths.pids, `${JSON.stringify(pids, null, 2)}\n`);

export const removePids = (): void => rmSync(paths.pids, { force: true });

/** Whether a process lives and is one of ours: numbers are used again after a reboot. */
export function isOurs(pid: number | undefined): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    const [command = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ').slice(2, 3);
    if (command === 'Z') return false;
    return /(bootstrap\.mjs|cli\.ts)\0/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  } catch {
    // No /proc here: the number is all there is to go by.
    return !existsSync('/proc/self');
  }
}

/** Waits until none of the processes lives; false when some still do after the time. */
export async function untilGone(pids: number[], milliseconds: number): Promise<boolean> {
  const deadline = Date.now() + milliseconds;
  while (pids.some(isOurs)) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return true;
}
