import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { GwError } from '../errors.ts';
import { migrationsFolder } from './includes.ts';

export const committedFolder = join(migrationsFolder, 'committed');

/** A file of migrations/committed. */
export interface Committed {
  /** Such as 000036-tags.sql. */
  file: string;
  /** As graphile-migrate records it in the database: 000036.sql. */
  name: string;
  /** The text above the body, one `--! Name: value` a line. */
  headers: string[];
  body: string;
  /** What its header says; the hash before is undefined in the first one. */
  hash: string;
  previous: string | undefined;
}

/** A migration that a database ran, from graphile_migrate.migrations. */
export interface Applied {
  name: string;
  hash: string;
}

/** One sentence that says what differs, and another what to do. */
export interface Conflict {
  message: string;
  hint: string;
}

/** graphile-migrate's hash: of the hash before and the body, a line break between. */
export function hashOf(body: string, previous: string | undefined): string {
  const text = `${`${previous ?? ''}\n${body.trim()}`.trim()}\n`;
  return `sha1:${createHash('sha1').update(text).digest('hex')}`;
}

const headerPattern = /^--! [A-Z][A-Za-z0-9_]*(:.*)?$/;

function parseCommitted(file: string, text: string): Committed {
  const lines = text.split('\n');
  const end = lines.findIndex((line) => !headerPattern.test(line));
  const headers = lines.slice(0, Math.max(end, 0));
  const headerOf = (name: string): string | undefined =>
    headers.flatMap((line) => new RegExp(`^--! ${name}: *(.*?) *$`).exec(line)?.[1] ?? [])[0];
  const previous = headerOf('Previous');
  return {
    file,
    name: `${file.slice(0, 6)}.sql`,
    headers,
    body: lines.slice(headers.length).join('\n').trim(),
    hash: headerOf('Hash') ?? '',
    previous: previous === '-' ? undefined : previous,
  };
}

/** By file, as of its last change: /readyz reads them often. */
const parsed = new Map<string, { stamp: string; committed: Committed }>();

/** The committed migrations, oldest first. */
export function readCommitted(): Committed[] {
  if (!existsSync(committedFolder)) return [];
  return readdirSync(committedFolder)
    .filter((file) => /^\d{6}(-.*)?\.sql$/.test(file))
    .sort()
    .map((file) => {
      const path = join(committedFolder, file);
      const { mtimeMs, size, ino } = statSync(path);
      const stamp = `${mtimeMs} ${size} ${ino}`;
      const known = parsed.get(file);
      if (known?.stamp === stamp) return known.committed;
      const committed = parseCommitted(file, readFileSync(path, 'utf8'));
      parsed.set(file, { stamp, committed });
      return committed;
    });
}

/** The names of the committed migrations as graphile-migrate records them, oldest first. */
export const committedNames = (): string[] => readCommitted().map(({ name }) => name);

const path = (file: string): string => `migrations/committed/${file}`;

/** Of a migration that `gw baseline` wrote: nothing in its file is kept. */
export const isBaseline = ({ headers }: Committed): boolean =>
  headers.some((line) => line.startsWith('--! Baseline:'));

const rebaseHint = (one: Committed): string =>
  isBaseline(one)
    ? 'Both come from topics: resolve migrations/fixtures/, then run: npm run gw -- baseline'
    : `Give the one that is not on the main branch the next number: npm run gw -- commit --rebase ${one.file}`;

function conflictOfFile(one: Committed, before: Committed | undefined): Conflict | undefined {
  if (one.headers.length === 0 && one.body.startsWith('--! ')) {
    return {
      message: `${path(one.file)} has CRLF line ends, which change its hash`,
      hint: 'Have git write LF, as .gitattributes says: git add --renormalize . && git checkout -- .',
    };
  }
  if (before?.name === one.name) {
    return {
      message: `${path(before.file)} and ${one.file} have the same number`,
      hint: rebaseHint(one),
    };
  }
  if (
    !one.headers.includes('--! AllowInvalidHash') &&
    hashOf(one.body, one.previous) !== one.hash
  ) {
    return {
      message: `${path(one.file)} was edited after it was committed`,
      hint: isBaseline(one)
        ? 'Make the edit in migrations/fixtures/, then run: npm run gw -- baseline'
        : `Get the file back: git checkout -- ${path(one.file)}. Then write the change as a new migration. If no other database ran it: gw uncommit, edit it, gw commit.`,
    };
  }
  if (one.previous !== before?.hash) {
    const expected = before === undefined ? 'none' : before.file;
    return {
      message: `${path(one.file)} was committed after another migration than ${expected}`,
      hint: rebaseHint(one),
    };
  }
  return undefined;
}

/** The first thing that is wrong with the files, whichever database they meet. */
export function conflictOfFiles(files = readCommitted()): Conflict | undefined {
  for (const [index, one] of files.entries()) {
    const conflict = conflictOfFile(one, files[index - 1]);
    if (conflict !== undefined) return conflict;
  }
  return undefined;
}

/** The first file that is not what the database ran under its number. */
export function conflictWith(applied: Applied[], files = readCommitted()): Conflict | undefined {
  const own = conflictOfFiles(files);
  if (own !== undefined) return own;
  const ran = new Map(applied.map(({ name, hash }) => [name, hash]));
  const newest = [...ran.keys()].sort().at(-1) ?? '';
  for (const { file, name, hash } of files) {
    const other = ran.get(name);
    if (other === undefined && name < newest) {
      return {
        message: `the database ran ${newest}, and never ran ${path(file)} before it`,
        hint: `Give the file the next number: npm run gw -- commit --rebase ${file}. A development database may begin anew: npm run gw -- reset`,
      };
    }
    if (other !== undefined && other !== hash) {
      return {
        message: `the database ran another ${name} (${other}) than ${path(file)} (${hash})`,
        hint: `A development database may begin anew: npm run gw -- reset. Otherwise get the file that it ran back from its branch, and give this one the next number: npm run gw -- commit --rebase ${file}`,
      };
    }
  }
  return undefined;
}

/** @throws GwError for the first conflict of files, or of files and database */
export function refuseConflict(applied: Applied[]): void {
  const conflict = conflictWith(applied);
  if (conflict !== undefined) throw new GwError(conflict.message, { hint: conflict.hint });
}
