import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import {
  type ErrorDetails,
  errorDetails,
  explainError,
  GwError,
  isUnreachable,
  messageOf,
} from '../errors.ts';
import { projectRoot } from '../project.ts';
import { type SourceLine, textOf } from './includes.ts';
import { linesOf } from './places.ts';
import { splitStatements } from './statements.ts';

/** What a run of migrations has said of itself until it failed. */
export interface Ran {
  /** Migrations that ran in this run and stay, oldest first. */
  before: string[];
  /** The one that runs now: a file of migrations/committed, "current.sql", or none. */
  now: string | undefined;
  isShadow: boolean;
}

/** A text of statements that failed, and how many of them had run. */
interface Failed {
  text: string;
  completed: number;
}

/** By the error that a query of `pg` ended with. */
const failedQueries = new WeakMap<object, Failed>();

interface RunningQuery {
  text?: string;
  _results: { command: string | null } | { command: string | null }[];
}

/**
 * Has `pg` note which of a text's statements failed. PostgreSQL gives no position for an error
 * that comes when a statement runs, such as one inside a function.
 */
function noteFailures(): void {
  const prototype = pg.Query.prototype as unknown as {
    handleError(this: RunningQuery, error: object, connection: unknown): unknown;
  };
  const { handleError } = prototype;
  prototype.handleError = function (error, connection) {
    const completed = [this._results].flat().filter(({ command }) => command !== null).length;
    if (this.text !== undefined) failedQueries.set(error, { text: this.text, completed });
    return handleError.call(this, error, connection);
  };
}
noteFailures();

/** What .gmrc has run when all migrations have. */
const afterwards = join('sql', 'bootstrap', 'after-migrations.sql');

/**
 * A text's lines with their places: of the migration that runs, or of what comes after.
 *
 * @returns undefined for a statement of graphile-migrate itself
 */
function sourceOf(text: string, now: string | undefined): SourceLine[] | undefined {
  const candidates = [
    ...(now === undefined ? [] : [() => linesOf(now)]),
    () => linesOf('current.sql'),
    () => plainLines(readFileSync(join(projectRoot, afterwards), 'utf8'), afterwards),
  ];
  for (const candidate of candidates) {
    try {
      const lines = candidate();
      if (textOf(lines).trim() === text.trim()) return lines;
    } catch {
      // There is no such file.
    }
  }
  return now === undefined ? undefined : plainLines(text, now);
}

const plainLines = (text: string, file: string): SourceLine[] =>
  text.split('\n').map((line, index) => ({ file, number: index + 1, text: line }));

/** Lines of a file as a compiler shows them, with a caret under the last one's column. */
function excerpt(lines: SourceLine[], index: number, column: number | undefined): string[] {
  const at = lines[index];
  if (at === undefined) return [];
  const shown = lines
    .slice(Math.max(0, column === undefined ? index : index - 3), index + 1)
    .filter(({ file }) => file === at.file);
  const width = String(at.number).length;
  const place = `${at.file}:${at.number}${column === undefined ? '' : `:${column}`}`;
  return [
    `  --> ${place}`,
    `${' '.repeat(width)} |`,
    ...shown.map(({ number, text }) => `${String(number).padStart(width)} | ${text}`),
    ...(column === undefined
      ? []
      : [`${' '.repeat(width)} | ${at.text.slice(0, column - 1).replace(/\S/g, ' ')}^`]),
  ];
}

/** The place of an error: its position, else the first line of the statement that failed. */
function placeOf(lines: SourceLine[], failed: Failed, position: number | undefined): string[] {
  // graphile-migrate and our files differ in blank lines at the ends alone.
  const skipped = failed.text.length - failed.text.trimStart().length;
  const text = textOf(lines);
  const ahead = text.length - text.trimStart().length;
  // PostgreSQL counts characters, JavaScript counts UTF-16 units.
  const offset =
    position === undefined
      ? splitStatements(failed.text)[failed.completed]?.start
      : Array.from(failed.text)
          .slice(0, position - 1)
          .join('').length;
  if (offset === undefined) return [];
  const before = text.slice(0, offset - skipped + ahead).split('\n');
  const column = (before.at(-1)?.length ?? 0) + 1;
  return excerpt(lines, before.length - 1, position === undefined ? undefined : column);
}

function detailsOf({ code, detail, query, where }: ErrorDetails): string[] {
  const indented = (name: string, text: string | undefined): string[] =>
    text === undefined ? [] : [`${name}: ${text.trim().split('\n').join('\n  ')}`];
  return [
    ...indented('code', code),
    ...indented('detail', detail),
    ...indented('query', query),
    ...indented('where', where),
  ];
}

function whatRan({ before, now, isShadow }: Ran): string[] {
  const where = isShadow ? ' (in the shadow database)' : '';
  const [first, last] = [before.at(0), before.at(-1)];
  const stay =
    before.length === 0
      ? 'no migration'
      : before.length < 4
        ? before.join(', ')
        : `${first} to ${last}, ${before.length} migrations`;
  if (now === undefined) return [`ran before: ${stay}${where}`];
  const name = now === 'current.sql' ? 'migrations/current/' : `migrations/committed/${now}`;
  return [`failed: ${name}${where}`, `ran before: ${stay}`];
}

/** What graphile-migrate itself refuses, with what to do about it. */
function ownError(thrown: unknown): GwError {
  const message = messageOf(thrown);
  const hints: [RegExp, string][] = [
    [/^Current migration is blank/, 'Write it in migrations/current/ first.'],
    [
      /^Hash for |^Previous migration with hash /,
      'A committed migration does not change: take the edit back. What the topics make is' +
        ' written anew by: npm run gw -- baseline',
    ],
  ];
  const hint = hints.find(([pattern]) => pattern.test(message))?.[1];
  return new GwError(message, {
    hint: hint ?? 'See migrations/ and .gmrc; GW_DEBUG=1 shows where it came from.',
    cause: thrown,
  });
}

/**
 * A failed migration as a compiler would show it: message, file, line, caret, code, detail,
 * context, and what had run before. Lines that came from an included file are named by that
 * file.
 *
 * @returns a GwError with exit code 1, or 3 when the database could not be reached
 */
export function migrationError(thrown: unknown, ran: Ran): GwError {
  if (thrown instanceof GwError) return thrown;
  const details = errorDetails(thrown);
  const failed = failedQueries.get(thrown as object);
  const source = failed && sourceOf(failed.text, ran.now);
  if (failed === undefined || source === undefined || isUnreachable(thrown)) {
    const explained = explainError(thrown) ?? ownError(thrown);
    return ran.now === undefined && ran.before.length === 0
      ? explained
      : new GwError([explained.message, ...whatRan(ran)].join('\n'), {
          hint: explained.hint,
          exitCode: explained.exitCode,
          cause: thrown,
        });
  }
  const isOver = source[0]?.file === afterwards;
  const lines = [
    details.message,
    ...placeOf(source, failed, details.position),
    ...detailsOf(details),
    ...whatRan(
      isOver && ran.now !== undefined
        ? { ...ran, before: [...ran.before, ran.now], now: undefined }
        : ran,
    ),
  ];
  return new GwError(lines.join('\n'), { hint: details.hint, cause: thrown });
}

/** The place and nature of an error in the SQL of a file that is no migration. */
export function fixtureError(thrown: unknown, source: SourceLine[]): GwError {
  const failed = failedQueries.get(thrown as object);
  if (failed === undefined) return explainError(thrown) ?? new GwError(String(thrown));
  const details = errorDetails(thrown);
  const lines = [
    details.message,
    ...placeOf(source, failed, details.position),
    ...detailsOf(details),
  ];
  return new GwError(lines.join('\n'), { hint: details.hint, cause: thrown });
}
