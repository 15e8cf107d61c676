import { join } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { type Config, loadConfig } from '../config.ts';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { connectionError, withSql } from '../postgres/connect.ts';
import { locateDatabase } from '../server/locate.ts';
import { stateDirectory } from '../server/state.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { formatTable } from '../terminal/table.ts';
import { humanBytes, humanSeconds, stamp } from '../terminal/values.ts';
import {
  type Backup,
  findBackup,
  listBackups,
  noteOf,
  pinName,
  verifiedName,
} from '../toolkit/backup/manifest.ts';
import { decide, deleteBackup, pin } from '../toolkit/backup/prune.ts';
import { registerPitr } from './pitr.ts';
import { givenUrl } from './urls.ts';

interface Where {
  dir?: string;
  json?: boolean;
}

/** Where backups are: `--dir`, GW_BACKUP_DIR, or a folder of the state directory. */
export const backupDirectory = (config: Config, dir?: string): string =>
  dir ?? config.GW_BACKUP_DIR ?? join(stateDirectory, 'backups');

interface Connections {
  /** A superuser's. */
  url: string;
  variable: string;
  /** gw_owner's; undefined with `--url`, where the database may be anybody's. */
  ownerUrl: string | undefined;
}

/**
 * The connection that reads everything, of `--url` or of this checkout's database.
 *
 * @throws GwError with exit code 2 when none is known
 */
export function superuserConnections(config: Config, asked?: string): Connections {
  if (asked !== undefined) {
    const { url, variable } = givenUrl(asked);
    return { url, variable, ownerUrl: undefined };
  }
  const { superuser, owner } = locateDatabase(config).urls;
  if (superuser === undefined) {
    throw new GwError("no superuser's connection is known: gw_owner may not read every row", {
      hint: "Set ROOT_DATABASE_URL to a superuser's URL.",
      exitCode: EXIT.usage,
    });
  }
  return { url: superuser, variable: 'ROOT_DATABASE_URL', ownerUrl: owner };
}

/** gw_owner's connection when the database answers: a backup can be looked at without it. */
async function ownerWhenThere(config: Config): Promise<string | undefined> {
  try {
    const { owner } = locateDatabase(config).urls;
    await withSql(owner, (sql) => sql`select 1`);
    return owner;
  } catch {
    process.stderr.write('warning: the database does not answer: ops.backups stays as it is\n');
    return undefined;
  }
}

/** Says what an error of the database means, with its address. */
export async function explained<Result>(
  { url, variable }: Pick<Connections, 'url' | 'variable'>,
  work: () => Promise<Result>,
): Promise<Result> {
  return work().catch((error: unknown) => {
    throw codeOf(error) === undefined ? error : connectionError(error, url, variable);
  });
}

const summaryOf = ({ folder, manifest, bytes }: Backup) => ({
  id: manifest.id,
  path: folder,
  database: manifest.database,
  startedAt: manifest.startedAt,
  finishedAt: manifest.finishedAt,
  bytes,
  rows: manifest.tables.reduce((sum, { rows }) => sum + rows, 0),
  serverVersion: manifest.serverVersion,
  application: manifest.application,
  verifiedAt: noteOf(folder, verifiedName)?.at ?? null,
  pinned: noteOf(folder, pinName)?.reason ?? null,
});

function parseCount(text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number from 0 to 9999.');
}

export function parseJobs(text: string): number {
  if (/^[1-9]\d?$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number from 1 to 99.');
}

async function create({ dir, url, jobs, json }: Where & { url?: string; jobs?: number }) {
  const { createBackup } = await import('../toolkit/backup/create.ts');
  const config = loadConfig();
  const target = superuserConnections(config, url);
  const backup = await explained(target, () =>
    createBackup({
      ...target,
      directory: backupDirectory(config, dir),
      jobs,
      progress: new Progress(json),
    }),
  );
  const summary = summaryOf(backup);
  print(json, summary, `${summary.path}\n`);
}

function list({ dir, json }: Where): void {
  const { backups, damaged } = listBackups(backupDirectory(loadConfig(), dir));
  const rows = backups.map(summaryOf);
  for (const fault of damaged) process.stderr.write(`warning: ${fault}\n`);
  const now = Date.now();
  const table = formatTable(rows, [
    { title: 'id', value: ({ id }) => id.slice(0, 8) },
    { title: 'made', value: ({ startedAt }) => stamp(new Date(startedAt)) },
    { title: 'age', value: (row) => humanSeconds((now - Date.parse(row.startedAt)) / 1_000) },
    { title: 'database', value: ({ database }) => database },
    { title: 'size', value: ({ bytes }) => humanBytes(bytes), isNumber: true },
    { title: 'rows', value: ({ rows: count }) => count.toLocaleString('en-US'), isNumber: true },
    {
      title: 'restored for a trial',
      value: ({ verifiedAt }) => (verifiedAt === null ? 'never' : stamp(new Date(verifiedAt))),
    },
    { title: 'pinned', value: ({ pinned }) => pinned ?? '', isFlexible: true },
  ]);
  print(json, { backups: rows, damaged }, rows.length === 0 ? 'no backups\n' : table);
}

async function verify(asked: string, { dir, jobs, json }: Where & { jobs?: number }) {
  const { startTrialApi } = await import('../api/trial.ts');
  const { verifyBackup, remember } = await import('../toolkit/backup/verify.ts');
  const config = loadConfig();
  const backup = findBackup(backupDirectory(config, dir), asked);
  const verdict = await verifyBackup({
    backup,
    jobs,
    serve: startTrialApi,
    progress: new Progress(json),
  });
  await remember(backup, verdict, await ownerWhenThere(config));
  const { faults, untold } = verdict;
  const isWell = faults.length === 0;
  const lines = [
    ...faults,
    ...untold.map((what) => `cannot tell: ${what}`),
    ...(isWell ? [`${backup.folder} can be restored`] : []),
  ];
  print(json, { ...summaryOf(backup), faults, untold }, `${lines.join('\n')}\n`);
  if (isWell) return;
  throw new GwError(`${backup.folder} cannot be trusted: ${faults.length} faults`, {
    hint: 'Make another one now, verify it, and find out what damaged this one.',
    exitCode: EXIT.failure,
  });
}

interface PruneOptions extends Where {
  keepDaily: number;
  keepWeekly: number;
  keepMonthly: number;
  dryRun?: boolean;
  yes?: boolean;
}

async function prune(options: PruneOptions): Promise<void> {
  const { dir, json, dryRun = false } = options;
  const config = loadConfig();
  const { backups } = listBackups(backupDirectory(config, dir));
  const decisions = decide(backups, {
    daily: options.keepDaily,
    weekly: options.keepWeekly,
    monthly: options.keepMonthly,
  });
  const going = decisions.filter(({ reasons }) => reasons.length === 0);
  const text = decisions.map(({ backup, reasons }) => {
    const kept = reasons.length === 0 ? 'goes' : `stays: ${reasons.join(', ')}`;
    return `${backup.folder}  ${kept}\n`;
  });
  if (!dryRun && going.length > 0) {
    process.stderr.write(text.join(''));
    await confirm(`Delete ${going.length} of ${backups.length} backups?`, options.yes);
    const owner = await ownerWhenThere(config);
    for (const { backup } of going) await deleteBackup(backup, owner);
  }
  const rows = decisions.map(({ backup, reasons }) => ({ ...summaryOf(backup), reasons }));
  print(json, { dryRun, backups: rows }, dryRun ? text.join('') : `${going.length} deleted\n`);
}

async function setPin(asked: string, reason: string | undefined, { dir }: Where): Promise<void> {
  const config = loadConfig();
  const backup = findBackup(backupDirectory(config, dir), asked);
  await pin(backup, reason, await ownerWhenThere(config));
  const done = reason === undefined ? 'may be pruned again' : 'is kept until it is unpinned';
  process.stdout.write(`${backup.folder} ${done}\n`);
}

const dirHelp = 'where backups are, instead of GW_BACKUP_DIR';
const which = '"latest", an id or its beginning, or a path';

export function registerBackup(program: Command): void {
  const backup = program
    .command('backup')
    .description('make backups, try them, and delete old ones');
  backup
    .command('create')
    .description('dump the database, with roles, rights and settings, and what proves it whole')
    .option('--dir <folder>', dirHelp)
    .option('--url <url>', "of any PostgreSQL database, as a superuser (default: this checkout's)")
    .option('--jobs <n>', 'tables at the same time; as many as processors, up to 4', parseJobs)
    .option('--json', 'print JSON')
    .action(create);
  backup
    .command('list')
    .description('list the backups that are complete, the oldest first')
    .option('--dir <folder>', dirHelp)
    .option('--json', 'print JSON')
    .action(list);
  backup
    .command('verify')
    .description('restore a backup into a scratch server, and compare all of it (exit 1: a fault)')
    .argument('[backup]', which, 'latest')
    .option('--dir <folder>', dirHelp)
    .option('--jobs <n>', 'tables at the same time; as many as processors, up to 4', parseJobs)
    .option('--json', 'print JSON')
    .action(verify);
  backup
    .command('prune')
    .description('delete old backups, but the newest, the newest that was tried, and pinned ones')
    .option('--keep-daily <n>', 'of how many days the newest is kept', parseCount, 7)
    .option('--keep-weekly <n>', 'of how many weeks', parseCount, 5)
    .option('--keep-monthly <n>', 'of how many months', parseCount, 12)
    .option('--dir <folder>', dirHelp)
    .option('--dry-run', 'say what would be deleted, and why the others stay')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .action(prune);
  backup
    .command('pin')
    .description('keep a backup, whatever prune is told')
    .argument('<backup>', which)
    .requiredOption('--reason <text>', 'why; gw backup list shows it')
    .option('--dir <folder>', dirHelp)
    .action((asked: string, options: Where & { reason: string }) =>
      setPin(asked, options.reason, options),
    );
  backup
    .command('unpin')
    .description('let a backup be pruned again')
    .argument('<backup>', which)
    .option('--dir <folder>', dirHelp)
    .action((asked: string, options: Where) => setPin(asked, undefined, options));
  registerPitr(backup);
}
