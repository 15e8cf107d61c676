import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTrialApi } from '../../src/api/trial.ts';
import { proveOptions } from '../../src/toolkit/prove/options.ts';
import { prove } from '../../src/toolkit/prove/prove.ts';
import type { Report } from '../../src/toolkit/prove/report.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { fields } from '../helpers/planted.ts';
import { leaksOf } from '../helpers/prove.ts';

const db = useDatabase();
const checkout = new Checkout();
let api: Report;

beforeAll(async () => {
  await db.as('superuser').unsafe(fields);
  const objects = /tasksOf|rename|claim|topics|chatMessages$|MessageAdded$|Link$/;
  api = await prove(db.database, startTrialApi, proveOptions({ objects }), 'graphql');
}, patience(240_000));
afterAll(() => checkout.remove());

const leaked = (object: string): string[] => leaksOf(api)[object] ?? [];
const details = (object: string): string =>
  api.findings
    .filter((finding) => finding.object === object)
    .map(({ detail }) => detail)
    .join('\n');

test('a query and a mutation that serve whoever is named', () => {
  expect(leaked('Query.tasksOf')).toEqual(expect.arrayContaining(['B see', 'B infer']));
  expect(leaked('Mutation.rename')).toEqual(['B change']);
});

test("a filter by related rows that nobody can list, and that are another user's", () => {
  expect(leaked('Query.topics')).toEqual(['B infer']);
  expect(details('Query.topics')).toMatch(/filter .*"notes":\{"some":/);
});

test("an aggregate that counts another user's rows", () => {
  expect(leaked('Query.chatMessages')).toEqual(expect.arrayContaining(['B see', 'B infer']));
  expect(details('Query.chatMessages')).toMatch(/"aggregates":\{"count":1\}/);
});

test('a subscription reads rows of its own user, even where a policy shows those of others', () => {
  const { cells } = api.objects.get('Subscription.chatMessageAdded') ?? {};
  expect(cells).toMatchObject({ 'anonymous see': 'refused', 'B see': 'own rows only' });
  expect(leaked('Subscription.chatMessageAdded')).toEqual([]);
});

test("an input that refers to another user's row, in a create and in an update", () => {
  for (const mutation of ['Mutation.createLink', 'Mutation.updateLink']) {
    expect(leaked(mutation), mutation).toEqual(expect.arrayContaining(['B reference', 'B infer']));
  }
});

test('a mutation that fails in another way when the row exists', () => {
  expect(leaked('Mutation.claim')).toEqual(['B infer']);
});

test('and nothing else of the API is called a leak', () => {
  expect(Object.keys(leaksOf(api)).sort()).toEqual(
    [
      ...['Mutation.claim', 'Mutation.createLink', 'Mutation.rename', 'Mutation.updateLink'],
      ...['Query.chatMessages', 'Query.tasksOf', 'Query.topics'],
    ].sort(),
  );
});

test('of a part nothing is said of declarations that match nothing', () => {
  expect(api.stale).toEqual([]);
});

test('the command prints JSON and exits with 1 on a leak', async () => {
  const { code, stdout, stderr } = await checkout.run([
    ...['prove', '--only', 'sql', '--object', 'tasks', '--json', '--url', db.url('superuser')],
  ]);
  const result = JSON.parse(stdout) as { clean: boolean; findings: { object: string }[] };
  expect(result.clean).toBe(false);
  expect(result.findings.map(({ object }) => object)).toContain('app_public.tasks_of(uuid)');
  expect(stderr).toContain('app_public.tasks_of(uuid)');
  expect(code).toBe(1);
});
