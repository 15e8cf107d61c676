import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { projectRoot } from '../project.ts';

/** A line of SQL and the file it was written in. */
interface SourceLine {
  file: string;
  number: number;
  text: string;
}

interface DatabaseError extends Error {
  code?: string;
  detail?: string;
  hint?: string;
  where?: string;
  position?: string | number;
  _gmMessageOverride?: string;
}

const folder = join(projectRoot, 'migrations');

/** A file's lines, with --!include replaced in the way graphile-migrate does it. */
function expand(path: string): SourceLine[] {
  const file = relative(projectRoot, path);
  return readFileSync(path, 'utf8')
    .split('\n')
    .flatMap((text, index): SourceLine[] => {
      const line = { file, number: index + 1, text };
      const included = /^--![ \t]*include[ \t]+(.*\.sql)[ \t]*$/.exec(text)?.[1];
      if (included === undefined) return [line];
      const inner = trimBlank(expand(join(folder, 'fixtures', included)));
      return [
        { ...line, text: `--! Included ${included}` },
        ...inner,
        { ...line, text: `--! EndIncluded ${included}` },
      ];
    });
}

function trimBlank(lines: SourceLine[]): SourceLine[] {
  const isBlank = (line: SourceLine | undefined): boolean => line?.text.trim() === '';
  let [start, end] = [0, lines.length];
  while (start < end && isBlank(lines[start])) start += 1;
  while (end > start && isBlank(lines[end - 1])) end -= 1;
  return lines.slice(start, end);
}

const dropHeaders = (lines: SourceLine[]): SourceLine[] => {
  const first = lines.findIndex(({ text }) => !/^--! [A-Z][A-Za-z0-9_]*(:.*)?$/.test(text));
  return trimBlank(lines.slice(Math.max(first, 0)));
};

/** The text that graphile-migrate ran, line by line, for the name that it reports. */
function ranLines(reported: string): SourceLine[] {
  if (reported !== 'current.sql') {
    const committed = join(folder, 'committed');
    const number = reported.replace(/\.sql$/, '');
    const name = readdirSync(committed).find((entry) => entry.startsWith(number));
    return name === undefined ? [] : dropHeaders(expand(join(committed, name)));
  }
  const single = join(folder, 'current.sql');
  if (existsSync(single)) return expand(single);
  const byNumber = (name: string): number => Number.parseInt(name, 10);
  return readdirSync(join(folder, 'current'))
    .filter((name) => name.endsWith('.sql'))
    .sort((a, b) => byNumber(a) - byNumber(b))
    .flatMap((name, index) => {
      const file = join('migrations', 'current', name);
      const marker = { file, number: 1, text: `--! split: ${name}` };
      const blank = { file, number: 1, text: '' };
      const body = dropHeaders(expand(join(folder, 'current', name)));
      return [...(index > 0 ? [blank] : []), marker, ...body];
    });
}

/**
 * An SQL error as a compiler would show it: message, file, line, caret, code, detail, hint.
 * Lines that came from an included file are named by that file.
 */
export function describeSqlError(thrown: unknown): string {
  const error = thrown as DatabaseError;
  const lines = [`error: ${error.message}`];
  const place = /line (\d+), column (\d+) of "(.+?)"/.exec(error._gmMessageOverride ?? '');
  if (place) {
    const [, line, column, reported] = place;
    const ran = ranLines(reported ?? '');
    const at = ran[Number(line) - 1];
    if (at === undefined) {
      lines.push(`  --> ${reported}:${line}:${column}`);
    } else {
      const shown = ran
        .slice(Math.max(0, Number(line) - 4), Number(line))
        .filter(({ file }) => file === at.file);
      const width = String(at.number).length;
      lines.push(`  --> ${at.file}:${at.number}:${column}`, `${' '.repeat(width)} |`);
      for (const { number, text } of shown) {
        lines.push(`${String(number).padStart(width)} | ${text}`);
      }
      lines.push(`${' '.repeat(width)} | ${' '.repeat(Math.max(0, Number(column) - 1))}^`);
    }
  }
  if (error.code !== undefined) lines.push(`code: ${error.code}`);
  if (error.detail !== undefined) lines.push(`detail: ${error.detail}`);
  if (error.where !== undefined) lines.push(`where: ${error.where.split('\n').join('\n       ')}`);
  if (error.hint !== undefined) lines.push(`hint: ${error.hint}`);
  return lines.join('\n');
}
