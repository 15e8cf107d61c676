import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { type Scratch, startScratch } from '../../src/server/scratch.ts';
import { withTls } from '../../src/tls.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const folder = mkdtempSync(join(tmpdir(), 'groundwork-tls-'));
const at = (name: string): string => join(folder, name);
const checkout = new Checkout();
let scratch: Scratch;
/** Of gw_owner, at a name that the certificate has, without parameters. */
let owner = '';

const openssl = (...args: string[]) =>
  execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });

/** A certificate of our own authority. */
function certify(name: string, subject: string, host?: string): void {
  openssl(
    ...['req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${subject}`],
    ...['-keyout', `${name}.key`, '-out', `${name}.csr`],
  );
  writeFileSync(at(`${name}.ext`), host === undefined ? '' : `subjectAltName=DNS:${host}\n`);
  openssl(
    ...['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key'],
    ...['-CAcreateserial', '-days', '2', '-extfile', `${name}.ext`, '-out', `${name}.crt`],
  );
}

/** Has the server show a certificate. */
async function show(name: string): Promise<void> {
  await withSql(scratch.superuserUrl, async (sql) => {
    const [files] = await sql<{ hba: string; home: string }[]>`
      select current_setting('hba_file') as hba, current_setting('data_directory') as home`;
    const { hba = '', home = '' } = files ?? {};
    const { uid, gid } = statSync(home);
    const key = join(home, `${name}.key`);
    execFileSync('cp', [at(`${name}.crt`), at(`${name}.key`), at('ca.crt'), home]);
    for (const file of [`${name}.crt`, `${name}.key`, 'ca.crt'])
      chownSync(join(home, file), uid, gid);
    chmodSync(key, 0o600);
    writeFileSync(
      hba,
      [
        'local all all scram-sha-256',
        'host all postgres 127.0.0.1/32 scram-sha-256',
        'hostssl certified gw_readonly all scram-sha-256 clientcert=verify-ca',
        'hostssl all,replication all 127.0.0.1/32 scram-sha-256',
        '',
      ].join('\n'),
    );
    await sql.unsafe(`alter system set ssl_cert_file = '${name}.crt'`);
    await sql.unsafe(`alter system set ssl_key_file = '${name}.key'`);
    await sql.unsafe("alter system set ssl_ca_file = 'ca.crt'");
    await sql.unsafe('alter system set ssl = on');
    await sql`select pg_reload_conf()`;
  });
  await eventually(() => failure(`${owner}?sslmode=require`).then((said) => said === 'none'));
}

/** How both drivers fail with a URL; the same for both. */
async function failure(url: string): Promise<string> {
  const ways = [
    () => withSql(withTls(url, {}), (sql) => sql`select 1`),
    async () => {
      const client = new Client({ connectionString: withTls(url, {}) });
      try {
        await client.connect();
        await client.query('select 1');
      } finally {
        await client.end().catch(() => {});
      }
    },
  ];
  const said = await Promise.all(
    ways.map((way) =>
      way().then(
        () => 'none',
        (error: { code?: string; message: string }) => error.code ?? error.message,
      ),
    ),
  );
  expect(said[0]).toBe(said[1]);
  return said[0] ?? '';
}

beforeAll(async () => {
  openssl(
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=Our CA'],
    ...['-keyout', 'ca.key', '-out', 'ca.crt'],
  );
  certify('right', 'localhost', 'localhost');
  certify('wrong', 'elsewhere.example', 'elsewhere.example');
  certify('client', 'gw_readonly');
  scratch = await startScratch('postgres', { topic: 'tls' });
  const { urls } = await createMigrated(scratch.superuserUrl, 'tls');
  owner = urls.owner.replace('127.0.0.1', 'localhost');
  await show('right');
}, patience(60_000));

afterAll(async () => {
  await checkout.remove();
  await scratch?.stop();
  rmSync(folder, { recursive: true, force: true });
});

describe('both drivers', () => {
  test('encrypt, and refuse a server that is not certified', async () => {
    const root = `&sslrootcert=${at('ca.crt')}`;
    expect(await failure(owner)).toBe('28000');
    expect(await failure(`${owner}?sslmode=disable`)).toBe('28000');
    expect(await failure(`${owner}?sslmode=require`)).toBe('none');
    expect(await failure(`${owner}?sslmode=verify-full`)).toMatch(/UNABLE_TO|SELF_SIGNED/);
    for (const mode of ['require', 'verify-ca', 'verify-full']) {
      expect(await failure(`${owner}?sslmode=${mode}${root}`), mode).toBe('none');
    }
    await show('wrong');
    expect(await failure(`${owner}?sslmode=verify-ca${root}`)).toBe('none');
    expect(await failure(`${owner}?sslmode=verify-full${root}`)).toBe(
      'ERR_TLS_CERT_ALTNAME_INVALID',
    );
    await show('right');
  });

  test('show a certificate of their own', async () => {
    await withSql(scratch.superuserUrl, (sql) => sql`create database certified`);
    const readonly = scratch.database('certified').urls.readonly.replace('127.0.0.1', 'localhost');
    expect(await failure(`${readonly}?sslmode=require`)).toBe('28000');
    const own = `sslcert=${at('client.crt')}&sslkey=${at('client.key')}`;
    expect(await failure(`${readonly}?sslmode=require&${own}`)).toBe('none');
  });
});

describe('a command', () => {
  const env = (): NodeJS.ProcessEnv => ({
    DATABASE_URL: owner,
    PGSSLMODE: 'verify-full',
    PGSSLROOTCERT: at('ca.crt'),
  });
  const passwords = (): NodeJS.ProcessEnv =>
    Object.fromEntries(
      (['authenticator', 'worker', 'cdc', 'monitor'] as const).map((role) => [
        `GW_${role.toUpperCase()}_PASSWORD`,
        decodeURIComponent(new URL(scratch.database('tls').urls[role]).password),
      ]),
    );

  test.for([
    ['migrate'],
    ['status'],
    ['watch', '--once'],
    ['check', 'wraparound'],
    ['db', 'psql', '--', '-Atc', 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'],
    ['report', 'table-sizes', '--json'],
  ])('%j takes PGSSLMODE and PGSSLROOTCERT', { timeout: patience(60_000) }, async (args) => {
    const { code, stderr } = await checkout.run(args, { ...env(), ...passwords() });
    expect(code, stderr).toBe(0);
  });

  test('of a process connects too', { timeout: patience(60_000) }, async () => {
    const port = await freePort();
    const processes = ['serve', 'worker', 'cdc'].map((name) =>
      checkout.start([name], { ...env(), ...passwords(), GW_PORT: String(port) }),
    );
    await eventually(async () => {
      const rows = await withSql(
        scratch.superuserUrl,
        (sql) => sql<{ role: string; ssl: boolean }[]>`
          select usename as role, bool_and(ssl) as ssl
          from pg_stat_activity inner join pg_stat_ssl using (pid)
          where usename in ('gw_authenticator', 'gw_worker', 'gw_cdc')
          group by 1 order by 1`,
      );
      for (const each of processes) if (each.exitCode !== null) throw new Error(each.output());
      return rows.length === 3 && rows.every(({ ssl }) => ssl);
    }, 50_000);
  });

  test.for([
    ['sslmode=prefer', 'which goes on without encryption in silence'],
    ['sslmode=most', 'there are disable, require, verify-ca and verify-full'],
    ['sslmode=verify-ca', 'without sslrootcert'],
    ['sslmode=require&sslcert=/nowhere', 'needs sslcert and sslkey together'],
    ['sslmode=verify-full&sslrootcert=/nowhere/ca.crt', 'cannot be read (ENOENT): /nowhere/ca.crt'],
    ['sslrootcert=/nowhere/ca.crt', 'without sslmode: add verify-full'],
  ])('with %s is refused in a sentence', async ([query, said]) => {
    for (const args of [
      ['status', ''],
      ['check', '--url'],
    ]) {
      const url = `${owner}?${query}`;
      const { code, stdout, stderr } = await checkout.run(
        args[1] === '' ? ['status'] : ['check', '--url', url],
        { DATABASE_URL: url },
      );
      expect([code, `${stdout}${stderr}`]).toEqual([
        args[1] === '' ? 2 : 3,
        expect.stringContaining(said as string),
      ]);
      expect(`${stdout}${stderr}`).not.toContain('    at ');
    }
  });
});
