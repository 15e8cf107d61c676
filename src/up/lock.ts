import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { isOurs, readPids, untilGone } from '../server/processes.ts';
import { ensureStateDirectory, stateDirectory } from '../server/state.ts';
import type { Progress } from '../terminal/progress.ts';

const path = join(stateDirectory, 'up.lock');

function holder(): number | undefined {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/**
 * Makes sure that only one `gw up` runs in this checkout, and that nothing is left of one
 * that was killed.
 *
 * @returns whether an earlier run was killed and left its database server running
 * @throws GwError when another run is there and stays
 */
export async function takeLock(progress: Progress): Promise<{ adopted: boolean }> {
  ensureStateDirectory();
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx', mode: 0o600 });
      break;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
    }
    const other = holder();
    if (other !== undefined && other !== process.pid && isOurs(other)) {
      progress.say('…', 'earlier run', `process ${other} is still there; waiting for it to end`);
      if (!(await untilGone([other], 6_000))) {
        throw new GwError(`it runs already, as process ${other}`, {
          hint: `Stop it with Ctrl-C where it runs, or with: kill ${other}`,
          exitCode: EXIT.usage,
        });
      }
    }
    if (holder() === other) rmSync(path, { force: true });
  }

  const pids = readPids();
  const children = Object.entries(pids)
    .filter(([name]) => name !== 'up' && name !== 'postgres')
    .map(([, pid]) => pid);
  if (children.some(isOurs)) {
    // They notice that their supervisor is gone; what does not is killed.
    if (!(await untilGone(children, 5_000))) {
      for (const pid of children.filter(isOurs)) process.kill(pid, 'SIGKILL');
      await untilGone(children, 5_000);
    }
    progress.say('✔', 'earlier run', 'ended what a killed run had left behind');
  }
  return { adopted: pids.postgres !== undefined };
}

export const releaseLock = (): void => rmSync(path, { force: true });
