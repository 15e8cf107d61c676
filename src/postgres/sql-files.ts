import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf, EXIT, GwError, messageOf } from '../errors.ts';
import { projectRoot } from '../project.ts';
import type { Rows } from '../terminal/rows.ts';
import { connectionError, type Transaction, withSql } from './connect.ts';

/** A value that whoever runs a file may choose, passed as a setting of the transaction. */
export interface Param {
  name: string;
  /** text, integer, bigint, numeric, boolean, interval, timestamptz, or `one|another`. */
  type: string;
  /** What the SQL takes when none is given; empty for none. */
  fallback: string;
  description: string;
}

/** One file of sql/reports or sql/checks, taken apart. */
export interface SqlFile {
  name: string;
  title: string;
  params: Param[];
  /** Relations, `function schema.name` or `role name`, without which it does not run. */
  needs: string[];
  /** How often a health check is due, as an interval. */
  every: string;
  columns: string;
  read: string;
  cost: string;
  /** The whole text. */
  text: string;
}

const sections = ['Params', 'Needs', 'Every', 'Columns', 'Read', 'Cost'];
const paramLine = /^ {2}(?<name>[a-z_]+) (?<type>[a-z|]+) = (?<fallback>.*?): (?<description>.+)$/;

/**
 * Takes a file's header apart.
 *
 * @throws GwError for a parameter that is not `name type = default: description`
 */
export function parseSqlFile(text: string, path: string): SqlFile {
  const header = text.split('\n').filter((_, at, lines) => lines.slice(0, at + 1).every(isComment));
  const found: Record<string, string[]> = { title: [] };
  let section = 'title';
  for (const line of header.map((each) => each.slice(3))) {
    const [, name = '', rest = ''] = /^([A-Z][a-z]+):(.*)$/.exec(line) ?? [];
    if (sections.includes(name)) section = name;
    found[section] = [...(found[section] ?? []), sections.includes(name) ? rest.trim() : line];
  }
  const prose = (name: string): string =>
    (found[name] ?? [])
      .map((line) => line.trim())
      .join(' ')
      .trim();
  const [, name = '', title = ''] = /^([a-z0-9-]+): (.+)$/.exec(prose('title')) ?? [];
  const [first = '', ...lines] = found.Params ?? [];
  const params = lines.map((line): Param => {
    const groups = paramLine.exec(line)?.groups;
    if (groups === undefined) throw new GwError(`${path}: not a parameter: ${line.trim()}`);
    return groups as unknown as Param;
  });
  if (name === '' || !['', 'none'].includes(first)) {
    throw new GwError(`${path} does not open with "-- name: what it shows" and "-- Params:"`);
  }
  const needs = prose('Needs').split(', ').filter(Boolean);
  const every = prose('Every') || '1 minute';
  const columns = prose('Columns');
  return {
    name,
    title,
    params,
    needs,
    every,
    columns,
    read: prose('Read'),
    cost: prose('Cost'),
    text,
  };
}

const isComment = (line: string): boolean => line.startsWith('-- ');

/** The names of a folder's files that begin with a prefix, without it, in order. */
export function sqlNames(folder: string, prefix = ''): string[] {
  return readdirSync(join(projectRoot, 'sql', folder))
    .filter((file) => file.startsWith(prefix) && file.endsWith('.sql'))
    .map((file) => file.slice(prefix.length, -'.sql'.length))
    .sort();
}

/** The text of one of them. */
export const readSqlText = (folder: string, file: string): string =>
  readFileSync(join(projectRoot, 'sql', folder, `${file}.sql`), 'utf8');

/** All files of a folder that begin with a prefix, in order. */
export function readSqlFiles(folder: string, prefix = ''): SqlFile[] {
  return sqlNames(folder, prefix).map((name) => {
    const file = parseSqlFile(readSqlText(folder, `${prefix}${name}`), `sql/${folder}/${name}.sql`);
    if (file.name !== name)
      throw new GwError(`sql/${folder}/${prefix}${name}.sql calls itself ${file.name}`);
    return file;
  });
}

const forms: Record<string, RegExp> = {
  integer: /^-?\d{1,9}$/,
  bigint: /^-?\d{1,18}$/,
  numeric: /^-?\d+([.]\d+)?$/,
  boolean: /^(true|false)$/,
};

/**
 * Reads `name=value` arguments against what files declare.
 *
 * @throws GwError with exit code 2 for an unknown name or a value of the wrong form
 */
export function parseParams(given: string[], declared: Param[]): Map<string, string> {
  const wrong = (message: string, hint: string): GwError =>
    new GwError(message, { hint, exitCode: EXIT.usage });
  const values = new Map<string, string>();
  for (const each of given) {
    const [, name = '', value = ''] = /^([a-z_]+)=(.*)$/s.exec(each) ?? [];
    const param = declared.find((one) => one.name === name);
    if (param === undefined) {
      const known = declared.map((one) => `${one.name} ${one.type} = ${one.fallback}`);
      throw wrong(
        `there is no parameter ${name || each}`,
        known.length === 0 ? 'There are none.' : `There are:\n${known.join('\n')}`,
      );
    }
    const isRight = param.type.includes('|')
      ? param.type.split('|').includes(value)
      : (forms[param.type]?.test(value) ?? true);
    if (!isRight) {
      throw wrong(`--param ${name}: "${value}" is not ${param.type}`, param.description);
    }
    values.set(name, value);
  }
  return values;
}

/** Sets parameters for the rest of a transaction, as `<prefix>.<name>`. */
export async function setParams(
  sql: Transaction,
  prefix: string,
  values: Map<string, string>,
): Promise<void> {
  for (const [name, value] of values) {
    await sql`select set_config(${`${prefix}.${name}`}, ${value}, true)`;
  }
}

/**
 * Names are searched in pg_catalog alone, so that what is printed has its schema, and where
 * pg_stat_statements is, which each installation puts elsewhere. Others may be able to put an
 * operator there, which is no matter for a role without power.
 */
async function setSearchPath(sql: Transaction): Promise<void> {
  const [extension] = await sql<{ schema: string }[]>`
    select quote_ident(nspname) as schema from pg_catalog.pg_extension
    inner join pg_catalog.pg_namespace on pg_namespace.oid = extnamespace
    where extname = 'pg_stat_statements'`;
  const path = extension === undefined ? 'pg_catalog' : `pg_catalog, ${extension.schema}`;
  await sql`select set_config('search_path', ${path}, true)`;
}

/** The first thing that a file needs and the database lacks. */
async function missing(sql: Transaction, needs: string[]): Promise<string | undefined> {
  for (const need of needs) {
    const [, kind, name = ''] = /^(?:(role|function) )?(.+)$/.exec(need) ?? [];
    const [row] =
      kind === 'role'
        ? await sql`select pg_has_role(${name}, 'usage') as here`
        : kind === 'function'
          ? await sql`select exists (select from pg_proc
              where pronamespace::regnamespace || '.' || proname = ${name}) as here`
          : await sql`select to_regclass(${name}) is not null as here`;
    if (row?.here !== true) return need;
  }
  return undefined;
}

/** What a file returned, or why it could not be run here. */
export type FileResult = Rows | Missing;

export interface Missing {
  needs: string;
  /** Whether it is there, and this role may not see it. */
  isRight: boolean;
}

/** bigint and numeric come as text; sizes, counts and seconds are exact enough as numbers. */
const numeric = new Set([20, 1700]);
function withNumbers(
  row: Record<string, unknown>,
  columns: Rows['columns'],
): Record<string, unknown> {
  const entries = columns.map(({ name, type }) => {
    const value = row[name];
    return [name, numeric.has(type) && value !== null ? Number(value) : value];
  });
  return Object.fromEntries(entries);
}

/** Insufficient privilege; an extension that the server has not loaded. */
const notHere = new Set(['42501', '55000']);

/**
 * Runs one file inside a transaction, which goes on when the file fails.
 *
 * @throws GwError naming the file when the database refuses it
 */
export async function runSqlFile(sql: Transaction, file: SqlFile): Promise<FileResult> {
  try {
    const result = await sql.savepoint(async (inner): Promise<FileResult> => {
      const need = await missing(inner, file.needs);
      if (need !== undefined) return { needs: need, isRight: need.startsWith('role ') };
      const rows = await inner.unsafe<Record<string, unknown>[]>(file.text);
      const columns = rows.columns.map(({ name, type }) => ({ name, type }));
      return { columns, rows: rows.map((row) => withNumbers(row, columns)) };
    });
    return result as FileResult;
  } catch (error) {
    const code = codeOf(error) ?? '';
    if (notHere.has(code)) {
      const what = code === '42501' ? 'the right to see it' : 'to be loaded by the server';
      return { needs: `${what} (${messageOf(error)})`, isRight: code === '42501' };
    }
    throw new GwError(`${file.name} failed: ${messageOf(error)}`, {
      // Class 22: a value that the database cannot read.
      ...(code.startsWith('22') ? { hint: 'Is each --param right?', exitCode: EXIT.usage } : {}),
      cause: error,
    });
  }
}

/**
 * Works in a transaction that can change nothing, a minute for each statement at most.
 *
 * @param variable where the URL came from, for the error
 * @throws GwError with exit code 3 when the database cannot be reached
 */
export async function readOnly<Result>(
  url: string,
  variable: string,
  work: (sql: Transaction) => Promise<Result>,
  { needsExtensions = true }: { needsExtensions?: boolean } = {},
): Promise<Result> {
  return withSql(
    url,
    async (sql) => {
      await sql`select 1`.catch((error: unknown) => {
        throw connectionError(error, url, variable);
      });
      const result = await sql.begin('read only', async (transaction) => {
        await transaction`set local statement_timeout = '1min'`;
        if (needsExtensions) await setSearchPath(transaction);
        return { value: await work(transaction) };
      });
      return result.value as Result;
    },
    {
      connection: {
        application_name: 'gw',
        TimeZone: 'UTC',
        search_path: 'pg_catalog, pg_temp',
      },
    },
  );
}
