import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Logger } from '@graphile/logger';
import * as graphileMigrate from 'graphile-migrate';
import JSON5 from 'json5';
import { GwError, messageOf } from '../errors.ts';
import { withSql } from '../postgres/connect.ts';
import { changeUrl, type Database, databaseName } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { describeSqlError } from './error.ts';
import { syncHealthChecks } from './health-checks.ts';

const folder = join(projectRoot, 'migrations');

/** Errors are already described when graphile-migrate has logged them. */
function makeLogger(say: (text: string) => void): Logger {
  return new Logger(() => (level, message, meta) => {
    if (level === 'debug') return;
    const error = (meta as { error?: unknown } | undefined)?.error;
    say(error instanceof Error && 'code' in error ? describeSqlError(error) : message);
  });
}

export interface MigrationUrls {
  owner: string;
  superuser: string | undefined;
  shadow: string;
}

export const shadowUrl = (ownerUrl: string): string =>
  changeUrl(ownerUrl, { database: `${databaseName(ownerUrl)}_shadow` });

/** What graphile-migrate needs to know, from a database and the environment. */
export function migrationUrls(database: Database, shadow = process.env.SHADOW_DATABASE_URL) {
  const { owner, superuser } = database.urls;
  return {
    owner,
    superuser: superuser && changeUrl(superuser, { database: 'postgres' }),
    shadow: shadow || shadowUrl(owner),
  };
}

/** The settings of .gmrc with this database's connections. */
export function migrationSettings(
  urls: MigrationUrls,
  say: (text: string) => void = (text) => process.stderr.write(`${text}\n`),
): graphileMigrate.Settings {
  const settings = JSON5.parse(
    readFileSync(join(projectRoot, '.gmrc'), 'utf8'),
  ) as graphileMigrate.Settings;
  return {
    ...settings,
    connectionString: urls.owner,
    shadowConnectionString: urls.shadow,
    // Only commit, uncommit and reset use it, and they check first that there is one.
    rootConnectionString: urls.superuser ?? changeUrl(urls.owner, { database: 'postgres' }),
    migrationsFolder: folder,
    logger: makeLogger(say),
  };
}

/** The names of the committed migrations as graphile-migrate records them, oldest first. */
export function committedMigrations(): string[] {
  return readdirSync(join(folder, 'committed'))
    .flatMap((name) => /^(\d{6})(-.*)?\.sql$/.exec(name)?.[1] ?? [])
    .sort()
    .map((number) => `${number}.sql`);
}

/**
 * Runs committed migrations that have not run. Waits while another process migrates:
 * graphile-migrate itself gives up at once.
 *
 * @returns how many ran
 */
export async function migrate(
  urls: MigrationUrls,
  options: { say?: (text: string) => void; shadow?: boolean; waitMs?: number } = {},
): Promise<number> {
  const { say = () => {}, shadow = false, waitMs = 60_000 } = options;
  const url = shadow ? urls.shadow : urls.owner;
  const before = await appliedCount(url);
  const deadline = Date.now() + waitMs;
  for (;;) {
    const logged: string[] = [];
    try {
      await graphileMigrate.migrate(
        migrationSettings(urls, (text) => logged.push(text)),
        shadow,
      );
      for (const text of logged) say(text);
      await syncHealthChecks(url);
      return (await appliedCount(url)) - before;
    } catch (error) {
      if (messageOf(error) !== 'Failed to get exclusive lock' || Date.now() > deadline) {
        throw new GwError(`a migration failed\n${describeSqlError(error)}`, { cause: error });
      }
      say('another process is migrating; waiting');
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }
}

async function appliedCount(url: string): Promise<number> {
  return withSql(url, async (sql) => {
    const [table] = await sql`
      select to_regclass('graphile_migrate.migrations') is not null as exists`;
    if (table?.exists !== true) return 0;
    const [row] = await sql`select count(*)::integer as count from graphile_migrate.migrations`;
    return row?.count as number;
  });
}

/** Drops a database, ending the connections to it. */
export async function forceDrop(superuserUrl: string, name: string): Promise<void> {
  await withSql(superuserUrl, (sql) => sql`drop database if exists ${sql(name)} with (force)`);
}
