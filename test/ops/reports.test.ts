import { beforeAll, describe, expect, inject, test } from 'vitest';
import { seed } from '../../src/migrations/seed.ts';
import type { Sql, Transaction } from '../../src/postgres/connect.ts';
import {
  readOnly,
  readSqlFiles,
  runSqlFile,
  type SqlFile,
  setParams,
} from '../../src/postgres/sql-files.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { followWithoutReplay } from '../helpers/standby.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const files = readSqlFiles('reports');
type Row = Record<string, unknown>;

async function rowsIn(
  sql: Transaction,
  name: string,
  params: Record<string, string> = {},
): Promise<Row[]> {
  const file = files.find((each) => each.name === name) as SqlFile;
  await setParams(sql, 'report', new Map(Object.entries(params)));
  const answer = await runSqlFile(sql, file);
  if ('needs' in answer) throw new Error(`${name} needs ${answer.needs}`);
  return answer.rows;
}

/** What a report says of what is committed, asked as monitoring does. */
const rows = (name: string, params?: Record<string, string>, url = db.url('monitor')) =>
  readOnly(url, 'test', (sql) => rowsIn(sql, name, params));

/** The same of what a superuser does in a transaction that is rolled back. */
async function rowsAfter(
  statements: string,
  name: string,
  params?: Record<string, string>,
): Promise<Row[]> {
  let found: Row[] = [];
  await rolledBack(db.as('superuser'), async (sql) => {
    await sql.unsafe(statements);
    await sql`set local search_path = pg_catalog`;
    await sql`set local role gw_monitor`;
    found = await rowsIn(sql, name, params);
  });
  return found;
}

/** Whether a row has these values. */
const row = (values: Row) => expect.objectContaining(values);

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
    select pg_sleep(0.2), 'a slow query';
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
    const found = await rows('slow-queries', { order: 'mean', limit: '5' });
    expect(found.map(({ query }) => query)).toContainEqual(expect.stringContaining('pg_sleep'));
    expect((await rows('slow-queries', { min_calls: '1000000000' })).length).toBe(0);
  });

  test('long-running-queries, locks, blocking and connections show a session that is blocked', async () => {
    const holder = await db.as('owner', 1).reserve();
    const waiter = await db.as('superuser', 1).reserve();
    await holder`begin`;
    await holder`lock table ops.scanned`;
    const waiting = waiter`select count(filler) from ops.scanned`.then(() => {});
    const [blocked] = await eventually(async () => {
      const found = await rows('blocking');
      return found.length > 0 && found;
    });
    expect(blocked).toMatchObject({
      blocked_role: 'postgres',
      wants: 'AccessShareLock on ops.scanned',
      blocking_role: 'gw_owner',
      blocking_state: 'idle in transaction',
      blocking_query: expect.stringContaining('lock table'),
    });
    const held = await rows('locks');
    expect(held).toContainEqual(
      row({ object: 'ops.scanned', mode: 'AccessExclusiveLock', is_granted: true }),
    );
    expect(held[0]).toMatchObject({ object: 'ops.scanned', is_granted: false });
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
    holder.release();
    waiter.release();
  });

  test('vacuum-progress shows a vacuum at work', async () => {
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
    await db.as('superuser')`select pg_cancel_backend(${own?.pid})`;
    expect(await vacuum).toBe('57014');
    slow.release();
  });

  test('replication-slots and replication-lag show who is behind', async () => {
    const name = `report_${process.pid}`;
    const sql: Sql = db.as('superuser');
    await sql`select pg_create_physical_replication_slot(${name}, true)`;
    const standby = await followWithoutReplay(inject('superuserUrl'), name);
    await sql`select pg_logical_emit_message(false, 'test', repeat('x', 100000))`;
    const [slot] = (await rows('replication-slots')).filter((each) => each.slot_name === name);
    expect(slot).toMatchObject({ is_active: false, slot_type: 'physical' });
    expect(Number(slot?.retained_bytes)).toBeGreaterThan(100_000);
    const [lag] = await eventually(async () => {
      const found = (await rows('replication-lag')).filter(
        (each) => each.application === name && each.replay_bytes !== null,
      );
      return found.length > 0 && found;
    });
    expect(Number(lag?.replay_bytes)).toBeGreaterThan(100_000);
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

describe('a report on our own parts', () => {
  test('job-queues counts what is due, and what was given up', async () => {
    const found = await rowsAfter(
      `delete from pgboss.job;
       insert into pgboss.job (name, start_after, state) values
         ('message-send', now() - interval '1 hour', 'created'),
         ('message-send', now() + interval '1 hour', 'retry'),
         ('message-send', now(), 'completed'),
         ('message-send-dead', now(), 'created');`,
      'job-queues',
    );
    expect(found).toContainEqual(
      row({
        queue_name: 'message-send',
        due: 1,
        later: 1,
        retrying: 1,
        completed: 1,
        oldest_due_seconds: 3600,
      }),
    );
    expect(found).toContainEqual(row({ queue_name: 'message-send-dead', due: 1 }));
  });

  test('message-status counts messages by day, and monitoring reads no message', async () => {
    const id = '00000000-0000-4000-8000-000000000009';
    const found = await rowsAfter(
      `delete from app_public.users;
       insert into app_public.users (id, email, first_name) values ('${id}', 'm@example.com', 'M');
       insert into app_public.message_logs (user_id, id, message_type, delivery_date,
         message_content, scheduled_send_time, idempotency_key, status, actual_send_time)
       select '${id}', gen_random_uuid(), 'BIRTHDAY', current_date, 'secret', now(), n::text,
         (array['SENT', 'FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELED'])[n],
         case when n = 1 then now() end
       from generate_series(1, 5) as n;`,
      'message-status',
    );
    expect(found).toMatchObject([
      {
        message_type: 'BIRTHDAY',
        planned: 0,
        sent: 1,
        failed: 1,
        expired: 1,
        unknown: 1,
        canceled: 1,
        share: 0.25,
      },
    ]);
    const monitor = db.as('monitor');
    for (const table of ['message_logs', 'users', 'tasks']) {
      await expect(monitor.unsafe(`select * from app_public.${table}`)).rejects.toMatchObject({
        code: '42501',
      });
    }
    await expect(
      db.as('worker')`select ops.message_status(current_date, current_date)`,
    ).rejects.toMatchObject({ code: '42501' });
  });

  test('schedule lists what is declared, also without pg_cron', async () => {
    const found = await rows('schedule');
    expect(found).toContainEqual(
      row({
        job_name: 'delete-expired-rows',
        schedule: '41 3 * * *',
        is_declared: true,
        is_active: false,
        last_start: null,
        last_status: 'pg_cron is not here',
      }),
    );
  });

  test('retention counts the rows that are due, and monitoring reads none', async () => {
    const user = '00000000-0000-4000-8000-000000000008';
    const found = await rowsAfter(
      `insert into app_public.users (id, email, first_name) values ('${user}', 'r@example.com', 'R');
       insert into app_private.sessions (user_id, refresh_token_hash, expires_at)
       select '${user}', sha256(n::text::bytea), now() - n * interval '1 day'
       from unnest(array[1, 6, 8, 30]) as n;
       update ops.cron_jobs set is_active = false where job_name = 'prune-old-partitions'`,
      'retention',
    );
    const named = (relation: string) => found.find((each) => each.relation === relation);
    expect(named('app_private.sessions')).toMatchObject({
      kept_for: '7 days',
      time_column: 'expires_at',
      due_rows: 2,
      due_partitions: null,
      next_job: 'delete-expired-rows',
      schedule: '41 3 * * *',
      blocked_by: 'pg_cron is not here',
    });
    const oldest = named('app_private.sessions')?.oldest as Date;
    expect(Math.round((Date.now() - Number(oldest)) / 86_400_000)).toBe(30);
    expect(named('cron.job_run_details')).toMatchObject({
      oldest: null,
      due_rows: null,
      blocked_by: 'there is no such table; pg_cron is not here',
    });
    expect(named('app_public.message_logs')).toMatchObject({
      kept_for: null,
      next_job: null,
      blocked_by: null,
    });
    expect(named('app_public.user_activity')).toMatchObject({
      kept_for: '1 year',
      next_job: null,
      blocked_by: expect.stringMatching(/^no active job calls prune_/),
    });
    await expect(db.as('monitor')`select from app_private.sessions`).rejects.toMatchObject({
      code: '42501',
    });
    await expect(db.as('worker')`select ops.retention_status()`).rejects.toMatchObject({
      code: '42501',
    });
  });

  test('retention says which partitions go next, and what is in their way', async () => {
    const aged = `
      set local role gw_owner;
      create table ops.aged (at timestamptz not null, note text) partition by range (at);
      create table app_partitions.aged_default partition of ops.aged default;
      insert into ops.partition_policies
        (parent_table, step, premake, retention, retention_action, require_backup)
      values ('ops.aged', '1 day', 1, '2 days', 'drop', true);
      select ops.create_range_partition('ops.aged', now() - age * interval '1 day', '1 day')
      from generate_series(0, 6) as age;
      insert into ops.aged values (now() - interval '5 days', 'x'), (now(), 'y');`;
    const ask = async (statements: string) =>
      (await rowsAfter(`${aged}${statements}reset role`, 'retention')).find(
        (each) => each.relation === 'ops.aged',
      ) as Row;

    const before = await ask('');
    expect(before).toMatchObject({
      time_column: 'at',
      due_rows: null,
      due_partitions: 4,
      detached_partitions: 0,
      next_job: 'prune-old-partitions',
    });
    expect(Math.round((Date.now() - (before.oldest as Date).getTime()) / 86_400_000)).toBe(5);
    const detached = await ask('select ops.prune_partitions();');
    expect(detached).toMatchObject({
      due_partitions: 0,
      detached_partitions: 4,
      next_job: 'drop-detached-partitions',
      blocked_by: 'no verified backup began after it was detached; pg_cron is not here',
    });
    expect(Date.now() - (detached.oldest as Date).getTime()).toBeLessThan(3_600_000);
    const referenced = await ask(`
      alter table ops.aged add unique (at, note);
      create table ops.child (at timestamptz, note text,
        foreign key (at, note) references ops.aged (at, note));
      insert into ops.child select * from ops.aged where note = 'x';
      select ops.prune_partitions();`);
    expect(referenced).toMatchObject({
      due_partitions: 1,
      next_job: 'prune-old-partitions',
      blocked_by: expect.stringContaining('violates foreign key constraint'),
    });
  });

  test('retention tells which policy failed, and which table the owner cannot read', async () => {
    const found = await rowsAfter(
      `set local role gw_owner;
       create table ops.refusing as select now() - interval '9 days' as at;
       create trigger refuse before delete on ops.refusing
         for each statement execute function app_private.tg__append_only();
       insert into ops.retention_policies (relation, time_column, kept_for, reason)
       values ('ops.refusing', 'at', '1 day', 'x');
       select ops.delete_expired_rows();
       reset role;
       create table ops.hidden as select now() as at;
       insert into ops.retention_policies (relation, time_column, kept_for, reason)
       values ('ops.hidden', 'at', '1 day', 'x');`,
      'retention',
    );
    expect(found).toContainEqual(
      row({
        relation: 'ops.refusing',
        due_rows: 1,
        blocked_by: expect.stringMatching(/^failed: GW030: /),
      }),
    );
    expect(found).toContainEqual(
      row({
        relation: 'ops.hidden',
        oldest: null,
        due_rows: null,
        blocked_by: expect.stringMatching(/^gw_owner may not delete from it/),
      }),
    );
  });

  test('audit, alerts and backups list what there is', async () => {
    expect(
      await rowsAfter("select ops.audit('test.done', '{\"a\": 1}')", 'audit', { action: '^test' }),
    ).toMatchObject([{ action: 'test.done', details: '{"a": 1}' }]);
    expect(
      await rowsAfter("select ops.raise_alert('x-y', 'o', 'critical', 'd')", 'alerts'),
    ).toMatchObject([{ state: 'open', check_name: 'x-y', level: 'critical', open_seconds: 0 }]);
    const made = `delete from ops.backups; insert into ops.backups (kind, location, started_at, finished_at)
      values ('logical', 'here', now() - interval '1 hour', now())`;
    expect(await rowsAfter(made, 'backups')).toMatchObject([
      { run_seconds: 3600, verified_at: null },
    ]);
  });

  test('connection-pools draws who waited, and api-queries lists slow operations', async () => {
    const samples = `delete from app_private.connection_pool_stats;
      insert into app_private.connection_pool_stats (pool_name, total_connections,
        active_connections, idle_connections, waiting_connections, recorded_at)
      select 'api', 20, 20, 0, n, now() - (5 - n) * interval '1 minute'
      from generate_series(1, 3) as n`;
    expect(await rowsAfter(samples, 'connection-pools')).toMatchObject([
      { pool_name: 'api', waiting: 3, waiting_history: [1, 2, 3] },
    ]);
    const metrics = `insert into app_private.performance_metrics
        (metric_type, metric_name, duration_ms, query_hash)
      select 'query', 'slow', 9000, 'slowest' from generate_series(1, 20);
      refresh materialized view app_private.query_performance_summary`;
    expect((await rowsAfter(metrics, 'api-queries'))[0]).toMatchObject({
      query_hash: 'slowest',
      executions: 20,
      p95_seconds: 9,
    });
  });
});
