import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

const checkout = new Checkout();
afterAll(() => checkout.remove());

/* What is destroyed here is a folder that stands for a cluster. */
const home = checkout.path('cluster', '15');

beforeEach(() => {
  mkdirSync(join(home, 'data'), { recursive: true });
  mkdirSync(checkout.path('.groundwork'), { recursive: true, mode: 0o700 });
  writeFileSync(checkout.path('.groundwork', 'state.json'), JSON.stringify({ cluster: home }));
});

/** Runs `gw` at a terminal, and types an answer. */
const atTerminal = (command: string, answer: string) =>
  spawnSync('script', ['-qec', `${process.execPath} src/bootstrap.mjs ${command}`, '/dev/null'], {
    cwd: checkout.folder,
    env: checkout.env(),
    input: answer,
    encoding: 'utf8',
  });

const timeout = patience(60_000);

test('what is destroyed is asked for, and only "yes" is a yes', { timeout }, () => {
  for (const answer of ['no\n', 'y\n']) {
    const { status, stdout } = atTerminal('db reset', answer);
    expect([status, existsSync(home)], answer).toEqual([1, true]);
    expect(stdout).toContain(`Delete ${join(home, 'data')}? Type "yes":`);
    expect(stdout).toContain('nothing was done');
  }
  expect(atTerminal('db reset', 'yes\n').status).toBe(0);
  expect(existsSync(home)).toBe(false);
});

test('where nobody can be asked nothing is destroyed without --yes', { timeout }, async () => {
  const refused = await checkout.run(['db', 'reset']);
  expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') });
  expect(existsSync(home)).toBe(true);
  expect((await checkout.run(['db', 'reset', '--yes'])).code).toBe(0);
  expect(existsSync(home)).toBe(false);
});

test('a dry run says what would be deleted, and deletes nothing', { timeout }, async () => {
  const dry = await checkout.run(['db', 'reset', '--dry-run', '--yes']);
  expect(dry).toMatchObject({ code: 0, stdout: `would delete ${join(home, 'data')}\n` });
  expect(existsSync(home)).toBe(true);
});
