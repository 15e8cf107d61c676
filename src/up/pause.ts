import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { GwError } from '../errors.ts';
import { isOurs, readPids, untilGone } from '../server/processes.ts';
import { stateDirectory, writePrivately } from '../server/state.ts';
import type { Supervisor } from './supervisor.ts';

/** Holds the process id of whoever wants the processes of `gw up` to stand still. */
const path = join(stateDirectory, 'paused');

/** Whether `gw up` runs in this checkout. */
export const isUp = (): boolean => isOurs(readPids().up);

/**
 * Works while the processes of a running `gw up` stand still. They start again afterwards, also
 * when the work fails or this process is killed.
 *
 * @throws GwError when they do not stop
 */
export async function withoutProcesses<Result>(work: () => Promise<Result>): Promise<Result> {
  if (!isUp()) return work();
  writePrivately(path, String(process.pid));
  try {
    const deadline = Date.now() + 15_000;
    for (;;) {
      const children = Object.entries(readPids()).filter(
        ([name]) => name !== 'up' && name !== 'postgres',
      );
      if (children.length === 0) break;
      const isGone = await untilGone(
        children.map(([, pid]) => pid),
        500,
      );
      if (!isGone && Date.now() > deadline) {
        throw new GwError(`the processes of gw up do not stop: ${children.join(', ')}`, {
          hint: 'Stop it with Ctrl-C where it runs.',
        });
      }
    }
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

function isPaused(): boolean {
  if (!existsSync(path)) return false;
  try {
    return isOurs(Number(readFileSync(path, 'utf8')));
  } catch {
    // It was removed just now.
    return false;
  }
}

/** Stops the processes while somebody wants it, and starts them when that is over. */
export function watchPause(
  supervisor: Supervisor,
  say: (mark: string, name: string, text: string) => void,
): NodeJS.Timeout {
  let [busy, paused] = [false, false];
  return setInterval(async () => {
    if (busy || isPaused() === paused) return;
    busy = true;
    paused = !paused;
    if (paused) {
      say('…', 'processes', 'stand still while the database is reset');
      await supervisor.stop(2_000);
    } else {
      supervisor.resume();
      say('…', 'processes', 'start again');
    }
    busy = false;
  }, 200);
}
