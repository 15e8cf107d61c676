import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';

/** A line of SQL and the file it was written in. */
export interface SourceLine {
  file: string;
  number: number;
  text: string;
}

export const migrationsFolder = join(projectRoot, 'migrations');
export const fixturesFolder = join(migrationsFolder, 'fixtures');
export const currentFolder = join(migrationsFolder, 'current');

const includePattern = /^--![ \t]*include[ \t]+(.*\.sql)[ \t]*$/;

/** The path that a line includes, relative to migrations/fixtures. */
export const includedBy = (line: string): string | undefined => includePattern.exec(line)?.[1];

/** Without blank lines at either end. */
export function trimBlank(lines: SourceLine[]): SourceLine[] {
  const isBlank = (line: SourceLine | undefined): boolean => line?.text.trim() === '';
  let [start, end] = [0, lines.length];
  while (start < end && isBlank(lines[start])) start += 1;
  while (end > start && isBlank(lines[end - 1])) end -= 1;
  return lines.slice(start, end);
}

/**
 * The lines of a file, with --!include replaced in the way graphile-migrate does it, so that
 * a place in the whole leads back to the file it was written in.
 *
 * @throws GwError naming the file and line of an include that is not there or goes in a circle
 */
export function expandIncludes(path: string, within: string[] = []): SourceLine[] {
  const file = relative(projectRoot, path);
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((text, index): SourceLine[] => {
      const line = { file, number: index + 1, text };
      const included = includedBy(text);
      if (included === undefined) return [line];
      const inner = join(fixturesFolder, included);
      if (within.includes(inner)) {
        throw new GwError(`${file}:${line.number} includes ${included}, which includes itself`);
      }
      return [
        { ...line, text: `--! Included ${included}` },
        ...trimBlank(expandOrSay(inner, [...within, inner], line)),
        { ...line, text: `--! EndIncluded ${included}` },
      ];
    });
}

function expandOrSay(path: string, within: string[], from: SourceLine): SourceLine[] {
  try {
    return expandIncludes(path, within);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const missing = relative(projectRoot, path);
    throw new GwError(`${from.file}:${from.number} includes ${missing}, which is not there`);
  }
}

export const textOf = (lines: SourceLine[]): string => lines.map(({ text }) => text).join('\n');
