import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import * as graphileMigrate from 'graphile-migrate';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { topicOfLast } from '../migrations/baseline.ts';
import { describeSqlError } from '../migrations/error.ts';
import {
  committedMigrations,
  forceDrop,
  type MigrationUrls,
  migrate,
  migrationSettings,
  migrationUrls,
} from '../migrations/run.ts';
import { audit } from '../postgres/audit.ts';
import { databaseName } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { hasCron } from '../server/bootstrap.ts';
import { locateDatabase, reachDatabase } from '../server/locate.ts';
import { restartDatabase } from '../server/restart.ts';
import { confirm } from '../terminal/confirm.ts';

async function urlsFor(command: string, needsSuperuser: boolean): Promise<MigrationUrls> {
  const database = await reachDatabase(loadConfig());
  const urls = migrationUrls(database);
  if (needsSuperuser && urls.superuser === undefined) {
    throw new GwError(`"${command}" recreates a database and needs a superuser`, {
      hint: "Set ROOT_DATABASE_URL to a superuser's URL.",
      exitCode: EXIT.usage,
    });
  }
  return urls;
}

/** graphile-migrate has logged SQL errors in full; the rest it only throws. */
async function described(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    const isLogged = (error as { _gmlogged?: boolean })._gmlogged === true;
    throw new GwError(isLogged ? 'the migration failed' : describeSqlError(error), {
      cause: error,
    });
  });
}

/**
 * graphile-migrate leaves a file with nothing in it, whose number would clash with that of
 * the next migration.
 */
function removeBlankMigration(blank: string): void {
  const path = join(projectRoot, 'migrations', 'current', '1-current.sql');
  if (existsSync(path) && readFileSync(path, 'utf8').trim() === blank.trim()) rmSync(path);
}

export function registerMigrate(program: Command): void {
  program
    .command('migrate')
    .description('run committed migrations that have not run yet')
    .option('--shadow', 'in the shadow database instead')
    .action(async (options: { shadow?: boolean }) => {
      const urls = await urlsFor('migrate', false);
      const count = await migrate(urls, {
        say: (text) => process.stderr.write(`${text}\n`),
        shadow: options.shadow === true,
      });
      process.stdout.write(`${count} migrations ran\n`);
    });

  program
    .command('watch')
    .description('run migrations/current/ now and on each save')
    .option('--once', 'run it once and exit')
    .action(async (options: { once?: boolean }) => {
      const urls = await urlsFor('watch', false);
      await described(graphileMigrate.watch(migrationSettings(urls), options.once === true));
      if (options.once !== true) {
        process.stderr.write('watching migrations/current and migrations/fixtures\n');
      }
    });

  program
    .command('commit')
    .description('move migrations/current/ to migrations/committed/, tried in the shadow database')
    .requiredOption('-m, --message <text>', "what it does; becomes the file's name")
    .action(async (options: { message: string }) => {
      const urls = await urlsFor('commit', true);
      const settings = migrationSettings(urls);
      await described(graphileMigrate.commit(settings, options.message));
      removeBlankMigration(settings.blankMigrationContent ?? '');
    });

  program
    .command('uncommit')
    .description('move the last committed migration back to migrations/current/ (development)')
    .action(async () => {
      const topic = topicOfLast();
      if (topic !== undefined) {
        throw new GwError(`the last committed migration is made of migrations/fixtures/${topic}`, {
          hint: 'Edit the topic, then run: npm run gw -- baseline',
          exitCode: EXIT.usage,
        });
      }
      const urls = await urlsFor('uncommit', true);
      const migration = committedMigrations().at(-1) ?? null;
      await described(graphileMigrate.uncommit(migrationSettings(urls)));
      await audit(urls.owner, 'migration.uncommitted', { migration });
    });

  program
    .command('status')
    .description('say what is not migrated (exit 1), not committed (exit 2), or both (exit 3)')
    .option('--json', 'print JSON')
    .action(async (options: { json?: boolean }) => {
      const urls = await urlsFor('status', false);
      const { remainingMigrations = [], hasCurrentMigration } = await graphileMigrate.status(
        migrationSettings(urls),
      );
      process.exitCode = (remainingMigrations.length > 0 ? 1 : 0) + (hasCurrentMigration ? 2 : 0);
      if (options.json === true) {
        const result = { pending: remainingMigrations, uncommitted: hasCurrentMigration };
        process.stdout.write(`${JSON.stringify(result)}\n`);
        return;
      }
      const lines = remainingMigrations.map((name) => `pending: ${name}`);
      if (hasCurrentMigration) lines.push('migrations/current/ is not committed');
      process.stdout.write(`${lines.join('\n') || 'up to date'}\n`);
    });

  program
    .command('reset')
    .description('drop the database, create it again and run every committed migration')
    .option('--dry-run', 'say what would be dropped')
    .option('--yes', 'do not ask')
    .action(async (options: { dryRun?: boolean; yes?: boolean }) => {
      const urls = await urlsFor('reset', true);
      const name = databaseName(urls.owner);
      const { host } = new URL(urls.owner);
      if (options.dryRun === true) {
        process.stdout.write(`would drop database "${name}" at ${host} and migrate it anew\n`);
        return;
      }
      await confirm(`Drop database "${name}" at ${host} and everything in it?`, options.yes);
      const hadCron = await hasCron(urls.owner).catch(() => false);
      await forceDrop(urls.superuser ?? '', name);
      await described(graphileMigrate.reset(migrationSettings(urls)));
      await audit(urls.owner, 'database.reset', { database: name });
      // pg_cron's scheduler has ended with its database, and only a restart brings it back.
      if (!hadCron) return;
      // graphile-migrate keeps its connections for 200 ms, and ends the process if they break.
      await new Promise((resolve) => setTimeout(resolve, 400));
      const isOurs = locateDatabase(loadConfig()).source !== 'url';
      if (isOurs && (await restartDatabase())) process.stderr.write('the server was restarted\n');
      else process.stderr.write('! restart the server now: pg_cron has ended with its database\n');
    });
}
