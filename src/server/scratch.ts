import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { GwError } from '../errors.ts';
import { changeUrl, type Database, urlsOfRoles } from '../postgres/urls.ts';
import { Progress } from '../terminal/progress.ts';
import {
  findInstallations,
  installationName,
  manualInstallation,
  requireInstallation,
} from './binaries.ts';
import { bootstrapRoles } from './bootstrap.ts';
import {
  type Cluster,
  createCluster,
  discardCluster,
  removeCluster,
  runningPort,
  scratchHome,
  serverPid,
  startCluster,
  stopCluster,
} from './cluster.ts';
import { randomPort } from './ports.ts';
import { isAlive } from './processes.ts';
import { readSecrets } from './state.ts';

/** A server that is thrown away. */
export interface Scratch {
  /** A superuser's connection to the database "postgres". */
  superuserUrl: string;
  cluster: Cluster;
  /** Connections of every role to a database of this server. */
  database(name: string): Database;
  /** Stops it, cleanly or as a crash would, and starts it on the same port. */
  restart(how: 'cleanly' | 'at once'): Promise<void>;
  /** Ends it as a crash would. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

export interface ScratchOptions {
  /** Tells it from others of this process, in small letters. */
  topic?: string;
  /** Lines for postgresql.conf, after those of every scratch server. */
  settings?: string[];
}

/** Binaries with every extension, installed when that is possible. */
export async function requireBinaries(): Promise<string> {
  const [best] = findInstallations();
  if (best?.missing.length === 0) return best.bin;
  let bin = '';
  await new Progress().step('PostgreSQL', async (note) => {
    const found = await requireInstallation(note);
    if (found === undefined) {
      throw new GwError('PostgreSQL with its extensions is not installed', {
        hint: manualInstallation(),
      });
    }
    bin = found.installation.bin;
    return installationName(found.installation);
  });
  return bin;
}

/** Removes the servers of runs that were killed. */
async function removeAbandoned(bin: string): Promise<void> {
  const parent = dirname(scratchHome('scratch'));
  let names: string[];
  try {
    names = readdirSync(parent);
  } catch {
    return;
  }
  for (const name of names) {
    const pid = Number(/^scratch-(\d+)(-[a-z]+)?$/.exec(name)?.[1]);
    if (!pid || isAlive(pid)) continue;
    const cluster = { bin, home: join(parent, name) };
    await stopCluster(cluster);
    removeCluster(cluster);
  }
}

/** The URLs of every role on a server where roles have been bootstrapped with our secrets. */
export function databaseAt(superuserUrl: string, name: string): Database {
  const superuser = changeUrl(superuserUrl, { database: name });
  return {
    source: 'local',
    description: name,
    urls: urlsOfRoles(superuser, readSecrets(), superuser),
  };
}

/**
 * Starts a server of its own, beside whatever else runs, with the roles in place. It trades
 * durability for speed: nothing on it is worth keeping.
 *
 * @param cronDatabase the database that pg_cron lives in
 */
export async function startScratch(
  cronDatabase: string,
  { topic, settings = [] }: ScratchOptions = {},
): Promise<Scratch> {
  const bin = await requireBinaries();
  await removeAbandoned(bin);
  const name = ['scratch', process.pid, ...(topic === undefined ? [] : [topic])].join('-');
  const cluster: Cluster = { bin, home: scratchHome(name) };
  removeCluster(cluster);
  // However this process ends.
  const discard = (): void => discardCluster(cluster);
  process.once('exit', discard);
  const secrets = readSecrets();
  const lines = [
    `cron.database_name = '${cronDatabase}'`,
    'fsync = off',
    'synchronous_commit = off',
    'full_page_writes = off',
    'autovacuum_naptime = 5s',
    'shared_buffers = 256MB',
    'max_connections = 200',
    // A client that falls silent while it signs in holds up every DROP DATABASE until then.
    'authentication_timeout = 10s',
    // Tests of change capture make a slot each.
    'max_replication_slots = 60',
    'max_wal_senders = 60',
    'log_min_duration_statement = -1',
    ...settings,
  ];
  await createCluster(cluster, secrets.superuser, lines, false);
  let port = await randomPort();
  // Somebody may have taken it since.
  await startCluster(cluster, port).catch(async () => {
    port = await randomPort();
    await startCluster(cluster, port);
  });
  const superuserUrl = changeUrl(`postgres://127.0.0.1:${port}/postgres`, {
    user: 'postgres',
    password: secrets.superuser,
  });
  await bootstrapRoles(superuserUrl, secrets);
  async function end(signal: NodeJS.Signals): Promise<void> {
    process.kill(serverPid(cluster) as number, signal);
    while (runningPort(cluster) !== undefined) {
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
  return {
    superuserUrl,
    cluster,
    database: (name) => databaseAt(superuserUrl, name),
    async restart(how) {
      // No patience: a client that holds a clean stop up shows as one that does not end.
      await end(how === 'cleanly' ? 'SIGINT' : 'SIGQUIT');
      await startCluster(cluster, port);
    },
    kill: () => end('SIGQUIT'),
    async stop() {
      await stopCluster(cluster);
      removeCluster(cluster);
      process.off('exit', discard);
    },
  };
}

/**
 * Works on a scratch server, which is gone afterwards: also when the work fails, and when a
 * signal ends this process.
 */
export async function withScratch<Result>(
  cronDatabase: string,
  work: (scratch: Scratch) => Promise<Result>,
): Promise<Result> {
  const end = (signal: NodeJS.Signals): never => {
    process.stderr.write(`error: stopped by ${signal}\n`);
    process.exit(128 + (constants.signals[signal] ?? 0));
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.once(signal, end);
  const scratch = await startScratch(cronDatabase);
  try {
    return await work(scratch);
  } finally {
    await scratch.stop();
    for (const signal of signals) process.off(signal, end);
  }
}
