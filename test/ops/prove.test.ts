import { beforeAll, describe, expect, test } from 'vitest';
import { startTrialApi } from '../../src/api/trial.ts';
import { proveOptions } from '../../src/toolkit/prove/options.ts';
import { sample } from '../../src/toolkit/prove/patterns.ts';
import { prove } from '../../src/toolkit/prove/prove.ts';
import { matrix, Report } from '../../src/toolkit/prove/report.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { leaksOf } from '../helpers/prove.ts';

const db = useDatabase();
/** Declared, and of nothing that there is. */
const stale = { object: 'app_public.gone', by: 'gone_key', reason: 'it was there once' };
const { declared } = proveOptions();
let clean: Report;

beforeAll(async () => {
  const options = proveOptions({ declared: [...declared, stale] });
  clean = await prove(db.database, startTrialApi, options);
}, patience(240_000));

describe('the migrated database', () => {
  test('keeps its users apart, in SQL and in GraphQL', () => {
    expect(clean.findings.filter(({ mark }) => mark !== 'declared')).toEqual([]);
    expect(clean.tried).toBeGreaterThan(1000);
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

test('a declaration that matches nothing is a failure, when everything was tried', () => {
  expect(clean.stale).toEqual([stale]);
  expect(clean.isClean).toBe(false);
  const report = new Report(proveOptions());
  for (const { object, by } of declared) report.leak(`${object}()`, 'B', 'infer', '', [by]);
  report.finish();
  expect(report.isClean).toBe(true);
});

test('the matrix has a line for each object, and one for partitions that are alike', () => {
  const lines = matrix(clean).split('\n');
  expect(lines.find((line) => line.startsWith('app_public.tasks '))).toMatch(/own rows/);
  expect(lines.filter((line) => line.startsWith('app_partitions.tasks_'))).toHaveLength(1);
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
