import { readdirSync, readFileSync } from 'node:fs';

/** The middle one; of an even number the upper of the two. */
export function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

interface Stat {
  pid: number;
  parent: number;
  /** Milliseconds on a CPU, of children that have ended too. */
  cpu: number;
}

/** Linux counts in hundredths of a second. */
const tickMs = 10;

function statOf(pid: number): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    return { pid, parent: Number(fields[1]), cpu: ticks * tickMs };
  } catch {
    return undefined;
  }
}

/**
 * Milliseconds of CPU that a process and its children have used.
 *
 * @returns NaN where /proc does not tell
 */
export function cpuOf(pid: number): number {
  const root = statOf(pid);
  if (root === undefined) return Number.NaN;
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => statOf(Number(name)))
    .filter((stat) => stat?.parent === pid);
  return children.reduce((sum, stat) => sum + (stat?.cpu ?? 0), root.cpu);
}
