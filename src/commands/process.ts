import process from 'node:process';
import { type Config, loadConfig } from '../config.ts';
import { codeOf, EXIT, GwError, messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { type MetricsPort, openMetricsPort, type PortOptions } from '../metrics/port.ts';
import { openWaitingRoom } from '../metrics/waiting-room.ts';
import { type WaitOptions, waitForMigrations } from '../migrations/wait.ts';
import { connectionError } from '../postgres/connect.ts';
import { Fence } from '../postgres/fence.ts';

/** Recording, and closing connections, after the grace. */
const lastMs = 3_000;

/** A terminal and npm may both pass one Ctrl-C on. */
const echoMs = 1_000;

/** How long work in flight may take after SIGTERM: of a worker, never less than one call takes. */
export const graceOf = (config: Config): number =>
  Math.max(config.GW_SHUTDOWN_GRACE * 1_000, config.GW_DELIVERY_TIMEOUT_MS + 1_000);

/** How long an API that was asked to stop still answers. */
export const drainOf = ({ GW_DRAIN_SECONDS: seconds, NODE_ENV }: Config): number =>
  (seconds ?? (NODE_ENV === 'production' ? 5 : 0)) * 1_000;

/** When a process that was asked to stop is certainly over. */
export const stopDeadline = (graceMs: number): number => graceMs + lastMs;

/**
 * Ends a long-running process in order: on SIGTERM or SIGINT, and when the
 * supervisor that forked it is gone, however it went. A second signal does not wait.
 *
 * @param stop what takes graceMs at most, and a moment
 */
export function untilStopped(log: Log, graceMs: number, stop: () => Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    let stoppingSince: number | undefined;
    const end = (why: string): void => {
      if (stoppingSince !== undefined) {
        if (Date.now() - stoppingSince < echoMs) return;
        log.warn({ why }, 'ends at once: what is unfinished is recovered later');
        process.exit(1);
      }
      stoppingSince = Date.now();
      log.info({ why }, 'stopping');
      const last = setTimeout(() => {
        log.error('did not stop in time: what is unfinished is recovered later');
        process.exit(1);
      }, stopDeadline(graceMs));
      stop()
        .catch((error: unknown) => {
          log.error({ error: messageOf(error) }, 'did not stop cleanly');
          process.exitCode = 1;
        })
        .finally(() => {
          clearTimeout(last);
          if (process.connected) process.disconnect();
          resolve();
          // Log lines that nobody reads would keep it alive.
          setTimeout(() => process.exit(), 500).unref();
        });
    };
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(signal));
    process.on('SIGHUP', () => {
      // A terminal that is closed; a service has none, and reads its settings again.
      if (process.stdin.isTTY || process.stderr.isTTY) end('SIGHUP');
      else reload(log);
    });
    process.on('disconnect', () => {
      if (stoppingSince === undefined) end('the supervisor is gone');
    });
  });
}

/**
 * Opens GW_METRICS_PORT, where it is set, for a process that has no other port.
 *
 * @throws GwError when the port is taken
 */
export async function openPort(
  config: Config,
  options: Pick<PortOptions, 'metrics' | 'isAlive' | 'checks'>,
): Promise<MetricsPort | undefined> {
  const { GW_METRICS_PORT: port, GW_HOST: host, GW_METRICS_TOKEN: token } = config;
  if (port === undefined) return undefined;
  return openMetricsPort({ host, port, token, ...options }).catch(explainPort);
}

/** Throws what it is given, and names the port when that is taken. */
export function explainPort(error: unknown): never {
  if (codeOf(error) !== 'EADDRINUSE') throw error;
  throw new GwError(`port ${(error as { port?: number }).port} is taken`, {
    hint: 'Choose another with GW_PORT, or GW_METRICS_PORT.',
    exitCode: EXIT.usage,
  });
}

/** Takes the log level over that GW_LOG_LEVEL_FILE now has. */
function reload(log: Log): void {
  try {
    const { GW_LOG_LEVEL: level } = loadConfig();
    log.level = level;
    log.info({ level }, 'took the log level over');
  } catch (error) {
    log.error({ error: messageOf(error) }, 'kept the log level');
  }
}

/**
 * Ends a process in order when its database turns out to be a copy, such as a standby that was
 * promoted: whoever starts it again has it wait until somebody adopts the copy.
 */
export const endWhenFenced = (url: string, applicationName: string, log: Log): Promise<Fence> =>
  Fence.watch({
    url,
    applicationName,
    log,
    onChange: (reason) => {
      if (reason === undefined) return;
      process.exitCode = EXIT.unavailable;
      process.kill(process.pid, 'SIGTERM');
    },
  });

/** What `--wait` does. */
export const waitHelp = 'wait for a database that cannot be reached yet';

/**
 * As waitForMigrations(), for a process that may be told to stop meanwhile, and is asked for its
 * health.
 *
 * @throws GwError when the database cannot be reached, and that is not waited for; or a port is
 *   taken
 */
export async function untilMigrated(
  options: WaitOptions,
  { host, ports }: { host: string; ports: readonly (number | undefined)[] },
): Promise<void> {
  const room = await openWaitingRoom(
    host,
    ports.filter((port) => port !== undefined),
  ).catch(explainPort);
  const stop = (): void => {
    options.log.info('stopped while waiting');
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, stop);
  process.on('disconnect', stop);
  try {
    await waitForMigrations({
      ...options,
      onWait: (reason) => {
        room.reason = reason;
      },
    });
  } catch (error) {
    throw connectionError(error, options.url, 'DATABASE_URL');
  } finally {
    await room.close();
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.off(signal, stop);
    process.off('disconnect', stop);
  }
}

/** Tells the supervisor, if there is one, that the process does its work now. */
export function sayReady(details: Record<string, unknown> = {}): void {
  process.send?.({ ready: true, ...details });
}
