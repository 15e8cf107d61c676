import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import { changeUrl } from '../../src/postgres/urls.ts';
import { auditBootstrap, bootstrapDatabase } from '../../src/server/bootstrap.ts';
import { databaseAt } from '../../src/server/scratch.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

/*
 * What the toolkit does with rights that nobody else has, is in the audit log afterwards, and
 * the log is whole.
 */
const name = `gw_audited_${process.pid}`;
const database = databaseAt(inject('superuserUrl'), name);
const checkout = new Checkout();
const env = (): NodeJS.ProcessEnv => ({
  DATABASE_URL: database.urls.owner,
  ROOT_DATABASE_URL: inject('superuserUrl'),
  SHADOW_DATABASE_URL: changeUrl(database.urls.owner, { database: `${name}_shadow` }),
});

beforeAll(async () => {
  await withSql(inject('superuserUrl'), async (sql) => {
    await sql`create database ${sql(name)} owner gw_owner`;
  });
});

afterAll(async () => {
  await checkout.remove();
  await withSql(inject('superuserUrl'), async (sql) => {
    await sql`drop database if exists ${sql(name)} with (force)`;
    await sql`drop database if exists ${sql(`${name}_shadow`)} with (force)`;
  });
});

interface Entry {
  actor: string;
  action: string;
  details: Record<string, unknown>;
}

const entries = (action: string): Promise<Entry[]> =>
  withSql(database.urls.owner, async (sql) => [
    ...(await sql<Entry[]>`
      select actor, action, details from ops.audit_log where action = ${action} order by id`),
  ]);

async function run(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await checkout.run(args, env());
  expect(code, stderr).toBe(0);
  return stdout;
}

describe('the audit log', () => {
  test('has what the toolkit did, without secrets', { timeout: patience(120_000) }, async () => {
    await run('reset', '--yes');
    const [reset] = await entries('database.reset');
    expect(reset).toMatchObject({ actor: 'gw_owner', details: { database: name } });

    // Every migration once, however often one migrates, and with whatever tool.
    const ran = (await entries('migration.ran')).map(({ details }) => details.migration);
    const recorded = await withSql(database.urls.owner, async (sql) => {
      const rows = await sql`select filename from graphile_migrate.migrations order by filename`;
      return rows.map(({ filename }) => filename);
    });
    expect(ran).toEqual(recorded);
    expect(ran.length).toBeGreaterThan(20);
    await run('migrate');
    await run('watch', '--once');
    expect(await entries('migration.ran')).toHaveLength(ran.length);

    // One that is taken back and runs again, runs twice.
    writeFileSync(
      checkout.path('migrations', 'current', '1-current.sql'),
      'create table if not exists app_private.audited (id integer primary key);\n',
    );
    await run('commit', '-m', 'audited');
    const own = await entries('migration.ran');
    expect(own).toHaveLength(ran.length + 1);
    await run('uncommit');
    expect(await entries('migration.uncommitted')).toMatchObject([
      { actor: 'gw_owner', details: { migration: own.at(-1)?.details.migration } },
    ]);
    await run('commit', '-m', 'again');
    expect((await entries('migration.ran')).length).toBe(ran.length + 2);

    await run('seed', '--users', '3');
    const [seeded] = await entries('demo_data.added');
    expect(seeded?.details).toMatchObject({ users: 3 });

    const token = await run('token', '--email', 'demo1@example.com');
    const [issued] = await entries('token.issued');
    expect(issued?.details).toMatchObject({ hours: 12, user_id: expect.any(String) });

    const passwords = {
      GW_OWNER_PASSWORD: new URL(database.urls.owner).password,
      GW_AUTHENTICATOR_PASSWORD: new URL(database.urls.authenticator).password,
      GW_WORKER_PASSWORD: new URL(database.urls.worker).password,
      GW_CDC_PASSWORD: new URL(database.urls.cdc).password,
      GW_READONLY_PASSWORD: new URL(database.urls.readonly).password,
      GW_MONITOR_PASSWORD: new URL(database.urls.monitor).password,
    };
    const started = await checkout.run(['db', 'start'], { ...env(), ...passwords });
    expect(started.code, started.stderr).toBe(0);
    const [bootstrapped] = await entries('roles.bootstrapped');
    expect(bootstrapped).toMatchObject({
      actor: 'gw_owner',
      details: { passwords_set: expect.arrayContaining(['gw_owner', 'gw_worker']) },
    });

    await withSql(database.urls.owner, async (sql) => {
      expect(await sql`select * from ops.verify_audit_log()`).toHaveLength(0);
      const [all] = await sql`select string_agg(details::text, ' ') as text from ops.audit_log`;
      for (const secret of [...Object.values(passwords), token.trim(), 'demo1@example.com']) {
        expect(all?.text).not.toContain(secret);
      }
    });
  });

  test('may be missing: an empty database is bootstrapped and migrated', async () => {
    const empty = `${name}_empty`;
    const { urls } = databaseAt(inject('superuserUrl'), empty);
    await withSql(inject('superuserUrl'), (sql) => sql`create database ${sql(empty)}`);
    try {
      const superuser = urls.superuser ?? '';
      await bootstrapDatabase(superuser);
      await auditBootstrap(superuser, { owner: 'unused' });
      const { code, stderr } = await checkout.run(['migrate'], { DATABASE_URL: urls.owner });
      expect(code, stderr).toBe(0);
      await withSql(urls.owner, async (sql) => {
        expect(await sql`select * from ops.verify_audit_log()`).toHaveLength(0);
      });
    } finally {
      await withSql(inject('superuserUrl'), (sql) => sql`drop database ${sql(empty)} with (force)`);
    }
  });
});
