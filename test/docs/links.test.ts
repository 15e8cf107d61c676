import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { projectRoot } from '../../src/project.ts';

/** Every page that is written for people, relative to the repository. */
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  ...readdirSync(join(projectRoot, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name))
    .sort(),
];

/** Emptied are blocks and spans of code: what looks like a link there is none. */
const proseOf = (page: string): string =>
  readFileSync(join(projectRoot, page), 'utf8')
    .replace(/^( *)```[\s\S]*?^\1```$/gm, '')
    .replace(/(`+)[^`\n]+\1(?!\])/g, '');

interface Link {
  /** Relative to the repository. */
  file: string;
  anchor: string | undefined;
  text: string;
}

/** The links of a page that do not leave the repository. */
function linksOf(page: string): Link[] {
  const targets = [
    ...proseOf(page).matchAll(/\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g),
    ...proseOf(page).matchAll(/^\[[^\]]+\]:\s+(\S+)/gm),
  ].map(([, target = '']) => target);
  return targets
    .filter((target) => !/^[a-z][a-z+.-]*:/i.test(target))
    .map((text) => {
      const [path = '', anchor] = decodeURIComponent(text).split('#', 2);
      return { file: path === '' ? page : join(dirname(page), path), anchor, text };
    });
}

/** The anchors of a page's headings, as GitHub makes them; one that comes twice has a number. */
function anchorsOf(page: string): Set<string> {
  const text = readFileSync(join(projectRoot, page), 'utf8');
  const seen = new Map<string, number>();
  const anchors = new Set<string>();
  for (const [, heading = ''] of text
    .replace(/^( *)```[\s\S]*?^\1```$/gm, '')
    .matchAll(/^#{1,6} +(.+?) *#*$/gm)) {
    const anchor = heading
      .replace(/\[([^\]]+)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-');
    const times = seen.get(anchor) ?? 0;
    seen.set(anchor, times + 1);
    anchors.add(times === 0 ? anchor : `${anchor}-${times}`);
  }
  return anchors;
}

/** Why a link leads nowhere; undefined when it leads somewhere. */
function problemOf({ file, anchor, text }: Link): string | undefined {
  const path = join(projectRoot, file);
  if (relative(projectRoot, path).startsWith('..')) return `${text} leaves the repository`;
  if (!existsSync(path)) return `${text}: there is no ${file}`;
  if (anchor === undefined || statSync(path).isDirectory()) return undefined;
  if (!file.endsWith('.md')) return `${text}: only a page has anchors`;
  return anchorsOf(file).has(anchor) ? undefined : `${text}: ${file} has no such heading`;
}

describe('a link leads somewhere', () => {
  test('there are pages to look at', () => {
    expect(pages.length).toBeGreaterThan(30);
    expect(pages.flatMap(linksOf).length).toBeGreaterThan(150);
  });

  test.each(pages)('in %s', (page) => {
    expect(linksOf(page).flatMap((link) => problemOf(link) ?? [])).toEqual([]);
  });
});

test('every page is reached from the README, one link after another', () => {
  const reached = new Set(['README.md']);
  for (const page of reached) {
    for (const { file } of linksOf(page)) {
      if (file.endsWith('.md') && existsSync(join(projectRoot, file))) reached.add(file);
    }
  }
  expect(pages.filter((page) => !reached.has(page))).toEqual([]);
});

test('the README is one page', () => {
  const lines = readFileSync(join(projectRoot, 'README.md'), 'utf8').trimEnd().split('\n');
  expect(lines.length).toBeLessThanOrEqual(170);
});
