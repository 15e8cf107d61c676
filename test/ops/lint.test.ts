import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { checkNames, lintDatabase, runChecks } from '../../src/toolkit/lint/checks.ts';
import {
  applyExceptions,
  type Finding,
  formatFindings,
  readExceptions,
} from '../../src/toolkit/lint/findings.ts';
import { lintMigrations } from '../../src/toolkit/lint/migrations.ts';
import { Checkout } from '../helpers/checkout.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { faults, found, sound } from '../helpers/lint-faults.ts';

const db = useDatabase();
const standard = join(projectRoot, 'sql', 'checks', 'lint-exceptions.json');

describe('a check', () => {
  test('is violated by at least one test', () => {
    expect(new Set(faults.map(({ check }) => check))).toEqual(new Set(checkNames));
  });

  test.each(faults)('$check finds $title', async ({ check, violate, findings, repair }) => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql.unsafe(sound);
      const before = await found(sql, check);
      await sql.unsafe(violate);
      const news = (await found(sql, check)).filter((each) => !before.includes(each));
      expect(news).toEqual(findings);
      await sql.unsafe(repair);
      expect(await found(sql, check)).toEqual(before);
    });
  });

  test('leaves out what belongs to an extension, another product or another schema', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const check = ['function-public-execute'];
      const objects = async (scope: Parameters<typeof runChecks>[1]) =>
        (await runChecks(sql, scope, check)).map(({ object_name }) => object_name);
      await sql`create function pgboss.open() returns int language sql return 1`;
      // What gw serve --watch makes in a development database.
      await sql`create schema postgraphile_watch`;
      await sql`create function postgraphile_watch.open() returns int language sql return 1`;
      await sql`create function ops.open() returns int language sql return 1`;
      // pgcrypto's functions are in public, and everybody may execute them.
      expect(await objects({})).toEqual(['open()']);
      expect(await objects({ schemas: ['pgboss'], excludeSchemas: ['x'] })).toContain('open()');
      expect(await objects({ excludeSchemas: ['ops', 'pgboss', 'postgraphile_watch'] })).toEqual(
        [],
      );
      expect(await objects({ schemas: ['op', 'o.s'] })).toEqual([]);
    });
  });

  test('knows exposed schemas and the tenant column by parameter', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql.unsafe(`create schema api;
        create table api.a (owner int, id int unique, primary key (owner, id));
        create table api.b (owner int, id int primary key references api.a (id));`);
      const scope = { schemas: ['api'], exposedSchemas: ['api'], tenantColumn: 'owner' };
      const names = ['foreign-key-without-tenant', 'rls-disabled'];
      const findings = await runChecks(sql, scope, names);
      expect(findings.map((each) => `${each.name} ${each.object_name}`)).toEqual([
        'foreign-key-without-tenant b.b_id_fkey',
        'rls-disabled a',
        'rls-disabled b',
      ]);
    });
  });
});

describe('the migrated database', () => {
  test.each(['superuser', 'owner'] as const)(
    'has no error without a reason, asked as %s',
    async (role) => {
      const findings = await lintDatabase(db.url(role), {}, 'test');
      const { remaining, unused } = applyExceptions(findings, readExceptions(standard));
      expect(remaining.filter(({ level }) => level === 'error')).toEqual([]);
      expect(unused).toEqual([]);
    },
  );

  test('is named, with the option it came from, when it does not answer', async () => {
    await expect(lintDatabase('postgres://x@127.0.0.1:1/x', {}, '--url')).rejects.toThrow(
      /nothing listens at 127.0.0.1:1\/x \(--url\)/,
    );
  });
});

const finding: Finding = {
  name: 'duplicate-index',
  level: 'error',
  object_schema: 'ops',
  object_name: 'again',
  detail: 'does what other does',
  remediation: 'drop index ops.again;',
};

describe('an exception', () => {
  const exception = { name: 'duplicate-index', object: 'ops.again', reason: 'measured' };

  test('silences the finding that it names', () => {
    expect(applyExceptions([finding], [exception])).toEqual({ remaining: [], unused: [] });
  });

  test('is returned when it matches nothing', () => {
    const other = { ...exception, object: 'ops.other' };
    expect(applyExceptions([finding], [other])).toEqual({
      remaining: [finding],
      unused: [other],
    });
  });

  test('shows in people’s words what it does not silence', () => {
    expect(formatFindings([finding])).toBe(
      'error    duplicate-index  ops.again: does what other does\n' +
        '                          drop index ops.again;\n1 errors, 0 warnings\n',
    );
  });
});

describe('the command', () => {
  let checkout: Checkout;
  const folder = mkdtempSync(join(tmpdir(), 'groundwork-lint-'));
  const lint = (...args: string[]) => checkout.run(['lint', '--url', db.url('owner'), ...args]);

  beforeAll(() => {
    checkout = new Checkout();
  });
  afterAll(async () => {
    await checkout.remove();
    rmSync(folder, { recursive: true });
  });

  test('ends with 1 for an error, and prints it as JSON', async () => {
    await db.as('owner')`create table ops.keyless (id int)`;
    const { code, stdout } = await lint('--json');
    await db.as('owner')`drop table ops.keyless`;
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toContainEqual({
      name: 'table-without-primary-key',
      level: 'error',
      object_schema: 'ops',
      object_name: 'keyless',
      detail: 'has no primary key',
      remediation: 'alter table ops.keyless add primary key (…);',
    });
  });

  test('ends with 0 for a warning, and with 1 when strict', async () => {
    await db.as('owner')`create table app_hidden.spare (id int primary key)`;
    await db.as('owner')`create type app_public.undescribed as enum ()`;
    expect((await lint()).code).toBe(0);
    expect((await lint('--strict')).code).toBe(1);
    expect((await lint('--strict', '--schema', 'app_hidden')).code).toBe(0);
    await db.as('owner')`drop type app_public.undescribed`;
    await db.as('owner')`drop table app_hidden.spare`;
  });

  test('ends with 2 for a wrong list of exceptions, and 3 for no database', async () => {
    writeFileSync(join(folder, 'wrong.json'), '[{"name": "x"}]');
    const wrong = await lint('--exceptions', join(folder, 'wrong.json'));
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('reason')]);
    expect((await checkout.run(['lint', '--url', 'postgres://x@127.0.0.1:1/x'])).code).toBe(3);
    expect((await checkout.run(['lint', '--url', 'x', '--scratch'])).code).toBe(2);
  });

  test('reports an exception that matches nothing, and what a new migration breaks', async () => {
    const url = db.url('superuser');
    const exceptions = checkout.path('sql', 'checks', 'lint-exceptions.json');
    const listed = checkout.json<object[]>('sql', 'checks', 'lint-exceptions.json');
    const stale = { name: 'duplicate-index', object: 'ops.gone', reason: 'was needed' };
    writeFileSync(exceptions, JSON.stringify([...listed, stale]));
    writeFileSync(
      checkout.path('migrations', 'current', '0001-bad.sql'),
      "set local lock_timeout = '1s';\ncreate index bad on app_public.users (last_name);\n",
    );
    const { code, stdout } = await checkout.run(['lint', '--json'], { DATABASE_URL: url });
    expect(code).toBe(1);
    const findings = JSON.parse(stdout) as Finding[];
    expect(findings.filter(({ object_schema }) => object_schema === null)).toMatchObject([
      {
        name: 'squawk:require-concurrent-index-creation',
        level: 'error',
        object_name: 'migrations/current/0001-bad.sql',
        detail: expect.stringContaining('line 2:'),
      },
      { name: 'unused-exception', level: 'warning', object_name: 'ops.gone' },
    ]);
    // Alone in its migration, it may be built concurrently.
    rmSync(checkout.path('migrations', 'current', '0001-bad.sql'));
    writeFileSync(
      checkout.path('migrations', 'current.sql'),
      '--! no-transaction\ncreate index concurrently if not exists good on app_public.users (id);\n',
    );
    const alone = (await lintMigrations(checkout.folder)).filter(
      ({ object_name }) => object_name === 'migrations/current.sql',
    );
    expect(alone).toEqual([]);
    rmSync(checkout.path('migrations', 'current.sql'));
  });
});
