import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT, GwError } from '../../errors.ts';
import { type Sql, withSql, withSuperuser } from '../../postgres/connect.ts';
import { changeUrl } from '../../postgres/urls.ts';
import type { Progress } from '../../terminal/progress.ts';
import { humanBytes } from '../../terminal/values.ts';
import { type CatalogueEntry, contentFaults, contentsOf } from './contents.ts';
import { standardJobs, watchCopies } from './create.ts';
import { type Backup, dumpName } from './manifest.ts';
import { runClient } from './programs.ts';
import { ByteProgress } from './progress.ts';

export interface RestoreOptions {
  backup: Backup;
  /** A superuser's connection to the server, whichever database it names. */
  url: string;
  /** The database that is made. */
  database: string;
  jobs?: number | undefined;
  progress: Progress;
}

const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;
const identifier = (text: string): string => `"${text.replaceAll('"', '""')}"`;

const atPostgres = (url: string): string => changeUrl(url, { database: 'postgres' });

/** Whether a server has a database. */
export async function databaseExists(url: string, name: string): Promise<boolean> {
  return withSuperuser(atPostgres(url), async (sql) => {
    const rows = await sql`select from pg_database where datname = ${name}`;
    return rows.length > 0;
  });
}

/** Statements of pg_dumpall that make a role, or give it a right, without its end of line. */
function roleStatements(backup: Backup): string[] {
  return readFileSync(join(backup.folder, 'roles.sql'), 'utf8')
    .split('\n')
    .filter((line) => /^(CREATE ROLE|ALTER ROLE|GRANT) /.test(line));
}

/**
 * Makes the roles that the server does not have. One that it has keeps its password and its rights:
 * others may use it.
 */
async function restoreRoles(sql: Sql, backup: Backup): Promise<string[]> {
  const statements = roleStatements(backup);
  const names = statements.flatMap((line) => /^CREATE ROLE (.+);$/.exec(line)?.[1] ?? []);
  const existing = await sql<{ name: string }[]>`
    select quote_ident(rolname) as name from pg_roles`;
  const known = new Set(existing.map(({ name }) => name));
  const missing = names.filter((name) => !known.has(name));
  const isOfMissing = (line: string): boolean =>
    missing.some(
      (name) =>
        [`CREATE ROLE ${name};`, `ALTER ROLE ${name} `, `GRANT ${name} TO `].some((start) =>
          line.startsWith(start),
        ) ||
        line.includes(` TO ${name};`) ||
        line.includes(` TO ${name} `),
    );
  for (const line of statements.filter(isOfMissing)) {
    // Who granted it may be another superuser here.
    await sql.unsafe(line.replace(/ GRANTED BY [^;]+;$/, ';'));
  }
  return missing;
}

interface DatabaseFacts {
  owner: string | undefined;
  grants: string[];
  settings: { role: string | undefined; setting: string }[];
}

/** What the dump of a database does not have: its owner, its rights, its settings. */
function databaseFacts(entries: CatalogueEntry[]): DatabaseFacts {
  const own = entries.find(({ kind }) => kind === 'database')?.definition ?? '';
  const settings = entries
    .filter(({ kind }) => kind === 'setting')
    .flatMap(({ name, definition }) =>
      definition
        .split('\n')
        .map((setting) => ({ role: name === 'every role' ? undefined : name, setting })),
    );
  return {
    owner: /^owner (.+)$/m.exec(own)?.[1],
    grants: /^grants (.+)$/m.exec(own)?.[1]?.split(', ') ?? [],
    settings,
  };
}

const privileges: Record<string, string> = { C: 'create', T: 'temporary', c: 'connect' };

/** Gives a database its owner, rights and settings, as its backup has them. */
async function restoreFacts(sql: Sql, name: string, entries: CatalogueEntry[]): Promise<void> {
  const { owner, grants, settings } = databaseFacts(entries);
  const database = identifier(name);
  if (owner !== undefined) await sql.unsafe(`alter database ${database} owner to ${owner}`);
  if (grants.length > 0) await sql.unsafe(`revoke all on database ${database} from public`);
  for (const grant of grants) {
    const [, grantee = '', rights = ''] = /^(.*)=([CTc*]+)\//.exec(grant) ?? [];
    for (const [, letter = '', option] of rights.matchAll(/([CTc])(\*?)/g)) {
      await sql.unsafe(
        `grant ${privileges[letter]} on database ${database} to ${grantee || 'public'}${option === '' ? '' : ' with grant option'}`,
      );
    }
  }
  for (const { role, setting } of settings) {
    const [, key = '', value = ''] = /^([^=]+)=(.*)$/s.exec(setting) ?? [];
    const what = role === undefined ? '' : ` role ${role} in`;
    // A list is stored as it is written; every other value is one literal.
    const isList = /^(search_path|temp_tablespaces|.*_preload_libraries)$/.test(key);
    await sql.unsafe(
      `alter${what} database ${database} set ${key} to ${isList ? value : literal(value)}`,
    );
  }
}

/**
 * The table of contents without what this server cannot make: pg_cron lives in one database of a
 * server, which it names.
 */
async function contentsToRestore(backup: Backup, url: string, major: number): Promise<string> {
  const list = await runClient('pg_restore', ['--list', join(backup.folder, dumpName)], {
    major,
    url,
    connects: false,
  });
  const [here] = await withSuperuser(
    url,
    (sql) => sql<{ cron: boolean }[]>`
      select current_setting('cron.database_name', true) = current_database()
        and exists (select from pg_available_extensions where name = 'pg_cron') as cron`,
  );
  if (here?.cron === true) return list;
  return list
    .split('\n')
    .filter(
      (line) =>
        !/ (EXTENSION|SCHEMA) - (pg_cron|cron) | EXTENSION pg_cron| SCHEMA cron| cron /.test(line),
    )
    .join('\n');
}

const majorOf = async (url: string): Promise<number> => {
  const [row] = await withSuperuser(
    atPostgres(url),
    (sql) => sql<{ major: number }[]>`
      select current_setting('server_version_num')::integer / 10000 as major`,
  );
  return row?.major ?? 0;
};

export const catalogueIn = ({ folder }: Backup): CatalogueEntry[] =>
  JSON.parse(readFileSync(join(folder, 'catalogue.json'), 'utf8')) as CatalogueEntry[];

/**
 * Restores a backup into a database that it makes, with roles, settings and rights. What was restored
 * is a copy, and fenced. When it fails, the database is gone again.
 *
 * @returns the roles that were missing, which have no password yet
 * @throws GwError when there is such a database already
 */
export async function restoreBackup(options: RestoreOptions): Promise<string[]> {
  const { backup, database, progress, jobs = standardJobs() } = options;
  const { manifest } = backup;
  const major = await majorOf(options.url);
  const from = Math.floor(manifest.serverVersion / 10_000);
  if (major < from) {
    throw new GwError(`a backup of PostgreSQL ${from} cannot be restored into ${major}`, {
      hint: `Restore it into PostgreSQL ${from} or newer.`,
      exitCode: EXIT.usage,
    });
  }
  if (await databaseExists(options.url, database)) {
    throw new GwError(`there is a database "${database}" already`, {
      hint: 'Name another with --database, or have it replaced with --replace: a backup is made first.',
      exitCode: EXIT.usage,
    });
  }
  const url = changeUrl(options.url, { database });
  const entries = catalogueIn(backup);
  let missing: string[] = [];
  await progress.step('roles', async () => {
    missing = await withSuperuser(atPostgres(url), async (sql) => {
      const made = await restoreRoles(sql, backup);
      await sql.unsafe(`create database ${identifier(database)} template template0`);
      return made;
    });
    return missing.length === 0 ? 'are there' : `made ${missing.join(', ')}: without passwords`;
  });
  const listFile = join(tmpdir(), `gw-restore-${process.pid}-${database.replace(/\W/g, '_')}.list`);
  try {
    await progress.step('restore', async (note) => {
      writeFileSync(listFile, await contentsToRestore(backup, url, major), { mode: 0o600 });
      const total = manifest.tables.reduce((sum, { bytes }) => sum + bytes, 0);
      const stop = watchCopies(url, new ByteProgress(total, note));
      const began = Date.now();
      try {
        const args = [`--jobs=${jobs}`, '--exit-on-error', `--use-list=${listFile}`];
        await runClient('pg_restore', [...args, join(backup.folder, dumpName)], { major, url });
      } finally {
        await stop();
      }
      await withSuperuser(url, async (sql) => {
        await restoreFacts(sql, database, entries);
        await sql`analyze`;
      });
      const rate = total / Math.max((Date.now() - began) / 1_000, 0.001);
      return `${humanBytes(total)} of tables, ${humanBytes(rate)}/s`;
    });
  } catch (error) {
    await withSuperuser(atPostgres(url), (sql) =>
      sql.unsafe(`drop database if exists ${identifier(database)} with (force)`),
    ).catch(() => {});
    throw error;
  } finally {
    rmSync(listFile, { force: true });
  }
  return missing;
}

/**
 * Compares the rows of a database with those of a backup.
 *
 * @returns what differs, one sentence a table
 */
export async function compareRows(
  { manifest }: Backup,
  url: string,
  { jobs = standardJobs(), progress }: { jobs?: number | undefined; progress: Progress },
): Promise<string[]> {
  let faults: string[] = [];
  await progress.step('contents', async (note) => {
    const total = manifest.tables.reduce((sum, { bytes }) => sum + bytes, 0);
    const bytes = new ByteProgress(total, note);
    const found = await contentsOf(url, { jobs, onBytes: (more) => bytes.add(more) });
    faults = contentFaults(manifest.tables, found);
    const rows = found.reduce((sum, table) => sum + table.rows, 0);
    return faults.length === 0
      ? `${rows.toLocaleString('en-US')} rows of ${found.length} tables are those of the backup`
      : `${faults.length} tables differ`;
  });
  return faults;
}

/** Gives a database another name. Nobody may be connected to it. */
export async function renameDatabase(url: string, from: string, to: string): Promise<void> {
  await withSql(atPostgres(url), async (sql) => {
    await sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where datname = ${from} and pid <> pg_backend_pid()`;
    await sql.unsafe(`alter database ${identifier(from)} rename to ${identifier(to)}`);
  });
}

/** Deletes what restores left that were killed: nobody is connected to it. */
export async function dropAbandoned(url: string, prefix: string): Promise<void> {
  const names = await withSuperuser(
    atPostgres(url),
    (sql) => sql<{ name: string }[]>`
      select datname as name from pg_database
      where starts_with(datname, ${prefix})
        and not exists (
          select from pg_stat_activity where pg_stat_activity.datname = pg_database.datname
        )`,
  );
  for (const { name } of names) await dropDatabase(url, name);
}

/** Deletes a database. */
export const dropDatabase = (url: string, name: string): Promise<unknown> =>
  withSql(atPostgres(url), (sql) =>
    sql.unsafe(`drop database if exists ${identifier(name)} with (force)`),
  );
