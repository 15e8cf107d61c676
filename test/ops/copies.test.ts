import { execFile } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { changeUrl, type Database } from '../../src/postgres/urls.ts';
import { bootstrapDatabase } from '../../src/server/bootstrap.ts';
import {
  type Cluster,
  dataDirectory,
  removeCluster,
  scratchHome,
  startCluster,
  stopCluster,
} from '../../src/server/cluster.ts';
import { randomPort } from '../../src/server/ports.ts';
import { requireBinaries, type Scratch, startScratch } from '../../src/server/scratch.ts';
import { planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { declareStandby, startStandby } from '../helpers/standby.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * Copies as people make them, with PostgreSQL's own tools and without any command of ours.
 */
const name = 'gw_original';
const run = promisify(execFile);

let original: Scratch;
let database: Database;
let bin = '';

const reasonAt = async (url: string): Promise<string | null> => {
  const [row] = await withSql(
    url,
    (sql) => sql<{ reason: string | null }[]>`select ops.fence_reason() as reason`,
  );
  return row?.reason ?? null;
};

const atPort = (url: string, port: number): string => {
  const there = new URL(url);
  there.port = String(port);
  return there.href;
};

beforeAll(async () => {
  bin = await requireBinaries();
  original = await startScratch(name, {
    topic: 'original',
    settings: ['synchronous_commit = on', 'full_page_writes = on'],
  });
  database = await createMigrated(original.superuserUrl, name);
  await withSql(database.urls.owner, async (sql) => {
    await planDue(sql, 10);
  });
}, patience(60_000));
afterAll(() => original?.stop());

test('the original is not fenced', async () => {
  expect(await reasonAt(database.urls.owner)).toBeNull();
});

describe('restored by hand from a dump', () => {
  test(
    'it is fenced from the first row on, and pg_cron, which is there, does nothing',
    async () => {
      const other = await startScratch(name, { topic: 'other' });
      try {
        const superuser = changeUrl(other.superuserUrl, { database: name });
        await withSql(other.superuserUrl, (sql) => sql.unsafe(`create database ${name}`));
        await bootstrapDatabase(superuser);
        const file = join('/tmp', `gw-${process.pid}.dump`);
        await run(join(bin, 'pg_dump'), ['-Fc', '-f', file, database.urls.superuser ?? '']);
        const parts = ['pre-data', 'data', 'post-data'];
        for (const part of parts) {
          // It says what is there already: pg_cron.
          await run(join(bin, 'pg_restore'), ['-d', superuser, `--section=${part}`, file]).catch(
            () => {},
          );
          expect(await reasonAt(superuser)).toMatch(
            part === 'pre-data' ? /being restored/ : /another server/,
          );
        }
        rmSync(file);
        await withSql(superuser, async (sql) => {
          const jobs = await sql<{ command: string }[]>`select command from cron.job where active`;
          expect(jobs.length).toBeGreaterThan(10);
          expect(jobs.filter(({ command }) => !command.includes('not ops.is_fenced()'))).toEqual(
            [],
          );
          // A full minute of pg_cron's own time.
          await sql`update cron.job set schedule = '* * * * *' where jobname ~ 'plan|requeue'`;
          await eventually(async () => {
            const ran = await sql`select from cron.job_run_details where status = 'succeeded'`;
            return ran.length > 0;
          }, 90_000);
          const [left] = await sql`select
            (select count(*)::integer from app_public.message_logs) as logged,
            (select count(*)::integer from pgboss.job where name = 'message-send') as jobs`;
          expect(left).toEqual({ logged: 10, jobs: 10 });
          expect(await sql`select * from app_private.take_send_jobs(10, 1)`).toEqual([]);
        });
      } finally {
        await other.stop();
      }
    },
    patience(150_000),
  );
});

test(
  'a copy of the files is fenced, also on the same machine',
  async () => {
    const cluster: Cluster = { bin, home: scratchHome(`scratch-${process.pid}-files`) };
    removeCluster(cluster);
    try {
      mkdirSync(cluster.home, { recursive: true, mode: 0o700 });
      const target = ['-D', dataDirectory(cluster), '-X', 'fetch', '-c', 'fast'];
      await run(join(bin, 'pg_basebackup'), [...target, '-d', original.superuserUrl]);
      if (process.getuid?.() === 0) await run('chown', ['-R', 'postgres:', cluster.home]);
      const port = await randomPort();
      await startCluster(cluster, port);
      expect(await reasonAt(atPort(database.urls.owner, port))).toMatch(
        /^its files are in .*files/,
      );
      // Put into the place of the original, it is known by the age of its files.
      await withSql(atPort(database.urls.owner, port), async (sql) => {
        await sql`update ops.identity set data_directory = current_setting('data_directory')`;
      });
      expect(await reasonAt(atPort(database.urls.owner, port))).toMatch(/were put here at/);
    } finally {
      await stopCluster(cluster);
      removeCluster(cluster);
    }
  },
  patience(60_000),
);

test.each([
  ['one that is declared goes on', true],
  ['another is fenced', false],
])(
  'a standby that is promoted: %s',
  async (_what, isDeclared) => {
    const standby = await startStandby(original.superuserUrl, 'standby');
    try {
      if (isDeclared) await declareStandby(database.urls.owner, standby);
      else await withSql(database.urls.owner, (sql) => sql`delete from ops.standbys`);
      const there = atPort(database.urls.owner, standby.port);
      const [position] = await withSql(
        original.superuserUrl,
        (sql) => sql<{ lsn: string }[]>`select pg_current_wal_lsn()::text as lsn`,
      );
      await eventually(async () => {
        const [row] = await withSql(
          there,
          (sql) => sql`select pg_last_wal_replay_lsn() >= ${position?.lsn ?? ''}::pg_lsn as here`,
        );
        return row?.here === true;
      });
      expect(await reasonAt(there)).toBeNull();
      await standby.promote();
      const reason = await reasonAt(there);
      if (isDeclared) expect(reason).toBeNull();
      else expect(reason).toMatch(/^its files are in .*standby/);
    } finally {
      await standby.stop();
    }
  },
  patience(60_000),
);
