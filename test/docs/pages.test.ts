import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
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

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(path: string): string[] {
  const text = readFileSync(path, 'utf8').replace(/```[\s\S]*?```/g, '');
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test.each(pages)('every link of %s leads somewhere', (page) => {
  const text = readFileSync(join(folder, page), 'utf8').replace(/```[\s\S]*?```/g, '');
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
  const broken = links.filter((link) => {
    if (/^https:/.test(link)) return false;
    const [file = '', anchor] = link.split('#', 2);
    const path = file === '' ? join(folder, page) : join(dirname(join(folder, page)), file);
    if (!existsSync(path)) return true;
    return anchor !== undefined && !anchorsOf(path).includes(anchor);
  });
  expect(broken).toEqual([]);
});
