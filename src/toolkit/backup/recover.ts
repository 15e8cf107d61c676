import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { EXIT, GwError } from '../../errors.ts';
import { withSql, withSuperuser } from '../../postgres/connect.ts';
import { changeUrl } from '../../postgres/urls.ts';
import { findInstallations } from '../../server/binaries.ts';
import {
  type Cluster,
  clusterMajor,
  dataDirectory,
  prepareHome,
  removeCluster,
  startCluster,
  stopCluster,
} from '../../server/cluster.ts';
import { isAlive } from '../../server/processes.ts';
import type { Progress } from '../../terminal/progress.ts';
import { humanSeconds, stamp } from '../../terminal/values.ts';
import {
  type Archive,
  lsnNumber,
  readArchive,
  segmentNumber,
  segmentOf,
  windowOf,
} from './archive.ts';
import { mustRun, segmentBytesOf } from './pgbackrest.ts';

/** Where recovery ends. */
export type Target =
  | { kind: 'latest' }
  | { kind: 'time'; at: Date /** To the microsecond, as PostgreSQL reads it. */; text: string }
  | { kind: 'lsn'; lsn: string };

export const describeTarget = (target: Target): string =>
  target.kind === 'latest'
    ? 'the end of the archive'
    : target.kind === 'time'
      ? target.text
      : target.lsn;

export interface RecoverOptions {
  config: string;
  target: Target;
  /** Holds the new cluster: `data/`, `log/`, `socket/`. */
  home: string;
  /** Whether what is in the way is moved aside. */
  replace: boolean;
  /** Only tells whether it could be done. */
  dryRun: boolean;
  port: number;
  /** A superuser's name and password on the server that was backed up. */
  user: string;
  password: string;
  repository?: number;
  progress: Progress;
}

export interface Recovered {
  cluster: Cluster;
  superuserUrl: string;
  /** The last commit that is in it. */
  lastCommit: Date | null;
  lsn: string;
  /** From the beginning of the restore until it took writes. */
  seconds: number;
  /** What was there before; undefined when nothing was. */
  movedTo: string | undefined;
}

/**
 * Refuses a target that the archive does not cover, before anything is touched.
 *
 * @returns the options for pgBackRest
 */
async function cover(
  config: string,
  archive: Archive,
  repository: number,
  target: Target,
): Promise<string[]> {
  const window = await windowOf(config, archive, repository);
  if (window === undefined) {
    throw new GwError(`repo${repository} has no backup`, { exitCode: EXIT.usage });
  }
  const covered = `It covers ${stamp(window.from)} (${window.fromLsn}) to ${stamp(window.to)} (${window.newest}).`;
  const refuse = (why: string): GwError =>
    new GwError(`the archive does not reach ${describeTarget(target)}: ${why}`, {
      hint: covered,
      exitCode: EXIT.usage,
    });
  const [gap] = window.gaps;
  if (target.kind === 'latest') {
    if (gap !== undefined) {
      throw refuse(`its log lacks ${gap}. Name a target before it with --to-time, or --to-lsn`);
    }
    return ['--type=default'];
  }
  const before = archive.backups.filter(
    (backup) =>
      backup.repository === repository &&
      (target.kind === 'time'
        ? backup.finishedAt <= target.at
        : lsnNumber(backup.stopLsn) <= lsnNumber(target.lsn)),
  );
  const set = before.at(-1);
  if (set === undefined) throw refuse('its oldest backup is younger');
  const bytes = segmentBytesOf(config);
  const isLater =
    target.kind === 'time'
      ? // Repositories tell whole seconds.
        target.at.getTime() >= window.to.getTime() + 1_000
      : segmentOf(target.lsn, bytes) > segmentNumber(window.newest, bytes);
  if (isLater) throw refuse('it ends before');
  return target.kind === 'time'
    ? ['--type=time', `--target=${target.text}`, `--set=${set.label}`, '--target-action=promote']
    : ['--type=lsn', `--target=${target.lsn}`, `--set=${set.label}`, '--target-action=promote'];
}

/** Is there while a restore runs, with its process id. */
const markerName = 'restoring';

/** Makes room for a cluster: nothing is deleted that was ever a server. */
function makeRoom(home: string, replace: boolean): string | undefined {
  const data = dataDirectory({ bin: '', home });
  if (!existsSync(data) || readdirSync(data).length === 0) return undefined;
  const marker = join(home, markerName);
  if (existsSync(marker)) {
    const pid = Number(readFileSync(marker, 'utf8'));
    if (isAlive(pid)) {
      throw new GwError(`another restore into ${home} runs (process ${pid})`, {
        hint: 'Wait for it.',
        exitCode: EXIT.usage,
      });
    }
    // A restore that was killed: it is nobody's.
    rmSync(data, { recursive: true, force: true });
    return undefined;
  }
  if (!replace) {
    throw new GwError(`${data} is not empty`, {
      hint: 'Name another folder with --directory. Or have it moved aside with --replace.',
      exitCode: EXIT.usage,
    });
  }
  if (existsSync(join(data, 'postmaster.pid'))) {
    throw new GwError(`a server runs in ${data}, or ended in a crash there`, {
      hint: 'Stop it first. When none runs, delete its postmaster.pid.',
      exitCode: EXIT.usage,
    });
  }
  const aside = join(dirname(data), `data-before-${Date.now()}`);
  renameSync(data, aside);
  return aside;
}

function binOf(cluster: Cluster): string {
  const major = clusterMajor(cluster);
  const found = findInstallations().find((installation) => installation.major === major);
  if (found !== undefined) return found.bin;
  throw new GwError(`what was restored needs PostgreSQL ${major}, which is not installed`, {
    hint: `apt-get install postgresql-${major}`,
    exitCode: EXIT.unavailable,
  });
}

/** Resolves when recovery has ended and the server takes writes. */
async function untilPromoted(url: string): Promise<{ lsn: string; last: Date | null }> {
  for (;;) {
    const [row] = await withSuperuser(
      url,
      (sql) => sql<{ recovering: boolean; lsn: string | null; last: Date | null }[]>`
        select pg_is_in_recovery() as recovering, pg_last_wal_replay_lsn()::text as lsn,
          pg_last_xact_replay_timestamp() as last`,
    );
    if (row?.recovering === false) return { lsn: row.lsn ?? '', last: row.last };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/**
 * Restores the server as it was at an instant, into a folder of its own, and starts it there. It does
 * not archive, and is fenced.
 *
 * @returns undefined when it was to tell only whether it could be done
 */
export async function recover(options: RecoverOptions): Promise<Recovered | undefined> {
  const { config, target, home, port, progress, user, password } = options;
  const began = Date.now();
  const archive = await readArchive(config);
  const repository =
    options.repository ?? archive.repositories.find(({ fault }) => fault === undefined)?.key ?? 1;
  const fault = archive.repositories.find(({ key }) => key === repository)?.fault;
  if (fault !== undefined) throw new GwError(`repo${repository} cannot be used: ${fault}`);
  const args = await cover(config, archive, repository, target);
  const cluster: Cluster = { bin: '', home };
  if (options.dryRun) return undefined;
  const movedTo = makeRoom(home, options.replace);
  prepareHome(cluster);
  const data = dataDirectory(cluster);
  const marker = join(home, markerName);
  writeFileSync(marker, String(process.pid));
  try {
    await progress.step('restore', async () => {
      await mustRun(config, 'restore', [
        ...[`--pg1-path=${data}`, `--repo=${repository}`, '--archive-mode=off', ...args],
      ]);
      return `repo${repository}, to ${describeTarget(target)}`;
    });
  } catch (error) {
    rmSync(data, { recursive: true, force: true });
    if (movedTo !== undefined) renameSync(movedTo, data);
    throw error;
  } finally {
    rmSync(marker, { force: true });
  }
  cluster.bin = binOf(cluster);
  // Its own server's: a standby, or a synchronous one, is not here.
  appendFileSync(
    join(data, 'postgresql.auto.conf'),
    "synchronous_standby_names = ''\nprimary_conninfo = ''\n",
  );
  const superuserUrl = changeUrl(`postgres://127.0.0.1:${port}/postgres`, { user, password });
  let reached: Awaited<ReturnType<typeof untilPromoted>> = { lsn: '', last: null };
  try {
    await progress.step('recovery', async () => {
      await startCluster(cluster, port);
      reached = await untilPromoted(superuserUrl);
      return `up to ${reached.lsn}, the last commit of ${stamp(reached.last)}`;
    });
  } catch (error) {
    await stopCluster(cluster).catch(() => {});
    throw error;
  }
  return {
    cluster,
    superuserUrl,
    lastCommit: reached.last,
    lsn: reached.lsn,
    seconds: (Date.now() - began) / 1_000,
    movedTo,
  };
}

/** Puts a server that was restored for a trial away. */
export async function discard({ cluster }: Recovered): Promise<void> {
  await stopCluster(cluster);
  removeCluster(cluster);
}

/** Why the database is a copy, as its owner is told; null when it is none, or not Groundwork's. */
export const fenceOf = (ownerUrl: string): Promise<string | null> =>
  withSql(ownerUrl, async (sql) => {
    const [found] = await sql`
      select to_regprocedure('ops.fence_reason()') is not null as ours`;
    if (found?.ours !== true) return null;
    const [row] = await sql<{ reason: string | null }[]>`select ops.fence_reason() as reason`;
    return row?.reason ?? null;
  });

export const formatRecovered = ({ seconds, lastCommit, lsn }: Recovered): string =>
  `recovered to ${lsn}, the last commit of ${stamp(lastCommit)}, in ${humanSeconds(seconds)}`;
