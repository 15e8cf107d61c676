import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeEach, expect, inject, test } from 'vitest';
import { hashOf } from '../../src/migrations/committed.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { changeUrl, databaseName } from '../../src/postgres/urls.ts';
import { Checkout, type Finished } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const timeout = 60_000;
let checkout: Checkout;
beforeEach(() => {
  checkout = new Checkout();
});
afterEach(() => checkout.remove());

const shadow = (): string => `${databaseName(db.url('owner'))}_shadow`;
afterAll(() =>
  withSql(inject('superuserUrl'), (sql) => sql`drop database if exists ${sql(shadow())}`),
);

const run = (...args: string[]): Promise<Finished> =>
  checkout.run(args, {
    DATABASE_URL: db.url('owner'),
    ROOT_DATABASE_URL: inject('superuserUrl'),
    SHADOW_DATABASE_URL: changeUrl(db.url('owner'), { database: shadow() }),
  });
const committed = (...names: string[]): string =>
  checkout.path('migrations', 'committed', ...names);
const files = (): string[] => readdirSync(committed()).sort();
const lastFile = (): string => files().at(-1) ?? '';
const hashIn = (file: string): string =>
  /^--! Hash: (.+)$/m.exec(readFileSync(committed(file), 'utf8'))?.[1] ?? '';

function rewrite(file: string, change: (text: string) => string): void {
  chmodSync(committed(file), 0o644);
  writeFileSync(committed(file), change(readFileSync(committed(file), 'utf8')));
}

/** Every command that looks at migrations says the same, and runs nothing. */
async function expectConflict(message: RegExp, hint: RegExp): Promise<void> {
  const count = () => db.as('owner')`select count(*) from graphile_migrate.migrations`;
  const before = await count();
  const status = await run('status', '--json');
  expect(status.code).toBe(1);
  const { conflict } = JSON.parse(status.stdout) as { conflict: unknown };
  expect(conflict).toEqual({
    message: expect.stringMatching(message),
    hint: expect.stringMatching(hint),
  });
  const said = await Promise.all([run('migrate'), run('watch', '--once')]);
  for (const { code, stdout, stderr } of said) {
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^error: .+\nhint: .+\n$/);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(hint);
  }
  expect(await count()).toEqual(before);
}

test('a committed file that was edited is named', { timeout }, async () => {
  rewrite(lastFile(), (text) => `${text}select 1;\n`);
  await expectConflict(
    new RegExp(`migrations/committed/${lastFile()} was edited after it was committed`),
    /edit in migrations\/fixtures\/, then run: npm run gw -- baseline/,
  );
});

test('a file with CRLF is named, with what git must do', { timeout }, async () => {
  rewrite(lastFile(), (text) => text.replaceAll('\n', '\r\n'));
  await expectConflict(new RegExp(`${lastFile()} has CRLF line ends`), /git checkout/);
});

test('another file than the database ran under that number is named', { timeout }, async () => {
  const path = checkout.path('migrations', 'fixtures', 'topics', '39-scrape.sql');
  writeFileSync(path, `${readFileSync(path, 'utf8')}\n-- Another branch.\n`);
  expect((await checkout.run(['baseline'])).code).toBe(0);
  await expectConflict(
    /the database ran another 000039\.sql \(sha1:\w+\) than migrations\/committed\/000039-scrape\.sql \(sha1:\w+\)/,
    /npm run gw -- reset/,
  );
});

test('a file that the database passed over is named', { timeout }, async () => {
  const owner = db.as('owner');
  const [passed] = await owner<{ hash: string; previous_hash: string }[]>`
    select * from graphile_migrate.migrations where filename = '000039.sql'`;
  const follow = (hash = '') => owner`
    update graphile_migrate.migrations set previous_hash = ${hash}
    where filename = '000040.sql'`;
  await follow(passed?.previous_hash);
  await owner`delete from graphile_migrate.migrations where filename = '000039.sql'`;
  try {
    await expectConflict(
      /the database ran 0000\d\d\.sql, and never ran migrations\/committed\/000039-scrape\.sql before it/,
      /npm run gw -- commit --rebase 000039-scrape\.sql/,
    );
  } finally {
    await owner`insert into graphile_migrate.migrations ${owner(passed as never)}`;
    await follow(passed?.hash);
  }
});

test('a number that two branches took is renumbered with gw commit --rebase', {
  timeout,
}, async () => {
  const base = lastFile();
  const number = Number.parseInt(base, 10) + 1;
  const named = (value: number, name: string): string =>
    `${String(value).padStart(6, '0')}-${name}.sql`;
  mkdirSync(checkout.path('migrations', 'current'), { recursive: true });
  writeFileSync(
    checkout.path('migrations', 'current', '1-mine.sql'),
    'create table app_private.mine (id integer primary key);\n',
  );
  expect(await run('commit', '-m', 'mine')).toMatchObject({ code: 0 });
  expect(lastFile()).toBe(named(number, 'mine'));

  // The other branch began at the same migration.
  const body = 'create table app_private.theirs (id integer primary key);';
  const hash = hashOf(body, hashIn(base));
  writeFileSync(
    committed(named(number, 'theirs')),
    `--! Previous: ${hashIn(base)}\n--! Hash: ${hash}\n--! Message: theirs\n\n${body}\n`,
  );
  await expectConflict(
    new RegExp(`${named(number, 'mine')} and ${named(number, 'theirs')} have the same number`),
    /npm run gw -- commit --rebase/,
  );

  const rebased = await run('commit', '--rebase');
  expect(rebased).toMatchObject({
    code: 0,
    stdout: `${named(number, 'mine')} is now ${named(number + 1, 'mine')}\n`,
  });
  expect(rebased.stderr).toContain('npm run gw -- reset');
  expect(files().slice(-3)).toEqual([base, named(number, 'theirs'), named(number + 1, 'mine')]);
  const url = changeUrl(db.url('superuser'), { database: shadow() });
  const tables = await withSql(
    url,
    (sql) => sql`
      select to_regclass('app_private.mine') is not null as mine,
        to_regclass('app_private.theirs') is not null as theirs`,
  );
  expect(tables).toEqual([{ mine: true, theirs: true }]);
  await expectConflict(/the database ran another 0000\d\d\.sql/, /npm run gw -- reset/);
  expect((await run('commit', '--rebase', lastFile())).stdout).toBe('the files are in order\n');

  // One that fails behind the others stays where it was.
  rewrite(named(number, 'theirs'), (text) =>
    text
      .replace(body, 'create table app_private.mine ();')
      .replace(hash, hashOf('create table app_private.mine ();', hashIn(base))),
  );
  const before = files();
  const failed = await run('commit', '--rebase', named(number + 1, 'mine'));
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain('relation "mine" already exists');
  expect(files()).toEqual(before);
  expect((await run('commit', '--rebase', base)).stderr).toContain(`${base} is made of a topic`);
});

test("gw status writes nothing into somebody else's database", { timeout }, async () => {
  const name = `${databaseName(db.url('owner'))}_foreign`;
  await withSql(inject('superuserUrl'), async (sql) => {
    await sql`create database ${sql(name)} owner gw_owner`;
    try {
      const url = changeUrl(db.url('owner'), { database: name });
      const { code, stdout } = await checkout.run(['status', '--json'], { DATABASE_URL: url });
      expect(code).toBe(1);
      expect((JSON.parse(stdout) as { pending: string[] }).pending).toHaveLength(files().length);
      const schemas = await withSql(
        url,
        (foreign) => foreign`select from pg_namespace where nspname = 'graphile_migrate'`,
      );
      expect(schemas).toEqual([]);
    } finally {
      await sql`drop database ${sql(name)} with (force)`;
    }
  });
});
