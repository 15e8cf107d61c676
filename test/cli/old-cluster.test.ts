import { appendFileSync, rmSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';

const checkout = new Checkout();
afterAll(() => checkout.remove(), 60_000);

const psql = (sql: string) => checkout.run(['db', 'psql', '--', '-Atc', sql]);

test('a checkout that is cloned again takes its old cluster over, with its data', {
  timeout: 120_000,
}, async () => {
  expect((await checkout.run(['db', 'start'])).code).toBe(0);
  expect((await psql('create table public.kept as select 7 as n')).code).toBe(0);

  // Its server still runs, and its passwords are gone.
  rmSync(checkout.path('.groundwork'), { recursive: true });
  const again = await checkout.run(['db', 'start']);
  expect(again.code, again.stderr).toBe(0);
  expect(again.stderr).toContain('taken over, with its data');
  expect((await psql('select n from public.kept')).stdout).toBe('7\n');

  // A start that fails stops what it started.
  expect((await checkout.run(['db', 'stop'])).code).toBe(0);
  appendFileSync(checkout.path('sql', 'bootstrap', 'roles.sql'), '\nselect 1 / 0;\n');
  const failed = await checkout.run(['db', 'start']);
  expect(failed.code).toBe(1);
  expect(failed.stderr).toContain('division by zero');
  expect(failed.stderr).not.toContain('    at ');
  const status = await checkout.run(['db', 'status', '--json']);
  expect([status.code, JSON.parse(status.stdout).running]).toEqual([3, false]);
});
