import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/* What other people who use the machine can see of a checkout and its server. */
const checkout = new Checkout();
let superuser: Sql;
let data: string;

beforeAll(async () => {
  const { code, stderr } = await checkout.run(['db', 'start']);
  expect(code, stderr).toBe(0);
  const url = await checkout.run(['db', 'url', '--role', 'superuser']);
  superuser = connect(url.stdout.trim(), { max: 2 });
  const [row] = await superuser`select current_setting('data_directory') as data`;
  data = row?.data;
}, patience(60_000));

afterAll(async () => {
  await superuser?.end({ timeout: 1 });
  await checkout.remove();
}, patience(60_000));

const modeOf = (...path: string[]): string => (statSync(join(...path)).mode & 0o777).toString(8);

test('the folder of the state, its files and the cluster are for their owner alone', () => {
  const state = checkout.path('.groundwork');
  expect(modeOf(state)).toBe('700');
  const files = readdirSync(state).filter((name) => statSync(join(state, name)).isFile());
  expect(files).toEqual(expect.arrayContaining(['secrets.json', 'state.json']));
  for (const name of files) expect(modeOf(state, name), name).toMatch(/^600$/);
  expect(modeOf(dirname(data))).toBe('700');
  expect(modeOf(data)).toBe('700');
});

test('no password lies beside the cluster', () => {
  const { superuser: password } = checkout.json<{ superuser: string }>(
    '.groundwork',
    'secrets.json',
  );
  for (const name of readdirSync(dirname(data))) {
    const path = join(dirname(data), name);
    expect(name).not.toMatch(/password/);
    if (statSync(path).isFile()) expect(readFileSync(path, 'utf8')).not.toContain(password);
  }
});

test('whoever connects has a password, and takes no copy of the cluster as gw_cdc', async () => {
  const rules = await superuser<
    { type: string; database: string[]; user: string[]; method: string }[]
  >`
    select type, database, user_name as user, auth_method as method
    from pg_hba_file_rules order by line_number`;
  expect(rules.slice(0, 2)).toEqual([
    { type: 'local', database: ['replication'], user: ['gw_cdc'], method: 'reject' },
    { type: 'host', database: ['replication'], user: ['gw_cdc'], method: 'reject' },
  ]);
  const methods = rules.slice(2).map(({ method }) => method);
  expect(new Set(methods)).toEqual(new Set(['scram-sha-256']));
});

test('the server listens on loopback, and for its own user alone by a socket', async () => {
  const [row] = await superuser`
    select current_setting('listen_addresses') as addresses,
      current_setting('unix_socket_directories') as sockets`;
  expect(row?.addresses).toBe('127.0.0.1');
  const { uid, mode } = statSync(row?.sockets);
  expect(mode & 0o777).toBe(0o700);
  expect(uid).toBe(statSync(join(row?.sockets, '..', 'data')).uid);
});

test('psql has its password where nobody sees it', async () => {
  const child = checkout.start(['db', 'psql', '--', '-Atc', 'select pg_sleep(30)']);
  try {
    const commandLine = await eventually(async () => {
      for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
        try {
          const text = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
          if (/psql postgres:.*pg_sleep\(30\)/.test(text)) return text;
        } catch {
          // It has ended.
        }
      }
      return undefined;
    });
    const secrets = checkout.json<Record<string, string>>('.groundwork', 'secrets.json');
    for (const secret of Object.values(secrets)) expect(commandLine).not.toContain(secret);
    await eventually(async () => {
      const rows = await superuser`
        select from pg_stat_activity where usename = 'gw_owner' and query like '%pg_sleep(30)%'`;
      return rows.length > 0;
    });
  } finally {
    await superuser`select pg_terminate_backend(pid) from pg_stat_activity
      where usename = 'gw_owner' and query like '%pg_sleep(30)%'`;
    if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
  }
});
