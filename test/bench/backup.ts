import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { seed } from '../../src/migrations/seed.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { requireBinaries, startScratch } from '../../src/server/scratch.ts';
import { Progress } from '../../src/terminal/progress.ts';
import { createBackup } from '../../src/toolkit/backup/create.ts';
import { dropDatabase, restoreBackup } from '../../src/toolkit/backup/restore.ts';

/*
 * A dump and its restore by gw backup and gw restore, against pg_dump and pg_restore with the same
 * flags. gw counts and hashes every row beside, and has the files on the disk before it says so.
 * GW_BENCH_USERS makes the size: 4,000 demo users are 100 MB.
 */
const users = Number(process.env.GW_BENCH_USERS ?? 4_000);
const repetitions = 3;
const name = 'gw_bench_backup';
const execute = promisify(execFile);

const median = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

async function time(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1_000;
}

export async function run(): Promise<void> {
  const bin = await requireBinaries();
  const jobs = Math.min(availableParallelism(), 4);
  const scratch = await startScratch('none', { topic: 'bench' });
  const folder = mkdtempSync(join(tmpdir(), 'gw-bench-'));
  const progress = new Progress(true);
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, name);
    const url = urls.superuser ?? '';
    await seed(urls.owner, users);
    const [size] = await withSql(
      urls.owner,
      (sql) => sql`select pg_size_pretty(pg_database_size(current_database())) as text`,
    );
    const figures = {
      dump: [] as number[],
      create: [] as number[],
      bare: [] as number[],
      restore: [] as number[],
    };
    for (let n = 0; n < repetitions; n += 1) {
      const plain = join(folder, `plain-${n}`);
      const dump = ['-Fd', '-j', String(jobs), '-Z', '1', '-f', plain, '-d', url];
      figures.dump.push(await time(() => execute(join(bin, 'pg_dump'), dump)));
      let backup: Awaited<ReturnType<typeof createBackup>> | undefined;
      figures.create.push(
        await time(async () => {
          backup = await createBackup({ url, directory: join(folder, 'backups'), jobs, progress });
        }),
      );
      await withSql(scratch.superuserUrl, (sql) => sql`create database bare`);
      const target = new URL(url);
      target.pathname = '/bare';
      // It ends with 1: amid what it makes, something is there already.
      const restore = ['-j', String(jobs), '-d', target.href, plain];
      figures.bare.push(
        await time(() => execute(join(bin, 'pg_restore'), restore).catch(() => {})),
      );
      await dropDatabase(url, 'bare');
      if (backup === undefined) return;
      const made = { backup, url, database: 'restored', jobs, progress };
      figures.restore.push(await time(() => restoreBackup(made)));
      await dropDatabase(url, 'restored');
    }
    const [dump, create] = [median(figures.dump), median(figures.create)];
    const [bare, restore] = [median(figures.bare), median(figures.restore)];
    process.stdout.write(
      `database                 ${size?.text}, ${jobs} jobs\n` +
        `pg_dump                  ${dump.toFixed(2)} s\n` +
        `gw backup create         ${create.toFixed(2)} s, ${(create / dump).toFixed(2)} times as long\n` +
        `pg_restore               ${bare.toFixed(2)} s\n` +
        `gw restore               ${restore.toFixed(2)} s, ${(restore / bare).toFixed(2)} times as long\n`,
    );
  } finally {
    await scratch.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
