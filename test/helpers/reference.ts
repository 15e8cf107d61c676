import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { projectRoot } from '../../src/project.ts';

/** A row of a table in a page of docs/reference: its cells by the names of the columns. */
export type Row = Record<string, string>;

interface Table {
  /** The place of its first line among the page's. */
  start: number;
  /** One past its last. */
  end: number;
  columns: string[];
  rows: Row[];
}

const pathOf = (page: string): string => join(projectRoot, 'docs', 'reference', `${page}.md`);

/** The text of a page. */
export const readPage = (page: string): string => readFileSync(pathOf(page), 'utf8');

/** The headings of a page, with their `#`. */
export const headingsOf = (page: string): string[] =>
  withoutCode(readPage(page).split('\n')).filter((line) => /^#+ /.test(line));

/** The lines of a page, those of code blocks emptied: a `#` there is no heading. */
function withoutCode(lines: readonly string[]): string[] {
  let isCode = false;
  return lines.map((line) => {
    const isFence = line.startsWith('```');
    if (isFence) isCode = !isCode;
    return isCode || isFence ? '' : line;
  });
}

function cellsOf(line: string): string[] {
  return line
    .slice(1)
    .split(/(?<!\\)\|/)
    .slice(0, -1)
    .map((cell) => cell.trim().replaceAll('\\|', '|'));
}

/** The first table below a heading, before the next heading. */
function findTable(page: string, heading: string): Table {
  const lines = withoutCode(readPage(page).split('\n'));
  const at = lines.findIndex((line) => line.replace(/^#+ /, '') === heading && line !== heading);
  const next = lines.findIndex((line, place) => place > at && /^#+ /.test(line));
  const limit = next === -1 ? lines.length : next;
  const start = lines.findIndex((line, place) => place > at && line.startsWith('|'));
  if (at === -1 || start === -1 || start >= limit) {
    throw new Error(`docs/reference/${page}.md has no table under "${heading}"`);
  }
  let end = start;
  while (lines[end]?.startsWith('|') === true) end += 1;
  const columns = cellsOf(lines[start] ?? '');
  const rows = lines.slice(start + 2, end).map((line) => {
    const cells = cellsOf(line);
    return Object.fromEntries(columns.map((name, place) => [name, cells[place] ?? '']));
  });
  return { start, end, columns, rows };
}

/** The rows of the first table below a heading. */
export const readTable = (page: string, heading: string): Row[] => findTable(page, heading).rows;

/** Rewrites the columns that the code knows; the prose of rows that stay is kept. */
function writeTable(page: string, { start, end, columns, rows }: Table, known: Row[]): void {
  const [key = ''] = columns;
  const before = new Map(rows.map((row) => [row[key] ?? '', row]));
  const added = known.filter((row) => !before.has(row[key] ?? ''));
  const kept = rows.flatMap((row) => {
    const now = known.find((one) => one[key] === row[key]);
    return now === undefined ? [] : [{ ...row, ...now }];
  });
  const lines = [...kept, ...added].map(
    (row) => `| ${columns.map((name) => (row[name] ?? '').replaceAll('|', '\\|')).join(' | ')} |`,
  );
  const all = readPage(page).split('\n');
  all.splice(start + 2, end - start - 2, ...lines);
  writeFileSync(pathOf(page), all.join('\n'));
}

/**
 * Asserts that a table of the reference has a row for each thing that the code has, and for
 * nothing else. The columns that `known` has are compared; the others are prose, and must
 * not be empty. The first column tells rows apart; their order is the page's own.
 *
 * With `GW_TEST_WRITE_DOCS=1` the compared columns are rewritten first.
 */
export function expectTable(page: string, heading: string, known: Row[]): void {
  if (process.env.GW_TEST_WRITE_DOCS === '1') writeTable(page, findTable(page, heading), known);
  const { columns, rows } = findTable(page, heading);
  const compared = Object.keys(known[0] ?? {});
  expect(columns, `columns of "${heading}"`).toEqual(expect.arrayContaining(compared));
  const [key = ''] = columns;
  const sorted = (unsorted: Row[]): Row[] =>
    [...unsorted].sort((one, other) => ((one[key] ?? '') < (other[key] ?? '') ? -1 : 1));
  const shown = rows.map((row) =>
    Object.fromEntries(compared.map((name) => [name, row[name] ?? ''])),
  );
  expect(sorted(shown), `${page}.md, "${heading}"`).toEqual(sorted(known));
  const prose = columns.filter((name) => !compared.includes(name));
  const unsaid = rows.filter((row) => prose.some((name) => row[name] === ''));
  expect(unsaid, `${page}.md, "${heading}": cells without prose`).toEqual([]);
}

/** As code in Markdown; an empty text stays empty. */
export const code = (text: string): string => (text === '' ? '' : `\`${text}\``);

/** Parameters of a file of SQL, with their defaults. */
export const paramsOf = (params: readonly { name: string; fallback: string }[]): string =>
  params.map(({ name, fallback }) => `${code(name)} ${fallback}`.trim()).join(', ');
