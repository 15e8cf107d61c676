import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { budgetOf } from '../../src/connections.ts';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret } from '../helpers/api.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

vi.setConfig({ testTimeout: patience(60_000) });

const db = useDatabase();
const checkout = new Checkout();
const vendor = new Vendor();
afterAll(async () => {
  await checkout.remove();
  await vendor.stop();
});

const passwordOf = (role: 'authenticator' | 'worker' | 'cdc') => new URL(db.url(role)).password;

describe('gw config', () => {
  test('prints what is in force, where it comes from, and no secret', async () => {
    const file = checkout.path('jwt');
    writeFileSync(file, `${jwtSecret}\n`);
    const { code, stdout, stderr } = await checkout.run(['config', '--json'], {
      DATABASE_URL: 'postgres://gw_owner:hush@db.example.com/groundwork?sslmode=require',
      GW_JWT_SECRET_FILE: file,
      GW_ALERT_URL: 'https://hooks.example.com/T0/hush',
      GW_DELIVERY_URL: 'http://ada:hush@127.0.0.1:8080/hush?key=hush',
      GW_WORKER_PASSWORD: 'hush hush',
      GW_POOL_SIZE: '7',
    });
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).not.toContain('hush');
    expect(stdout).not.toContain(jwtSecret);
    const { variables, connections, formula } = JSON.parse(stdout);
    expect(variables).toEqual(
      expect.arrayContaining([
        {
          variable: 'DATABASE_URL',
          value: 'postgres://gw_owner:…@db.example.com/groundwork',
          from: 'environment',
        },
        { variable: 'GW_JWT_SECRET', value: '…', from: file },
        { variable: 'GW_ALERT_URL', value: 'https://hooks.example.com/…', from: 'environment' },
        {
          variable: 'GW_DELIVERY_URL',
          value: 'http://ada:…@127.0.0.1:8080/…',
          from: 'environment',
        },
        { variable: 'GW_WORKER_PASSWORD', value: '…', from: 'environment' },
        { variable: 'GW_HOST', value: '127.0.0.1', from: 'default' },
        { variable: 'GW_METRICS_TOKEN', value: '', from: 'unset' },
      ]),
    );
    expect(connections[0]).toMatchObject({ process: 'serve', total: 12 });
    expect(formula).toBe('max_connections ≥ serve × 12 + worker × 10 + cdc × 4 + 13');
    const shown = await checkout.run(['config'], {});
    expect(shown.stdout).toMatch(/^GW_POOL_SIZE +20 +default$/m);
    expect(shown.stdout).toContain('serve × 25');
  });

  test('says with --for what production lacks, all at once', async () => {
    const { code, stderr } = await checkout.run(['config', '--for', 'both'], {
      NODE_ENV: 'production',
    });
    expect(code).toBe(2);
    for (const name of ['GW_JWT_SECRET', 'GW_DELIVERY_URL', 'GW_PUBLIC_URL', 'GW_ALERT_URL']) {
      expect(stderr).toContain(`  ${name}: must be set in production`);
    }
    const mail = { GW_ALERT_EMAIL_TO: 'ops@example.com', GW_PUBLIC_URL: 'https://example.com' };
    const file = checkout.path('jwt');
    writeFileSync(file, jwtSecret);
    const fine = { ...mail, GW_JWT_SECRET_FILE: file, GW_DELIVERY_URL: 'file:' };
    expect(
      (await checkout.run(['config', '--for', 'both'], { NODE_ENV: 'production', ...fine })).code,
    ).toBe(0);
  });
});

test('a variable that nobody reads is told, with the one that was meant', async () => {
  const { stderr } = await checkout.run(['config'], {
    GW_PUBLIC_ULR: 'https://example.com',
    GW_WORKER_PASSWORD_FLIE: '/x',
    GW_ZZZZZZZZ: '1',
    GW_TEST_ANYTHING: '1',
  });
  expect(stderr.trim().split('\n')).toEqual([
    'warning: nobody reads GW_PUBLIC_ULR; did you mean GW_PUBLIC_URL?',
    'warning: nobody reads GW_WORKER_PASSWORD_FLIE; did you mean GW_WORKER_PASSWORD_FILE?',
    'warning: nobody reads GW_ZZZZZZZZ',
  ]);
});

test('a file that cannot be read, and a variable that is set twice, are said', async () => {
  const { code, stderr } = await checkout.run(['config'], {
    GW_METRICS_TOKEN_FILE: '/nowhere/token',
    GW_JWT_SECRET: jwtSecret,
    GW_JWT_SECRET_FILE: '/nowhere/jwt',
  });
  expect(code).toBe(2);
  expect(stderr).toContain('GW_METRICS_TOKEN_FILE: /nowhere/token cannot be read (ENOENT)');
  expect(stderr).toContain('GW_JWT_SECRET: is set twice, by itself and by GW_JWT_SECRET_FILE');
});

test('with everything given nothing is written, and the log level is read again at SIGHUP', async () => {
  await vendor.start();
  const port = await randomPort();
  const secrets = checkout.path('secrets');
  mkdirSync(secrets);
  const file = (name: string, text: string): string => {
    writeFileSync(`${secrets}/${name}`, `${text}\n`);
    return `${secrets}/${name}`;
  };
  const url = new URL(db.url('owner'));
  url.password = '';
  const env = {
    NODE_ENV: 'production',
    DATABASE_URL_FILE: file('url', url.href),
    GW_AUTHENTICATOR_PASSWORD_FILE: file('authenticator', passwordOf('authenticator')),
    GW_WORKER_PASSWORD_FILE: file('worker', passwordOf('worker')),
    GW_CDC_PASSWORD_FILE: file('cdc', passwordOf('cdc')),
    GW_JWT_SECRET_FILE: file('jwt', jwtSecret),
    GW_DELIVERY_URL: vendor.url,
    GW_PUBLIC_URL: 'https://example.com',
    GW_ALERT_URL: vendor.url,
    GW_PORT: String(port),
    GW_DRAIN_SECONDS: '0',
    GW_LOG_LEVEL_FILE: file('level', 'info'),
  };
  rmSync(checkout.path('.groundwork'), { recursive: true, force: true });
  const processes = [['serve'], ['worker'], ['cdc']].map((args) => checkout.start(args, env));
  await eventually(
    async () =>
      ['"listening"', '"working"', '"reading"'].every((text, index) =>
        processes[index]?.output().includes(text),
      ),
    30_000,
  );
  expect(existsSync(checkout.path('.groundwork'))).toBe(false);

  const connections = async (): Promise<Record<string, number>> => {
    const rows = await db.as('superuser')<{ name: string; count: number }[]>`
      select application_name as name, count(*)::integer as count from pg_stat_activity
      where datname = current_database() and application_name ~ '^gw' group by 1`;
    return Object.fromEntries(rows.map(({ name, count }) => [name, count]));
  };
  const total = (counts: Record<string, number>, pattern: RegExp) =>
    Object.entries(counts)
      .filter(([name]) => pattern.test(name))
      .reduce((sum, [, count]) => sum + count, 0);
  // Many that begin at once leave room for others.
  expect(total(await connections(), /^gw-api/)).toBeLessThanOrEqual(6);

  // As many connections as gw config says, and no more.
  const ask = () =>
    fetch(`http://127.0.0.1:${port}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"query":"{ __typename viewer { email } }"}',
    });
  await Promise.all(Array.from({ length: 200 }, ask));
  await fetch(`http://127.0.0.1:${port}/readyz`);
  await fetch(`http://127.0.0.1:${port}/metrics`);
  const counts = await connections();
  const sum = (pattern: RegExp) => total(counts, pattern);
  const [serve, worker, cdc] = budgetOf(loadConfig({}));
  expect(sum(/^gw-api/)).toBeLessThanOrEqual(serve?.total ?? 0);
  expect(sum(/^gw-api/)).toBeGreaterThan(3);
  expect(sum(/^gw-worker/)).toBeLessThanOrEqual(worker?.total ?? 0);
  expect(sum(/^gw cdc/)).toBe(cdc?.total);

  const [api] = processes;
  writeFileSync(env.GW_LOG_LEVEL_FILE, 'debug\n');
  api?.kill('SIGHUP');
  await eventually(async () => api?.output().includes('took the log level over'));
  await fetch(`http://127.0.0.1:${port}/healthz`);
  await eventually(async () => api?.output().includes('"path":"/healthz"'));
  for (const one of processes) one.kill('SIGTERM');
  await eventually(async () => processes.every(({ exitCode }) => exitCode === 0), 30_000);
  await db.as('superuser')`
    select pg_drop_replication_slot(slot_name) from pg_replication_slots
    where database = current_database()`;
});
