import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { type ConnectionOptions, checkServerIdentity } from 'node:tls';

/** What libpq reads of TLS: parameters of a URL, and the variables that stand for them. */
const variables = {
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
} as const;

const names = Object.keys(variables) as (keyof typeof variables)[];

/** Has `pg` read sslmode as libpq does. libpq itself and `postgres` do not know it. */
const compatibility = 'uselibpqcompat';

/** Ends a sentence that begins with the name of the variable. */
export class TlsFault extends Error {}

function readable(name: string, path: string): void {
  try {
    readFileSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new TlsFault(`names a file for ${name} that cannot be read (${code}): ${path}`);
  }
}

/**
 * A connection URL in which TLS means the same for both drivers, whether it came from the URL or
 * from PGSSL…: as libpq reads it, but for `allow` and `prefer`, which are refused.
 *
 * @param text a URL that can be parsed
 * @throws TlsFault
 */
export function withTls(text: string, env: NodeJS.ProcessEnv = process.env): string {
  const url = new URL(text);
  const given = new Map<string, string>();
  for (const name of names) {
    const value = url.searchParams.get(name) || env[variables[name]];
    if (value) given.set(name, value);
    url.searchParams.delete(name);
  }
  url.searchParams.delete(compatibility);
  if (given.size === 0) return text;

  const mode = given.get('sslmode');
  if (mode === undefined) {
    throw new TlsFault(`has ${[...given.keys()].join(', ')} without sslmode: add verify-full`);
  }
  if (mode === 'allow' || mode === 'prefer') {
    throw new TlsFault(
      `has sslmode=${mode}, which goes on without encryption in silence: write require, verify-full or disable`,
    );
  }
  if (!['disable', 'require', 'verify-ca', 'verify-full'].includes(mode)) {
    throw new TlsFault(
      `has sslmode=${mode}; there are disable, require, verify-ca and verify-full`,
    );
  }
  url.searchParams.set('sslmode', mode);
  if (mode === 'disable') return url.href;

  // The certificates of the system, as libpq calls them.
  if (given.get('sslrootcert') === 'system') {
    if (mode !== 'verify-full')
      throw new TlsFault('has sslrootcert=system, which needs verify-full');
    given.delete('sslrootcert');
  }
  if (mode === 'verify-ca' && !given.has('sslrootcert')) {
    throw new TlsFault('has sslmode=verify-ca without sslrootcert: name the file of the CA');
  }
  if (given.has('sslcert') !== given.has('sslkey')) {
    throw new TlsFault('needs sslcert and sslkey together');
  }
  if (mode === 'verify-full' && isIP(url.hostname.replace(/^\[|\]$/g, '')) !== 0) {
    throw new TlsFault(
      'has sslmode=verify-full, which needs the name of the host, not its address',
    );
  }
  for (const name of names.slice(1)) {
    const path = given.get(name);
    if (path === undefined) continue;
    readable(name, path);
    url.searchParams.set(name, path);
  }
  url.searchParams.set(compatibility, 'true');
  return url.href;
}

/** A URL of withTls() as libpq reads it: for psql, pg_dump and people. */
export function forLibpq(text: string): string {
  if (!text.includes(compatibility)) return text;
  const url = new URL(text);
  url.searchParams.delete(compatibility);
  return url.href;
}

/** What the parameters of TLS in a URL are as variables: PGSSLMODE and its kin. */
export function tlsVariables(text: string): Record<string, string> {
  const { searchParams } = new URL(text);
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = searchParams.get(name);
      return value === null ? [] : [[variables[name], value]];
    }),
  );
}

/** A URL of withTls() as `postgres` takes it: without parameters of TLS, and with an object. */
export function forPostgresJs(text: string): {
  url: string;
  ssl: ConnectionOptions | false | undefined;
} {
  if (!/[?&]ssl/.test(text)) return { url: text, ssl: undefined };
  const url = new URL(text);
  const given = Object.fromEntries(names.map((name) => [name, url.searchParams.get(name)]));
  for (const name of [...names, compatibility]) url.searchParams.delete(name);
  const { sslmode, sslrootcert, sslcert, sslkey } = given;
  if (sslmode === 'disable') return { url: url.href, ssl: false };
  const read = (path: string | null | undefined) => (path ? readFileSync(path) : undefined);
  return {
    url: url.href,
    ssl: {
      ca: read(sslrootcert),
      cert: read(sslcert),
      key: read(sslkey),
      // As libpq: with a CA, `require` is `verify-ca`.
      rejectUnauthorized: sslmode !== 'require' || Boolean(sslrootcert),
      checkServerIdentity: (_host, certificate) =>
        sslmode === 'verify-full' ? checkServerIdentity(url.hostname, certificate) : undefined,
    },
  };
}
