import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import { changeUrl, databaseName } from '../../src/postgres/urls.ts';
import { useDatabase } from '../helpers/database.ts';
import { type Row, useReports } from '../helpers/reports.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * The figures of reports beside what PostgreSQL's own functions say of a table that was made so
 * that no two of them are the same.
 */
const db = useDatabase();
const { rows, rowsAfter } = useReports(db);
const table = 'ops.figures';

const of = async (report: string, params: Record<string, string> = { limit: '10000' }) =>
  (await rows(report, params)).find(({ table_name }) => table_name === table) as Row;

/** The statistics of a session that has ended are written. */
async function settled(sql: Sql, text: string, isRight: (row: Row) => boolean): Promise<Row> {
  return eventually(async () => {
    const [row] = await sql.unsafe<Row[]>(text);
    return row !== undefined && isRight(row) && row;
  });
}

const statistics = `
  select seq_scan::int, idx_scan::int, n_live_tup::int, n_dead_tup::int,
    heap_blks_read::int, heap_blks_hit::int, idx_blks_read::int, idx_blks_hit::int
  from pg_stat_user_tables inner join pg_statio_user_tables using (relid)
  where relid = '${table}'::regclass`;

beforeAll(async () => {
  // Out of line values, an index that is larger than them, and a heap unlike both.
  await db.as('owner').unsafe(`
    create table ${table} (id int primary key, v int, filler text, large text)
      with (autovacuum_enabled = false, autovacuum_vacuum_scale_factor = 0.5);
    alter table ${table} alter large set storage external;
    insert into ${table} select n, n, repeat('x', 100), null from generate_series(1, 20000) as n;
    update ${table} set large = repeat('y', 9000) where id <= 20;
    create index on ${table} (v, filler);
    analyze ${table};`);
  const reader = db.as('superuser', 1);
  await reader.unsafe(`set enable_seqscan = off; set max_parallel_workers_per_gather = 0;`);
  for (let id = 1; id <= 7; id += 1) await reader.unsafe(`select * from ${table} where id = ${id}`);
  await reader.unsafe('set enable_seqscan = on; set enable_indexscan = off;');
  await reader.unsafe('set enable_bitmapscan = off; set enable_indexonlyscan = off;');
  for (let n = 0; n < 3; n += 1) await reader.unsafe(`select count(large) from ${table}`);
  await settled(db.as('superuser'), statistics, (row) => Number(row.seq_scan) >= 3);
});

describe('of a table', () => {
  test('table-sizes has heap, values out of line, indexes and the sum', async () => {
    const [sizes] = await db.as('superuser').unsafe(`
      select pg_relation_size('${table}')::int as heap,
        (pg_table_size('${table}') - pg_relation_size('${table}'))::int as toast,
        pg_indexes_size('${table}')::int as indexes,
        pg_total_relation_size('${table}')::int as total`);
    const { heap, toast, indexes, total } = sizes as unknown as Record<string, number>;
    expect(new Set([heap, toast, indexes, total]).size).toBe(4);
    expect(await of('table-sizes')).toMatchObject({
      rows: 20_000,
      heap_bytes: heap,
      toast_bytes: toast,
      index_bytes: indexes,
      total_bytes: total,
    });
  });

  test('cache-hit tells reads from hits, and the heap from its indexes', async () => {
    const figures = await settled(
      db.as('superuser'),
      statistics,
      (row) => Number(row.idx_blks_hit) > 0 && Number(row.heap_blks_hit) > 0,
    );
    const [read, hit] = [Number(figures.heap_blks_read), Number(figures.heap_blks_hit)];
    const [indexRead, indexHit] = [Number(figures.idx_blks_read), Number(figures.idx_blks_hit)];
    const report = await of('cache-hit', { limit: '10000' });
    expect(report).toMatchObject({ heap_reads: read, index_reads: indexRead });
    expect(report.heap_hit_ratio).toBeCloseTo(hit / (hit + read), 6);
    expect(report.index_hit_ratio).toBeCloseTo(indexHit / (indexHit + indexRead), 6);
    // Otherwise this would not tell them apart.
    expect(hit / (hit + read)).not.toBeCloseTo(indexHit / (indexHit + indexRead), 6);
    expect(hit).not.toBe(read);
  });

  test('index-usage tells scans of the table from those of its indexes', async () => {
    const figures = await settled(
      db.as('superuser'),
      statistics,
      (row) => Number(row.idx_scan) >= 7 && Number(row.seq_scan) >= 3,
    );
    const [scans, indexScans] = [Number(figures.seq_scan), Number(figures.idx_scan)];
    expect(scans).not.toBe(indexScans);
    const report = await of('index-usage');
    expect(report).toMatchObject({ sequential_scans: scans, index_scans: indexScans });
    expect(report.index_ratio).toBeCloseTo(indexScans / (scans + indexScans), 6);
  });

  test('autovacuum knows the table’s own threshold', async () => {
    await settled(db.as('superuser'), statistics, (row) => Number(row.n_dead_tup) === 20);
    const [base] = await db.as('superuser')`
      select current_setting('autovacuum_vacuum_threshold')::int as rows`;
    // Half of 20,000 rows.
    expect(await of('autovacuum')).toMatchObject({
      dead_rows: 20,
      threshold_rows: Number(base?.rows) + 10_000,
    });
  });

  test('wraparound has the older of transactions and multixacts', async () => {
    // Other files use transactions and multixacts of the same server: the figure lies between.
    const agesNow = async () => {
      const [ages] = await db.as('superuser')`
        select age(relfrozenxid) as transactions, mxid_age(relminmxid) as multixacts
        from pg_class where oid = ${table}::regclass`;
      return { transactions: Number(ages?.transactions), multixacts: Number(ages?.multixacts) };
    };
    const before = await agesNow();
    const [row] = (await rows('wraparound', { limit: '10000' })).filter(
      ({ object }) => object === table,
    );
    const after = await agesNow();
    expect(Number(row?.transactions_age)).toBeGreaterThanOrEqual(before.transactions);
    expect(Number(row?.transactions_age)).toBeLessThanOrEqual(after.transactions);
    expect(Number(row?.multixact_age)).toBeGreaterThanOrEqual(before.multixacts);
    expect(Number(row?.multixact_age)).toBeLessThanOrEqual(after.multixacts);
    const found = await rowsAfter(
      `update pg_class set relminmxid = '3000000000' where oid = '${table}'::regclass`,
      'wraparound',
      { limit: '10000' },
    );
    const old = found.find(({ object }) => object === table);
    expect(Number(old?.multixact_age)).toBeGreaterThan(1_000_000_000);
    expect(Number(old?.share)).toBeCloseTo(Number(old?.multixact_age) / 2e9, 3);
  });
});

describe('of sessions', () => {
  test('connections are shares of those that are not kept for superusers', async () => {
    const [limits] = await db.as('superuser')`
      select current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int as most`;
    const found = await rows('connections');
    expect(found.length).toBeGreaterThan(0);
    for (const { connections, share } of found) {
      expect(Number(share)).toBeCloseTo(Number(connections) / Number(limits?.most), 9);
    }
  });

  test('role-connections tells who is active from who is idle in a transaction', async () => {
    // A role of its own: other tests have sessions of ours.
    const superuser = db.as('superuser');
    const name = `figures_${randomUUID().slice(0, 8)}`;
    const password = randomUUID();
    const database = databaseName(db.url('superuser'));
    await superuser.unsafe(`create role ${name} login password '${password}' connection limit 20;
      grant connect on database ${database} to ${name}`);
    const sessions = connect(changeUrl(db.url('superuser'), { user: name, password }), { max: 6 });
    try {
      const held = await Promise.all(Array.from({ length: 5 }, () => sessions.reserve()));
      const [one, two] = held;
      for (const idle of [one, two]) await idle?.unsafe('begin');
      const active = sessions`select pg_sleep(60)`.catch(() => {});
      const report = await eventually(async () => {
        const [row] = (await rows('role-connections')).filter(
          ({ role_name }) => role_name === name,
        );
        return Number(row?.active) === 1 && row;
      });
      expect(report).toMatchObject({
        connections: 6,
        active: 1,
        idle_in_transaction: 2,
        connection_limit: 20,
        share: 6 / 20,
      });
      await superuser`select pg_terminate_backend(pid) from pg_stat_activity
        where usename = ${name} and state = 'active'`;
      await active;
      for (const session of held) session.release();
    } finally {
      await sessions.end({ timeout: 1 });
      await superuser`select pg_terminate_backend(pid) from pg_stat_activity
        where usename = ${name}`;
      await superuser.unsafe(`revoke connect on database ${database} from ${name};
        drop role ${name}`);
    }
  });

  test('locks leaves out those of readers, unless all are asked for', async () => {
    const reader = await db.as('owner', 1).reserve();
    await reader`begin`;
    await reader.unsafe(`select from ${table} limit 1`);
    const ofReader = (found: Row[]) =>
      found.filter(({ object, mode }) => object === table && mode === 'AccessShareLock');
    expect(ofReader(await rows('locks'))).toEqual([]);
    expect(ofReader(await rows('locks', { all: 'true' }))).toHaveLength(1);
    await reader`rollback`;
    reader.release();
  });
});

test('replication-slots tells what is kept from what is not confirmed', async () => {
  const sql = db.as('superuser');
  const name = `figures_${process.pid}`;
  await sql`select pg_create_logical_replication_slot(${name}, 'test_decoding')`;
  try {
    await sql`select pg_logical_emit_message(false, 'test', repeat('x', 100000))`;
    const [slot] = await sql`
      select pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn)::int as between
      from pg_replication_slots where slot_name = ${name}`;
    expect(slot?.between).toBeGreaterThan(0);
    // Commits of the tests' server reach the log a moment later.
    const report = await eventually(async () => {
      const [row] = (await rows('replication-slots')).filter(({ slot_name }) => slot_name === name);
      return Number(row?.pending_bytes) > 100_000 && row;
    });
    expect(Number(report.retained_bytes) - Number(report.pending_bytes)).toBe(slot?.between);
  } finally {
    await sql`select pg_drop_replication_slot(${name})`;
  }
});
