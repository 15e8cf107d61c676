import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import { changeUrl } from '../../src/postgres/urls.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';

const db = useDatabase();
const checkout = new Checkout();
afterAll(() => checkout.remove());

describe('a wrong DATABASE_URL is explained', () => {
  const migrate = (url: string) => checkout.run(['migrate'], { DATABASE_URL: url });

  test('nothing listens there', async () => {
    const { code, stderr } = await migrate('postgres://gw_owner:hush-hush@127.0.0.1:1/groundwork');
    expect(code).toBe(3);
    expect(stderr).toContain('error: nothing listens at 127.0.0.1:1/groundwork (DATABASE_URL)');
    expect(stderr).toContain('hint: ');
    expect(stderr).not.toContain('hush-hush');
  });

  test('the host is not known', async () => {
    const { code, stderr } = await migrate('postgres://gw_owner@no-such-host.invalid/groundwork');
    expect(code).toBe(3);
    expect(stderr).toContain('the host of no-such-host.invalid:5432/groundwork is not known');
  });

  test('the password is wrong', async () => {
    const { code, stderr } = await migrate(changeUrl(db.url('owner'), { password: 'hush-hush' }));
    expect(code).toBe(3);
    expect(stderr).toMatch(/refuses user "gw_owner": password authentication failed/);
    expect(stderr).not.toContain('hush-hush');
  });

  test('the database does not exist', async () => {
    const { code, stderr } = await migrate(changeUrl(db.url('owner'), { database: 'nowhere' }));
    expect(code).toBe(3);
    expect(stderr).toContain('has no database "nowhere"');
    expect(stderr).toContain('hint: Create it with: createdb nowhere');
  });

  test('it is no URL of PostgreSQL, and other variables are wrong too: all are said at once', async () => {
    const { code, stderr } = await checkout.run(['migrate'], {
      DATABASE_URL: 'mysql://secret@host/db',
      GW_PORT: '99999',
      GW_DELIVERY_URL: 'ftp://x',
    });
    expect(code).toBe(2);
    for (const name of ['DATABASE_URL', 'GW_PORT', 'GW_DELIVERY_URL']) {
      expect(stderr).toContain(`  ${name}: `);
    }
    expect(stderr).not.toContain('secret');
  });

  test('npm start says it too, and leaves nothing running', async () => {
    const { code, stderr } = await checkout.run(['up'], {
      DATABASE_URL: 'postgres://gw_owner:hush-hush@127.0.0.1:1/groundwork',
    });
    expect(code).toBe(3);
    expect(stderr).toContain('nothing listens at 127.0.0.1:1/groundwork');
    expect(readdirSync(checkout.path('.groundwork'))).not.toContain('pids.json');
  });

  test('its user may not make roles', async () => {
    const { code, stderr } = await checkout.run(['up'], { DATABASE_URL: db.url('monitor') });
    expect(code).toBe(2);
    expect(stderr).toContain('may not make roles, and is not gw_owner');
  });
});

describe('passwords of roles that another checkout made', () => {
  const passwords = (): NodeJS.ProcessEnv =>
    Object.fromEntries(
      (['owner', 'authenticator', 'worker', 'cdc', 'readonly', 'monitor'] as const).map((role) => [
        `GW_${role.toUpperCase()}_PASSWORD`,
        new URL(db.url(role)).password,
      ]),
    );

  test('are never overwritten: they must be named', async () => {
    const { code, stderr } = await checkout.run(['db', 'start'], {
      DATABASE_URL: db.url('superuser'),
    });
    expect(code).toBe(2);
    expect(stderr).toContain('passwords of their own: gw_owner, gw_authenticator');
    expect(stderr).toContain('GW_WORKER_PASSWORD');
    await withSql(db.url('worker'), (sql) => sql`select 1`);
  });

  test('are used when the environment names them, in DATABASE_URL too', async () => {
    const named = await checkout.run(['db', 'start'], {
      ...passwords(),
      DATABASE_URL: db.url('superuser'),
    });
    expect(named.code, named.stderr).toBe(0);
    const { GW_OWNER_PASSWORD: _, ...others } = passwords();
    const inUrl = await checkout.run(['db', 'start'], {
      ...others,
      DATABASE_URL: db.url('owner'),
      ROOT_DATABASE_URL: inject('superuserUrl'),
    });
    expect(inUrl.code, inUrl.stderr).toBe(0);
    await withSql(db.url('owner'), (sql) => sql`select 1`);
  });
});

test('a port that GW_PORT asks for and somebody has is an error, not another port', async () => {
  const { createServer } = await import('node:net');
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
  const { port } = squatter.address() as { port: number };
  const { code, stderr } = await checkout.run(['serve'], {
    DATABASE_URL: db.url('owner'),
    GW_AUTHENTICATOR_PASSWORD: new URL(db.url('authenticator')).password,
    GW_PORT: String(port),
  });
  squatter.close();
  expect(code).toBe(2);
  expect(stderr).toContain(`"msg":"port ${port} is taken"`);
});

describe('migrations', () => {
  const name = `gw_migrations_${process.pid}`;
  const env = (): NodeJS.ProcessEnv => ({
    DATABASE_URL: changeUrl(db.url('owner'), { database: name }),
    ROOT_DATABASE_URL: inject('superuserUrl'),
    SHADOW_DATABASE_URL: changeUrl(db.url('owner'), { database: `${name}_shadow` }),
  });
  const current = checkout.path('migrations', 'current');
  const committed = checkout.path('migrations', 'committed');
  const tables = () =>
    withSql(env().DATABASE_URL as string, async (sql) => {
      const rows = await sql`select tablename from pg_tables where schemaname = 'app_public'`;
      return rows.map(({ tablename }) => tablename as string);
    });

  beforeAll(async () => {
    await withSql(inject('superuserUrl'), async (sql) => {
      await sql`create database ${sql(name)} owner gw_owner`;
    });
  });
  afterAll(async () => {
    await withSql(inject('superuserUrl'), async (sql) => {
      await sql`drop database if exists ${sql(name)} with (force)`;
      await sql`drop database if exists ${sql(`${name}_shadow`)} with (force)`;
    });
  });

  test('from an empty database to a committed change and back', {
    timeout: patience(60_000),
  }, async () => {
    // reset makes the database from nothing, extensions included.
    expect(await checkout.run(['reset', '--dry-run'], env())).toMatchObject({ code: 0 });
    expect((await checkout.run(['reset'], env())).code).toBe(2);
    const reset = await checkout.run(['reset', '--yes'], env());
    expect(reset.code, reset.stderr).toBe(0);
    expect(await tables()).toContain('tasks');

    // Migrating again does nothing, also twice at once.
    const twice = await Promise.all([
      checkout.run(['migrate'], env()),
      checkout.run(['migrate'], env()),
    ]);
    for (const { code, stdout } of twice) {
      expect({ code, stdout }).toEqual({ code: 0, stdout: '0 migrations ran\n' });
    }

    // A change, with a fixture, is tried, shown as uncommitted, committed, and taken back.
    const fixture = checkout.path('migrations', 'fixtures', 'functions', 'app_hidden', 'two.sql');
    writeFileSync(
      fixture,
      'create or replace function app_hidden.two() returns int\nlanguage sql as $$\n  select nope\n$$;\n',
    );
    writeFileSync(
      `${current}/0001-two.sql`,
      '-- Adds a number.\n\n--!include functions/app_hidden/two.sql\n',
    );
    const broken = await checkout.run(['watch', '--once'], env());
    expect(broken.code).toBe(1);
    expect(broken.stderr).toContain('error: column "nope" does not exist');
    expect(broken.stderr).toContain('--> migrations/fixtures/functions/app_hidden/two.sql:3:10');
    expect(broken.stderr).toContain('3 |   select nope');
    expect(broken.stderr).toContain('code: 42703');

    cpSync(fixture, `${fixture}.old`);
    writeFileSync(
      fixture,
      'create or replace function app_hidden.two() returns int\nlanguage sql as $$\n  select 2\n$$;\n',
    );
    expect((await checkout.run(['watch', '--once'], env())).code).toBe(0);
    expect((await checkout.run(['status'], env())).code).toBe(2);
    const before = readdirSync(committed).length;
    const commit = await checkout.run(['commit', '-m', 'two'], env());
    expect(commit.code, commit.stderr).toBe(0);
    expect(readdirSync(committed)).toHaveLength(before + 1);
    expect((await checkout.run(['status'], env())).code).toBe(0);
    expect((await checkout.run(['migrate', '--shadow'], env())).code).toBe(0);

    expect((await checkout.run(['uncommit'], env())).code).toBe(0);
    expect(readdirSync(committed)).toHaveLength(before);
    expect((await checkout.run(['status', '--json'], env())).stdout).toBe(
      '{"pending":[],"conflict":null,"uncommitted":true}\n',
    );
    rmSync(`${fixture}.old`);
  });

  test('commit needs a superuser, and says so', async () => {
    const { code, stderr } = await checkout.run(['commit', '-m', 'x'], {
      DATABASE_URL: env().DATABASE_URL,
    });
    expect(code).toBe(2);
    expect(stderr).toContain('ROOT_DATABASE_URL');
  });

  test("graphile-migrate's own command works with what gw env prints", async () => {
    const printed = await checkout.run(['env'], { ...env(), DATABASE_URL: db.url('owner') });
    expect(printed.code).toBe(0);
    const { spawnSync } = await import('node:child_process');
    mkdirSync(current, { recursive: true });
    const { stdout, status } = spawnSync(
      'sh',
      ['-c', 'eval "$GW_ENV"; graphile-migrate status; psql -Atc "select current_user"'],
      {
        cwd: checkout.folder,
        encoding: 'utf8',
        env: { PATH: process.env.PATH, GW_ENV: printed.stdout },
      },
    );
    expect(stdout).toMatch(/Up to date|not empty/);
    expect(stdout).toMatch(/^gw_owner$/m);
    expect(status).toBe(0);
  });
});
