import type { Config } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { connectionError, withSql } from '../postgres/connect.ts';
import { changeUrl, type Database, describeUrl } from '../postgres/urls.ts';
import type { Progress } from '../terminal/progress.ts';
import { isOurs as isOurProcess, readPids } from '../up/processes.ts';
import {
  canProvision,
  findInstallations,
  installationName,
  manualInstallation,
  provision,
} from './binaries.ts';
import {
  auditBootstrap,
  bootstrapDatabase,
  bootstrapGiven,
  bootstrapRoles,
  createDatabase,
  type RolePasswords,
} from './bootstrap.ts';
import {
  type Cluster,
  clusterExists,
  clusterHome,
  clusterMajor,
  createCluster,
  dataDirectory,
  runningPort,
  startCluster,
  stopCluster,
} from './cluster.ts';
import {
  containerName,
  containerPort,
  dockerWorks,
  ensureImage,
  restartContainer,
  startContainer,
  stopContainer,
} from './docker.ts';
import { choosePort } from './ports.ts';
import { readSecrets, readState, type Secrets, updateState } from './state.ts';

export const localDatabaseName = 'groundwork';
const standardPort = 5432;

/** Passwords that the environment names, gw_owner's perhaps inside DATABASE_URL. */
function namedPasswords(config: Config): Partial<RolePasswords> {
  const url = config.DATABASE_URL === undefined ? undefined : new URL(config.DATABASE_URL);
  const inUrl = url?.username === 'gw_owner' ? decodeURIComponent(url.password) : '';
  const named = {
    owner: config.GW_OWNER_PASSWORD ?? (inUrl || undefined),
    authenticator: config.GW_AUTHENTICATOR_PASSWORD,
    worker: config.GW_WORKER_PASSWORD,
    cdc: config.GW_CDC_PASSWORD,
    readonly: config.GW_READONLY_PASSWORD,
    monitor: config.GW_MONITOR_PASSWORD,
  };
  return Object.fromEntries(Object.entries(named).filter(([, password]) => password !== undefined));
}

/** Passwords of the roles: the environment's, else this checkout's own. */
function rolePasswords(config: Config): Omit<Secrets, 'jwt'> {
  return { ...readSecrets(), ...namedPasswords(config) };
}

function urlsFor(base: string, passwords: Omit<Secrets, 'jwt'>, superuser?: string) {
  const login = (user: string, password: string) => changeUrl(base, { user, password });
  return {
    ...(superuser === undefined ? {} : { superuser }),
    owner: login('gw_owner', passwords.owner),
    authenticator: login('gw_authenticator', passwords.authenticator),
    worker: login('gw_worker', passwords.worker),
    cdc: login('gw_cdc', passwords.cdc),
    readonly: login('gw_readonly', passwords.readonly),
    monitor: login('gw_monitor', passwords.monitor),
  };
}

function onLoopback(
  source: 'local' | 'docker',
  port: number,
  passwords: Omit<Secrets, 'jwt'>,
): Database {
  const base = `postgres://127.0.0.1:${port}/${localDatabaseName}`;
  const superuser = changeUrl(base, { user: 'postgres', password: passwords.superuser });
  return {
    source,
    description: describeUrl(base),
    urls: urlsFor(superuser, passwords, superuser),
  };
}

function fromUrl(config: Config, url: string, passwords: Omit<Secrets, 'jwt'>): Database {
  const isOwner = decodeURIComponent(new URL(url).username) === 'gw_owner';
  const root =
    config.ROOT_DATABASE_URL === undefined
      ? undefined
      : changeUrl(config.ROOT_DATABASE_URL, { database: new URL(url).pathname.slice(1) });
  const superuser = root ?? (isOwner ? undefined : url);
  return {
    source: 'url',
    description: describeUrl(url),
    urls: { ...urlsFor(url, passwords, superuser), ...(isOwner ? { owner: url } : {}) },
  };
}

/** Whether a URL (from `gw env`, say) means the cluster or container of this checkout. */
function isOurs(url: string): boolean {
  const { hostname, port, pathname } = new URL(url);
  const state = readState();
  return (
    (state.cluster ?? state.container) !== undefined &&
    ['127.0.0.1', 'localhost'].includes(hostname) &&
    Number(port || standardPort) === state.postgresPort &&
    pathname === `/${localDatabaseName}`
  );
}

/** The cluster of this checkout, when it has one. */
export function localCluster(): Cluster | undefined {
  const { cluster: home } = readState();
  if (home === undefined) return undefined;
  const cluster = { home, bin: '' };
  if (!clusterExists(cluster)) return undefined;
  const major = clusterMajor(cluster);
  const bin = findInstallations().find((installation) => installation.major === major)?.bin;
  if (bin === undefined) {
    throw new GwError(`the cluster in ${dataDirectory(cluster)} needs PostgreSQL ${major}`, {
      hint: 'Install it again, or start afresh with: npm run gw -- db reset',
    });
  }
  return { home, bin };
}

/**
 * The database that this checkout works on, without starting anything.
 *
 * @throws GwError when there is none yet
 */
export function locateDatabase(config: Config): Database {
  const passwords = rolePasswords(config);
  const { DATABASE_URL: url } = config;
  if (url !== undefined && !isOurs(url)) return fromUrl(config, url, passwords);
  const { cluster, container, postgresPort } = readState();
  if ((cluster ?? container) === undefined || postgresPort === undefined) {
    throw new GwError('there is no database yet', {
      hint: 'Make one with: npm start    (or only the database: npm run gw -- db start)',
      exitCode: EXIT.unavailable,
    });
  }
  return onLoopback(container === undefined ? 'local' : 'docker', postgresPort, passwords);
}

/** As locateDatabase(), and makes sure that it answers. */
export async function reachDatabase(config: Config): Promise<Database> {
  const database = locateDatabase(config);
  const url = database.source === 'url' ? (config.DATABASE_URL ?? '') : database.urls.owner;
  await withSql(url, (sql) => sql`select 1`).catch((error: unknown) => {
    const said = connectionError(error, url, 'DATABASE_URL');
    if (database.source === 'url') throw said;
    throw new GwError(`the database of this checkout does not run: ${said.message}`, {
      hint: 'Start it with: npm start    (or: npm run gw -- db start)',
      exitCode: EXIT.unavailable,
    });
  });
  return database;
}

export interface Provided {
  database: Database;
  /** Whether this call started the server, so that the caller must stop it. */
  started: boolean;
}

/**
 * Makes a database available: DATABASE_URL, else a local cluster, else a container. Roles,
 * extensions and settings are in place afterwards; migrations are not run.
 */
export async function provideDatabase(config: Config, progress: Progress): Promise<Provided> {
  const passwords = rolePasswords(config);
  const { DATABASE_URL: url } = config;
  let provided: Provided;
  if (url !== undefined && !isOurs(url)) {
    const database = fromUrl(config, url, passwords);
    await progress.step('database', async () => {
      const said = await bootstrapGiven(database, passwords, namedPasswords(config));
      return `${database.description} (DATABASE_URL): ${said}`;
    });
    return { database, started: false };
  }

  const useDocker = config.GW_DATABASE === 'docker' || readState().container !== undefined;
  if (useDocker) {
    provided = await provideContainer(config, progress, passwords);
  } else {
    const bin = await findBinaries(config, progress);
    provided =
      bin === undefined
        ? await provideContainer(config, progress, passwords)
        : await provideCluster(config, progress, passwords, bin);
  }

  const { superuser = '' } = provided.database.urls;
  await progress.step('roles', async () => {
    await bootstrapRoles(changeUrl(superuser, { database: 'postgres' }), passwords);
    await createDatabase(superuser, localDatabaseName);
    await bootstrapDatabase(superuser);
    await auditBootstrap(superuser, passwords);
    return 'roles, extensions and settings are up to date';
  });
  return provided;
}

/** The binaries to use, provisioning them when that is possible; undefined means Docker. */
async function findBinaries(config: Config, progress: Progress): Promise<string | undefined> {
  const existing = localCluster();
  if (existing !== undefined) return existing.bin;
  let bin: string | undefined;
  await progress.step('PostgreSQL', async (note) => {
    const [best] = findInstallations();
    if (best !== undefined && best.missing.length === 0) {
      bin = best.bin;
      return installationName(best);
    }
    if (canProvision()) {
      bin = await provision(note);
      const installed = findInstallations().find((installation) => installation.bin === bin);
      return installed === undefined
        ? `installed in ${bin}`
        : `installed ${installationName(installed)}`;
    }
    if (config.GW_DATABASE !== 'local' && dockerWorks()) return 'from Docker';
    const lacking =
      best === undefined
        ? 'PostgreSQL 15 or newer is not installed'
        : `${installationName(best)} lacks the extensions ${best.missing.join(', ')}`;
    throw new GwError(`${lacking}, and this user cannot install it`, {
      hint: manualInstallation(),
      exitCode: EXIT.usage,
    });
  });
  return bin;
}

async function provideCluster(
  config: Config,
  progress: Progress,
  passwords: Omit<Secrets, 'jwt'>,
  bin: string,
): Promise<Provided> {
  const cluster: Cluster = { bin, home: readState().cluster ?? clusterHome() };
  let started = false;
  let port = runningPort(cluster);
  await progress.step('cluster', async (note) => {
    const isNew = !clusterExists(cluster);
    if (isNew) {
      note('creating');
      await createCluster(cluster, passwords.superuser, [
        `cron.database_name = '${localDatabaseName}'`,
      ]);
      // Remembered only now that it is complete.
      updateState({ cluster: cluster.home });
    }
    if (port !== undefined) return `already running on port ${port}`;
    port = await choosePort({
      asked: config.GW_PG_PORT,
      variable: 'GW_PG_PORT',
      remembered: readState().postgresPort,
      standard: standardPort,
    });
    await startCluster(cluster, port);
    started = true;
    return `${isNew ? 'created and ' : ''}started on port ${port}`;
  });
  updateState({ postgresPort: port as number });
  return { database: onLoopback('local', port as number, passwords), started };
}

async function provideContainer(
  config: Config,
  progress: Progress,
  passwords: Omit<Secrets, 'jwt'>,
): Promise<Provided> {
  let started = false;
  let port = containerPort();
  await progress.step('container', async (note) => {
    if (!dockerWorks()) {
      throw new GwError('no Docker engine answers', { hint: manualInstallation() });
    }
    if (port !== undefined) return `${containerName()} already runs on port ${port}`;
    const image = await ensureImage(note);
    port = await choosePort({
      asked: config.GW_PG_PORT,
      variable: 'GW_PG_PORT',
      remembered: readState().postgresPort,
      standard: standardPort,
    });
    await startContainer(image, port, passwords.superuser);
    started = true;
    await waitUntilReady(onLoopback('docker', port, passwords).urls.superuser ?? '');
    return `${containerName()} started on port ${port}`;
  });
  updateState({ container: containerName(), postgresPort: port as number });
  return { database: onLoopback('docker', port as number, passwords), started };
}

/** Waits up to a minute for a server that is being started by somebody else. */
async function waitUntilReady(url: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      await withSql(changeUrl(url, { database: 'postgres' }), (sql) => sql`select 1`);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw connectionError(error, url, 'the container');
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

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
    await waitUntilReady(superuserUrlAt(postgresPort as number));
    return true;
  }
  const cluster = localCluster();
  if (cluster === undefined || postgresPort === undefined) return false;
  const isWatched = isOurProcess(readPids().up);
  await stopCluster(cluster);
  if (!isWatched) await startCluster(cluster, postgresPort);
  await waitUntilReady(superuserUrlAt(postgresPort));
  return true;
}

const superuserUrlAt = (port: number): string =>
  onLoopback('local', port, readSecrets()).urls.superuser ?? '';
