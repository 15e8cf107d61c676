import { expect, inject, test } from 'vitest';
import { Drain } from '../../src/api/drain.ts';
import { FullDisk } from '../../src/api/full-disk.ts';
import { readiness } from '../../src/api/health.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { Probe } from '../../src/postgres/probe.ts';
import { databaseName } from '../../src/postgres/urls.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const api = useApi(db);

async function ready(): Promise<{ status: number; checks: Record<string, string> }> {
  const response = await fetch(`${api.origin}/readyz`);
  const { checks } = (await response.json()) as { checks: Record<string, string> };
  return { status: response.status, checks };
}

test('a ready API says so', async () => {
  expect(await ready()).toEqual({
    status: 200,
    checks: { database: 'ok', migrations: 'ok', role: 'ok' },
  });
  expect((await fetch(`${api.origin}/healthz`)).status).toBe(200);
});

test('an older database is not ready, and both versions are named', async () => {
  const sql = db.as('owner');
  const [last] = await sql<{ hash: string; previous_hash: string; filename: string }[]>`
    delete from graphile_migrate.migrations
    where filename = (select max(filename) from graphile_migrate.migrations)
    returning hash, previous_hash, filename`;
  const { status, checks } = await ready();
  expect(status).toBe(503);
  expect(checks.migrations).toMatch(/^the database is at \d{6}\.sql, the code at \d{6}\.sql$/);
  expect(checks.migrations).toContain(last?.filename);
  await sql`insert into graphile_migrate.migrations ${sql(last as never)}`;
  expect((await ready()).status).toBe(200);
});

test('a newer database is ready: migrations run before the code that needs them', async () => {
  const sql = db.as('owner');
  await sql`
    insert into graphile_migrate.migrations (hash, previous_hash, filename)
    select 'later', hash, '999999.sql' from graphile_migrate.migrations
    order by filename desc limit 1`;
  expect((await ready()).status).toBe(200);
  await sql`delete from graphile_migrate.migrations where hash = 'later'`;
});

test('a database that ran another migration under that number is not ready', async () => {
  const sql = db.as('owner');
  const [last] = await sql<{ hash: string; filename: string }[]>`
    select hash, filename from graphile_migrate.migrations order by filename desc limit 1`;
  await sql`
    update graphile_migrate.migrations set hash = 'other' where filename = ${last?.filename ?? ''}`;
  const { status, checks } = await ready();
  expect(status).toBe(503);
  expect(checks.migrations).toMatch(/^the database ran another 0000\d\d\.sql than \S+\.sql$/);
  await sql`update graphile_migrate.migrations set hash = ${last?.hash ?? ''} where hash = 'other'`;
  expect((await ready()).status).toBe(200);
});

test('a role that may not become a user is not ready, and strangers are not told which', async () => {
  await db.as('owner')`grant execute on function ops.last_migration() to gw_monitor`;
  const probe = new Probe({ url: db.url('monitor'), applicationName: 'test', timeoutMs: 5_000 });
  try {
    expect(await readiness(probe, new Drain(), new FullDisk(), { reason: undefined })).toEqual({
      ready: false,
      checks: {
        // gw_monitor's sessions are read-only.
        database: 'it takes no writes',
        migrations: 'ok',
        role: 'the role of this process may not become app_user and app_anonymous',
      },
    });
  } finally {
    await probe.close();
  }
});

test('while the database is away: alive, not ready, UNAVAILABLE; afterwards all is well', async () => {
  const name = databaseName(db.url('owner'));
  const close = (allowed: boolean) =>
    withSql(inject('superuserUrl'), async (sql) => {
      await sql`alter database ${sql(name)} with allow_connections ${sql.unsafe(String(allowed))}`;
      // Those that come after it is open again are not meant.
      if (!allowed)
        await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
    });
  const { accessToken } = await api.register('away@example.com');
  await close(false);
  const away = await ready();
  expect(away.status).toBe(503);
  expect(away.checks.database).not.toBe('ok');
  expect((await fetch(`${api.origin}/healthz`)).status).toBe(200);
  const { errors } = await api.query('{ viewer { email } }', {}, accessToken);
  expect(errors[0]?.extensions.code).toBe('UNAVAILABLE');
  expect(JSON.stringify(errors)).not.toContain(name);

  await close(true);
  await eventually(async () => (await ready()).status === 200);
  expect(await api.query('{ viewer { email } }', {}, accessToken)).toMatchObject({
    data: { viewer: { email: 'away@example.com' } },
  });

  // A session that ends after that is still noticed: the listener has come back too.
  await eventually(async () => {
    const logout = 'mutation { logout(input: { everywhere: true }) { result } }';
    const { status, errors } = await api.query(logout, {}, accessToken);
    return status === 401 || errors.length === 0;
  });
  await eventually(async () => {
    const codes = await api.codes('{ viewer { email } }', {}, accessToken);
    return codes[0] === 'TOKEN_INVALID';
  });
});
