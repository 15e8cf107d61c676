import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { codeOf, EXIT, GwError } from '../../errors.ts';
import { audit } from '../../postgres/audit.ts';
import { type Sql, type Transaction, withSuperuser } from '../../postgres/connect.ts';
import { databaseName } from '../../postgres/urls.ts';
import { projectRoot } from '../../project.ts';
import { isAlive } from '../../server/processes.ts';
import type { Progress } from '../../terminal/progress.ts';
import { humanBytes } from '../../terminal/values.ts';
import { catalogueOf, contentsOf, jobsOf, migrationsOf, readingPool } from './contents.ts';
import { withEntries } from './entries.ts';
import {
  type Backup,
  describeFiles,
  dumpName,
  folderName,
  type Manifest,
  manifestName,
  partialName,
  partialPattern,
  readBackup,
  sync,
} from './manifest.ts';
import { runClient } from './programs.ts';
import { ByteProgress } from './progress.ts';

export interface CreateOptions {
  /** A superuser's connection, or that of a role that reads every row and every role. */
  url: string;
  /** gw_owner's connection, for the catalogue; unset where there is none. */
  ownerUrl?: string | undefined;
  /** Where backups are. */
  directory: string;
  jobs?: number | undefined;
  progress: Progress;
}

export const standardJobs = (): number => Math.min(availableParallelism(), 4);

/** gzip's least level: half as long as the usual one, for a tenth more bytes. */
const compression = (major: number): string => (major >= 16 ? 'zstd:3' : '1');

/** Makes the directory, and removes what runs left that were killed. */
export function prepareDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(directory)) {
      const pid = Number(partialPattern.exec(name)?.[1]);
      if (pid && !isAlive(pid)) rmSync(join(directory, name), { recursive: true, force: true });
    }
  } catch (error) {
    throw new GwError(`cannot write to ${directory}: ${codeOf(error)}`, {
      hint: 'Set GW_BACKUP_DIR to a folder that can be written to.',
      exitCode: EXIT.usage,
      cause: error,
    });
  }
}

interface Facts {
  snapshot: string;
  startedAt: Date;
  lsn: string;
  systemIdentifier: string;
  serverVersion: number;
  bytes: number;
}

async function factsOf(sql: Transaction): Promise<Facts> {
  const [row] = await sql<Facts[]>`
    select pg_export_snapshot() as snapshot, now() as "startedAt",
      case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
        else pg_current_wal_lsn() end::text as lsn,
      (select system_identifier::text from pg_control_system()) as "systemIdentifier",
      current_setting('server_version_num')::integer as "serverVersion",
      (select sum(pg_relation_size(oid))::float8 from pg_class
        where relkind = 'r' and relnamespace <> 'pg_catalog'::regnamespace) as bytes`;
  return row as Facts;
}

/**
 * Refuses a role from which row-level security hides rows: its dump would lack them.
 *
 * @throws GwError with exit code 2
 */
async function requireReader(sql: Sql | Transaction): Promise<void> {
  const [role] = await sql<{ reads: boolean; name: string }[]>`
    select rolsuper or rolbypassrls and pg_has_role('pg_read_all_data', 'usage') as reads,
      rolname as name
    from pg_roles where rolname = current_user`;
  if (role?.reads === true) return;
  throw new GwError(`${role?.name} may not read every row: its backup would lack some`, {
    hint: "Set ROOT_DATABASE_URL to a superuser's URL, or to that of a role with BYPASSRLS that is a member of pg_read_all_data.",
    exitCode: EXIT.usage,
  });
}

/** Watches COPY of pg_dump, or of pg_restore, until it is told to stop. */
export function watchCopies(url: string, progress: ByteProgress): () => Promise<void> {
  const done = new Map<string, number>();
  let isAsking = false;
  const pool = readingPool(url, 1);
  const timer = setInterval(async () => {
    if (isAsking) return;
    isAsking = true;
    await pool<{ relation: string; bytes: number }[]>`
      select relid::text as relation, bytes_processed::float8 as bytes
      from pg_stat_progress_copy
      where datname = current_database()`
      .then((rows) => {
        for (const { relation, bytes } of rows) {
          done.set(relation, Math.max(bytes, done.get(relation) ?? 0));
        }
        progress.set([...done.values()].reduce((sum, bytes) => sum + bytes, 0));
      })
      .catch(() => {});
    isAsking = false;
  }, 500).unref();
  return async () => {
    clearInterval(timer);
    await pool.end({ timeout: 1 });
  };
}

const applicationVersion = (): string =>
  (JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as { version: string })
    .version;

/** Writes all that belongs to a backup into its folder; the manifest comes last. */
async function fill(
  folder: string,
  id: string,
  { url, jobs = standardJobs(), progress }: CreateOptions,
): Promise<Manifest> {
  let manifest: Manifest | undefined;
  await withSuperuser(url, (sql) =>
    sql.begin('isolation level repeatable read read only', async (transaction) => {
      await requireReader(transaction);
      const facts = await factsOf(transaction);
      const major = Math.floor(facts.serverVersion / 10_000);
      await progress.step('dump', async (note) => {
        const stop = watchCopies(url, new ByteProgress(facts.bytes, note));
        try {
          await runClient(
            'pg_dump',
            [
              ...['--format=directory', `--file=${join(folder, dumpName)}`, `--jobs=${jobs}`],
              ...[`--snapshot=${facts.snapshot}`, `--compress=${compression(major)}`],
              // A dump waits for locks, and everybody behind it.
              ...['--lock-wait-timeout=30s', '--encoding=UTF8'],
            ],
            { major, url },
          );
          const roles = await runClient('pg_dumpall', ['--roles-only', '--no-role-passwords'], {
            major,
            url,
          });
          writeFileSync(join(folder, 'roles.sql'), roles, { mode: 0o600 });
        } finally {
          await stop();
        }
        return `${humanBytes(facts.bytes)} of tables`;
      });
      let tables: Manifest['tables'] = [];
      await progress.step('contents', async (note) => {
        const bytes = new ByteProgress(facts.bytes, note);
        tables = await contentsOf(url, {
          jobs,
          snapshot: facts.snapshot,
          onBytes: (more) => bytes.add(more),
        });
        const rows = tables.reduce((sum, table) => sum + table.rows, 0);
        return `${rows.toLocaleString('en-US')} rows of ${tables.length} tables counted and hashed`;
      });
      const catalogue = await catalogueOf(transaction);
      writeFileSync(join(folder, 'catalogue.json'), JSON.stringify(catalogue), { mode: 0o600 });
      await progress.step('files', async () => {
        const files = await describeFiles(folder);
        manifest = {
          format: 1,
          id,
          startedAt: facts.startedAt.toISOString(),
          finishedAt: new Date().toISOString(),
          database: databaseName(url),
          systemIdentifier: facts.systemIdentifier,
          serverVersion: facts.serverVersion,
          lsn: facts.lsn,
          application: applicationVersion(),
          migrations: await migrationsOf(transaction),
          jobs: await jobsOf(transaction),
          tables,
          files,
        };
        return `${humanBytes(files.reduce((sum, file) => sum + file.bytes, 0))} on the disk`;
      });
    }),
  );
  return manifest as Manifest;
}

/** Enters a backup into ops.backups, where there is one. */
async function enter(ownerUrl: string, { folder, manifest, bytes }: Backup): Promise<void> {
  await withEntries(ownerUrl, async (sql) => {
    await sql`
      insert into ops.backups (id, kind, location, bytes, started_at, finished_at)
      values (${manifest.id}, 'logical', ${folder}, ${bytes}, ${manifest.startedAt},
        ${manifest.finishedAt})`;
    await audit(sql, 'backup.made', { id: manifest.id, bytes });
  });
}

/**
 * Makes a backup of a database: a parallel dump, the roles, and a manifest with what is in it, all of
 * one snapshot. It gets its name, under which it is found, when it is complete and on the disk.
 */
export async function createBackup(options: CreateOptions): Promise<Backup> {
  const { directory, ownerUrl } = options;
  prepareDirectory(directory);
  const id = randomUUID();
  const partial = join(directory, partialName(id.slice(0, 8), process.pid));
  const discard = (): void => rmSync(partial, { recursive: true, force: true });
  process.once('exit', discard);
  try {
    mkdirSync(partial, { mode: 0o700 });
    const manifest = await fill(partial, id, options);
    writeFileSync(join(partial, manifestName), JSON.stringify(manifest), { mode: 0o600 });
    for (const path of [join(partial, manifestName), join(partial, dumpName), partial]) {
      await sync(path);
    }
    const folder = join(directory, folderName(new Date(manifest.startedAt), id));
    renameSync(partial, folder);
    await sync(directory);
    const backup = readBackup(folder);
    if (ownerUrl !== undefined) await enter(ownerUrl, backup);
    return backup;
  } finally {
    discard();
    process.off('exit', discard);
  }
}
