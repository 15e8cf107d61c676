import type { Config } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { connectionError, withSql } from '../postgres/connect.ts';
import { forEachLogin, loginRoles } from '../postgres/roles.ts';
import {
  changeUrl,
  type Database,
  databaseName,
  describeUrl,
  parseUrl,
  urlsOfRoles,
} from '../postgres/urls.ts';
import { findInstallations } from './binaries.ts';
import type { RolePasswords } from './bootstrap.ts';
import { type Cluster, clusterExists, clusterMajor, dataDirectory } from './cluster.ts';
import { keptSecrets, readSecrets, readState, type Secrets } from './state.ts';

export const localDatabaseName = 'groundwork';
export const standardPort = 5432;

/** Passwords that the environment names, gw_owner's perhaps inside DATABASE_URL. */
export function namedPasswords(config: Config): Partial<RolePasswords> {
  const url = config.DATABASE_URL === undefined ? undefined : parseUrl(config.DATABASE_URL);
  const inUrl = url?.username === loginRoles.owner.name ? decodeURIComponent(url.password) : '';
  const named = {
    ...forEachLogin((login) => config[loginRoles[login].variable]),
    owner: config.GW_OWNER_PASSWORD ?? (inUrl || undefined),
  };
  return Object.fromEntries(Object.entries(named).filter(([, password]) => password !== undefined));
}

/** Passwords of the roles: the environment's, else this checkout's own. */
export const rolePasswords = (config: Config): Passwords => ({
  ...readSecrets(),
  ...namedPasswords(config),
});

/**
 * The same without making any up, for a server whose roles others have made: whose password is
 * not known logs in without one, or with what libpq's variables and the server agree on.
 */
const knownPasswords = (config: Config): Passwords => ({
  superuser: '',
  ...forEachLogin(() => ''),
  ...keptSecrets(),
  ...namedPasswords(config),
});

/** What `postgres` and our roles log in with. */
export type Passwords = Omit<Secrets, 'jwt'>;

/** The database on this machine's server, which listens on a port. */
export function onLoopback(
  source: 'local' | 'docker',
  port: number,
  passwords: Passwords,
): Database {
  // PGSSLMODE is about other servers; `pg` would follow it here too.
  const plain = process.env.PGSSLMODE ? '?sslmode=disable' : '';
  const base = `postgres://127.0.0.1:${port}/${localDatabaseName}${plain}`;
  const superuser = changeUrl(base, { user: 'postgres', password: passwords.superuser });
  return {
    source,
    description: describeUrl(base),
    urls: urlsOfRoles(superuser, passwords, superuser),
  };
}

/** Whether a URL is gw_owner's, and not a superuser's. */
const isOwnersUrl = (url: string): boolean =>
  decodeURIComponent(parseUrl(url).username) === loginRoles.owner.name;

/** The database that DATABASE_URL means. */
export function fromUrl(config: Config, url: string, passwords: Passwords): Database {
  const isOwner = isOwnersUrl(url);
  // Without a password anywhere, the server may want none.
  const { GW_OWNER_PASSWORD: password } = config;
  const owner = password === undefined ? url : changeUrl(url, { password });
  const root =
    config.ROOT_DATABASE_URL === undefined
      ? undefined
      : changeUrl(config.ROOT_DATABASE_URL, { database: databaseName(url) });
  const superuser = root ?? (isOwner ? undefined : url);
  return {
    source: 'url',
    description: describeUrl(url),
    urls: { ...urlsOfRoles(url, passwords, superuser), ...(isOwner ? { owner } : {}) },
  };
}

/** Whether a URL (from `gw env`, say) means the cluster or container of this checkout. */
export function isOurUrl(url: string): boolean {
  const { hostname, port, pathname } = parseUrl(url);
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
  const { DATABASE_URL: url } = config;
  if (url !== undefined && !isOurUrl(url)) return fromUrl(config, url, knownPasswords(config));
  const passwords = rolePasswords(config);
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
  const { DATABASE_URL: given } = config;
  // A superuser's own: gw_owner may not be there yet.
  const isSuperuser = database.source === 'url' && given !== undefined && !isOwnersUrl(given);
  const url = isSuperuser ? given : database.urls.owner;
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
