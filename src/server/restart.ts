import { untilAnswers } from '../postgres/connect.ts';
import { startCluster, stopCluster } from './cluster.ts';
import { restartContainer, stopContainer } from './docker.ts';
import { localCluster, onLoopback } from './locate.ts';
import { isOurs, readPids } from './processes.ts';
import { readSecrets, readState } from './state.ts';

/** Stops the server of this checkout. A database given by DATABASE_URL is left alone. */
export async function stopDatabase(): Promise<void> {
  const { container } = readState();
  if (container !== undefined) return stopContainer(container);
  const cluster = localCluster();
  if (cluster !== undefined) await stopCluster(cluster);
}

/**
 * Restarts the server of this checkout. Under `gw up`, its watch starts a server again that
 * has stopped; elsewhere this does.
 *
 * @returns false when the server is not ours to restart
 */
export async function restartDatabase(): Promise<boolean> {
  const { container, postgresPort } = readState();
  if (container !== undefined) {
    await restartContainer(container);
    await untilAnswers(superuserUrlAt(postgresPort as number));
    return true;
  }
  const cluster = localCluster();
  if (cluster === undefined || postgresPort === undefined) return false;
  const isWatched = isOurs(readPids().up);
  await stopCluster(cluster);
  if (!isWatched) await startCluster(cluster, postgresPort);
  await untilAnswers(superuserUrlAt(postgresPort));
  return true;
}

const superuserUrlAt = (port: number): string =>
  onLoopback('local', port, readSecrets()).urls.superuser ?? '';
