import { existsSync, readFileSync, rmSync } from 'node:fs';
import { codeOf } from '../errors.ts';
import { paths, writePrivately } from './state.ts';

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

/**
 * Whether a process lives. Numbers are used again, certainly after a reboot: who keeps one for
 * long says what the command line looks like.
 *
 * @param command matches the command line, its words separated by NUL
 */
export function isAlive(pid: number | undefined, command?: RegExp): boolean {
  if (pid === undefined) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // Somebody else's.
    if (codeOf(error) !== 'EPERM') return false;
  }
  try {
    const [state] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').slice(-1);
    // A zombie: it has ended, and its parent has not asked yet.
    if (state?.startsWith('Z')) return false;
    return command?.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8')) ?? true;
  } catch {
    // No /proc here: the number is all there is to go by.
    return !existsSync('/proc/self');
  }
}

/** Whether a process lives and is one of `gw`. */
export const isOurs = (pid: number | undefined): boolean =>
  isAlive(pid, /(bootstrap\.mjs|cli\.ts)\0/);

/** Waits until none of the processes lives; false when some still do after the time. */
export async function untilGone(pids: number[], milliseconds: number): Promise<boolean> {
  const deadline = Date.now() + milliseconds;
  while (pids.some(isOurs)) {
    if (Date.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return true;
}
