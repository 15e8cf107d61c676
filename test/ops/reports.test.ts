import { beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest';
import { seed } from '../../src/migrations/seed.ts';
import type { Sql } from '../../src/postgres/connect.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { type Row, row, useReports } from '../helpers/reports.ts';
import { followWithoutReplay } from '../helpers/standby.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const { rows, rowsAfter, rowsIn } = useReports(db);

beforeAll(async () => {
  await seed(db.url('owner'), 20);
  await db.as('owner').unsafe(`
    create table ops.scanned (id int, v int, filler text) with (autovacuum_enabled = false,
      autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0);
    insert into ops.scanned select n, n % 10, repeat('x', 200)
      from generate_series(1, 20000) as n;
    create index scanned_id_idx on ops.scanned (id);
    create index scanned_v_idx on ops.scanned (v);
    delete from ops.scanned where id > 1000;
    analyze ops.scanned;
    set enable_seqscan = off;
    select filler from ops.scanned where id = 1;
    reset enable_seqscan;
    set enable_indexscan = off;
    set enable_bitmapscan = off;
    select count(*) from ops.scanned where v = 1 and filler <> '';
  `);
});

describe('a report on tables', () => {
  const scanned = { table_name: 'ops.scanned' };

  test('table-sizes has a partitioned table as one, and not its partitions', async () => {
    const found = await rows('table-sizes', { limit: '1000' });
    expect(found).toContainEqual(row({ table_name: 'app_public.tasks' }));
    expect(found.filter(({ table_name }) => String(table_name).startsWith('app_part'))).toEqual([]);
    const tasks = found.find(({ table_name }) => table_name === 'app_public.tasks') as Row;
    expect(Number(tasks.heap_bytes)).toBeGreaterThan(4 * 8192);
    expect(found.reduce((sum, { share }) => sum + Number(share), 0)).toBeCloseTo(1, 3);
  });

  test('index-sizes, index-stats and unused-indexes tell a used index from an idle one', async () => {
    const used = { index_name: 'ops.scanned_id_idx', table_name: 'ops.scanned' };
    const idle = { index_name: 'ops.scanned_v_idx', table_name: 'ops.scanned', scans: 0 };
    const stats = () => rows('index-stats', { limit: '1000' });
    await eventually(async () =>
      (await stats()).some((each) => each.index_name === used.index_name && Number(each.scans) > 0),
    );
    expect(await stats()).toContainEqual(row(idle));
    expect(await rows('index-sizes', { limit: '2' })).toContainEqual(
      row({ index_name: used.index_name, method: 'btree' }),
    );
    const unused = await rows('unused-indexes', { min_bytes: '16384' });
    expect(unused).toContainEqual(row({ index_name: idle.index_name, table_writes: 39_000 }));
    expect(unused).not.toContainEqual(row({ index_name: used.index_name }));
  });

  test('sequential-scans, index-usage and table-stats count how it was read', async () => {
    await eventually(async () =>
      (await rows('table-stats', { limit: '1000' })).some(
        (each) => each.table_name === 'ops.scanned' && each.deleted === 19_000,
      ),
    );
    const [scan] = (await rows('sequential-scans', { limit: '1000' })).filter(
      (each) => each.table_name === 'ops.scanned',
    );
    expect(Number(scan?.sequential_scans)).toBeGreaterThanOrEqual(2);
    expect(await rows('index-usage', { limit: '1000' })).toContainEqual(
      row({ ...scanned, index_ratio: expect.any(Number), rows: 1000 }),
    );
    expect(await rows('table-stats', { limit: '1000' })).toContainEqual(
      row({ ...scanned, inserted: 20_000, deleted: 19_000, live_rows: 1000 }),
    );
  });

  test('autovacuum shows a table past its threshold', async () => {
    await eventually(async () => (await rows('autovacuum'))[0]?.dead_rows === 19_000);
    expect((await rows('autovacuum', { limit: '1' }))[0]).toMatchObject({
      ...scanned,
      threshold_rows: 10,
      share: 1900,
    });
  });

  test('bloat and index-bloat find what a deletion left', async () => {
    const [table] = (await rows('bloat')).filter((each) => each.table_name === 'ops.scanned');
    expect(Number(table?.wasted_share)).toBeGreaterThan(0.9);
    expect(Number(table?.wasted_share)).toBeLessThan(1);
    const [index] = (await rows('index-bloat', { min_bytes: '100000' })).filter(
      (each) => each.index_name === 'ops.scanned_id_idx',
    );
    expect(Number(index?.wasted_share)).toBeGreaterThan(0.8);
  });

  test('bloat works where nobody has made ops.column_widths(), and says little of a full table', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`drop function ops.column_widths()`;
      await sql.unsafe(`create table ops.brimful (id int, filler text);
        insert into ops.brimful select n, repeat('x', n % 300) from generate_series(1, 20000) as n;
        create index brimful_idx on ops.brimful (id);
        analyze ops.brimful;`);
      await sql`set local search_path = pg_catalog`;
      const full = (await rowsIn(sql, 'bloat', { min_bytes: '-999999999', limit: '1000' })).find(
        (each) => each.table_name === 'ops.brimful',
      );
      expect(Math.abs(Number(full?.wasted_share))).toBeLessThan(0.1);
      const index = (
        await rowsIn(sql, 'index-bloat', { min_bytes: '-999999999', limit: '1000' })
      ).find((each) => each.index_name === 'ops.brimful_idx');
      expect(Math.abs(Number(index?.wasted_share))).toBeLessThan(0.15);
    });
  });

  test('partition-sizes and partition-coverage know every partition', async () => {
    const found = await rows('partition-sizes', { parent: '^app_public.tasks$' });
    expect(found).toHaveLength(16);
    expect(found[0]).toMatchObject({
      parent_name: 'app_public.tasks',
      bounds: expect.stringContaining('modulus 16'),
    });
    const [coverage] = (await rows('partition-coverage')).filter(
      (each) => each.parent_name === 'app_public.message_logs',
    );
    // Twelve months ahead, this one, and those of the demo's past messages.
    expect(Number(coverage?.partitions)).toBeGreaterThan(13);
    expect(coverage?.default_rows).toBe(0);
    expect(Number(coverage?.ahead_seconds)).toBeGreaterThan(300 * 86_400);
  });

  test('cache-hit begins with all tables', async () => {
    const [all] = await rows('cache-hit');
    expect(all?.table_name).toBe('(all)');
    expect(Number(all?.heap_hit_ratio)).toBeGreaterThan(0.1);
  });

  test('wraparound and database-stats have this database', async () => {
    const kinds = (await rows('wraparound')).map(({ kind }) => kind);
    expect(new Set(kinds)).toEqual(new Set(['database', 'table']));
    const name = new URL(db.url('monitor')).pathname.slice(1);
    const [own] = (await rows('database-stats')).filter((each) => each.database_name === name);
    expect(Number(own?.database_bytes)).toBeGreaterThan(8_000_000);
  });

  test('policies shows a table whose row-level security is off', async () => {
    const found = await rowsAfter(
      'alter table app_public.habits disable row level security',
      'policies',
      { schema: 'app_public' },
    );
    expect(found).toContainEqual(row({ table_name: 'app_public.habits', is_enabled: false }));
    expect(found).toContainEqual(
      row({ table_name: 'app_public.goals', is_enabled: true, roles: 'app_user' }),
    );
  });
});

describe('a report on activity', () => {
  test('slow-queries finds a slow statement', async () => {
    const owner = db.as('owner');
    // All tests share the 5,000 statements of this server: one may be gone before it is read.
    const { found, asleep } = await eventually(async () => {
      await owner`select pg_sleep(0.2), 'a slow query'`;
      // Other statements of this database may be slower on a busy machine: all are listed.
      const all = await rows('slow-queries', { order: 'mean', limit: '10000' });
      const slow = all.find(({ query }) => String(query).includes('pg_sleep'));
      return slow && { found: all, asleep: slow };
    });
    const means = found.map(({ mean_seconds }) => Number(mean_seconds));
    expect(means).toEqual(means.toSorted((one, other) => other - one));
    expect(Number(asleep.mean_seconds)).toBeGreaterThan(0.1);
    expect((await rows('slow-queries', { order: 'mean', limit: '1' })).length).toBe(1);
    expect((await rows('slow-queries', { min_calls: '1000000000' })).length).toBe(0);
  });

  test('long-running-queries, locks, blocking and connections show a session that is blocked', async () => {
    const holder = await db.as('owner', 1).reserve();
    const waiter = await db.as('superuser', 1).reserve();
    await holder`begin`;
    // However this ends: others wait for it, too.
    onTestFinished(async () => {
      await holder`rollback`;
      holder.release();
      waiter.release();
    });
    await holder`lock table ops.scanned`;
    const waiting = waiter`select count(filler) from ops.scanned`.then(() => {});
    // Sessions of other databases wait for something as well.
    const wants = 'AccessShareLock on ops.scanned';
    const blocked = await eventually(async () =>
      (await rows('blocking')).find((each) => each.wants === wants),
    );
    expect(blocked).toMatchObject({
      blocked_role: 'postgres',
      blocking_role: 'gw_owner',
      blocking_state: 'idle in transaction',
      blocking_query: expect.stringContaining('lock table'),
    });
    const held = await rows('locks');
    const object = 'ops.scanned';
    expect(held).toContainEqual(row({ object, mode: 'AccessExclusiveLock', is_granted: true }));
    expect(held).toContainEqual(row({ object, is_granted: false }));
    // What waits comes first.
    const granted = held.map(({ is_granted }) => Number(is_granted));
    expect(granted).toEqual(granted.toSorted());
    const long = await rows('long-running-queries', { min_seconds: '0' });
    expect(long).toContainEqual(row({ state: 'idle in transaction', role_name: 'gw_owner' }));
    expect(long).toContainEqual(row({ state: 'active', blocked_by: `{${blocked?.blocking_pid}}` }));
    expect(await rows('connections')).toContainEqual(
      row({ role_name: 'gw_owner', state: 'idle in transaction', connections: 1 }),
    );
    const [owner] = (await rows('role-connections')).filter(
      (each) => each.role_name === 'gw_owner',
    );
    expect(Number(owner?.idle_in_transaction)).toBeGreaterThanOrEqual(1);
    await holder`rollback`;
    await waiting;
  });

  test('vacuum-progress and progress show a vacuum at work', async () => {
    const slow = await db.as('owner', 1).reserve();
    const [own] = await slow`select pg_backend_pid() as pid`;
    await slow`set vacuum_cost_delay = 100`;
    await slow`set vacuum_cost_limit = 1`;
    const vacuum = slow`vacuum ops.scanned`.catch((error: { code?: string }) => error.code);
    const [found] = await eventually(async () => {
      const running = (await rows('vacuum-progress')).filter((each) => each.pid === own?.pid);
      return running.length > 0 && running;
    });
    expect(found).toMatchObject({ table_name: 'ops.scanned', is_automatic: false });
    expect(await rows('progress')).toContainEqual(
      row({ pid: own?.pid, command: 'vacuum', object: 'ops.scanned', phase: 'scanning heap' }),
    );
    await db.as('superuser')`select pg_cancel_backend(${own?.pid})`;
    expect(await vacuum).toBe('57014');
    slow.release();
  });

  test('vacuum-horizon shows who holds a snapshot, oldest first', async () => {
    const holder = await db.as('readonly', 1).reserve();
    const [own] = await holder`select pg_backend_pid() as pid`;
    await holder`begin isolation level repeatable read`;
    await holder`select 1`;
    const found = await rows('vacuum-horizon');
    expect(found).toContainEqual(
      row({
        holder: `session ${own?.pid}`,
        what: 'gw_readonly, client backend, idle in transaction',
      }),
    );
    const ages = found.map(({ transactions }) => Number(transactions));
    expect(ages).toEqual(ages.toSorted((one, other) => other - one));
    await holder`rollback`;
    holder.release();
  });

  test('wal counts what is written, checkpoints and the archive', async () => {
    const measure = async (name: string) =>
      Number((await rows('wal')).find((each) => each.measure === name)?.value);
    const before = await measure('wal_bytes');
    await db.as('superuser')`select pg_logical_emit_message(true, 'test', repeat('x', 100000))`;
    await eventually(async () => (await measure('wal_bytes')) > before + 100_000);
    const requested = await measure('checkpoints_requested');
    await db.as('superuser')`checkpoint`;
    await eventually(async () => (await measure('checkpoints_requested')) > requested);
    expect(await measure('archive_failed')).toBe(0);
  });

  test('replication-slots and replication-lag show who is behind', async () => {
    const name = `report_${process.pid}`;
    const sql: Sql = db.as('superuser');
    await sql`select pg_create_physical_replication_slot(${name}, true)`;
    const standby = await followWithoutReplay(inject('superuserUrl'), name);
    await sql`select pg_logical_emit_message(false, 'test', repeat('x', 100000))`;
    // The server writes it out within moments.
    const slot = await eventually(async () =>
      (await rows('replication-slots')).find(
        (each) => each.slot_name === name && Number(each.retained_bytes) > 100_000,
      ),
    );
    expect(slot).toMatchObject({ is_active: false, slot_type: 'physical' });
    await eventually(async () =>
      (await rows('replication-lag')).some(
        (each) => each.application === name && Number(each.replay_bytes) > 100_000,
      ),
    );
    await standby.stop();
    await sql`select pg_drop_replication_slot(${name})`;
  });

  test('role-settings shows what is set for a role', async () => {
    expect(await rows('role-settings')).toContainEqual({
      role_name: 'gw_readonly',
      database_name: '',
      setting: 'default_transaction_read_only',
      value: 'on',
    });
  });
});
