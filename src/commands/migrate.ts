import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import * as graphileMigrate from 'graphile-migrate';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { topicOfLast } from '../migrations/baseline.ts';
import {
  committedNames,
  conflictWith,
  readCommitted,
  refuseConflict,
} from '../migrations/committed.ts';
import type { Drift } from '../migrations/drift.ts';
import { followMigrations, refuseFailedSteps } from '../migrations/follow.ts';
import { applyMoves, planRebase } from '../migrations/rebase.ts';
import {
  appliedMigrations,
  forceDrop,
  type MigrationUrls,
  migrate,
  migrationUrls,
  withGraphileMigrate,
} from '../migrations/run.ts';
import { runCurrent, watchCurrent } from '../migrations/watch.ts';
import { audit } from '../postgres/audit.ts';
import { changeUrl, databaseName, parseUrl } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { hasCron } from '../server/bootstrap.ts';
import { locateDatabase, reachDatabase } from '../server/locate.ts';
import { restartDatabase } from '../server/restart.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { isUp, withoutProcesses } from '../up/pause.ts';

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

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

/**
 * Keeps what is in migrations/current/ now. After a commit that failed, graphile-migrate puts
 * back what it ran, in which the files stand that were included.
 *
 * @returns puts back what was there
 */
function keepCurrent(): () => void {
  const folder = join(projectRoot, 'migrations', 'current');
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  const single = join(projectRoot, 'migrations', 'current.sql');
  if (existsSync(single)) files.push(single);
  const texts = files.map((path) => [path, readFileSync(path, 'utf8')] as const);
  return () => {
    for (const [path, text] of texts) writeFileSync(path, text);
  };
}

/**
 * graphile-migrate leaves a file with nothing in it, whose number would clash with that of
 * the next migration.
 */
function removeBlankMigration(blank: string): void {
  const path = join(projectRoot, 'migrations', 'current', '1-current.sql');
  if (existsSync(path) && readFileSync(path, 'utf8').trim() === blank.trim()) rmSync(path);
}

async function commit(message: string): Promise<void> {
  const urls = await urlsFor('commit', true);
  refuseConflict(await appliedMigrations(urls.owner));
  let blank = '';
  await withGraphileMigrate(
    urls,
    (settings) => {
      blank = settings.blankMigrationContent ?? '';
      const putBack = keepCurrent();
      return graphileMigrate.commit(settings, message).catch((error: unknown) => {
        putBack();
        throw error;
      });
    },
    { say },
  );
  removeBlankMigration(blank);
}

/** Renumbers a migration that another branch was faster than, and tries all in the shadow database. */
async function rebase(file: string | undefined): Promise<void> {
  const urls = await urlsFor('commit', true);
  const applied = await appliedMigrations(urls.owner);
  const ran = new Set(applied.map(({ hash }) => hash));
  const old = new Map(readCommitted().map((each) => [each.file, each.hash]));
  const moves = planRebase(file, applied);
  if (moves.length === 0) {
    process.stdout.write('the files are in order\n');
    return;
  }
  const putBack = applyMoves(moves);
  await withGraphileMigrate(
    urls,
    async (settings) => {
      await graphileMigrate.reset(settings, true);
    },
    { say },
  ).catch((error: unknown) => {
    putBack();
    throw error;
  });
  for (const { from, to } of moves) process.stdout.write(`${from} is now ${to}\n`);
  if (moves.some(({ from }) => ran.has(old.get(from) ?? ''))) {
    process.stderr.write('! this database ran it under its old number: npm run gw -- reset\n');
  }
}

/** The objects that differ, for people. */
function describeDrift(drift: Drift[]): string[] {
  return drift.flatMap(({ object, place, migrations, database }) => [
    `drift: ${object}${place === null ? '' : `  ${place}`}`,
    `    migrations: ${migrations ?? '(not there)'}`,
    `    database:   ${database ?? '(not there)'}`,
  ]);
}

async function status(options: { drift?: boolean; json?: boolean }): Promise<void> {
  const urls = await urlsFor('status', false);
  const applied = await appliedMigrations(urls.owner);
  const conflict = conflictWith(applied);
  const ran = new Set(applied.map(({ name }) => name));
  const pending = committedNames().filter((name) => !ran.has(name));
  // What is in the database, it has told: this must not write there.
  const { hasCurrentMigration } = await withGraphileMigrate(
    urls,
    (settings) => graphileMigrate.status(settings, { skipDatabase: true }),
    { say },
  );
  const isBehind = pending.length > 0 || conflict !== undefined;
  const lines = pending.map((name) => `pending: ${name}`);
  if (conflict !== undefined) lines.unshift(`conflict: ${conflict.message}`, conflict.hint);
  if (hasCurrentMigration) lines.push('migrations/current/ is not committed');
  const result = { pending, conflict: conflict ?? null, uncommitted: hasCurrentMigration };
  if (options.drift !== true) {
    print(options.json, result, `${lines.join('\n') || 'up to date'}\n`);
    process.exitCode = (isBehind ? 1 : 0) + (hasCurrentMigration ? 2 : 0);
    return;
  }
  if (isBehind) {
    throw new GwError(`drift cannot be told: ${lines[0]}`, { hint: 'Run gw migrate first.' });
  }
  const { findDrift } = await import('../migrations/drift.ts');
  // A superuser may read what somebody else owns.
  const drift = await findDrift(
    urls.superuser === undefined
      ? urls.owner
      : changeUrl(urls.superuser, { database: databaseName(urls.owner) }),
  );
  lines.push(...describeDrift(drift));
  print(options.json, { ...result, drift }, `${lines.join('\n') || 'up to date, no drift'}\n`);
  process.exitCode = (hasCurrentMigration ? 2 : 0) + (drift.length > 0 ? 4 : 0);
}

/** Drops the database, makes it again, and starts pg_cron's scheduler, which ended with it. */
async function reset(urls: MigrationUrls): Promise<void> {
  const name = databaseName(urls.owner);
  const hadCron = await hasCron(urls.owner).catch(() => false);
  await forceDrop(urls.superuser ?? '', name);
  await withGraphileMigrate(urls, (settings) => graphileMigrate.reset(settings), { say });
  const failed = await followMigrations(urls.owner);
  await audit(urls.owner, 'database.reset', { database: name });
  if (hadCron) {
    const isOurs = locateDatabase(loadConfig()).source !== 'url';
    if (isOurs && (await restartDatabase())) process.stderr.write('the server was restarted\n');
    else process.stderr.write('! restart the server now: pg_cron has ended with its database\n');
  }
  // At the end: the reset itself is done, and in the audit log.
  refuseFailedSteps(failed);
}

export function registerMigrate(program: Command): void {
  program
    .command('migrate')
    .description('run committed migrations that have not run yet')
    .option('--shadow', 'in the shadow database instead')
    .action(async (options: { shadow?: boolean }) => {
      const urls = await urlsFor('migrate', false);
      const count = await migrate(urls, {
        say,
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
      await (options.once === true ? runCurrent : watchCurrent)(urls, say);
    });

  program
    .command('commit')
    .description('move migrations/current/ to migrations/committed/, tried in the shadow database')
    .option('-m, --message <text>', "what it does; becomes the file's name")
    .option('--rebase [file]', 'instead, give a committed migration the next free number')
    .action(async (options: { message?: string; rebase?: string | true }) => {
      if (options.rebase !== undefined) {
        await rebase(options.rebase === true ? undefined : options.rebase);
      } else if (options.message === undefined) {
        throw new GwError('a migration needs a name', {
          hint: 'npm run gw -- commit -m "what it does"',
          exitCode: EXIT.usage,
        });
      } else {
        await commit(options.message);
      }
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
      const migration = committedNames().at(-1) ?? null;
      await withGraphileMigrate(urls, graphileMigrate.uncommit, { say });
      await audit(urls.owner, 'migration.uncommitted', { migration });
    });

  program
    .command('status')
    .description(
      'say what is not migrated or in conflict (exit 1), not committed (exit 2), or both (exit 3)',
    )
    .option('--drift', 'also what is in the database otherwise than migrations make it (adds 4)')
    .option('--json', 'print JSON')
    .action(status);

  program
    .command('reset')
    .description('drop the database, create it again and run every committed migration')
    .option('--dry-run', 'say what would be dropped')
    .option('--yes', 'do not ask')
    .action(async (options: { dryRun?: boolean; yes?: boolean }) => {
      const urls = await urlsFor('reset', true);
      const name = databaseName(urls.owner);
      const { host } = parseUrl(urls.owner);
      if (options.dryRun === true) {
        process.stdout.write(`would drop database "${name}" at ${host} and migrate it anew\n`);
        if (isUp()) process.stdout.write('would stop the processes of gw up meanwhile\n');
        return;
      }
      const meanwhile = isUp() ? ' The processes of gw up stand still meanwhile.' : '';
      await confirm(
        `Drop database "${name}" at ${host} and everything in it?${meanwhile}`,
        options.yes,
      );
      await withoutProcesses(() => reset(urls));
    });
}
