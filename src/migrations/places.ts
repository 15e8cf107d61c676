import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  expandIncludes,
  fixturesFolder,
  migrationsFolder,
  type SourceLine,
  textOf,
  trimBlank,
} from './includes.ts';

/** Says of a committed migration that `gw baseline` wrote it, and from which topic. */
export const baselineHeader = /^--! Baseline: (.+)$/m;

const dropHeaders = (lines: SourceLine[]): SourceLine[] => {
  const first = lines.findIndex(({ text }) => !/^--! [A-Z][A-Za-z0-9_]*(:.*)?$/.test(text));
  return trimBlank(lines.slice(Math.max(first, 0)));
};

/** The lines of a fixture when they still are what a migration holds of it. */
function ifSame(path: string, lines: SourceLine[]): SourceLine[] | undefined {
  const file = join(fixturesFolder, path);
  if (!existsSync(file)) return undefined;
  const source = trimBlank(expandIncludes(file));
  return textOf(source) === textOf(lines) ? source : undefined;
}

/** Leads what is between "--! Included" and "--! EndIncluded" back to the file it came from. */
function traceIncluded(lines: SourceLine[]): SourceLine[] {
  const traced: SourceLine[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] as SourceLine;
    traced.push(line);
    const path = /^--! Included (.+)$/.exec(line.text)?.[1];
    const length = lines.slice(at + 1).findIndex(({ text }) => text === `--! EndIncluded ${path}`);
    if (path === undefined || length === -1) continue;
    const inner = lines.slice(at + 1, at + 1 + length);
    traced.push(...(ifSame(path, inner) ?? traceIncluded(inner)));
    at += length;
  }
  return traced;
}

/** The body of a committed migration, each line with the place where a person wrote it. */
function committedLines(name: string): SourceLine[] {
  const path = join(migrationsFolder, 'committed', name);
  if (!existsSync(path)) return [];
  const topic = baselineHeader.exec(readFileSync(path, 'utf8'))?.[1];
  const body = dropHeaders(expandIncludes(path));
  return (topic === undefined ? undefined : ifSame(topic, body)) ?? traceIncluded(body);
}

/** What graphile-migrate makes of migrations/current/, or of migrations/current.sql. */
function currentLines(): SourceLine[] {
  const single = join(migrationsFolder, 'current.sql');
  if (existsSync(single)) return expandIncludes(single);
  const byNumber = (name: string): number => Number.parseInt(name, 10);
  return readdirSync(join(migrationsFolder, 'current'))
    .filter((name) => name.endsWith('.sql'))
    .sort((a, b) => byNumber(a) - byNumber(b))
    .flatMap((name, index) => {
      const file = join('migrations', 'current', name);
      const marker = { file, number: 1, text: `--! split: ${name}` };
      const blank = { file, number: 1, text: '' };
      const body = dropHeaders(expandIncludes(join(migrationsFolder, 'current', name)));
      return [...(index > 0 ? [blank] : []), marker, ...body];
    });
}

/**
 * The text of a migration, each line with the file and number where a person wrote it.
 *
 * @param name of a file in migrations/committed, or "current.sql" for migrations/current
 */
export const linesOf = (name: string): SourceLine[] =>
  name === 'current.sql' ? currentLines() : committedLines(name);
