import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, GwError, messageOf } from '../../errors.ts';
import { audit } from '../../postgres/audit.ts';
import { type Sql, withSuperuser } from '../../postgres/connect.ts';
import { parseUrl } from '../../postgres/urls.ts';
import { humanSeconds, stamp } from '../../terminal/values.ts';
import { type Archive, readArchive, type Window, windowOf } from './archive.ts';
import { withEntries } from './entries.ts';
import {
  keyOf,
  mustRun,
  newKey,
  type PitrSettings,
  pgbackrest,
  saidBy,
  stanza,
  writeConfig,
} from './pgbackrest.ts';

/** How long log may wait in an idle file until it is archived. */
const archiveTimeout = '30s';

const commandOf = (config: string): string =>
  `pgbackrest --config=${config} --stanza=${stanza} archive-push %p`;

interface ServerFacts {
  dataDirectory: string;
  port: number;
  socketDirectory: string;
  user: string;
  segmentBytes: number;
  archiveMode: string;
  archiveCommand: string;
}

async function factsOf(sql: Sql): Promise<ServerFacts> {
  const [row] = await sql<ServerFacts[]>`
    select current_setting('data_directory') as "dataDirectory",
      current_setting('port')::integer as port,
      btrim(split_part(current_setting('unix_socket_directories'), ',', 1)) as "socketDirectory",
      current_user::text as user,
      pg_size_bytes(current_setting('wal_segment_size'))::float8 as "segmentBytes",
      current_setting('archive_mode') as "archiveMode",
      current_setting('archive_command') as "archiveCommand"`;
  return row as ServerFacts;
}

export interface SetupOptions
  extends Pick<PitrSettings, 'repositories' | 'keepFull' | 'keepDiff' | 'queueMax' | 'more'> {
  config: string;
  /** A superuser's connection to the server, which runs on this machine. */
  url: string;
  /** Whether another archive_command may be replaced. */
  replace: boolean;
  /** Restarts the server; resolves with false where it is not ours to restart. */
  restart: () => Promise<boolean>;
}

/**
 * Has the server archive its log with pgBackRest, and tries it.
 *
 * @returns what was done, a line each
 * @throws GwError when the server is elsewhere, archives in another way, or has to be restarted
 */
export async function setUp(options: SetupOptions): Promise<string[]> {
  const { config, url } = options;
  const facts = await withSuperuser(url, factsOf);
  if (!existsSync(join(facts.dataDirectory, 'PG_VERSION'))) {
    throw new GwError(`the server's files, ${facts.dataDirectory}, are not on this machine`, {
      hint: 'Run this on the machine of the server: it archives its log there.',
      exitCode: EXIT.usage,
    });
  }
  if (facts.socketDirectory === '') {
    throw new GwError('the server has no socket: pgBackRest connects by one', {
      hint: 'Set unix_socket_directories, and restart the server.',
      exitCode: EXIT.usage,
    });
  }
  const isOurs = facts.archiveCommand.includes(`--stanza=${stanza} archive-push`);
  const isFree = ['', '(disabled)', '/bin/true', 'true'].includes(facts.archiveCommand);
  if (!isOurs && !isFree && !options.replace) {
    throw new GwError(`the server archives already: archive_command is ${facts.archiveCommand}`, {
      hint: 'Have it replaced with --replace; the other archive then ends.',
      exitCode: EXIT.usage,
    });
  }
  writeConfig(config, { ...options, ...facts }, keyOf(config) ?? newKey());
  await withSuperuser(url, async (sql) => {
    await sql.unsafe(`alter system set archive_command = '${commandOf(config)}'`);
    await sql.unsafe(`alter system set archive_timeout = '${archiveTimeout}'`);
    await sql.unsafe(`alter system set archive_mode = on`);
    await sql`select pg_reload_conf()`;
  });
  if (facts.archiveMode === 'off' && !(await options.restart())) {
    throw new GwError('archive_mode is set, and the server has to be restarted for it', {
      hint: 'Restart the server, and run this again.',
      exitCode: EXIT.failure,
    });
  }
  const password = passwordOf(url);
  await mustRun(config, 'stanza-create', [], password);
  await mustRun(config, 'check', [], password);
  return [
    `the server archives its log, each ${archiveTimeout} at the latest, with ${config}`,
    'The file has the key of the repositories: keep a copy of it elsewhere.',
  ];
}

export const passwordOf = (url: string): string => decodeURIComponent(parseUrl(url).password);

const locationOf = (repository: number, label: string): string =>
  `pgbackrest:repo${repository}:${label}`;

/** Has ops.backups follow what the repositories have. */
export async function enterPhysical(archive: Archive, ownerUrl: string): Promise<void> {
  await withEntries(ownerUrl, async (sql) => {
    const rows = archive.backups.map((backup) => ({
      location: locationOf(backup.repository, backup.label),
      bytes: backup.bytes,
      started_at: backup.startedAt.toISOString(),
      finished_at: backup.finishedAt.toISOString(),
    }));
    const entered = await sql<{ location: string }[]>`
      with kept as (
        select * from jsonb_to_recordset(${sql.json(rows)})
          as kept (location text, bytes bigint, started_at timestamptz, finished_at timestamptz)
      ),
      -- Retention is pgBackRest's.
      expired as (
        delete from ops.backups
        where kind = 'physical'
          and location like 'pgbackrest:%'
          and location not in (select location from kept)
      )
      insert into ops.backups (kind, location, bytes, started_at, finished_at)
      select 'physical', location, bytes, started_at, finished_at
      from kept
      where not exists (
        select from ops.backups
        where backups.kind = 'physical' and backups.location = kept.location
      )
      returning location`;
    for (const { location } of entered) await audit(sql, 'backup.made', { location });
  });
}

/** Remembers that the newest backup of a repository was restored for a trial, or what was wrong. */
export async function rememberPhysical(
  archive: Archive,
  repository: number,
  faults: readonly string[],
  ownerUrl: string,
): Promise<void> {
  await enterPhysical(archive, ownerUrl);
  const label = archive.backups.filter((backup) => backup.repository === repository).at(-1)?.label;
  if (label === undefined) return;
  await withEntries(ownerUrl, async (sql) => {
    const failure = faults.length === 0 ? null : faults.slice(0, 3).join('; ');
    await sql`
      update ops.backups
      set verified_at = case when ${failure}::text is null then now() end, failure = ${failure}
      where kind = 'physical' and location = ${locationOf(repository, label)}`;
    const details = { location: locationOf(repository, label) };
    if (failure === null) await audit(sql, 'backup.verified', details);
    else await audit(sql, 'backup.failed', details);
  });
}

/** Makes a physical backup, in every repository. */
export async function runBackup(
  config: string,
  type: 'full' | 'diff' | 'incr',
  url: string,
  ownerUrl: string | undefined,
): Promise<Archive> {
  await withSuperuser(url, (sql) => sql`select 1`);
  const { repositories } = await readArchive(config);
  const keys = repositories.length === 0 ? [1] : repositories.map(({ key }) => key);
  for (const key of keys) {
    await mustRun(config, 'backup', [`--type=${type}`, `--repo=${key}`], passwordOf(url));
  }
  const archive = await readArchive(config);
  if (ownerUrl !== undefined) await enterPhysical(archive, ownerUrl);
  return archive;
}

export interface PitrFinding {
  level: 'warning' | 'critical';
  object: string;
  detail: string;
  remediation: string;
}

export interface Checked {
  findings: PitrFinding[];
  windows: Record<string, Window | undefined>;
}

interface Waiting {
  mode: string;
  timeout: number;
  failing: string | null;
  files: number;
  oldest: number | null;
}

/** What waits on the server to be archived. */
async function waitingOf(sql: Sql): Promise<Waiting> {
  const [row] = await sql<Waiting[]>`
    select current_setting('archive_mode') as mode,
      extract(epoch from current_setting('archive_timeout')::interval)::float8 as timeout,
      (select last_failed_wal from pg_stat_archiver
        where last_failed_time > coalesce(last_archived_time, '-infinity')) as failing,
      (select count(*)::integer from pg_ls_archive_statusdir() where name like '%.ready') as files,
      (select extract(epoch from now() - min(modification))::float8
        from pg_ls_archive_statusdir() where name like '%.ready') as oldest`;
  return row as Waiting;
}

function serverFindings({ mode, timeout, failing, files, oldest }: Waiting): PitrFinding[] {
  const findings: PitrFinding[] = [];
  const say = (level: PitrFinding['level'], object: string, detail: string, remediation: string) =>
    findings.push({ level, object, detail, remediation });
  if (mode === 'off') {
    say('critical', 'archive_mode', 'the server does not archive its log', 'gw backup pitr setup');
  }
  if (timeout === 0 || timeout > 60) {
    const what = timeout === 0 ? 'is off' : `is ${humanSeconds(timeout)}`;
    say(
      'warning',
      'archive_timeout',
      `archive_timeout ${what}: so much can be lost on a quiet server`,
      `alter system set archive_timeout = '${archiveTimeout}'; select pg_reload_conf()`,
    );
  }
  if (failing !== null) {
    say(
      'critical',
      failing,
      'archive_command fails; the log is kept until it is archived, or its queue is full',
      "See the server's log, and gw backup pitr check.",
    );
  }
  if (oldest !== null && oldest > 300) {
    say(
      oldest > 1_800 ? 'critical' : 'warning',
      'waiting',
      `${files} files wait to be archived, the oldest for ${humanSeconds(oldest)}`,
      'The archive does not keep up: look at the repository, its disk and its network.',
    );
  }
  return findings;
}

/** What is wrong with a repository. */
async function repositoryFindings(
  config: string,
  archive: Archive,
  repository: number,
  now: Date,
): Promise<{ findings: PitrFinding[]; window: Window | undefined }> {
  const object = `repo${repository}`;
  const window = await windowOf(config, archive, repository);
  if (window === undefined) {
    const remediation = 'gw backup pitr run --type full';
    const detail = 'has no backup: nothing can be restored from it';
    return { findings: [{ level: 'critical', object, detail, remediation }], window };
  }
  const findings: PitrFinding[] = window.gaps.map((gap) => ({
    level: 'critical',
    object,
    detail: `the archived log lacks ${gap}: nothing after it can be reached from an older backup`,
    remediation: 'Make a full backup now: gw backup pitr run --type full',
  }));
  const newest = archive.backups.filter((backup) => backup.repository === repository).at(-1);
  const age = (now.getTime() - (newest?.finishedAt.getTime() ?? 0)) / 1_000;
  if (age > 26 * 3_600) {
    findings.push({
      level: age > 3 * 24 * 3_600 ? 'critical' : 'warning',
      object,
      detail: `its newest backup is of ${stamp(newest?.finishedAt ?? null)}`,
      remediation: 'gw backup pitr run, and see why the schedule did not.',
    });
  }
  return { findings, window };
}

/** What is wrong with the repositories, and what each can restore. */
export async function checkRepositories(config: string): Promise<Checked> {
  const findings: PitrFinding[] = [];
  const windows: Checked['windows'] = {};
  const say = (object: string, detail: string, remediation: string) =>
    findings.push({ level: 'critical', object, detail, remediation });
  const remedy = 'Is it there, and does the configuration have its key?';
  let archive: Archive;
  try {
    archive = await readArchive(config);
  } catch (error) {
    say('repository', `cannot be read: ${messageOf(error)}`, remedy);
    return { findings, windows };
  }
  for (const { key, fault } of archive.repositories) {
    if (fault !== undefined) {
      say(`repo${key}`, `cannot be used: ${fault}`, remedy);
      continue;
    }
    const found = await repositoryFindings(config, archive, key, new Date());
    findings.push(...found.findings);
    windows[`repo${key}`] = found.window;
  }
  if (archive.repositories.length === 0) {
    say('repository', 'there is none that can be read', 'gw backup pitr setup');
  }
  return { findings, windows };
}

/**
 * Looks at the server and at every repository, and has one more file of the log archived, which has to
 * arrive.
 */
export async function checkPitr(config: string, url: string): Promise<Checked> {
  const { findings, windows } = await checkRepositories(config);
  findings.unshift(...serverFindings(await withSuperuser(url, waitingOf)));
  if (Object.keys(windows).length === 0) return { findings, windows };
  const tried = await pgbackrest(config, 'check', [], passwordOf(url));
  if (tried.code !== 0) {
    findings.push({
      level: 'critical',
      object: 'archive',
      detail: `a file of the log did not arrive: ${saidBy(tried).split('\n')[0]}`,
      remediation: "See the server's log for what archive_command says.",
    });
  }
  return { findings, windows };
}
