import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { EXIT } from '../../src/errors.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { loginNames, loginRoles } from '../../src/postgres/roles.ts';
import { changeUrl, databaseName } from '../../src/postgres/urls.ts';
import { buildProgram } from '../../src/program.ts';
import { randomPort } from '../../src/server/ports.ts';
import { Checkout, type Finished } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const checkout = new Checkout();
afterAll(() => checkout.remove());

/** What each command is called with. A command that needs no arguments has none here. */
const samples: Record<string, string[]> = {
  adopt: ['--reason', 'x', '--yes'],
  'backup pin': ['latest', '--reason', 'x'],
  'backup pitr setup': ['--repo', '/tmp/gw-no-repository'],
  'backup unpin': ['latest'],
  commit: ['-m', 'topic'],
  'db psql': ['--', '-Atc', 'select 1'],
  'db reset': ['--yes'],
  'db url': ['--role', 'owner'],
  'fence close': ['--reason', 'x'],
  'fence files': ['on'],
  'fence standby': ['postgres://gw_owner@127.0.0.1:1/standby'],
  lint: ['--no-migrations'],
  restore: ['--latest', '--directory', '/tmp/gw-no-server'],
  'messages approvals': [],
  'messages approve': ['1', '--yes'],
  'messages cancel': ['--type', 'BIRTHDAY', '--reason', 'x', '--yes'],
  'messages hold': ['--all', '--reason', 'x'],
  'messages lift': ['nobody@example.com', '--reason', 'x'],
  'messages release': ['1', '--send', '--yes'],
  'messages resend': [randomUUID(), '--message', randomUUID(), '--reason', 'x'],
  'messages suppress': ['nobody@example.com', '--reason', 'x'],
  'messages suppression': ['nobody@example.com'],
  'templates diff': ['BIRTHDAY', 'en'],
  'templates layout': ['standard', '--html', 'package.json'],
  'templates draft': ['BIRTHDAY', 'en', '--subject', 'x', '--body', 'package.json'],
  'templates preview': ['BIRTHDAY', '--user', randomUUID()],
  'templates publish': ['BIRTHDAY', 'en', '1', '--yes'],
  'templates rollback': ['BIRTHDAY', 'en', '--yes'],
  'templates send-test': ['BIRTHDAY', '--user', randomUUID(), '--to', 'nobody@example.com'],
  'messages explain': ['nobody@example.com', 'BIRTHDAY', '2026-05-01'],
  'messages limit': ['file', '5'],
  'messages redrive': ['--type', 'BIRTHDAY', '--yes'],
  'messages resolve': ['--message', randomUUID(), '--as', 'sent'],
  report: ['connections'],
  token: ['--email', 'nobody@example.com'],
  watch: ['--once'],
};
/** What a bare call would ask before it does it. */
const asked = ['--yes'];

/** Work on no database that DATABASE_URL or --url names. */
const independent = [
  ...['baseline', 'schema', 'drill', 'backup list', 'backup verify', 'backup prune'],
  ...['backup pin', 'backup unpin', 'backup pitr info', 'backup pitr verify', 'restore'],
];

interface Leaf {
  name: string;
  args: string[];
  takesUrl: boolean;
}

/** Every command that does something by itself. */
function leaves(command: Command, path: string[] = []): Leaf[] {
  const name = path.join(' ');
  const has = (flag: string): boolean => command.options.some(({ long }) => long === flag);
  const own = {
    name,
    args: [...path, ...(samples[name] ?? (has('--yes') ? asked : []))],
    takesUrl: has('--url'),
  };
  const runs = command.commands.length === 0 || name === 'cdc';
  return [
    ...(runs ? [own] : []),
    ...command.commands.flatMap((each) => leaves(each, [...path, each.name()])),
  ];
}

const commands = leaves(await buildProgram()).filter(({ name }) => !independent.includes(name));

const foreign = `gw_foreign_${randomUUID().slice(0, 8)}`;
const secret = 'hush-hush';
const passwords = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    loginNames.map((login) => [
      loginRoles[login].variable,
      decodeURIComponent(new URL(db.url(login)).password),
    ]),
  );

beforeAll(() =>
  withSql(inject('superuserUrl'), async (sql) => {
    await sql`create database ${sql(foreign)}`;
  }),
);
afterAll(() =>
  withSql(inject('superuserUrl'), async (sql) => {
    await sql`drop database if exists ${sql(foreign)} with (force)`;
  }),
);

/** Runs a command on a URL. */
async function runOn(
  url: string,
  { args, takesUrl }: Leaf,
  env: NodeJS.ProcessEnv,
): Promise<Finished> {
  return checkout.run([...args, ...(takesUrl ? ['--url', url] : [])], {
    // Somebody may have the usual one.
    GW_PORT: String(await randomPort()),
    GW_MAIL_BOUNCES: 'bounce@example.com',
    ROOT_DATABASE_URL: url,
    DATABASE_URL: url,
    SHADOW_DATABASE_URL: `${url}_shadow`,
    ...env,
  });
}

/** An error that a person can read: what it is, and nothing of ours. */
function expectSentence({ code, stdout, stderr }: Finished, codes: number[]): void {
  const output = stdout + stderr;
  expect(output).not.toContain(secret);
  for (const password of Object.values(passwords())) expect(output).not.toContain(password);
  expect(stderr).not.toMatch(/^\s+at .*[:(]\d+/m);
  expect(stderr).not.toContain('unexpected: ');
  expect(codes, output).toContain(code);
  // The processes have a log, of JSON lines.
  const line = /^\{.*"level":60.*\}$/m.exec(stderr)?.[0];
  if (line !== undefined) {
    expect(JSON.parse(line)).toMatchObject({ msg: expect.any(String), exit_code: code });
    return;
  }
  // What monitoring systems read is on stdout.
  const told = stdout.startsWith('UNKNOWN: ') ? stdout.replace('UNKNOWN', 'error') : stderr;
  expect(told, output).toMatch(/^error: \S/m);
}

/** The same, with what to do about it. */
function expectReadable(finished: Finished, codes: number[]): void {
  expectSentence(finished, codes);
  expect(finished.stderr).toMatch(/^hint: \S|"level":60.*"hint":"/m);
}

const needsNone = ['db url', 'env', 'config', 'operations'];

/** One for each way in which a command gets its URL and connects. */
const ways = ['status', 'check', 'serve', 'worker', 'cdc', 'migrate', 'messages list', 'db psql'];
const oneEach = commands.filter(({ name }) => ways.includes(name));

describe.for([
  ['nothing listens there', `postgres://gw_owner:${secret}@127.0.0.1:1/groundwork`],
  ['the password is wrong', 'wrong'],
] as const)('when %s', { timeout: patience(60_000) }, ([, url]) => {
  test.for(commands.filter(({ name }) => !needsNone.includes(name)))(
    '$name says so',
    async (leaf) => {
      const named = url === 'wrong' ? changeUrl(db.url('owner'), { password: secret }) : url;
      const env = Object.fromEntries(
        loginNames.map((login) => [loginRoles[login].variable, secret]),
      );
      const codes = /^(db stop|db reset|uncommit)$/.test(leaf.name)
        ? [EXIT.usage]
        : [EXIT.unavailable];
      expectReadable(await runOn(named, leaf, env), codes);
    },
  );
});

describe.for([
  ['is no URL', secret, commands],
  ['names several hosts', `postgres://gw_owner:${secret}@one:5432,two:5432/groundwork`, oneEach],
] as const)('when the URL %s', { timeout: patience(60_000) }, ([, url, some]) => {
  test.for(some)('$name says so', async (leaf) => {
    const codes = leaf.name === 'check' ? [EXIT.unavailable] : [EXIT.usage];
    expectReadable(await runOn(url, leaf, {}), codes);
  });
});

describe('in a database that is not ours', { timeout: patience(60_000) }, () => {
  /** Tell nothing of our tables, or say of each that it is not there. */
  const works = [
    'backup pitr check',
    'check',
    'config',
    'db psql',
    'db status',
    'db url',
    'env',
    'lint',
    'report',
    'status',
    'tune',
  ];
  /** Wait for the migrations. */
  const waits = ['serve', 'worker', 'cdc'];
  test.for(commands.filter(({ name }) => ![...works, ...waits].includes(name)))(
    '$name says so',
    async (leaf) => {
      const url = changeUrl(db.url('owner'), { database: foreign });
      expectReadable(await runOn(url, leaf, passwords()), [1, 2, 3]);
    },
  );
});

describe('in our database', { timeout: patience(60_000) }, () => {
  const env = (): NodeJS.ProcessEnv => ({
    ...passwords(),
    DATABASE_URL: db.url('owner'),
    ROOT_DATABASE_URL: inject('superuserUrl'),
  });
  const nobody = randomUUID();

  test.for([
    [['messages', 'explain', nobody, 'BIRTHDAY', '2026-02-30']],
    [['messages', 'simulate', '--from', '2026-01-01', '--to', '2030-01-01']],
    [['messages', 'simulate', '--user', nobody, '--if', 'no_such_column=1']],
    [['messages', 'simulate', '--user', nobody, '--if', 'timezone=Nowhere/Land']],
    [['messages', 'resolve', '--message', nobody, '--as', 'sent']],
    [['messages', 'limit', 'nowhere', '5']],
    [['token', '--email', 'nobody@example.com']],
    [['digests', 'backfill', '--weeks', '1', '--user', nobody]],
    [['report', 'connections', '--param', 'no_such=1']],
    [['lint', '--no-migrations', '--exceptions', '/no/such/file']],
    [['prove', '--declared', '/no/such/file']],
  ] as [string[]][])('%j is refused in a sentence', async ([args]) => {
    expectSentence(await checkout.run(args, env()), [EXIT.failure, EXIT.usage]);
  });

  test('gw cdc reconcile says that nothing has been captured', async () => {
    const slot = { GW_CDC_SLOT: `gw_none_${process.pid}` };
    const finished = await checkout.run(['cdc', 'reconcile'], { ...env(), ...slot });
    expectReadable(finished, [EXIT.failure]);
    expect(finished.stderr).toContain('error: nothing has been captured with slot gw_none_');
  });

  test('a reset while change capture runs says what is in the way', async () => {
    const capture = checkout.start(['cdc'], env());
    await eventually(() =>
      withSql(inject('superuserUrl'), async (sql) => {
        const [row] = await sql`
          select from pg_replication_slots
          where active and database = ${databaseName(db.url('owner'))}`;
        return row !== undefined;
      }),
    );
    const finished = await checkout.run(['reset', '--yes'], env());
    expectReadable(finished, [EXIT.failure]);
    expect(finished.stderr).toContain('replication slot');
    expect(finished.stderr).toContain('hint: Stop what uses it, such as npm start');
    capture.kill('SIGTERM');
    await new Promise((resolve) => capture.once('exit', resolve));
  });

  test('a standby is named as one', async () => {
    // What a standby answers to a write.
    const url = `${db.url('owner')}?default_transaction_read_only=on`;
    for (const args of [
      ['seed', '--users', '1'],
      ['messages', 'limit', 'file', '5'],
    ]) {
      const finished = await checkout.run(args, { ...env(), DATABASE_URL: url });
      expectReadable(finished, [EXIT.unavailable]);
      expect(finished.stderr).toContain('error: the database is read-only: ');
      expect(finished.stderr).toContain("use the primary's URL");
    }
  });

  test('what nobody expects is one line, and GW_DEBUG=1 shows where it came from', async () => {
    const faulty = new Checkout();
    const path = faulty.path('src', 'commands', 'env.ts');
    const text = readFileSync(path, 'utf8');
    expect(text).toContain('.action(() => {');
    writeFileSync(path, text.replace('.action(() => {', ".action(() => { ''.nothing.here;"));
    const plain = await faulty.run(['env'], env());
    expectReadable({ ...plain, stderr: plain.stderr.replace('unexpected: ', '') }, [EXIT.failure]);
    expect(plain.stderr).toMatch(
      /^error: unexpected: .+\nhint: This is a fault of gw\. GW_DEBUG=1 .+\n$/,
    );
    const debugged = await faulty.run(['env'], { ...env(), GW_DEBUG: '1' });
    expect(debugged.stderr).toMatch(/^\s+at .*src\/commands\/env\.ts:\d+/m);
    await faulty.remove();
  });

  test('GW_DEBUG=1 shows the stack, and no password', async () => {
    const url = changeUrl(db.url('owner'), { password: secret });
    const { code, stderr } = await checkout.run(['status'], { DATABASE_URL: url, GW_DEBUG: '1' });
    expect(code).toBe(EXIT.unavailable);
    expect(stderr).toMatch(/^\s+at /m);
    expect(stderr).not.toContain(secret);
  });
});
