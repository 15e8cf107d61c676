import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';

/** Nobody reads more at once. */
const longest = 400;

test.each(['src', 'test'])(`no file of %s has more than ${longest} lines`, (folder) => {
  const files = readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.(ts|tsx|mjs)$/.test(path))
    .map((path) => ({
      path,
      lines: readFileSync(join(projectRoot, folder, path), 'utf8').split('\n').length - 1,
    }));
  expect(files.length).toBeGreaterThan(0);
  expect(files.filter(({ lines }) => lines > longest)).toEqual([]);
});
