import { beforeAll, describe, expect, test } from 'vitest';
import { proveOptions } from '../../src/toolkit/prove/options.ts';
import { proveInTransaction } from '../../src/toolkit/prove/prove.ts';
import type { Report } from '../../src/toolkit/prove/report.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { faults, unfillable } from '../helpers/planted.ts';
import { leaksOf } from '../helpers/prove.ts';

const db = useDatabase();
let planted: Report;

beforeAll(async () => {
  await rolledBack(db.as('superuser'), async (sql) => {
    await sql.unsafe(`${faults.map(({ plant }) => plant).join('\n')} ${unfillable}`);
    planted = await proveInTransaction(sql, proveOptions());
  });
}, patience(240_000));

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
});
