import { readdirSync, readFileSync } from 'node:fs';
import process from 'node:process';
import { isAlive } from '../../src/server/processes.ts';

/** Which run of the tests a process belongs to: the id of the process that runs them. */
const variable = 'GW_TEST_RUN';

/** How the folder of a checkout begins that a run makes. */
export const checkoutPrefix = (): string =>
  `groundwork-checkout-${process.env[variable] ?? process.pid}-`;

interface Found {
  pid: number;
  run: number;
  isServer: boolean;
}

/** A file of /proc, split at its zeros; empty when the process has ended or is somebody else's. */
function read(pid: string, file: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/**
 * Every process that runs of the tests have started, and the servers that those have: a server has
 * an environment of its own, and its data in a folder with the number of who started it. Empty
 * where there is no /proc.
 */
function processes(): Found[] {
  let pids: string[];
  try {
    pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  const found = pids.flatMap((pid): Found[] => {
    const entry = read(pid, 'environ').find((each) => each.startsWith(`${variable}=`));
    const run = Number(entry?.split('=')[1]);
    return entry === undefined ? [] : [{ pid: Number(pid), run, isServer: false }];
  });
  const runOf = new Map(found.map(({ pid, run }) => [pid, run]));
  const servers = pids.flatMap((pid): Found[] => {
    const [program = '', flag, folder = ''] = read(pid, 'cmdline');
    if (!program.endsWith('/postgres') || flag !== '-D') return [];
    const owner = Number(/\/scratch-(\d+)/.exec(folder)?.[1]);
    const run =
      runOf.get(owner) ?? (/groundwork-(?:checkout|test)-(\d+)-/.exec(folder)?.[1] || owner);
    return [{ pid: Number(pid), run: Number(run), isServer: true }];
  });
  return [...found, ...servers];
}

function end(isOver: (run: number) => boolean): void {
  for (const { pid, run, isServer } of processes()) {
    if (pid === process.pid || !isOver(run)) continue;
    try {
      process.kill(pid, isServer ? 'SIGQUIT' : 'SIGKILL');
    } catch {
      // It was quicker.
    }
  }
}

/**
 * Has every process that this run starts, and those that they start, end with it, however it
 * ends. What is left of a run that was killed with SIGKILL ends now.
 */
export function endLeftovers(): void {
  process.env[variable] = String(process.pid);
  end((run) => run > 0 && run !== process.pid && !isAlive(run));
  process.once('exit', () => end((run) => run === process.pid));
  // Without a handler no process has an exit of which it could be told.
  for (const [signal, number] of [
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.once(signal, () => process.exit(128 + number));
  }
}
