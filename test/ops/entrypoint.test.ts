import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import { projectRoot } from '../../src/project.ts';
import { findInstallations } from '../../src/server/binaries.ts';
import { randomPort } from '../../src/server/ports.ts';
import { settingsFor, thisMachine } from '../../src/server/tuning.ts';
import { withTls } from '../../src/tls.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/* What the container of the database runs, without the container. */
const folder = mkdtempSync(join(tmpdir(), 'groundwork-entrypoint-'));
const [data, tls] = [join(folder, 'data'), join(folder, 'tls')];
let server: ChildProcess;
let port: number;
let said = '';

/** Starts it as the container does: as the user postgres when we are root. */
async function start(): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  const [command = '', ...args] = [
    ...(isRoot ? ['setpriv', '--reuid=postgres', '--regid=postgres', '--clear-groups'] : []),
    ...['bash', join(folder, 'entrypoint.sh'), '-c', `port=${port}`],
    ...['-c', 'unix_socket_directories='],
  ];
  server = spawn(command, args, {
    cwd: '/',
    env: { PATH: process.env.PATH, PGDATA: data, GW_TLS_DIR: tls, POSTGRES_PASSWORD: 'secret-0' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  server.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await eventually(
    () =>
      ask('').then(
        () => true,
        () => false,
      ),
    60_000,
  );
}

const ask = (parameters: string, host = '127.0.0.1') =>
  withSql(
    withTls(`postgres://postgres:secret-0@${host}:${port}/groundwork?${parameters}`),
    (sql) => sql`select ssl, version from pg_stat_ssl where pid = pg_backend_pid()`,
  );

const isDocker = process.env.GW_TEST_DB === 'docker';

beforeAll(async () => {
  if (isDocker) return;
  const [installation] = findInstallations();
  const script = readFileSync(join(projectRoot, 'docker', 'entrypoint.sh'), 'utf8')
    .replace('/usr/local/share/groundwork/postgresql.conf', join(folder, 'postgresql.conf'))
    .replace('$(echo /usr/lib/postgresql/*/bin)', installation?.bin ?? '');
  writeFileSync(join(folder, 'entrypoint.sh'), script);
  const settings = readFileSync(join(projectRoot, 'docker', 'postgresql.conf'), 'utf8');
  writeFileSync(join(folder, 'postgresql.conf'), `${settings}\nshared_buffers = 32MB\n`);
  mkdirSync(data, { mode: 0o700 });
  mkdirSync(tls, { mode: 0o755 });
  chmodSync(folder, 0o755);
  if (process.getuid?.() === 0) execFileSync('chown', ['-R', 'postgres:postgres', data, tls]);
  port = await randomPort();
  await start();
}, patience(90_000));

afterAll(async () => {
  if (isDocker) return;
  server.kill('SIGINT');
  await once(server, 'exit');
  rmSync(folder, { recursive: true });
});

test.skipIf(isDocker)('the server has a certificate that its authority vouches for', async () => {
  const authority = `sslrootcert=${join(tls, 'ca.crt')}`;
  expect(await ask(`sslmode=verify-ca&${authority}`)).toMatchObject([{ ssl: true }]);
  expect(await ask(`sslmode=verify-full&${authority}`, 'localhost')).toMatchObject([{ ssl: true }]);
  expect(await ask('sslmode=require')).toMatchObject([{ ssl: true }]);
  await expect(ask('sslmode=verify-full', 'localhost')).rejects.toThrow(/certificate/);
  // Nobody can make another one.
  expect(readdirSync(join(data, 'tls')).sort()).toEqual(['ca.crt', 'server.crt', 'server.key']);
});

test.skipIf(isDocker)('the certificate stays when the container starts again', async () => {
  const before = readFileSync(join(tls, 'ca.crt'), 'utf8');
  server.kill('SIGINT');
  await once(server, 'exit');
  await start();
  expect(readFileSync(join(tls, 'ca.crt'), 'utf8')).toBe(before);
  expect(said.match(/making a certificate for DNS:db,DNS:localhost,IP:127.0.0.1/g)).toHaveLength(1);
});

test.skipIf(isDocker)('the server has of the memory what `gw tune` would give it', async () => {
  const machine = { ...thisMachine(), database: 0, connections: 100 };
  const wanted = settingsFor(machine).filter(({ name }) =>
    ['shared_buffers', 'effective_cache_size', 'work_mem', 'maintenance_work_mem'].includes(name),
  );
  expect(readFileSync(join(data, 'cluster', 'machine.conf'), 'utf8')).toBe(
    wanted.map(({ name, value }) => `${name} = ${value}\n`).join(''),
  );
  const url = withTls(`postgres://postgres:secret-0@127.0.0.1:${port}/groundwork?sslmode=require`);
  const files = await withSql(
    url,
    (sql) => sql`
      select name, setting from pg_file_settings
      where sourcefile like '%/machine.conf' and error is null order by seqno`,
  );
  expect(files.map(({ name, setting }) => `${name} = ${setting}\n`)).toEqual(
    wanted.map(({ name, value }) => `${name} = ${value}\n`),
  );
});
