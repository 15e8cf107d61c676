import { watch as watchFiles } from 'chokidar';
import * as graphileMigrate from 'graphile-migrate';
import { expectedOrFault, formatError } from '../errors.ts';
import { refuseConflict } from './committed.ts';
import { followMigrations, refuseFailedSteps } from './follow.ts';
import { currentFolder, fixturesFolder } from './includes.ts';
import { appliedMigrations, type MigrationUrls, withGraphileMigrate } from './run.ts';

/**
 * Runs the committed migrations that have not run, then migrations/current/.
 *
 * @throws GwError as migrate() does
 */
export async function runCurrent(urls: MigrationUrls, say: (text: string) => void): Promise<void> {
  refuseConflict(await appliedMigrations(urls.owner));
  await withGraphileMigrate(urls, (settings) => graphileMigrate.watch(settings, true), { say });
  refuseFailedSteps(await followMigrations(urls.owner));
}

/**
 * Runs the current migration now and after each save, one run at a time, until the process ends.
 * Files that are saved together are one run. What fails is said, and the next save tries again.
 *
 * graphile-migrate's own watch starts a run for each file, also while another is under way.
 */
export async function watchCurrent(
  urls: MigrationUrls,
  say: (text: string) => void,
): Promise<void> {
  const run = () =>
    runCurrent(urls, say).catch((error: unknown) => {
      say(formatError(expectedOrFault(error)).trimEnd());
    });
  let changed = Promise.withResolvers<void>();
  let pause: NodeJS.Timeout | undefined;
  // Polling, because a folder that is removed and made again, as by git stash, is not heard of else.
  const watcher = watchFiles([currentFolder, `${currentFolder}.sql`, fixturesFolder], {
    usePolling: true,
    // Editors write a file in pieces.
    awaitWriteFinish: { stabilityThreshold: 200, pollInterval: 100 },
    ignoreInitial: true,
  });
  watcher.on('all', () => {
    // An editor that saves all its files takes a moment from one to the next.
    clearTimeout(pause);
    pause = setTimeout(() => changed.resolve(), settleMs);
  });
  await new Promise<void>((resolve) => watcher.once('ready', resolve));
  say('watching migrations/current and migrations/fixtures');
  for (;;) {
    await run();
    await changed.promise;
    changed = Promise.withResolvers<void>();
  }
}

/** Milliseconds without a change after which a run begins. */
const settleMs = 250;
