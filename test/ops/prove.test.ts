import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTrialApi } from '../../src/api/trial.ts';
import type { Transaction } from '../../src/postgres/connect.ts';
import { proveOptions } from '../../src/toolkit/prove/options.ts';
import { sample } from '../../src/toolkit/prove/patterns.ts';
import { prove, proveInTransaction } from '../../src/toolkit/prove/prove.ts';
import { matrix, Report } from '../../src/toolkit/prove/report.ts';
import { Checkout } from '../helpers/checkout.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { faults, fields, unfillable } from '../helpers/planted.ts';

const db = useDatabase();
const checkout = new Checkout();
let clean: Report;
let planted: Report;
let api: Report;

/** What was reported, as "who aspect" for each object. */
const leaksOf = (report: Report, mark = 'LEAK'): Record<string, string[]> => {
  const found: Record<string, string[]> = {};
  for (const finding of report.findings.filter((entry) => entry.mark === mark)) {
    const { object, who, aspect } = finding;
    found[object] = [...(found[object] ?? []), `${who} ${aspect}`];
  }
  return found;
};

async function proveWith(statements: string): Promise<Report> {
  let report: Report | undefined;
  await rolledBack(db.as('superuser'), async (sql: Transaction) => {
    await sql.unsafe(statements);
    report = await proveInTransaction(sql, proveOptions());
  });
  return report as Report;
}

beforeAll(async () => {
  clean = await prove(db.database, startTrialApi, proveOptions());
  planted = await proveWith(`${faults.map(({ plant }) => plant).join('\n')} ${unfillable}`);
  await db.as('superuser').unsafe(fields);
  const objects = /tasksOf|rename|claim|topics|chatMessages$|Link$/;
  api = await prove(db.database, startTrialApi, proveOptions({ objects }), 'graphql');
}, 240_000);
afterAll(() => checkout.remove());

describe('the migrated database', () => {
  test('keeps its users apart, in SQL and in GraphQL', () => {
    expect(clean.findings.filter(({ mark }) => mark !== 'declared')).toEqual([]);
    expect(clean.isClean).toBe(true);
  });

  test('is not clean for want of rows: their owner sees them', () => {
    for (const object of ['app_public.tasks', 'app_public.users', 'Query.tasks', 'Query.users']) {
      expect(clean.objects.get(object)?.cells).toMatchObject({
        'A see': 'own rows only',
        'B see': 'own rows only',
      });
    }
    expect(clean.objects.get('app_private.user_secrets')?.cells).toMatchObject({
      'A see': 'refused',
      'B see': 'refused',
    });
  });

  test('is left as it was', async () => {
    const [row] = await db.as('superuser')`
      select count(*)::integer as users from app_public.users where email like 'gw%'`;
    expect(row).toEqual({ users: 0 });
  });

  test('has exceptions that are declared with a reason', () => {
    expect(leaksOf(clean, 'declared')).toMatchObject({
      'app_public.login(text, text)': ['anonymous change', 'B change'],
      'Mutation.login': ['anonymous change', 'B change'],
    });
  });
});

describe('a fault is found:', () => {
  test.each(faults)('$fault', ({ object, leaks }) => {
    expect(leaksOf(planted)[object]).toEqual(expect.arrayContaining(leaks));
  });

  test('and nothing that is right is called a leak', () => {
    expect(Object.keys(leaksOf(planted)).sort()).toEqual(faults.map(({ object }) => object).sort());
  });

  test('a table that no row fits into cannot be proved, and says why', () => {
    const found = planted.findings.find(({ object }) => object === 'app_public.unfillable');
    expect(found).toMatchObject({ mark: 'cannot prove' });
    expect(found?.detail).toContain('unfillable_title_check');
    expect(planted.isClean).toBe(false);
  });

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
    expect(details('Query.chatMessages')).toMatch(/"aggregates":\{"count":"1"\}/);
  });

  test("an input that refers to another user's row, in a create and in an update", () => {
    for (const mutation of ['Mutation.createLink', 'Mutation.updateLink']) {
      expect(leaked(mutation), mutation).toEqual(
        expect.arrayContaining(['B reference', 'B infer']),
      );
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
});

test('a declaration that matches nothing is a failure, unless only a part was tried', async () => {
  const stale = { object: 'app_public.gone', by: 'gone_key', reason: 'it was there once' };
  const { declared } = proveOptions();
  const report = new Report(proveOptions({ declared: [...declared, stale] }));
  for (const { object, by } of declared) report.leak(`${object}()`, 'B', 'infer', '', [by]);
  expect(report.isClean).toBe(true);
  report.finish();
  expect(report.stale).toEqual([stale]);
  expect(report.isClean).toBe(false);
  expect(clean.stale).toEqual([]);
  expect(api.stale).toEqual([]);
});

test('the matrix has a line for each object, and one for partitions that are alike', () => {
  const lines = matrix(clean).split('\n');
  expect(lines.find((line) => line.startsWith('app_public.tasks '))).toMatch(/own rows/);
  expect(lines.filter((line) => line.startsWith('app_partitions.tasks_'))).toHaveLength(1);
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

test.each([
  '^[a-z]{2,3}(-[A-Z]{2})?$',
  '^[^@\\s[:cntrl:]]+@[^@\\s[:cntrl:]]+\\.[^@\\s[:cntrl:]]+$',
  '^(sub|cus)_[A-Za-z0-9]{4,}$',
  '^#[0-9a-f]{6}$',
  '^(\\S+\\s+){4}\\S+$',
  '^\\d{4}-\\d{2}$',
  '^(?:https?)://.+$',
])('a text is found that matches %s', (pattern) => {
  const readable = pattern.replaceAll('[:cntrl:]', '\\x00-\\x1f');
  expect(sample(pattern, 'a1b2c3d4e5f6')).toMatch(new RegExp(readable));
});
