import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { type Machine, settingsFor } from '../../src/server/tuning.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

const gb = 1024 ** 3;

function settingsOf(machine: Partial<Machine>): Record<string, string> {
  const whole = { ram: 16 * gb, cores: 4, database: gb, connections: 100, ...machine };
  return Object.fromEntries(settingsFor(whole).map(({ name, value }) => [name, value]));
}

describe('what a machine gets', () => {
  test('is a quarter of its memory for shared buffers, and work_mem for every connection', () => {
    expect(settingsOf({})).toMatchObject({
      shared_buffers: '4096MB',
      effective_cache_size: '12288MB',
      work_mem: '30MB',
      maintenance_work_mem: '1024MB',
    });
    expect(settingsOf({ connections: 1_000 })).toMatchObject({ work_mem: '4MB' });
  });

  test('fits into half a gigabyte, and is bounded on a large machine', () => {
    expect(settingsOf({ ram: gb / 2, cores: 1 })).toMatchObject({
      shared_buffers: '128MB',
      work_mem: '4MB',
      maintenance_work_mem: '64MB',
      max_parallel_workers_per_gather: '0',
      autovacuum_max_workers: '3',
    });
    expect(settingsOf({ ram: 512 * gb, cores: 64 })).toMatchObject({
      work_mem: '64MB',
      maintenance_work_mem: '2048MB',
      max_worker_processes: '80',
      max_parallel_workers: '64',
      max_parallel_workers_per_gather: '4',
      autovacuum_max_workers: '8',
    });
  });

  test('has room for the log as the database grows, and locks for its partitions', () => {
    expect(settingsOf({ database: 40 * gb, relations: 8_000 })).toMatchObject({
      max_wal_size: '10240MB',
      max_slot_wal_keep_size: '20480MB',
      max_locks_per_transaction: '512',
    });
    expect(settingsOf({ database: 0 })).toMatchObject({
      max_wal_size: '4096MB',
      max_slot_wal_keep_size: '4096MB',
      max_locks_per_transaction: '128',
    });
  });
});

describe('gw tune', () => {
  const checkout = new Checkout();
  let superuser: Sql;

  async function start(): Promise<void> {
    const { code, stderr } = await checkout.run(['db', 'start']);
    expect(code, stderr).toBe(0);
    const url = await checkout.run(['db', 'url', '--role', 'superuser']);
    superuser = connect(url.stdout.trim(), { max: 1 });
  }

  async function restart(): Promise<void> {
    await superuser.end();
    expect((await checkout.run(['db', 'stop'])).code).toBe(0);
    await start();
  }

  beforeAll(start, patience(60_000));

  /** Takes back what the test before has written. */
  beforeEach(async () => {
    await superuser`alter system reset all`;
    await superuser`select pg_reload_conf()`;
    const [row] = await superuser`select current_setting('shared_buffers') = '4MB' as is_small`;
    if (row?.is_small) await restart();
  }, patience(60_000));

  afterAll(async () => {
    await superuser?.end({ timeout: 1 });
    await checkout.remove();
  }, patience(60_000));

  test('finds nothing to change in a cluster that has started on its machine', async () => {
    const { code, stdout, stderr } = await checkout.run(['tune']);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^nothing to change for [\d.]+ GB of memory, \d+ cores\n$/);
    const [row] = await superuser`
      select current_setting('data_directory') as data,
        bool_or(name = 'shared_buffers' and applied) as applied
      from pg_file_settings where sourcefile like '%machine.conf'`;
    expect(row?.applied).toBe(true);
    expect(readFileSync(join(row?.data, 'machine.conf'), 'utf8')).toMatch(
      /^shared_buffers = \d+MB {2}# a quarter of the memory/m,
    );
  });

  test('writes what another machine needs, and says what waits for a restart', async () => {
    const args = ['tune', '--ram', '512GB', '--cores', '64'];
    const shown = await checkout.run(args);
    expect(shown.stdout).toMatch(/shared_buffers .* 131072MB .*a quarter/);
    expect(shown.stdout).toContain('nothing is written; do so with --write');
    const unasked = await checkout.run([...args, '--write']);
    expect(unasked.code).toBe(2);
    expect(unasked.stderr).toContain('There is no terminal to ask at');
    const [before] = await superuser`select current_setting('work_mem') as memory`;

    const { code, stdout, stderr } = await checkout.run([...args, '--write', '--yes', '--json']);
    expect(code, stderr).toBe(0);
    const said = JSON.parse(stdout);
    expect(said).toMatchObject({ ram: 512 * gb, cores: 64, written: true });
    expect(said.settings).toContainEqual(
      expect.objectContaining({ name: 'shared_buffers', value: '131072MB', needsRestart: true }),
    );
    const [after] = await superuser`
      select current_setting('work_mem') as memory,
        (select setting from pg_file_settings
         where name = 'shared_buffers' order by seqno desc limit 1) as next`;
    expect(after).toEqual({ memory: '64MB', next: '131072MB' });
    expect(before?.memory).not.toBe('64MB');
    const again = await checkout.run(args);
    expect(again.stdout).toMatch(/shared_buffers +\d+MB \(restart pending\)/);
    expect(again.stdout).not.toContain('work_mem ');
    const [logged] = await superuser`
      select details from ops.audit_log where action = 'server.tuned'`.catch(() => []);
    expect(logged).toBeUndefined();
  });

  test('the check says when the server has far too little', {
    timeout: patience(60_000),
  }, async () => {
    const settings = async () =>
      JSON.parse((await checkout.run(['check', 'settings', '--json'])).stdout).findings.filter(
        ({ detail }: { detail: string }) => detail.includes('of the databases'),
      );
    await superuser`alter system set shared_buffers = '4MB'`;
    await superuser`create table filler as
      select repeat(md5(n::text), 60) as text from generate_series(1, 60000) as n`;
    await restart();
    expect(await settings()).toEqual([
      expect.objectContaining({
        level: 'warning',
        object: 'shared_buffers',
        detail: expect.stringMatching(/^is 4096 kB, [\d.]+ % of the databases \(1\d\d MB\)$/),
        remediation: 'gw tune',
      }),
    ]);
    await superuser`drop table filler`;
    expect(await settings()).toEqual([]);
  });

  test.each([
    [['--ram', '16'], 'At least 256MB, such as 16GB.'],
    [['--ram', '1MB'], 'At least 256MB, such as 16GB.'],
    [['--cores', '0'], 'A number of cores, such as 4.'],
  ])('refuses %j', async (args, message) => {
    const { code, stderr } = await checkout.run(['tune', ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
  });
});
