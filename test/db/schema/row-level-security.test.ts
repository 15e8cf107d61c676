import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { type RuleName, rules } from '../../helpers/catalogue.ts';
import { rolledBack, useDatabase } from '../../helpers/database.ts';
import { leaks, ownedTables } from '../../helpers/tenant-leaks.ts';

const db = useDatabase();
/** As a superuser, with a search_path that makes the catalogue print every schema. */
const inTransaction = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local search_path = pg_catalog`;
    await work(sql);
  });

describe('the catalogue', () => {
  test.each(Object.keys(rules) as RuleName[])('%s', async (rule) => {
    await inTransaction(async (sql) => {
      expect(await rules[rule](sql)).toEqual([]);
    });
  });

  test("no user can read or change another user's row in any table", async () => {
    const found: Record<string, string[]> = {};
    const tables: string[] = [];
    await inTransaction(async (sql) => {
      tables.push(...(await ownedTables(sql)));
    });
    expect(tables).toContain('app_public.tasks');
    for (const table of tables) {
      await inTransaction(async (sql) => {
        found[table] = await leaks(sql, table);
      });
    }
    expect(found).toEqual(Object.fromEntries(tables.map((name) => [name, []])));
  });
});
