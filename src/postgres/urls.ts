import { postgresUrlFault } from '../config-values.ts';
import { EXIT, GwError } from '../errors.ts';
import { forEachLogin, type LoginName, loginNames, loginRoles } from './roles.ts';

/** How each role reaches a database. `superuser` is only there where we have such a connection. */
export type Urls = Record<LoginName, string> & { superuser?: string };

/** Who one can connect as. */
export type Role = keyof Urls;
export const roles: readonly Role[] = ['superuser', ...loginNames];

/** A database and how each role reaches it. */
export interface Database {
  /** Where it comes from: DATABASE_URL, a local cluster, or a container. */
  source: 'url' | 'local' | 'docker';
  /** What is said of it in progress lines and errors; no password. */
  description: string;
  urls: Urls;
}

/**
 * A connection URL, taken apart.
 *
 * @throws GwError with exit code 2 for what is none, or names several hosts; it does not repeat
 * the URL, which may hold a password
 */
export function parseUrl(url: string): URL {
  const fault = postgresUrlFault(url);
  if (fault === undefined) return new URL(url);
  throw new GwError(`a connection URL ${fault}`, {
    hint: 'It looks like postgres://user@host:port/database.',
    exitCode: EXIT.usage,
  });
}

/** The URL with another user, password or database. */
export function changeUrl(
  url: string,
  change: { user?: string; password?: string; database?: string },
): string {
  const changed = parseUrl(url);
  if (change.user !== undefined) changed.username = encodeURIComponent(change.user);
  if (change.password !== undefined) changed.password = encodeURIComponent(change.password);
  if (change.database !== undefined) changed.pathname = `/${encodeURIComponent(change.database)}`;
  return changed.href;
}

/**
 * The URLs of every role, at the place that one URL says.
 *
 * @param superuser a superuser's URL, where one is known
 */
export function urlsOfRoles(
  base: string,
  passwords: Record<LoginName, string>,
  superuser?: string,
): Urls {
  return {
    ...(superuser === undefined ? {} : { superuser }),
    ...forEachLogin((login) =>
      changeUrl(base, { user: loginRoles[login].name, password: passwords[login] }),
    ),
  };
}

export const databaseName = (url: string): string =>
  decodeURIComponent(parseUrl(url).pathname.slice(1));

/** `host:port/database`, for people. */
export function describeUrl(url: string): string {
  const { hostname, port } = parseUrl(url);
  return `${hostname}:${port || 5432}/${databaseName(url)}`;
}
