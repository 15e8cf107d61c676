import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';

// Nobody reads more at once. Biome holds functions of TypeScript to 120 lines.
test.each([
  ['src', /\.(ts|tsx|mjs)$/, 400],
  ['test', /\.(ts|tsx|mjs)$/, 400],
  ['migrations/fixtures/topics', /\.sql$/, 450],
  ['migrations/fixtures/functions', /\.sql$/, 120],
])('no file of %s matching %s has more than %i lines', (folder, pattern, longest) => {
  const files = readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => pattern.test(path))
    .map((path) => ({
      path,
      lines: readFileSync(join(projectRoot, folder, path), 'utf8').split('\n').length - 1,
    }));
  expect(files.length).toBeGreaterThan(0);
  expect(files.filter(({ lines }) => lines > longest)).toEqual([]);
});
