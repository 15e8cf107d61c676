import { readFileSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import process from 'node:process';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { loadConfig } from '../config.ts';
import { codeOf, EXIT, GwError, messageOf } from '../errors.ts';
import { withSuperuser } from '../postgres/connect.ts';
import { changeUrl, databaseName, parseUrl } from '../postgres/urls.ts';
import { scratchHome } from '../server/cluster.ts';
import { locateDatabase } from '../server/locate.ts';
import { randomPort } from '../server/ports.ts';
import { restartDatabase } from '../server/restart.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { formatTable } from '../terminal/table.ts';
import { humanBytes, humanSeconds, stamp } from '../terminal/values.ts';
import type { Archive } from '../toolkit/backup/archive.ts';
import { configPath } from '../toolkit/backup/pgbackrest.ts';
import { explained, superuserConnections } from './backup.ts';

interface Common {
  config?: string;
  url?: string;
  json?: boolean;
}

interface SetupOptions extends Common {
  repo: string[];
  settings?: string;
  keepFull: number;
  keepDiff: number;
  queueMax: string;
  replace?: boolean;
  yes?: boolean;
}

function parseFolder(text: string, before: string[] = []): string[] {
  if (!isAbsolute(text)) throw new InvalidArgumentError('An absolute path.');
  return [...before, text];
}

function parseCount(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number from 1 to 9999.');
}

function parseSize(text: string): string {
  if (/^[1-9]\d*(MiB|GiB|TiB)$/.test(text)) return text;
  throw new InvalidArgumentError('Such as 4GiB.');
}

/** Lines of pgBackRest's own settings. */
function readSettings(path: string | undefined): string[] {
  if (path === undefined) return [];
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new GwError(`${path} cannot be read: ${codeOf(error)}`, { exitCode: EXIT.usage });
  }
  const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const wrong = lines.find((line) => !/^repo\d-[a-z0-9-]+=.+$/.test(line));
  if (wrong !== undefined) {
    throw new GwError(`${path}: "${wrong.split('=')[0]}" is no setting of a repository`, {
      hint: 'Lines such as repo2-type=s3, as pgBackRest has them.',
      exitCode: EXIT.usage,
    });
  }
  return lines;
}

async function setup(options: SetupOptions): Promise<void> {
  const { setUp } = await import('../toolkit/backup/pitr.ts');
  const more = readSettings(options.settings);
  const config = loadConfig();
  const target = superuserConnections(config, options.url);
  const path = configPath(options.config);
  const lines = await explained(target, () =>
    setUp({
      config: path,
      url: target.url,
      repositories: options.repo,
      keepFull: options.keepFull,
      keepDiff: options.keepDiff,
      queueMax: options.queueMax,
      more,
      replace: options.replace === true,
      restart: async () => {
        if (options.url !== undefined || locateDatabase(config).source === 'url') return false;
        await confirm('archive_mode needs a restart of the server. Restart it now?', options.yes);
        return restartDatabase();
      },
    }),
  );
  process.stdout.write(`${lines.join('\n')}\n`);
}

const rowsOf = ({ backups }: Archive) =>
  backups.map((backup) => ({
    label: backup.label,
    type: backup.type,
    repository: backup.repository,
    startedAt: backup.startedAt.toISOString(),
    finishedAt: backup.finishedAt.toISOString(),
    bytes: backup.bytes,
    stopLsn: backup.stopLsn,
  }));

async function run(options: Common & { type: 'full' | 'diff' | 'incr' }): Promise<void> {
  const { runBackup } = await import('../toolkit/backup/pitr.ts');
  const target = superuserConnections(loadConfig(), options.url);
  const progress = new Progress(options.json);
  let archive: Archive | undefined;
  await progress.step('backup', async () => {
    archive = await explained(target, () =>
      runBackup(configPath(options.config), options.type, target.url, target.ownerUrl),
    );
    const newest = archive.backups.at(-1);
    return `${newest?.label} of ${humanBytes(newest?.bytes ?? 0)}`;
  });
  const rows = rowsOf(archive as Archive);
  print(options.json, { backups: rows }, `${rows.at(-1)?.label}\n`);
}

async function info({ config, json }: Common): Promise<void> {
  const { readArchive, windowOf } = await import('../toolkit/backup/archive.ts');
  const path = configPath(config);
  const archive = await readArchive(path);
  const windows = await Promise.all(
    archive.repositories.map(async ({ key, fault }) => ({
      repository: key,
      fault: fault ?? null,
      window: fault === undefined ? ((await windowOf(path, archive, key)) ?? null) : null,
    })),
  );
  const rows = rowsOf(archive);
  const table = formatTable(rows, [
    { title: 'backup', value: ({ label }) => label },
    { title: 'type', value: ({ type }) => type },
    { title: 'repo', value: ({ repository }) => String(repository) },
    { title: 'finished', value: ({ finishedAt }) => stamp(new Date(finishedAt)) },
    { title: 'cluster', value: ({ bytes }) => humanBytes(bytes), isNumber: true },
    { title: 'to', value: ({ stopLsn }) => stopLsn },
  ]);
  const covered = windows.map(({ repository, fault, window }) =>
    window === null
      ? `repo${repository}: ${fault ?? 'has no backup'}\n`
      : `repo${repository} covers ${stamp(window.from)} (${window.fromLsn}) to ${stamp(window.to)} (${window.newest})` +
        `${window.gaps.length === 0 ? '' : `, but lacks ${window.gaps.join(', ')}`}\n`,
  );
  const text = `${rows.length === 0 ? 'no backups\n' : table}${covered.join('')}`;
  print(json, { backups: rows, repositories: windows }, text);
}

async function check(options: Common): Promise<void> {
  const { checkPitr } = await import('../toolkit/backup/pitr.ts');
  const target = superuserConnections(loadConfig(), options.url);
  const { findings, windows } = await explained(target, () =>
    checkPitr(configPath(options.config), target.url),
  );
  const critical = findings.filter(({ level }) => level === 'critical').length;
  const summary = `${critical === 0 ? (findings.length === 0 ? 'OK' : 'WARNING') : 'CRITICAL'}: ${critical} critical, ${findings.length - critical} warnings`;
  const lines = findings.map(
    ({ level, object, detail, remediation }) => `${level}  ${object}: ${detail}\n  ${remediation}`,
  );
  const ages = Object.entries(windows).flatMap(([name, window]) =>
    window === undefined
      ? []
      : [
          `${name} covers ${stamp(window.from)} to ${stamp(window.to)}, ${humanSeconds((Date.now() - window.to.getTime()) / 1_000)} ago`,
        ],
  );
  print(options.json, { findings, windows }, `${[summary, ...lines, ...ages].join('\n')}\n`);
  // As gw check, for Nagios and the like.
  process.exitCode = critical > 0 ? 2 : findings.length > 0 ? 1 : EXIT.ok;
}

/** Restores the newest backup of each repository, and the log after it, for a trial. */
async function verify(options: Common): Promise<void> {
  const { readArchive } = await import('../toolkit/backup/archive.ts');
  const { passwordOf, rememberPhysical } = await import('../toolkit/backup/pitr.ts');
  const { discard, recover } = await import('../toolkit/backup/recover.ts');
  const { checkPages } = await import('../toolkit/backup/verify.ts');
  const target = superuserConnections(loadConfig(), options.url);
  const config = configPath(options.config);
  const progress = new Progress(options.json);
  const archive = await readArchive(config);
  const results: { repository: number; faults: string[]; seconds: number }[] = [];
  for (const { key: repository } of archive.repositories) {
    const faults: string[] = [];
    let seconds = 0;
    try {
      const recovered = await recover({
        config,
        target: { kind: 'latest' },
        home: scratchHome(`scratch-${process.pid}-repo`),
        replace: false,
        dryRun: false,
        port: await randomPort(),
        user: decodeURIComponent(parseUrl(target.url).username),
        password: passwordOf(target.url),
        repository,
        progress,
      });
      if (recovered === undefined) continue;
      seconds = recovered.seconds;
      const url = changeUrl(recovered.superuserUrl, { database: databaseName(target.url) });
      await progress
        .step('pages', async () => {
          faults.push(...(await withSuperuser(url, checkPages)));
          return faults.length === 0 ? 'amcheck finds nothing' : `${faults.length} are damaged`;
        })
        .finally(() => discard(recovered));
    } catch (error) {
      faults.push(messageOf(error));
    }
    results.push({ repository, faults, seconds });
    if (target.ownerUrl !== undefined) {
      await rememberPhysical(archive, repository, faults, target.ownerUrl);
    }
  }
  const lines = results.map(({ repository, faults, seconds }) =>
    faults.length === 0
      ? `repo${repository} can be restored: it took ${humanSeconds(seconds)}`
      : `repo${repository}: ${faults.join('; ')}`,
  );
  print(options.json, { repositories: results }, `${lines.join('\n')}\n`);
  const wrong = results.filter(({ faults }) => faults.length > 0);
  if (results.length > 0 && wrong.length === 0) return;
  throw new GwError(
    results.length === 0
      ? 'there is no repository'
      : `${wrong.length} repositories cannot be restored`,
    { hint: 'gw backup pitr check says more.', exitCode: EXIT.failure },
  );
}

const configHelp = "pgBackRest's settings (default: beside the cluster of this checkout)";
const urlHelp = "a superuser's URL of the server (default: this checkout's)";

/** The part of `gw backup` that pgBackRest does. */
export function registerPitr(backup: Command): void {
  const pitr = backup
    .command('pitr')
    .description('restore to any instant: physical backups, and the archived log');
  pitr
    .command('setup')
    .description('have the server archive its log with pgBackRest, encrypted, and try it')
    .requiredOption('--repo <folder>', 'a repository; a second one is off-site', parseFolder)
    .option('--settings <file>', "further settings of repositories, in pgBackRest's form, as of S3")
    .option(
      '--keep-full <n>',
      'full backups that are kept, with the log that they need',
      parseCount,
      2,
    )
    .option('--keep-diff <n>', 'differential backups that are kept', parseCount, 6)
    .option(
      '--queue-max <size>',
      'log that may wait for a full archive before it is dropped, so that the server goes on',
      parseSize,
      '4GiB',
    )
    .option('--replace', 'replace another archive_command')
    .option('--config <file>', configHelp)
    .option('--url <url>', urlHelp)
    .option('--yes', 'do not ask before a restart of the server')
    .action(setup);
  pitr
    .command('run')
    .description('make a physical backup in every repository')
    .addOption(
      new Option('--type <type>', 'full; since the last full one; since the last one')
        .choices(['full', 'diff', 'incr'])
        .default('incr'),
    )
    .option('--config <file>', configHelp)
    .option('--url <url>', urlHelp)
    .option('--json', 'print JSON')
    .action(run);
  pitr
    .command('info')
    .description('list physical backups, and which instants can be restored')
    .option('--config <file>', configHelp)
    .option('--json', 'print JSON')
    .action(info);
  pitr
    .command('verify')
    .description(
      'restore the newest backup of each repository into a scratch server (exit 1: a fault)',
    )
    .option('--config <file>', configHelp)
    .option('--url <url>', urlHelp)
    .option('--json', 'print JSON')
    .action(verify);
  pitr
    .command('check')
    .description('look for gaps and delays of the archive (exit 1: warning, 2: critical)')
    .option('--config <file>', configHelp)
    .option('--url <url>', urlHelp)
    .option('--json', 'print JSON')
    .action(check);
}
