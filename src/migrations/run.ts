import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Logger } from '@graphile/logger';
import * as graphileMigrate from 'graphile-migrate';
import JSON5 from 'json5';
import { explainError, formatError, GwError, messageOf } from '../errors.ts';
import { withSql, withSuperuser } from '../postgres/connect.ts';
import { changeUrl, type Database, databaseName } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { withTls } from '../tls.ts';
import { type Applied, refuseConflict } from './committed.ts';
import { migrationError, type Ran } from './error.ts';
import { followMigrations, refuseFailedSteps } from './follow.ts';

const folder = join(projectRoot, 'migrations');

/** Says what graphile-migrate says, and keeps what ran. */
function makeLogger(ran: Ran, say: (text: string) => void): Logger {
  return new Logger(() => (level, message, meta) => {
    if (level === 'debug') return;
    const starts = /^graphile-migrate(\[shadow\])?: Running migration '(.+?)'/.exec(message);
    const isCurrent = / Running current\.sql$/.test(message);
    if (starts || isCurrent) {
      if (ran.now !== undefined && ran.now !== 'current.sql') ran.before.push(ran.now);
      ran.now = starts?.[2] ?? 'current.sql';
      ran.isShadow = starts?.[1] !== undefined;
    } else if (/ committed migrations executed$/.test(message)) {
      if (ran.now !== undefined) ran.before.push(ran.now);
      ran.now = undefined;
    } else if (/: dropped database /.test(message)) {
      ran.before = [];
    }
    const error = (meta as { error?: unknown } | undefined)?.error;
    if (error === undefined) return say(message);
    // It ends the process then, and nobody else would say why.
    if (message.startsWith('An error occurred in the PgPool')) {
      process.stderr.write(formatError(explainError(error) ?? new GwError(messageOf(error))));
    }
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
    shadow: shadow ? withTls(shadow) : shadowUrl(owner),
  };
}

/** How the connections of graphile-migrate in this process call themselves. */
const applicationName = `graphile-migrate ${process.pid}`;

/**
 * Has graphile-migrate work with the settings of .gmrc, and waits until its connections have
 * ended: it ends the process when one breaks, as they do when the server is stopped.
 *
 * @throws GwError saying which migration failed where, and which had run before
 */
export async function withGraphileMigrate<Result>(
  urls: MigrationUrls,
  work: (settings: graphileMigrate.Settings) => Promise<Result>,
  { say = () => {} }: { say?: (text: string) => void } = {},
): Promise<Result> {
  const ran: Ran = { before: [], now: undefined, isShadow: false };
  const settings = JSON5.parse(
    readFileSync(join(projectRoot, '.gmrc'), 'utf8'),
  ) as graphileMigrate.Settings;
  try {
    return await work({
      ...settings,
      connectionString: urls.owner,
      shadowConnectionString: urls.shadow,
      // Only commit, uncommit and reset use it, and they check first that there is one.
      rootConnectionString: urls.superuser ?? changeUrl(urls.owner, { database: 'postgres' }),
      pgSettings: { ...settings.pgSettings, application_name: applicationName },
      migrationsFolder: folder,
      logger: makeLogger(ran, say),
    });
  } catch (error) {
    // Another process migrates: whoever asked decides whether to wait.
    throw messageOf(error) === lockTaken ? error : migrationError(error, ran);
  } finally {
    await untilReleased(urls.superuser ?? urls.owner);
  }
}

const lockTaken = 'Failed to get exclusive lock';

/** Waits for the end of the connections that graphile-migrate keeps for 200 ms. */
async function untilReleased(url: string): Promise<void> {
  const deadline = Date.now() + 5_000;
  await withSql(url, async (sql) => {
    for (;;) {
      const [row] = await sql`
        select count(*)::integer as count from pg_catalog.pg_stat_activity
        where application_name = ${applicationName}`;
      if (row?.count === 0 || Date.now() > deadline) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }).catch(() => {
    // The server is gone, and the connections with it.
  });
}

/**
 * Runs committed migrations that have not run. Waits while another process migrates:
 * graphile-migrate itself gives up at once.
 *
 * @returns how many ran
 * @throws GwError saying which migration failed where, and which had run before; which file is
 *   another than the database ran; or what follows migrations and failed
 */
export async function migrate(
  urls: MigrationUrls,
  options: { say?: (text: string) => void; shadow?: boolean; waitMs?: number } = {},
): Promise<number> {
  const { say = () => {}, shadow = false, waitMs = 60_000 } = options;
  const url = shadow ? urls.shadow : urls.owner;
  const before = await appliedMigrations(url);
  refuseConflict(before);
  const deadline = Date.now() + waitMs;
  const run = (settings: graphileMigrate.Settings) => graphileMigrate.migrate(settings, shadow);
  for (;;) {
    const logged: string[] = [];
    try {
      await withGraphileMigrate(urls, run, { say: (text) => logged.push(text) });
      break;
    } catch (error) {
      if (messageOf(error) !== lockTaken) throw error;
      if (Date.now() > deadline) {
        throw new GwError(`another process has been migrating for ${waitMs / 1000} s`, {
          hint: 'Wait for its end, or end it.',
        });
      }
      logged.length = 0;
      say('another process is migrating; waiting');
      await new Promise((resolve) => setTimeout(resolve, 300));
    } finally {
      for (const text of logged) say(text);
    }
  }
  refuseFailedSteps(await followMigrations(url));
  return (await appliedMigrations(url)).length - before.length;
}

/** The migrations that a database ran, oldest first. Reads only, also in somebody else's database. */
export async function appliedMigrations(url: string): Promise<Applied[]> {
  return withSql(url, async (sql) => {
    const [table] = await sql`
      select to_regclass('graphile_migrate.migrations') is not null as exists`;
    if (table?.exists !== true) return [];
    return sql<Applied[]>`
      select filename as name, hash from graphile_migrate.migrations order by filename`;
  });
}

/** Drops a database, ending the connections to it. */
export async function forceDrop(superuserUrl: string, name: string): Promise<void> {
  await withSuperuser(
    superuserUrl,
    (sql) => sql`drop database if exists ${sql(name)} with (force)`,
  );
}
