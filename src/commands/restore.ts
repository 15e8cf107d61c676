import process from 'node:process';
import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { withSuperuser } from '../postgres/connect.ts';
import { changeUrl, databaseName } from '../postgres/urls.ts';
import { bootstrapDatabase } from '../server/bootstrap.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { findBackup } from '../toolkit/backup/manifest.ts';
import { backupDirectory, explained, parseJobs, superuserConnections } from './backup.ts';

interface Options {
  database?: string;
  replace?: boolean;
  dir?: string;
  url?: string;
  jobs?: number;
  dryRun?: boolean;
  yes?: boolean;
  json?: boolean;
}

async function restore(asked: string, options: Options): Promise<void> {
  const { createBackup } = await import('../toolkit/backup/create.ts');
  const tools = await import('../toolkit/backup/restore.ts');
  const { replace = false, dryRun = false, jobs, json } = options;
  const config = loadConfig();
  const directory = backupDirectory(config, options.dir);
  const backup = findBackup(directory, asked);
  const target = superuserConnections(config, options.url);
  const { url } = target;
  const name = options.database ?? `${backup.manifest.database}_restored`;
  const progress = new Progress(json);
  await explained(target, async () => {
    const exists = await tools.databaseExists(url, name);
    if (exists && !replace) {
      throw new GwError(`there is a database "${name}" already`, {
        hint: 'Name another with --database. Or have it replaced with --replace: a backup of it is made first.',
        exitCode: EXIT.usage,
      });
    }
    const what = exists
      ? `back up, and then replace, database "${name}"`
      : `make database "${name}"`;
    if (dryRun) {
      print(json, { dryRun, database: name, replaces: exists }, `would ${what}\n`);
      return;
    }
    let before: string | null = null;
    if (exists) {
      await confirm(
        `Replace database "${name}" by the backup of ${backup.manifest.startedAt}?`,
        options.yes,
      );
      const made = await createBackup({
        url: changeUrl(url, { database: name }),
        ownerUrl: databaseName(url) === name ? target.ownerUrl : undefined,
        directory,
        jobs,
        progress,
      });
      before = made.folder;
      process.stderr.write(`  its present state is in ${before}\n`);
    }
    // Under a name of its own until it is whole; the old one stays until then.
    const building = `${name}_restoring_${process.pid}`;
    await tools.dropAbandoned(url, `${name}_restoring_`);
    const missing = await tools.restoreBackup({ backup, url, database: building, jobs, progress });
    const faults = await tools.compareRows(backup, changeUrl(url, { database: building }), {
      jobs,
      progress,
    });
    if (faults.length > 0) {
      await tools.dropDatabase(url, building);
      throw new GwError(`what was restored is not what was backed up: ${faults[0]}`, {
        hint: 'Nothing was replaced. gw backup verify tells more.',
        exitCode: EXIT.failure,
      });
    }
    if (exists) {
      const old = `${name}_replaced_${process.pid}`;
      await tools.renameDatabase(url, name, old);
      await tools.renameDatabase(url, building, name);
      await tools.dropDatabase(url, old);
    } else {
      await tools.renameDatabase(url, building, name);
    }
    const left = await finish(changeUrl(url, { database: name }), exists);
    const lines = [
      `database "${name}" is as it was at ${backup.manifest.startedAt}. It is a copy, and does nothing until gw adopt.`,
      ...(missing.length === 0
        ? []
        : [`roles without a password: ${missing.join(', ')}. Set them with \\password in psql.`]),
      ...left,
      ...(before === null ? [] : [`what it replaced is in ${before}`]),
    ];
    const { manifest } = backup;
    const result = { dryRun, database: name, backup: manifest.id, replaced: before, missing };
    print(json, result, `${lines.join('\n')}\n`);
  });
}

/**
 * Puts in place what no dump has: pg_cron, where it can be.
 *
 * @returns what a person has to do
 */
async function finish(url: string, isReplaced: boolean): Promise<string[]> {
  const [found] = await withSuperuser(
    url,
    (sql) => sql<{ ours: boolean; cron: boolean }[]>`
      select to_regclass('ops.identity') is not null as ours,
        current_setting('cron.database_name', true) = current_database() as cron`,
  );
  if (found?.ours !== true) return [];
  const left = await bootstrapDatabase(url);
  return [
    ...left.map((statement) => `a superuser must run: ${statement}`),
    ...(found.cron && isReplaced
      ? ['pg_cron ends with the database that it lives in: restart the server, and it is back']
      : []),
  ];
}

export function registerRestore(program: Command): void {
  program
    .command('restore')
    .description('restore a backup into a new database, which is fenced until it is adopted')
    .argument('<backup>', '"latest", an id or its beginning, or a path')
    .option('--database <name>', 'the database to make (default: with _restored after its name)')
    .option('--replace', 'when there is such a database: make a backup of it, then replace it')
    .option('--dir <folder>', 'where backups are, instead of GW_BACKUP_DIR')
    .option('--url <url>', "a superuser's URL of the server (default: this checkout's)")
    .option('--jobs <n>', 'tables at the same time; as many as processors, up to 4', parseJobs)
    .option('--dry-run', 'say what would be done')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .action(restore);
}
