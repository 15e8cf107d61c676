import { spawnSync } from 'node:child_process';
import process from 'node:process';

/** What measure() takes on the machine for which the times of the tests were chosen, in ms. */
const reference = 75;
/** Beyond it something else is wrong. */
const most = 8;

/** Milliseconds of work as tests do it: a process is started, and something computed. */
function measure(): number {
  const started = performance.now();
  spawnSync(process.execPath, ['-e', '0']);
  let sum = 0;
  for (let n = 0; n < 3e7; n += 1) sum = (Math.imul(sum, 31) + n) | 0;
  return performance.now() - started + (sum === 0.5 ? 1 : 0);
}

/**
 * How many times as long this machine takes as the one for which the times of the tests were
 * chosen; 1 at least. Measured once a run, before the first test.
 */
export function measureSlowness(): number {
  const times = Array.from({ length: 5 }, measure).sort((one, other) => one - other);
  return Math.min(most, Math.max(1, (times[2] ?? reference) / reference));
}

/** How long to wait, in milliseconds, for what takes less than that on a quick machine. */
export const patience = (milliseconds: number): number =>
  Math.ceil(milliseconds * Number(process.env.GW_TEST_SLOWNESS ?? 1));
