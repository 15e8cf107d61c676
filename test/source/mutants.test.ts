import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { type Mutant, placeOf, testFile } from '../mutants/mutant.ts';

const db = useDatabase();
const folder = join(projectRoot, 'test', 'mutants', 'areas');
const areas = await Promise.all(
  readdirSync(folder).map(async (file) => {
    const { mutants } = (await import(join(folder, file))) as { mutants: Mutant[] };
    return { file, mutants };
  }),
);
const all = areas.flatMap(({ mutants }) => mutants);

test('there are faults enough, in every area, each told once', () => {
  expect(all.length).toBeGreaterThan(250);
  expect(areas.filter(({ mutants }) => mutants.length < 15)).toEqual([]);
  expect(new Set(all.map(({ fault }) => fault)).size).toBe(all.length);
});

test('every fault names tests that are there', () => {
  const missing = all.flatMap(({ tests }) =>
    tests.filter((name) => !existsSync(join(projectRoot, testFile(name)))),
  );
  expect(missing).toEqual([]);
});

// What it replaces may have been rewritten, and its table renamed.
test('every fault can still be planted', async () => {
  const wrong: string[] = [];
  for (const mutant of all) {
    try {
      const place = placeOf(mutant);
      if (place.in !== 'database') continue;
      await rolledBack(db.as('superuser'), async (sql) => {
        await sql.unsafe(place.statement);
      });
    } catch (error) {
      wrong.push(`${mutant.fault}: ${(error as Error).message}`);
    }
  }
  expect(wrong).toEqual([]);
});
