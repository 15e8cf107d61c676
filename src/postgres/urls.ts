/** Who one can connect as. `superuser` is only there where we have such a connection. */
export const roles = [
  'superuser',
  'owner',
  'authenticator',
  'worker',
  'cdc',
  'readonly',
  'monitor',
] as const;
export type Role = (typeof roles)[number];

/** A database and how each role reaches it. */
export interface Database {
  /** Where it comes from: DATABASE_URL, a local cluster, or a container. */
  source: 'url' | 'local' | 'docker';
  /** What is said of it in progress lines and errors; no password. */
  description: string;
  urls: Record<Exclude<Role, 'superuser'>, string> & { superuser?: string };
}

/** The URL with another user, password or database. */
export function changeUrl(
  url: string,
  change: { user?: string; password?: string; database?: string },
): string {
  const changed = new URL(url);
  if (change.user !== undefined) changed.username = encodeURIComponent(change.user);
  if (change.password !== undefined) changed.password = encodeURIComponent(change.password);
  if (change.database !== undefined) changed.pathname = `/${encodeURIComponent(change.database)}`;
  return changed.href;
}

export const databaseName = (url: string): string =>
  decodeURIComponent(new URL(url).pathname.slice(1));

/** `host:port/database`, for people. */
export function describeUrl(url: string): string {
  const { hostname, port } = new URL(url);
  return `${hostname}:${port || 5432}/${databaseName(url)}`;
}
