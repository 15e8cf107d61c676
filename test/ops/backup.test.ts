import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import { changeUrl, databaseName } from '../../src/postgres/urls.ts';
import type { Manifest } from '../../src/toolkit/backup/manifest.ts';
import { Checkout, type Finished } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const checkout = new Checkout();
const damaged = mkdtempSync(join(tmpdir(), 'gw-damaged-'));
const folder = mkdtempSync(join(tmpdir(), 'gw-backups-'));
let made: { id: string; path: string; bytes: number; rows: number };
let whole = '';

const env = (): NodeJS.ProcessEnv => ({
  DATABASE_URL: db.url('owner'),
  ROOT_DATABASE_URL: db.url('superuser'),
  GW_MONITOR_PASSWORD: new URL(db.url('monitor')).password,
  GW_BACKUP_DIR: folder,
});
const gw = (args: string[], more: NodeJS.ProcessEnv = {}): Promise<Finished> =>
  checkout.run(args, { ...env(), ...more });

const listed = async (
  more: NodeJS.ProcessEnv = {},
): Promise<{ id: string; verifiedAt: string }[]> =>
  JSON.parse((await gw(['backup', 'list', '--json'], more)).stdout).backups;

const inCatalogue = async () => {
  const [row] = await db.as('owner')`select * from ops.backups where id = ${made.id}`;
  return row;
};

/** A copy of the backup, to be damaged. */
function copyOf(name: string): string {
  const copy = join(mkdtempSync(join(damaged, 'copy-')), name);
  spawnSync('cp', ['-a', whole, copy]);
  return copy;
}

beforeAll(async () => {
  const owner = db.as('owner');
  expect((await gw(['seed', '--users', '10'])).code).toBe(0);
  // What the seed has planned is not counted below.
  await owner`delete from app_public.message_logs`;
  await owner`delete from app_private.message_schedule`;
  await planDue(owner, 50);
  await db.as('superuser').unsafe(`alter database ${databaseName(db.url('owner'))}
    set health.backups_warning = '30 hours'`);
  const { code, stdout, stderr } = await gw(['backup', 'create', '--json']);
  expect(code, stderr).toBe(0);
  made = JSON.parse(stdout);
  whole = made.path;
}, patience(60_000));
afterAll(async () => {
  for (const path of [folder, damaged]) rmSync(path, { recursive: true, force: true });
  await checkout.remove();
});

describe('gw backup create', () => {
  test('lists what it made, and enters it into ops.backups', async () => {
    expect(await listed()).toMatchObject([{ id: made.id, verifiedAt: null }]);
    expect(await inCatalogue()).toMatchObject({ kind: 'logical', location: whole });
    expect((await gw(['check', 'backups'])).stdout).toContain('no backup was ever restored');
  });

  test('says what is in it, and only its owner may read it', () => {
    const manifest = JSON.parse(readFileSync(join(whole, 'manifest.json'), 'utf8')) as Manifest;
    expect(manifest.migrations.length).toBeGreaterThan(30);
    const logs = manifest.tables.filter(({ name }) => /message_logs_p/.test(name));
    expect(logs.reduce((sum, { rows }) => sum + rows, 0)).toBe(50);
    expect(manifest.files.map(({ path }) => path)).toEqual(
      expect.arrayContaining(['roles.sql', 'catalogue.json', 'dump/toc.dat']),
    );
    for (const name of ['', 'manifest.json', 'roles.sql', 'catalogue.json']) {
      expect(statSync(join(whole, name)).mode & 0o077, name).toBe(0);
    }
    const text = readFileSync(join(whole, 'roles.sql'), 'utf8');
    expect(text).toContain('CREATE ROLE gw_owner');
    expect(text).not.toMatch(/PASSWORD/i);
  });

  test('refuses a role that does not see every row', async () => {
    const refused = await gw(['backup', 'create', '--url', db.url('owner')]);
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('may not read') });
    expect(await listed()).toHaveLength(1);
  });

  test(
    'that is killed leaves nothing that is listed, and the next one clears up',
    async () => {
      const own = mkdtempSync(join(tmpdir(), 'gw-killed-'));
      const elsewhere = { GW_BACKUP_DIR: own };
      const hold = db.as('superuser').begin(async (sql) => {
        // pg_dump waits for it.
        await sql`lock table app_public.tasks in access exclusive mode`;
        const child = checkout.start(['backup', 'create'], { ...env(), ...elsewhere });
        await eventually(async () => readdirSync(own).length > 0);
        child.kill('SIGKILL');
        await new Promise((resolve) => child.once('exit', resolve));
      });
      await hold;
      expect(readdirSync(own)).toEqual([expect.stringMatching(/^\.partial-/)]);
      expect(await listed(elsewhere)).toEqual([]);
      expect((await gw(['backup', 'create'], elsewhere)).code).toBe(0);
      expect(readdirSync(own)).toEqual([expect.stringMatching(/^\d{8}T/)]);
      rmSync(own, { recursive: true });
    },
    patience(60_000),
  );

  test.runIf(process.getuid?.() === 0)(
    'says that the disk is full, and leaves nothing',
    async () => {
      const small = mkdtempSync(join(tmpdir(), 'gw-small-'));
      expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=100k', 'tmpfs', small]).status).toBe(0);
      try {
        const full = await gw(['backup', 'create'], { GW_BACKUP_DIR: small });
        expect(full).toMatchObject({ code: 1, stderr: expect.stringMatching(/No space left/) });
        expect(full.stderr).not.toMatch(/^\s+at /m);
        expect(readdirSync(small)).toEqual([]);
      } finally {
        spawnSync('umount', [small]);
        rmSync(small, { recursive: true });
      }
    },
    patience(30_000),
  );
});

describe('gw backup verify', () => {
  const damaged: [string, (copy: string) => void, RegExp][] = [
    [
      'a file that is cut off',
      (copy) => truncateSync(join(copy, 'dump', 'toc.dat'), 1_000),
      /dump\/toc\.dat has 1000 bytes, not \d+/,
    ],
    [
      'a bit that flipped',
      (copy) => {
        const path = join(copy, 'catalogue.json');
        const bytes = readFileSync(path);
        bytes[1_000] = (bytes[1_000] ?? 0) ^ 1;
        writeFileSync(path, bytes);
      },
      /catalogue\.json was altered/,
    ],
    ['a file that is gone', (copy) => rmSync(join(copy, 'roles.sql')), /roles\.sql is missing/],
    [
      'a manifest that is no JSON',
      (copy) => writeFileSync(join(copy, 'manifest.json'), '{"format":1'),
      /manifest\.json is damaged/,
    ],
  ];
  test.each(damaged)('names %s', async (_what, damage, fault) => {
    const copy = copyOf('copy');
    damage(copy);
    const { code, stdout, stderr } = await gw(['backup', 'verify', copy]);
    expect(code).toBe(1);
    expect(stdout + stderr).toMatch(fault);
    expect(existsSync(join(copy, 'verified.json'))).toBe(false);
    rmSync(copy, { recursive: true });
    // The copy has the id of the backup itself, which is well.
    await db.as('owner')`update ops.backups set failure = null`;
  });

  test(
    'that is killed says nothing of the backup, and leaves no server to the next one',
    async () => {
      const child = checkout.start(['backup', 'verify'], env());
      await eventually(async () => /restore|roles/.test(child.output()));
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
      expect(existsSync(join(whole, 'verified.json'))).toBe(false);
      // Whoever makes the next scratch server removes what is left of this one.
      expect((await gw(['backup', 'verify', 'latest', '--json'])).code).toBe(0);
      const left = spawnSync('pgrep', ['-fc', `scratch-${child.pid}-trial`], { encoding: 'utf8' });
      expect(left.stdout.trim()).toBe('0');
      rmSync(join(whole, 'verified.json'));
      await db.as('owner')`update ops.backups set verified_at = null`;
    },
    patience(120_000),
  );

  test(
    'restores it, compares all of it, and only then calls it verified; a failure takes that back',
    async () => {
      const well = await gw(['backup', 'verify', '--json']);
      expect(well.code, well.stdout + well.stderr).toBe(0);
      expect(JSON.parse(well.stdout)).toMatchObject({ id: made.id, faults: [], untold: [] });
      expect(await listed()).toMatchObject([{ verifiedAt: expect.any(String) }]);
      expect((await inCatalogue())?.verified_at).toBeInstanceOf(Date);

      // Other rows, another owner: as if the restore had lost something.
      const manifest = JSON.parse(readFileSync(join(whole, 'manifest.json'), 'utf8')) as Manifest;
      const table = manifest.tables.find(({ name }) => name === 'app_public.users');
      if (table === undefined) throw new Error('no users');
      const before = join(folder, '..', `gw-manifest-${process.pid}`);
      copyFileSync(join(whole, 'manifest.json'), before);
      table.hash = String(BigInt(table.hash) + 1n);
      writeFileSync(join(whole, 'manifest.json'), JSON.stringify(manifest));
      const failed = await gw(['backup', 'verify', 'latest']);
      expect(failed).toMatchObject({
        code: 1,
        stdout: expect.stringContaining('table app_public.users has other rows'),
      });
      expect(await inCatalogue()).toMatchObject({
        verified_at: null,
        failure: 'table app_public.users has other rows',
      });
      expect((await gw(['check', 'backups'])).stdout).toContain('critical');
      copyFileSync(before, join(whole, 'manifest.json'));
      rmSync(before);
    },
    patience(120_000),
  );
});

describe('gw restore', () => {
  const restored = () => `${databaseName(db.url('owner'))}_restored`;
  afterAll(() =>
    withSql(inject('superuserUrl'), (sql) =>
      sql.unsafe(`drop database if exists ${restored()} with (force)`),
    ),
  );

  test(
    'makes a database that is whole, fenced, and only read; it never overwrites unasked',
    async () => {
      const first = await gw(['restore', 'latest', '--json']);
      expect(first.code, first.stderr).toBe(0);
      const url = changeUrl(db.url('owner'), { database: restored() });
      await withSql(url, async (sql) => {
        const [row] = await sql`select ops.fence_reason() as reason,
          current_setting('search_path') as path,
          current_setting('health.backups_warning') as setting,
          (select count(*)::integer from app_public.message_logs) as logs,
          has_database_privilege('gw_worker', current_database(), 'connect') as worker,
          (select datdba::regrole::text from pg_database
            where datname = current_database()) as owner`;
        expect(row).toMatchObject({
          reason: expect.stringMatching(/another database of the same server/),
          path: expect.stringMatching(/^app_public, /),
          setting: '30 hours',
          logs: 50,
          worker: true,
          owner: 'gw_owner',
        });
        await sql`delete from app_public.message_logs`;
      });

      const refused = await gw(['restore', 'latest', '--yes']);
      expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('--replace') });
      const rehearsed = await gw(['restore', 'latest', '--replace', '--dry-run']);
      expect(rehearsed.stdout).toMatch(/^would back up, and then replace/);
      expect(await listed()).toHaveLength(1);

      const replaced = await gw(['restore', made.id.slice(0, 8), '--replace', '--yes', '--json']);
      expect(replaced.code, replaced.stderr).toBe(0);
      const [row] = await withSql(
        url,
        (sql) => sql`select count(*)::integer as logs
        from app_public.message_logs`,
      );
      expect(row?.logs).toBe(50);
      // What was there before can be had back.
      expect(await listed()).toHaveLength(2);
      const { replaced: before } = JSON.parse(replaced.stdout) as { replaced: string };
      const manifest = JSON.parse(readFileSync(join(before, 'manifest.json'), 'utf8')) as Manifest;
      expect(manifest.database).toBe(restored());
      rmSync(before, { recursive: true });
    },
    patience(120_000),
  );

  test(
    'that is killed leaves nothing under the name, and the next one clears up',
    async () => {
      const name = `${restored()}_killed`;
      const databases = async () => {
        const rows = await withSql(
          inject('superuserUrl'),
          (sql) => sql<{ datname: string }[]>`
          select datname from pg_database where starts_with(datname, ${name})`,
        );
        return rows.map(({ datname }) => datname);
      };
      const child = checkout.start(['restore', 'latest', '--database', name], env());
      await eventually(async () => (await databases()).length > 0);
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
      expect(await databases()).toEqual([`${name}_restoring_${child.pid}`]);
      await eventually(async () => {
        const [row] = await withSql(
          inject('superuserUrl'),
          (sql) => sql`
          select count(*)::integer as sessions from pg_stat_activity
          where datname = ${`${name}_restoring_${child.pid}`}`,
        );
        return row?.sessions === 0;
      });
      const again = await gw(['restore', 'latest', '--database', name]);
      expect(again.code, again.stderr).toBe(0);
      expect(await databases()).toEqual([name]);
      await withSql(inject('superuserUrl'), (sql) => sql.unsafe(`drop database ${name}`));
    },
    patience(60_000),
  );

  test(
    'that fails leaves no database',
    async () => {
      const copy = copyOf('cut');
      const [data] = readdirSync(join(copy, 'dump')).filter((name) => name !== 'toc.dat');
      truncateSync(join(copy, 'dump', data ?? ''), 1);
      const failed = await gw(['restore', copy, '--database', `${restored()}_cut`]);
      expect(failed).toMatchObject({ code: 1, stderr: expect.stringMatching(/^error: /m) });
      const rows = await withSql(
        inject('superuserUrl'),
        (sql) => sql`
        select from pg_database where datname = ${`${restored()}_cut`}`,
      );
      expect(rows).toEqual([]);
      rmSync(copy, { recursive: true });
    },
    patience(60_000),
  );
});

describe('gw backup prune', () => {
  test(
    'keeps what it is told, the newest, the newest that was tried, and pinned ones',
    async () => {
      const own = mkdtempSync(join(tmpdir(), 'gw-prune-'));
      const manifest = JSON.parse(readFileSync(join(whole, 'manifest.json'), 'utf8')) as Manifest;
      // A leap day, a week over new year, and two in one day.
      const days = [
        '2024-02-29',
        '2025-12-29',
        '2025-12-31',
        '2026-01-01',
        '2026-01-01',
        '2026-01-02',
      ];
      for (const [at, day] of days.entries()) {
        const path = join(own, `2026010${at}`);
        mkdirSync(path);
        const startedAt = `${day}T0${at}:00:00.000Z`;
        const id = String(at) + randomUUID().slice(1);
        writeFileSync(join(path, 'manifest.json'), JSON.stringify({ ...manifest, id, startedAt }));
      }
      writeFileSync(join(own, '20260101', 'verified.json'), '{"at":"2025-12-30T00:00:00Z"}');
      const elsewhere = { GW_BACKUP_DIR: own };
      expect((await gw(['backup', 'pin', '0', '--reason', 'a leap day'], elsewhere)).code).toBe(0);
      const keep = ['--keep-daily', '2', '--keep-weekly', '1', '--keep-monthly', '0'];
      const rehearsed = await gw(['backup', 'prune', ...keep, '--dry-run', '--json'], elsewhere);
      const left = (JSON.parse(rehearsed.stdout).backups as { id: string; reasons: string[] }[])
        .filter(({ reasons }) => reasons.length > 0)
        .map(({ id, reasons }) => `${id[0]}: ${reasons.join(', ')}`);
      expect(left).toEqual([
        '0: pinned: a leap day',
        '1: newest that was restored for a trial',
        '4: newest of the day 2026-01-01',
        '5: newest of the day 2026-01-02, newest of the week 2025-12-29, newest of all',
      ]);
      expect(readdirSync(own)).toHaveLength(6);
      expect(await gw(['backup', 'prune', ...keep], elsewhere)).toMatchObject({ code: 2 });
      expect((await gw(['backup', 'prune', ...keep, '--yes'], elsewhere)).stdout).toBe(
        '2 deleted\n',
      );
      expect((await listed(elsewhere)).map(({ id }) => id[0])).toEqual(['0', '1', '4', '5']);
      expect((await gw(['backup', 'unpin', '0'], elsewhere)).code).toBe(0);
      await gw(['backup', 'prune', ...keep, '--yes'], elsewhere);
      expect(readdirSync(own)).toHaveLength(3);
      rmSync(own, { recursive: true });
    },
    patience(60_000),
  );
});
