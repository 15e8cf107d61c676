import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

let checkout: Checkout;
const fresh = (): Checkout => {
  checkout = new Checkout();
  return checkout;
};
afterEach(() => checkout.remove());

/** Replaces a text that stands in a file once. */
function edit(path: string, from: string, to: string): void {
  const text = readFileSync(path, 'utf8');
  expect(text.split(from)).toHaveLength(2);
  writeFileSync(path, text.replace(from, to));
}

const fixture = (...names: string[]): string => checkout.path('migrations', 'fixtures', ...names);

describe('gw schema compares the topics with the migrations', { timeout: patience(60_000) }, () => {
  test('one character of a function is a difference, named with its file', async () => {
    fresh();
    const file = ['functions', 'app_hidden', 'month_day.sql'];
    edit(fixture(...file), '* 100', '* 101');
    const { code, stderr } = await checkout.run(['schema']);
    expect(code).toBe(1);
    expect(stderr).toContain('function app_hidden.month_day(date)');
    expect(stderr).toContain(`migrations/fixtures/${file.join('/')}:1`);
    expect(stderr).toContain('hint: Run: npm run gw -- baseline');
    expect(stderr).not.toContain('    at ');
  });

  test('a column, a grant, a comment and an inserted row are differences', async () => {
    fresh();
    const tasks = fixture('topics', '11-tasks.sql');
    edit(tasks, 'length(title) between 1 and 500', 'length(title) between 1 and 400');
    edit(
      fixture('topics', '17-integrations.sql'),
      'grant select, delete,\n  insert (id, provider,',
      'grant select,\n  insert (id, provider,',
    );
    appendFileSync(tasks, "\ncomment on table app_public.tasks is 'Something else.';\n");
    edit(fixture('topics', '18-billing.sql'), "('pro', 2000)", "('pro', 2001)");
    const { code, stderr } = await checkout.run(['schema']);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /table app_public\.tasks {2}migrations\/fixtures\/topics\/11-tasks\.sql:/,
    );
    expect(stderr).toMatch(/acl app_public\.TABLE integrations {2}\S+17-integrations\.sql:/);
    expect(stderr).toContain('comment app_public.TABLE tasks');
    expect(stderr).toMatch(/a row of app_private\.tier_limits {2}\S+18-billing\.sql:/);
    expect(stderr).toContain('"monthly_limit": 2001');
  });

  test('a topic that does not run is shown with file and line', async () => {
    fresh();
    appendFileSync(fixture('topics', '18-billing.sql'), '\nselect no_such_thing;\n');
    const lines = readFileSync(fixture('topics', '18-billing.sql'), 'utf8').trimEnd().split('\n');
    const { code, stderr } = await checkout.run(['schema']);
    expect(code).toBe(1);
    expect(stderr).toContain(`migrations/fixtures/topics/18-billing.sql:${lines.length}`);
    expect(stderr).toContain('column "no_such_thing" does not exist');
  });
});

describe('gw baseline writes the migrations from the topics', { timeout: patience(60_000) }, () => {
  const committed = (): string[] => readdirSync(checkout.path('migrations', 'committed')).sort();
  const read = (name: string): string =>
    readFileSync(checkout.path('migrations', 'committed', name), 'utf8');

  test('what is there is what it would write', async () => {
    fresh();
    const { code, stdout } = await checkout.run(['baseline', '--dry-run']);
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: 'migrations/committed/ is what the topics make\n',
    });
  });

  test('an edit changes its migration and the hashes after it, and a dry run nothing', async () => {
    fresh();
    appendFileSync(fixture('topics', '39-scrape.sql'), '\nselect 1;\n');
    const names = committed();
    const before = new Map(names.map((name) => [name, read(name)]));
    const dry = await checkout.run(['baseline', '--dry-run']);
    expect(dry.stdout).toBe('changed  000039-scrape.sql\nchanged  000040-schedule.sql\n');
    expect(names.map(read)).toEqual([...before.values()]);
    expect((await checkout.run(['baseline'])).stdout).toBe(dry.stdout);
    const changed = names.filter((name) => read(name) !== before.get(name));
    expect(changed).toEqual(['000039-scrape.sql', '000040-schedule.sql']);
    const hash = /^--! Hash: (.+)$/m.exec(read('000039-scrape.sql'))?.[1];
    expect(read('000040-schedule.sql')).toContain(`--! Previous: ${hash}\n`);
    expect((await checkout.run(['schema'])).code).toBe(0);
  });

  test('an include that is not there is named with the line that asks for it', async () => {
    fresh();
    appendFileSync(fixture('topics', '39-scrape.sql'), '--!include functions/ops/nowhere.sql\n');
    const names = committed().map(read);
    const { code, stderr } = await checkout.run(['baseline']);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: migrations\/fixtures\/topics\/39-scrape\.sql:\d+ includes migrations\/fixtures\/functions\/ops\/nowhere\.sql, which is not there\n/,
    );
    expect(committed().map(read)).toEqual(names);
  });

  test('a migration that a person committed is not overwritten', async () => {
    fresh();
    const path = checkout.path('migrations', 'committed', '000099-mine.sql');
    writeFileSync(path, '--! Previous: -\n--! Hash: sha1:0\n\nselect 1;\n');
    const { code, stderr } = await checkout.run(['baseline']);
    expect(code).toBe(1);
    expect(stderr).toContain('has what no topic made: 000099-mine.sql');
    expect(existsSync(path)).toBe(true);
  });

  test('what a topic made is not taken back by uncommit', async () => {
    fresh();
    const names = committed();
    const { code, stderr } = await checkout.run(['uncommit']);
    expect(code).toBe(2);
    expect(stderr).toContain('is made of migrations/fixtures/topics/40-schedule.sql');
    expect(committed()).toEqual(names);
  });

  test('after the first release it refuses', async () => {
    fresh();
    edit(
      checkout.path('CHANGELOG.md'),
      '## Unreleased',
      '## Unreleased\n\n## [1.0.0] - 2026-12-01',
    );
    const { code, stderr } = await checkout.run(['baseline']);
    expect(code).toBe(1);
    expect(stderr).toContain('error: 1.0.0 is released');
    expect(stderr).toContain('hint: Write a migration in migrations/current/');
  });
});
