import inspector from 'node:inspector';
import { Worker } from 'node:worker_threads';

/** How often each side moves, in milliseconds. */
export const beatMs = 250;

/** Beats of the other thread within which this one has to move once: less than five seconds. */
export const patienceBeats = 18;

/**
 * Ends this process when its event loop stands still for 4.5 seconds: it answers nobody then, and
 * hears no SIGTERM. The watch runs in a thread of its own, and counts its own steps, so a machine
 * or a process that was stopped as a whole is not taken for one that hangs.
 *
 * @param name what the last log line has as its name
 */
export function startWatchdog(name: string): () => Promise<unknown> {
  // Whoever debugs stands still on purpose.
  if (inspector.url() !== undefined) return async () => {};
  const beats = new Int32Array(new SharedArrayBuffer(4));
  const beat = setInterval(() => Atomics.add(beats, 0, 1), beatMs).unref();
  const worker = new Worker(new URL('./watchdog-thread.ts', import.meta.url), {
    workerData: { beats, name },
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
  });
  worker.unref();
  return () => {
    clearInterval(beat);
    return worker.terminate();
  };
}
