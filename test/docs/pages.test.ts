import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { readTable } from '../helpers/reference.ts';

const folder = join(projectRoot, 'docs', 'reference');
const pages = readdirSync(folder).filter((name) => name.endsWith('.md'));

test('every page of the reference is in its table of contents', () => {
  const shown = readTable('README', 'Reference').map(
    ({ page = '' }) => /^\[(.+)\]\(/.exec(page)?.[1],
  );
  const wanted = pages.filter((name) => name !== 'README.md');
  expect([...shown].sort()).toEqual([...wanted, 'schema.graphql'].sort());
});
