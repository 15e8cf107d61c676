import process from 'node:process';
import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { changeUrl, databaseName } from '../postgres/urls.ts';
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
    // Beside the old one, which stays until the new one is whole.
    const building = exists ? `${name}_restoring_${process.pid}` : name;
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
    }
    const lines = [
      `database "${name}" is as it was at ${backup.manifest.startedAt}. It is a copy, and does nothing until gw adopt.`,
      ...(missing.length === 0
        ? []
        : [`roles without a password: ${missing.join(', ')}. Set them with \\password in psql.`]),
      ...(before === null ? [] : [`what it replaced is in ${before}`]),
    ];
    const { manifest } = backup;
    const result = { dryRun, database: name, backup: manifest.id, replaced: before, missing };
    print(json, result, `${lines.join('\n')}\n`);
  });
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
