import { createHash } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, inject, test } from 'vitest';
import { connect, withSql } from '../../src/postgres/connect.ts';
import { loginNames, loginRoles } from '../../src/postgres/roles.ts';
import { changeUrl } from '../../src/postgres/urls.ts';
import { bootstrapDatabase, createDatabase } from '../../src/server/bootstrap.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
let checkout: Checkout;
beforeEach(() => {
  checkout = new Checkout();
});
afterEach(() => checkout.remove());

const fixture = (...names: string[]): string => checkout.path('migrations', 'fixtures', ...names);
const linesIn = (path: string): number => readFileSync(path, 'utf8').split('\n').length;

/** Adds statements to a topic, and makes its migration of it. */
async function spoil(topic: string, statements: string): Promise<number> {
  const path = fixture('topics', topic);
  const before = linesIn(path);
  appendFileSync(path, statements);
  expect((await checkout.run(['baseline'])).code).toBe(0);
  return before;
}

/** How the folder of its servers ends. */
const checkoutHash = (): string =>
  createHash('sha256').update(checkout.path('.groundwork')).digest('hex').slice(0, 10);

/** What scratch servers of the checkout have left. */
function leftovers(): string[] {
  const parent = process.env.GW_SCRATCH_DIR ?? '/var/lib/groundwork';
  const isApart = process.env.GW_SCRATCH_DIR !== undefined || process.getuid?.() === 0;
  const folders = isApart
    ? readdirSync(parent)
        .filter((name) => name.endsWith(checkoutHash()))
        .map((name) => join(parent, name))
    : [checkout.path('.groundwork')].filter(existsSync);
  return folders.flatMap((folder) =>
    readdirSync(folder).filter((name) => name.startsWith('scratch-')),
  );
}

describe('a migration that fails on a scratch server', { timeout: patience(60_000) }, () => {
  test('of a fixture is shown in the fixture, with a caret', async () => {
    const path = fixture('functions', 'app_hidden', 'month_day.sql');
    writeFileSync(
      path,
      readFileSync(path, 'utf8').replace('as $$', () => 'as $$ selekt'),
    );
    expect((await checkout.run(['baseline'])).code).toBe(0);
    expect(await checkout.run(['schema'])).toEqual({
      code: 1,
      stdout: '',
      stderr: [
        'error: syntax error at or near "selekt"',
        '  --> migrations/fixtures/functions/app_hidden/month_day.sql:3:7',
        '  |',
        '1 | create or replace function app_hidden.month_day(p_date date) returns integer',
        '2 | language sql immutable strict parallel safe',
        '3 | as $$ selekt',
        '  |       ^',
        'code: 42601',
        'failed: migrations/committed/000007-time.sql',
        'ran before: 000001-schemas.sql to 000006-audit.sql, 6 migrations',
        '',
      ].join('\n'),
    });
    expect(leftovers()).toEqual([]);
  });

  test('inside a function that it calls is shown at the statement that called it', async () => {
    const line = await spoil(
      '02-job-queue.sql',
      'create function app_private.fail() returns void language plpgsql as $$ begin\n' +
        "  raise 'no; never' using detail = 'd', hint = 'h', errcode = 'GW999'; end $$;\n" +
        "select 'a;b', $q$;$q$; -- ; nothing\n/* ; /* ; */ */ select\n  app_private.fail();\n",
    );
    const { code, stdout, stderr } = await checkout.run(['lint', '--scratch']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(
      [
        'error: no; never',
        `  --> migrations/fixtures/topics/02-job-queue.sql:${line + 3}`,
        `${' '.repeat(String(line + 3).length)} |`,
        `${line + 3} | /* ; /* ; */ */ select`,
        'code: GW999',
        'detail: d',
        'where: PL/pgSQL function app_private.fail() line 2 at RAISE',
        'failed: migrations/committed/000002-job-queue.sql',
        'ran before: 000001-schemas.sql',
        'hint: h',
        '',
      ].join('\n'),
    );
    expect(leftovers()).toEqual([]);
  });

  test('in a DO block is shown with the context that PL/pgSQL gives', async () => {
    const line = await spoil(
      '01-schemas.sql',
      "\ndo $$\nbegin\n  execute 'select 1 / 0';\nend;\n$$;\n",
    );
    const { code, stdout, stderr } = await checkout.run(['prove']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain(
      [
        'error: division by zero',
        `  --> migrations/fixtures/topics/01-schemas.sql:${line + 1}`,
        `${' '.repeat(String(line + 1).length)} |`,
        `${line + 1} | do $$`,
        'code: 22012',
        'where: SQL statement "select 1 / 0"',
        '  PL/pgSQL function inline_code_block line 3 at EXECUTE',
        'failed: migrations/committed/000001-schemas.sql',
        'ran before: no migration',
        '',
      ].join('\n'),
    );
    expect(leftovers()).toEqual([]);
  });

  test('a topic that fails alone is shown in the topic', async () => {
    const path = fixture('topics', '01-schemas.sql');
    const line = linesIn(path);
    appendFileSync(path, 'select 1;\nselect 1 / (\n  0);\n');
    const { code, stderr } = await checkout.run(['schema']);
    expect(code).toBe(1);
    expect(stderr).toContain(
      `error: division by zero\n  --> ${path.slice(checkout.folder.length + 1)}:${line + 1}\n`,
    );
    expect(stderr).toContain(`\n${line + 1} | select 1 / (\ncode: 22012\n`);
    expect(leftovers()).toEqual([]);
  });

  test.for(['SIGINT', 'SIGTERM'] as const)('%s leaves nothing of it', async (signal) => {
    const child = checkout.start(['schema']);
    await eventually(async () => leftovers().length === 1);
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    expect(await ended).toBe(signal === 'SIGINT' ? 130 : 143);
    expect(child.output()).toBe(`error: stopped by ${signal}\n`);
    expect(leftovers()).toEqual([]);
  });
});

describe('a migration that fails in a database', { timeout: patience(60_000) }, () => {
  const name = `gw_failures_${process.pid}`;
  const env = (): NodeJS.ProcessEnv => ({
    DATABASE_URL: changeUrl(db.url('owner'), { database: name }),
    ROOT_DATABASE_URL: inject('superuserUrl'),
    SHADOW_DATABASE_URL: changeUrl(db.url('owner'), { database: `${name}_shadow` }),
  });
  const drop = () =>
    withSql(inject('superuserUrl'), async (sql) => {
      await sql`drop database if exists ${sql(name)} with (force)`;
      await sql`drop database if exists ${sql(`${name}_shadow`)} with (force)`;
    });
  beforeEach(async () => {
    await drop();
    await createDatabase(inject('superuserUrl'), name);
    await bootstrapDatabase(changeUrl(inject('superuserUrl'), { database: name }));
  });
  afterAll(drop);
  const current = (...names: string[]): string => checkout.path('migrations', 'current', ...names);

  test('says the same in gw migrate and gw reset, and keeps what ran before', async () => {
    const line = await spoil('04-partitions.sql', 'select no_such_thing;\n');
    const shown = [
      'error: column "no_such_thing" does not exist',
      `  --> migrations/fixtures/topics/04-partitions.sql:${line}:8`,
    ].join('\n');
    const rest = [
      `${line} | select no_such_thing;`,
      `${' '.repeat(String(line).length)} |        ^`,
      'code: 42703',
      'failed: migrations/committed/000004-partitions.sql',
      'ran before: 000001-schemas.sql, 000002-job-queue.sql, 000003-cron.sql',
      '',
    ].join('\n');
    for (const command of [['migrate'], ['reset', '--yes']]) {
      const { code, stdout, stderr } = await checkout.run(command, env());
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toContain(shown);
      expect(stderr.endsWith(rest), stderr).toBe(true);
      expect(stderr.split('error: ')).toHaveLength(2);
      const status = await checkout.run(['status', '--json'], env());
      expect(JSON.parse(status.stdout).pending[0]).toBe('000004.sql');
    }
    // What had run is not run again, and not counted among what ran before.
    const again = await checkout.run(['migrate'], env());
    expect(again.stderr).toContain('ran before: no migration\n');
  });

  test('in migrations/current/ is shown there by watch and by commit', async () => {
    expect((await checkout.run(['migrate'], env())).code).toBe(0);
    mkdirSync(current(), { recursive: true });
    const text =
      '-- Why.\n\n--!include functions/app_hidden/month_day.sql\n\nselect 1;\nselect 1 / 0;\n';
    writeFileSync(current('0001-two.sql'), text);
    const place = '  --> migrations/current/0001-two.sql:6\n  |\n6 | select 1 / 0;\ncode: 22012\n';

    const watched = await checkout.run(['watch', '--once'], env());
    expect(watched.code).toBe(1);
    expect(watched.stderr).toContain(
      `error: division by zero\n${place}failed: migrations/current/\n`,
    );
    expect(watched.stderr.split('error: ')).toHaveLength(2);

    const committed = await checkout.run(['commit', '-m', 'two'], env());
    expect(committed.code).toBe(1);
    expect(committed.stderr).toContain(`error: division by zero\n${place}`);
    expect(committed.stderr).toMatch(/^failed: .+ \(in the shadow database\)$/m);
    expect(committed.stderr).toMatch(/^ran before: 000001-schemas.sql to .+, \d+ migrations$/m);
    expect(readFileSync(current('0001-two.sql'), 'utf8')).toBe(text);

    const watching = checkout.start(['watch'], env());
    await eventually(async () => watching.output().includes(`error: division by zero\n${place}`));
  });

  test('ends npm start, which says the same and leaves nothing running', async () => {
    const line = await spoil('03-cron.sql', 'select 1 / 0;\n');
    const passwords = loginNames.map((login) => [
      loginRoles[login].variable,
      decodeURIComponent(new URL(db.url(login)).password),
    ]);
    const { code, stderr } = await checkout.run(['up'], {
      ...env(),
      ...Object.fromEntries(passwords),
    });
    expect(code).toBe(1);
    expect(stderr).toContain(
      `error: division by zero\n  --> migrations/fixtures/topics/03-cron.sql:${line}\n`,
    );
    expect(stderr).toContain('ran before: 000001-schemas.sql, 000002-job-queue.sql\n');
    expect(readdirSync(checkout.path('.groundwork'))).not.toContain('pids.json');
  });

  test('leaves what follows migrations done, but for the step that failed', async () => {
    expect((await checkout.run(['migrate'], env())).code).toBe(0);
    const holder = connect(env().DATABASE_URL ?? '', { max: 2 });
    // Two steps have work: a partition is wanted, and a migration has another date.
    await holder`
      update ops.partition_policies set premake = 14
      where parent_table = 'app_public.user_activity'::regclass`;
    await holder`update graphile_migrate.migrations set date = now() where filename = '000003.sql'`;
    const entries = () => holder`
      select from ops.audit_log
      where action = 'migration.ran' and details ->> 'migration' = '000003.sql'`;
    const reader = await holder.reserve();
    await reader`begin`;
    await reader`select from app_public.user_activity limit 1`;

    const failed = await checkout.run(['migrate'], env());
    expect(failed).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr).toContain(
      'error: the migrations ran, but not all that follows them:\n  partitions: app_public.user_activity: another session is using the table\n',
    );
    expect(failed.stderr).not.toContain('audit-log');
    expect(await entries()).toHaveLength(2);
    const alerts = () => holder`
      select object from ops.alerts
      where check_name = 'after-migration' and resolved_at is null`;
    expect(await alerts()).toEqual([{ object: 'partitions' }]);

    await reader`rollback`;
    reader.release();
    expect(await checkout.run(['migrate'], env())).toMatchObject({
      code: 0,
      stdout: '0 migrations ran\n',
    });
    expect(await alerts()).toEqual([]);

    // As a concurrent build leaves it that failed.
    await holder`create index half_built on app_public.habits (created_at)`;
    await withSql(
      changeUrl(inject('superuserUrl'), { database: name }),
      (sql) => sql`
        update pg_index set indisvalid = false where indexrelid = 'app_public.half_built'::regclass`,
    );
    const told = await checkout.run(['migrate'], env());
    expect(told.code).toBe(1);
    expect(told.stderr).toContain('half_built: its build did not finish: drop index concurrently');
    await holder.end();
  });

  test('in what runs after the migrations is shown there', async () => {
    const path = checkout.path('sql', 'bootstrap', 'after-migrations.sql');
    const line = linesIn(path);
    appendFileSync(path, 'select nothing_here;\n');
    const { code, stderr } = await checkout.run(['migrate'], env());
    expect(code).toBe(1);
    expect(stderr).toContain(`  --> sql/bootstrap/after-migrations.sql:${line}:8\n`);
    expect(stderr).not.toContain('failed: ');
    expect(stderr).toMatch(/^ran before: 000001-schemas.sql to .+, \d+ migrations$/m);
  });
});
