import type { Config } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { untilAnswers } from '../postgres/connect.ts';
import { scramVerifier } from '../postgres/scram.ts';
import { changeUrl, type Database } from '../postgres/urls.ts';
import type { Progress } from '../terminal/progress.ts';
import {
  findInstallations,
  installationName,
  manualInstallation,
  requireInstallation,
} from './binaries.ts';
import {
  auditBootstrap,
  bootstrapDatabase,
  bootstrapGiven,
  bootstrapRoles,
  createDatabase,
} from './bootstrap.ts';
import {
  type Cluster,
  clusterExists,
  clusterHome,
  createCluster,
  dataDirectory,
  resetSuperuser,
  runningPort,
  startCluster,
  stopCluster,
  wasReplaced,
} from './cluster.ts';
import {
  containerName,
  containerPort,
  dockerWorks,
  ensureImage,
  startContainer,
} from './docker.ts';
import {
  fromUrl,
  isOurUrl,
  localCluster,
  localDatabaseName,
  namedPasswords,
  onLoopback,
  type Passwords,
  rolePasswords,
  standardPort,
} from './locate.ts';
import { choosePort } from './ports.ts';
import { stopDatabase } from './restart.ts';
import { readState, updateState } from './state.ts';
import { writeMachineSettings } from './tuning.ts';

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
  if (url !== undefined && !isOurUrl(url)) {
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
  await progress
    .step('roles', async () => {
      await bootstrapRoles(changeUrl(superuser, { database: 'postgres' }), passwords);
      await createDatabase(superuser, localDatabaseName);
      await bootstrapDatabase(superuser);
      await auditBootstrap(provided.database.urls.owner, passwords);
      return 'roles, extensions and settings are up to date';
    })
    .catch(async (error: unknown) => {
      // What this start began, its failure ends.
      if (provided.started) await stopDatabase();
      throw error;
    });
  return provided;
}

/** The binaries to use, provisioning them when that is possible; undefined means Docker. */
async function findBinaries(config: Config, progress: Progress): Promise<string | undefined> {
  const existing = localCluster();
  if (existing !== undefined) return existing.bin;
  let bin: string | undefined;
  await progress.step('PostgreSQL', async (note) => {
    const found = await requireInstallation(note);
    if (found !== undefined) {
      bin = found.installation.bin;
      return `${found.wasInstalled ? 'installed ' : ''}${installationName(found.installation)}`;
    }
    if (config.GW_DATABASE !== 'local' && dockerWorks()) return 'from Docker';
    const [best] = findInstallations();
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
  passwords: Passwords,
  bin: string,
): Promise<Provided> {
  const cluster: Cluster = { bin, home: readState().cluster ?? clusterHome() };
  let started = false;
  // Of a checkout that was deleted, in this same folder: nobody knows its passwords any more.
  const isForgotten = clusterExists(cluster) && readState().cluster === undefined;
  if (isForgotten) {
    updateState({ cluster: cluster.home });
    await progress.step('old cluster', async () => {
      await stopCluster(cluster);
      await resetSuperuser(cluster, scramVerifier(passwords.superuser));
      return 'of an earlier checkout in this folder: taken over, with its data';
    });
  }
  const isOutdated = wasReplaced(cluster);
  if (isOutdated) await stopCluster(cluster);
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
    writeMachineSettings(dataDirectory(cluster));
    await startCluster(cluster, port);
    started = true;
    const why = isOutdated ? ', since an update has replaced its programs' : '';
    return `${isNew ? 'created and ' : isOutdated ? 're' : ''}started on port ${port}${why}`;
  });
  updateState({ postgresPort: port as number });
  return { database: onLoopback('local', port as number, passwords), started };
}

async function provideContainer(
  config: Config,
  progress: Progress,
  passwords: Passwords,
): Promise<Provided> {
  let started = false;
  let port = containerPort();
  await progress.step('container', async (note) => {
    if (!dockerWorks()) {
      throw new GwError('no Docker engine answers', {
        hint: manualInstallation(),
        exitCode: EXIT.usage,
      });
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
    await untilAnswers(onLoopback('docker', port, passwords).urls.superuser ?? '');
    return `${containerName()} started on port ${port}`;
  });
  updateState({ container: containerName(), postgresPort: port as number });
  return { database: onLoopback('docker', port as number, passwords), started };
}
