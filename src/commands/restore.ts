import { resolve } from 'node:path';
import process from 'node:process';
import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { withSuperuser } from '../postgres/connect.ts';
import { changeUrl, databaseName, parseUrl } from '../postgres/urls.ts';
import { bootstrapDatabase } from '../server/bootstrap.ts';
import { locateDatabase } from '../server/locate.ts';
import { randomPort } from '../server/ports.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { findBackup } from '../toolkit/backup/manifest.ts';
import type { Target } from '../toolkit/backup/recover.ts';
import { backupDirectory, explained, parseJobs, superuserConnections } from './backup.ts';

interface Options {
  toTime?: { at: Date; text: string };
  toLsn?: string;
  latest?: boolean;
  directory?: string;
  port?: number;
  config?: string;
  repo?: number;
  table?: string[];
  user?: string;
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

function targetOf({ toTime, toLsn, latest }: Options): Target | undefined {
  const targets: Target[] = [
    ...(toTime === undefined ? [] : [{ kind: 'time' as const, ...toTime }]),
    ...(toLsn === undefined ? [] : [{ kind: 'lsn' as const, lsn: toLsn }]),
    ...(latest === true ? [{ kind: 'latest' as const }] : []),
  ];
  if (targets.length < 2) return targets[0];
  throw new GwError('one of --to-time, --to-lsn and --latest', {
    hint: 'Each says where recovery ends.',
    exitCode: EXIT.usage,
  });
}

/** The server as it was, in a folder of its own. */
async function recoverTo(target: Target, options: Options): Promise<void> {
  const { recover, fenceOf, formatRecovered, describeTarget } = await import(
    '../toolkit/backup/recover.ts'
  );
  const { configPath } = await import('../toolkit/backup/pgbackrest.ts');
  const { directory, replace = false, dryRun = false, json } = options;
  if (directory === undefined) {
    throw new GwError('where is the server to be restored?', {
      hint: 'Name a folder with --directory.',
      exitCode: EXIT.usage,
    });
  }
  const home = resolve(directory);
  if (replace && !dryRun) {
    await confirm(`Move what is in ${home}/data aside, and restore there?`, options.yes);
  }
  const { urls } = locateDatabase(loadConfig());
  const known = parseUrl(options.url ?? urls.superuser ?? urls.owner);
  const port = options.port ?? (await randomPort());
  const recovered = await recover({
    config: configPath(options.config),
    target,
    home,
    replace,
    dryRun,
    port,
    user: decodeURIComponent(known.username),
    password: decodeURIComponent(known.password),
    ...(options.repo === undefined ? {} : { repository: options.repo }),
    progress: new Progress(json),
  });
  if (recovered === undefined) {
    const would = `would restore to ${describeTarget(target)} into ${home}\n`;
    print(json, { dryRun, directory: home }, would);
    return;
  }
  const owner = new URL(urls.owner);
  [owner.hostname, owner.port] = ['127.0.0.1', String(port)];
  const reason = await fenceOf(owner.href).catch(() => null);
  const lines = [
    `${formatRecovered(recovered)}`,
    `the server runs in ${home}, on port ${port}`,
    reason === null ? '' : `its database is a copy, and does nothing until gw adopt: ${reason}`,
    recovered.movedTo === undefined ? '' : `what was there is in ${recovered.movedTo}`,
  ];
  print(
    json,
    {
      dryRun,
      directory: home,
      port,
      lsn: recovered.lsn,
      lastCommit: recovered.lastCommit,
      seconds: recovered.seconds,
      fenced: reason,
      movedTo: recovered.movedTo ?? null,
    },
    `${lines.filter((line) => line !== '').join('\n')}\n`,
  );
}

async function run(asked: string | undefined, options: Options): Promise<void> {
  const target = targetOf(options);
  if (target === undefined) {
    if (asked !== undefined) {
      const isPart = options.table !== undefined || options.user !== undefined;
      return isPart ? extractFrom(asked, options) : restore(asked, options);
    }
  } else if (asked === undefined) {
    return recoverTo(target, options);
  }
  throw new GwError('what is to be restored?', {
    hint: 'Name a backup (gw backup list), or an instant with --to-time, --to-lsn or --latest.',
    exitCode: EXIT.usage,
  });
}

/** Tables, or one user's rows, beside what is there. */
async function extractFrom(asked: string, options: Options): Promise<void> {
  const { extract } = await import('../toolkit/backup/extract.ts');
  const config = loadConfig();
  const backup = findBackup(backupDirectory(config, options.dir), asked);
  const target = superuserConnections(config, options.url);
  const result = await explained(target, () =>
    extract({
      backup,
      url: target.url,
      tables: options.table,
      user: options.user,
      ownerColumn: 'user_id',
      usersTable: 'app_public.users',
      jobs: options.jobs,
      progress: new Progress(options.json),
    }),
  );
  const { tables, schema, statements } = result;
  const lines = [
    ...tables.map(({ table, copy, rows }) => `-- ${table}: ${rows} rows in ${copy}`),
    ...(tables.length === 0
      ? ['-- the backup has no such row']
      : ['', '-- To put back what is missing, as gw_owner:', 'begin;', ...statements, 'commit;']),
    ...(tables.length === 0 ? [] : [`-- At the end: drop schema ${schema} cascade;`]),
  ];
  print(options.json, result, `${lines.join('\n')}\n`);
}

function parseId(text: string): string {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) return text.toLowerCase();
  throw new InvalidArgumentError('The id of a user.');
}

const collect = (text: string, before: string[] = []): string[] => [...before, text];

/** An instant to the microsecond; without a zone it is UTC, as in messages. */
function parseInstant(text: string): { at: Date; text: string } {
  const [, date, time = '00:00', sign, hours, minutes = '00'] =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:[.]\d{1,6})?)?)(?:Z|([+-])(\d\d):?(\d\d)?)?)?$/.exec(
      text,
    ) ?? [];
  const zone = hours === undefined ? '+00:00' : `${sign}${hours}:${minutes}`;
  const at = new Date(`${date}T${time}${zone}`);
  if (date === undefined || Number.isNaN(at.getTime())) {
    throw new InvalidArgumentError('Such as 2026-12-24T18:00:00Z.');
  }
  return { at, text: `${date} ${time}${zone}` };
}

function parsePort(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) > 0 && Number(text) < 65_536) return Number(text);
  throw new InvalidArgumentError('A number from 1 to 65535.');
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
    .argument('[backup]', 'a logical backup: "latest", an id or its beginning, or a path')
    .option('--to-time <instant>', 'the server as it was then, from physical backups', parseInstant)
    .option('--to-lsn <position>', 'the same, up to a position in the log')
    .option('--latest', 'the same, up to the end of the archived log')
    .option('--directory <folder>', 'the folder for the server of --to-time, --to-lsn, --latest')
    .option('--port <n>', 'where that server listens (default: a free port)', parsePort)
    .option('--repo <n>', 'the repository to read (default: the first that can be)', parsePort)
    .option(
      '--config <file>',
      "pgBackRest's settings (default: beside the cluster of this checkout)",
    )
    .option('--table <name>', 'only this table, into a schema beside; may be repeated', collect)
    .option('--user <id>', "only this user's rows, into a schema beside", parseId)
    .option('--database <name>', 'the database to make (default: with _restored after its name)')
    .option('--replace', 'what is in the way is backed up, or moved aside, and replaced')
    .option('--dir <folder>', 'where backups are, instead of GW_BACKUP_DIR')
    .option('--url <url>', "a superuser's URL of the server (default: this checkout's)")
    .option('--jobs <n>', 'tables at the same time; as many as processors, up to 4', parseJobs)
    .option('--dry-run', 'say what would be done')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .action(run);
}
