import process from 'node:process';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';

/**
 * Ends a long-running process in order: on SIGTERM, SIGINT or SIGHUP, and when the
 * supervisor that forked it is gone, however it went. A second signal does not wait.
 */
export function untilStopped(log: Log, stop: () => Promise<void>): Promise<void> {
  // Nobody can ask for the stack afterwards. src/cli.ts ends the process.
  process.prependListener('uncaughtException', (error) => log.fatal({ error }, 'unexpected'));
  return new Promise((resolve) => {
    let stopping = false;
    const end = (why: string): void => {
      if (stopping) return;
      stopping = true;
      log.info({ why }, 'stopping');
      // The supervisor allows 5 seconds; what is unfinished then is recovered later.
      const last = setTimeout(() => process.exit(1), 4_000);
      stop()
        .catch((error: unknown) => {
          log.error({ error: messageOf(error) }, 'did not stop cleanly');
          process.exitCode = 1;
        })
        .finally(() => {
          clearTimeout(last);
          if (process.connected) process.disconnect();
          resolve();
        });
    };
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => end(signal));
    }
    process.on('disconnect', () => end('the supervisor is gone'));
  });
}

/** Tells the supervisor, if there is one, that the process does its work now. */
export function sayReady(details: Record<string, unknown> = {}): void {
  process.send?.({ ready: true, ...details });
}
