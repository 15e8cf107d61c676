import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { audit } from '../../postgres/audit.ts';
import { type Sql, withSql, withSuperuser } from '../../postgres/connect.ts';
import { changeUrl, type Database } from '../../postgres/urls.ts';
import { databaseAt, startScratch } from '../../server/scratch.ts';
import type { Progress } from '../../terminal/progress.ts';
import { humanBytes } from '../../terminal/values.ts';
import type { ServedApi } from '../prove/graphql-client.ts';
import { proveOptions } from '../prove/options.ts';
import { prove } from '../prove/prove.ts';
import { type CatalogueEntry, catalogueFaults, catalogueOf, migrationsOf } from './contents.ts';
import { withEntries } from './entries.ts';
import { type Backup, faultsOfFiles, verifiedName } from './manifest.ts';
import { ByteProgress } from './progress.ts';
import { catalogueIn, compareRows, restoreBackup } from './restore.ts';

export interface VerifyOptions {
  backup: Backup;
  jobs?: number | undefined;
  /** Serves the API of a database, to be tried. */
  serve: (database: Database) => Promise<ServedApi>;
  progress: Progress;
}

export interface Verdict {
  /** One sentence each; empty for a backup that can be restored. */
  faults: string[];
  /** What could not be looked at, and why. */
  untold: string[];
}

const trial = 'gw_trial';

/** Every page of every table, and every row in every B-tree. */
export async function checkPages(sql: Sql): Promise<string[]> {
  await sql`create extension if not exists amcheck with schema pg_catalog`;
  const rows = await sql<{ fault: string }[]>`
    select format('table %s: block %s: %s', pg_class.oid::regclass, blkno, msg) as fault
    from pg_class
    cross join lateral verify_heapam(pg_class.oid) as found
    where pg_class.relkind in ('r', 'm') and pg_class.relpersistence <> 't'`;
  const indexes = await sql<{ id: number; name: string }[]>`
    select pg_class.oid::integer as id, pg_class.oid::regclass::text as name
    from pg_index
    inner join pg_class on pg_class.oid = pg_index.indexrelid
    inner join pg_am on pg_am.oid = pg_class.relam
    where pg_am.amname = 'btree' and pg_class.relkind = 'i' and pg_index.indisvalid
      and pg_class.relpersistence <> 't'`;
  const faults = rows.map(({ fault }) => fault);
  for (const { id, name } of indexes) {
    await sql`select bt_index_check(${id}::oid::regclass, true)`.catch((error: Error) =>
      faults.push(`index ${name}: ${error.message}`),
    );
  }
  return faults;
}

/** What a restore must bring back beside rows. */
async function objectFaults(sql: Sql, backup: Backup): Promise<string[]> {
  const { manifest } = backup;
  const [here] = await sql<{ major: number }[]>`
    select current_setting('server_version_num')::integer / 10000 as major`;
  const isSame = here?.major === Math.floor(manifest.serverVersion / 10_000);
  const found = await catalogueOf(sql);
  // The trial server has no pg_cron: nothing of it runs.
  const isOfCron = ({ name }: CatalogueEntry): boolean => /^(pg_cron$|cron$|cron[.])/.test(name);
  const wanted = catalogueIn(backup).filter((entry) => !isOfCron(entry));
  const faults = catalogueFaults(wanted, found, isSame);
  const ran = JSON.stringify(await migrationsOf(sql));
  if (ran !== JSON.stringify(manifest.migrations)) faults.push('the migrations differ');
  return faults;
}

/** pg_cron's jobs are those that the backup itself declares. */
async function jobFaults(sql: Sql, { manifest }: Backup): Promise<string[]> {
  if (manifest.jobs.length === 0) return [];
  const [found] = await sql`select to_regclass('ops.cron_jobs') is not null as exists`;
  if (found?.exists !== true) return [];
  const declared = await sql<{ name: string; schedule: string; command: string }[]>`
    select job_name as name, schedule, scheduled_command as command
    from ops.cron_jobs where is_active order by job_name`;
  const there = new Map(declared.map((job) => [job.name, job]));
  return manifest.jobs.flatMap(({ name, schedule, command }) => {
    const job = there.get(name);
    if (job === undefined) return [`job ${name} is not declared: it would not be restored`];
    const isSame = job.schedule === schedule && job.command === command;
    return isSame ? [] : [`job ${name} ran otherwise than it is declared`];
  });
}

/** Whether one user still cannot reach another's rows. */
async function provedFaults(
  database: Database,
  serve: VerifyOptions['serve'],
): Promise<string[] | undefined> {
  const { urls } = database;
  const url = urls.superuser ?? '';
  const isOurs = await withSql(url, async (sql) => {
    const [found] = await sql`
      select to_regprocedure('ops.take_identity(text)') is not null as ours`;
    if (found?.ours !== true) return false;
    return true;
  });
  if (!isOurs) return undefined;
  // On this server nothing is sent, and functions are tried as they work.
  await withSql(urls.owner, (sql) => sql`select ops.take_identity('trial')`);
  const { findings } = await prove(database, serve, proveOptions());
  return findings
    .filter(({ mark }) => mark !== 'declared')
    .map(({ object, detail }) => `row-level security: ${object}: ${detail}`);
}

/**
 * Restores a backup into a server of its own, which has no pg_cron, and compares all that is in it:
 * files, objects, rows, rights, settings, migrations; then the pages and indexes, and that users are
 * kept apart.
 */
export async function verifyBackup({
  backup,
  jobs,
  serve,
  progress,
}: VerifyOptions): Promise<Verdict> {
  const faults: string[] = [];
  const untold: string[] = [];
  await progress.step('files', async (note) => {
    const bytes = new ByteProgress(backup.bytes, note);
    faults.push(...(await faultsOfFiles(backup, (more) => bytes.add(more))));
    if (faults.length > 0) return `${faults.length} of ${backup.manifest.files.length} are wrong`;
    return `${backup.manifest.files.length} files, ${humanBytes(backup.bytes)}, are as they were`;
  });
  // What is damaged is not restored: the first line says where it is.
  if (faults.length > 0) return { faults, untold };

  const preloaded = "shared_preload_libraries = 'pg_stat_statements'";
  const scratch = await startScratch('none', { topic: 'trial', settings: [preloaded] });
  try {
    const url = changeUrl(scratch.superuserUrl, { database: trial });
    await restoreBackup({ backup, url, database: trial, jobs, progress });
    faults.push(...(await compareRows(backup, url, { jobs, progress })));
    await progress.step('objects', async () => {
      const found = await withSuperuser(url, async (sql) => [
        ...(await objectFaults(sql, backup)),
        ...(await jobFaults(sql, backup)),
      ]);
      faults.push(...found);
      return found.length === 0 ? 'are those of the backup' : `${found.length} differ`;
    });
    await progress.step('pages', async () => {
      const found = await withSuperuser(url, checkPages);
      faults.push(...found);
      return found.length === 0 ? 'amcheck finds nothing' : `${found.length} are damaged`;
    });
    // The reason is known by now; a trial of leaks would take longer than all before.
    if (faults.length > 0) return { faults, untold };
    await progress.step('prove', async () => {
      const found = await provedFaults(databaseAt(scratch.superuserUrl, trial), serve);
      if (found === undefined) {
        untold.push('whether users are kept apart: this is no database of Groundwork');
        return 'cannot tell: this is no database of Groundwork';
      }
      faults.push(...found);
      return found.length === 0 ? "nobody reaches another's rows" : `${found.length} leaks`;
    });
  } finally {
    await scratch.stop();
  }
  return { faults, untold };
}

/**
 * Remembers what a trial restore found, beside the backup and in ops.backups. One that failed takes back
 * what an earlier one has said.
 */
export async function remember(
  { folder, manifest }: Backup,
  { faults }: Verdict,
  ownerUrl: string | undefined,
): Promise<void> {
  const at = new Date();
  const file = join(folder, verifiedName);
  const isWell = faults.length === 0;
  if (isWell) writeFileSync(file, JSON.stringify({ at: at.toISOString() }), { mode: 0o600 });
  else rmSync(file, { force: true });
  if (ownerUrl === undefined) return;
  await withEntries(ownerUrl, async (sql) => {
    await sql`
      update ops.backups
      set verified_at = ${isWell ? at : null},
        failure = ${isWell ? null : faults.slice(0, 3).join('; ')}
      where id = ${manifest.id}`;
    const details = { id: manifest.id, faults: faults.length };
    if (isWell) await audit(sql, 'backup.verified', details);
    else await audit(sql, 'backup.failed', details);
  });
}
