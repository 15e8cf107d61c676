import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../../../src/project.ts';
import type { Borders, Values } from '../../helpers/borders.ts';
import { borders as known } from '../../helpers/check-borders.ts';
import { rolledBack, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();

/** Of our own tables, and of those that have theirs beside their tests. */
async function allBorders(): Promise<Record<string, Borders>> {
  const folder = join(projectRoot, 'test', 'db');
  const files = readdirSync(folder)
    .map((name) => join(folder, name, 'borders.ts'))
    .filter((file) => existsSync(file));
  const found = await Promise.all(
    files.map(async (file) => (await import(file)) as { borders: Record<string, Borders> }),
  );
  return Object.assign({ ...known }, ...found.map(({ borders }) => borders));
}

interface Check {
  name: string;
  expression: string;
  columns: { name: string; type: string }[];
  isValidated: boolean;
}

/** Asks PostgreSQL of a row whether the expression of a CHECK refuses it. */
const refuses = ({ expression, columns }: Check, values: Values): string => {
  const row = columns.map(({ name, type }) => `(${values[name] ?? 'null'})::${type} as "${name}"`);
  return `select (${expression}) is false as refused from (select ${row.join(', ')}) as row`;
};

test('every CHECK lets in what is on one side of its borders, and keeps out the other', async () => {
  const borders = await allBorders();
  await rolledBack(db.as('superuser'), async (sql) => {
    // So that expressions name their functions in full.
    await sql`set local search_path = pg_catalog`;
    const checks = await sql<Check[]>`
      select conname as name, pg_get_expr(conbin, conrelid) as expression,
        convalidated as "isValidated",
        (select jsonb_agg(jsonb_build_object('name', attname,
            'type', format_type(atttypid, atttypmod)))
          from pg_attribute where attrelid = conrelid and attnum = any (conkey)) as columns
      from pg_constraint
      inner join pg_class on pg_class.oid = conrelid
      where contype = 'c' and not relispartition
        and connamespace::regnamespace::text in ('app_public', 'app_hidden', 'app_private', 'ops')
      order by conname`;
    // A new CHECK gets its borders with it.
    expect(checks.map(({ name }) => name)).toEqual(Object.keys(borders).sort());
    const wrong: string[] = [];
    for (const check of checks) {
      if (!check.isValidated) wrong.push(`${check.name} is not valid`);
      const { inside = [], outside = [] } = borders[check.name] ?? {};
      for (const [rows, isRefused] of [
        [inside, false],
        [outside, true],
      ] as const) {
        for (const values of rows) {
          const [row] = await sql.unsafe<{ refused: boolean }[]>(refuses(check, values));
          if (row?.refused === isRefused) continue;
          const what = JSON.stringify(values).slice(0, 200);
          wrong.push(`${check.name} ${isRefused ? 'lets in' : 'keeps out'} ${what}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });
});
