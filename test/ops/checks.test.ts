import { afterEach, beforeAll, describe, expect, inject, test } from 'vitest';
import { seed } from '../../src/migrations/seed.ts';
import type { Transaction } from '../../src/postgres/connect.ts';
import { setParams } from '../../src/postgres/sql-files.ts';
import {
  checkHealth,
  healthFiles,
  healthNames,
  runHealthChecks,
} from '../../src/toolkit/check/health.ts';
import { rolledBack, useDatabase } from '../helpers/database.ts';
import { healthFaults } from '../helpers/health-faults.ts';
import { followWithoutReplay } from '../helpers/standby.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();

type Given = Record<string, string>;
const asParams = (given: Given = {}) => new Map(Object.entries(given));

/** `level object` of what a check finds in a transaction. */
async function foundIn(sql: Transaction, check: string, given?: Given): Promise<string[]> {
  await sql`set local search_path = pg_catalog`;
  const { findings, skipped } = await runHealthChecks(sql, asParams(given), [check]);
  // Thresholds hold until the transaction ends.
  await setParams(sql, 'health', new Map(Object.keys(given ?? {}).map((name) => [name, ''])));
  expect(skipped.filter(({ name }) => name !== 'change-capture')).toEqual([]);
  return findings.map(({ level, object }) => `${level} ${object}`).sort();
}

/** The same, of what is committed, asked as monitoring does. */
async function found(check: string, given?: Given): Promise<string[]> {
  const { findings, skipped } = await checkHealth(db.url('monitor'), 'test', asParams(given), [
    check,
  ]);
  expect(skipped).toEqual([]);
  return findings.map(({ level, object }) => `${level} ${object}`).sort();
}

beforeAll(async () => {
  await seed(db.url('owner'), 20);
});

describe('a health check', () => {
  test.each(healthFaults.filter(({ findings }) => findings.length > 0))(
    '$check finds $title',
    async ({ check, violate, params, findings }) => {
      await rolledBack(db.as('superuser'), async (sql) => {
        const before = await foundIn(sql, check);
        if (typeof violate === 'string') await sql.unsafe(violate);
        else await violate(sql);
        const after = await foundIn(sql, check, params);
        expect(after.filter((each) => !before.includes(each))).toEqual(
          expect.arrayContaining(findings),
        );
        if (check !== 'wraparound') {
          expect(after.filter((each) => !before.includes(each))).toHaveLength(findings.length);
        }
      });
    },
  );

  test('checks-running finds checks that nobody has run for an hour, and not recent ones', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`update ops.health_checks set ran_at = now()`;
      expect(await foundIn(sql, 'checks-running')).toEqual([]);
      await sql`update ops.health_checks set ran_at = now() - interval '1 hour'`;
      expect(await foundIn(sql, 'checks-running')).toEqual(['critical ']);
    });
  });

  test('backups finds that none was ever made, and is content with a tried one', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`delete from ops.backups`;
      expect(await foundIn(sql, 'backups')).toEqual(['warning ']);
      await sql`
        insert into ops.backups (kind, location, started_at, finished_at, verified_at)
        values ('logical', 'x', now() - interval '2 hours', now(), now())`;
      expect(await foundIn(sql, 'backups')).toEqual([]);
    });
  });

  test('connections finds a role at its own limit', async () => {
    const one = await db.as('readonly', 1).reserve();
    await one`select 1`;
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`alter role gw_readonly connection limit 1`;
      expect(await foundIn(sql, 'connections')).toEqual(['critical gw_readonly']);
    });
    one.release();
  });

  test('invalid-index finds what a failed concurrent build left', async () => {
    const sql = db.as('owner');
    await sql`create table ops.twice (id int)`;
    await sql`insert into ops.twice values (1), (1)`;
    await expect(
      sql`create unique index concurrently twice_id_idx on ops.twice (id)`,
    ).rejects.toMatchObject({ code: '23505' });
    expect(await found('invalid-index')).toEqual(['warning ops.twice_id_idx']);
    await sql`drop table ops.twice`;
    expect(await found('invalid-index')).toEqual([]);
  });

  test('oldest-xmin finds the session and the slot for which vacuum waits', async () => {
    const all = { oldest_xmin_warning: '0' };
    const holder = await db.as('superuser').reserve();
    const [session] = await holder`select pg_backend_pid() as pid`;
    await holder`select pg_create_logical_replication_slot('gw_holds', 'pgoutput', true)`;
    await holder`begin isolation level repeatable read`;
    await holder`select 1`;
    // Other sessions of this server hold something too, for a moment.
    const holders = [`warning session ${session?.pid}`, 'warning slot gw_holds'];
    expect(await found('oldest-xmin', all)).toEqual(expect.arrayContaining(holders));
    await holder`rollback`;
    await holder`select pg_drop_replication_slot('gw_holds')`;
    const after = await found('oldest-xmin', all);
    expect(holders.filter((each) => after.includes(each))).toEqual([]);
    holder.release();
  });

  test('never-analyzed finds a table, and a partitioned one whose partitions were analyzed', async () => {
    const sql = db.as('owner');
    const some = { never_analyzed_rows: '100' };
    const own = async () =>
      (await found('never-analyzed', some)).filter((each) => each.includes('ops.fresh'));
    await sql`create table ops.fresh (id integer) with (autovacuum_enabled = false)`;
    await sql`create table ops.freshly (id integer) partition by hash (id)`;
    await sql`create table ops.freshly_h00 partition of ops.freshly
      for values with (modulus 1, remainder 0) with (autovacuum_enabled = false)`;
    await sql`insert into ops.fresh select generate_series(1, 200)`;
    await sql`insert into ops.freshly select generate_series(1, 200)`;
    const all = ['warning ops.fresh', 'warning ops.freshly', 'warning ops.freshly_h00'];
    await eventually(async () => (await own()).length === all.length);
    expect(await own()).toEqual(all);
    await sql`vacuum analyze ops.fresh, ops.freshly_h00`;
    await eventually(async () => (await own()).length === 1);
    expect(await own()).toEqual(['warning ops.freshly']);
    await sql`analyze ops.freshly`;
    await eventually(async () => (await own()).length === 0);
    await sql`drop table ops.fresh, ops.freshly`;
  });

  test('partition-default finds rows that no partition was there for', async () => {
    const sql = db.as('owner');
    await sql`create table ops.events (at timestamptz) partition by range (at)`;
    await sql`create table ops.events_default partition of ops.events default`;
    expect(await found('partition-default')).toEqual([]);
    await sql`insert into ops.events values (now())`;
    await eventually(async () => (await found('partition-default')).length === 1);
    expect(await found('partition-default')).toEqual(['warning ops.events_default']);
    // As a crash does: the rows are there, and nothing is known of them.
    await db.as('superuser')`select pg_stat_reset()`;
    expect(await found('partition-default')).toEqual(['warning ops.events_default']);
    await sql`delete from ops.events`;
    await sql`vacuum ops.events_default`;
    await eventually(async () => (await found('partition-default')).length === 0);
    await sql`drop table ops.events`;
  });

  test('long-transactions finds one that is open, and one that stands idle', async () => {
    const idle = await db.as('readonly', 1).reserve();
    await idle`begin`;
    await idle`select 1`;
    expect(await found('long-transactions', { long_transactions_idle: '0 s' })).toEqual([
      'warning gw_readonly groundwork',
    ]);
    expect(await found('long-transactions', { long_transactions_critical: '0 s' })).toEqual([]);
    const both = { long_transactions_critical: '0 s', long_transactions_warning: '0 s' };
    expect(await found('long-transactions', both)).toContain('critical gw_readonly groundwork');
    await idle`rollback`;
    idle.release();
    expect(await found('long-transactions')).toEqual([]);
  });

  test('disk-free asks the file system of the server’s own machine, else says that it cannot', async () => {
    const full = { disk_warning: '0', disk_critical: '2' };
    const { findings, skipped } = await checkHealth(db.url('monitor'), 'test', asParams(full), [
      'disk-free',
    ]);
    if (process.env.GW_TEST_DB === 'docker') {
      expect(skipped).toEqual([
        { name: 'disk-free', needs: expect.stringContaining('own machine') },
      ]);
    } else {
      expect(findings).toMatchObject([{ name: 'disk-free', level: 'warning' }]);
    }
  });
});

describe('replication', () => {
  const slot = `lagging_${process.pid}`;
  afterEach(async () => {
    await db.as('superuser')`
      select pg_drop_replication_slot(slot_name) from pg_replication_slots
      where slot_name = ${slot} and not active`;
  });

  test('slot-wal finds a slot that nobody reads', async () => {
    await db.as('superuser')`select pg_create_physical_replication_slot(${slot}, true)`;
    await db.as('superuser')`select pg_logical_emit_message(false, 'test', repeat('x', 100000))`;
    expect(await found('slot-wal', { slot_wal_warning: '50000' })).toContain(`warning ${slot}`);
    const both = { slot_wal_warning: '50000', slot_wal_critical: '50000' };
    expect(await found('slot-wal', both)).toContain(`critical ${slot}`);
    expect(await found('slot-wal')).not.toContain(`warning ${slot}`);
  });

  test('replication-lag finds a standby that has not replayed', async () => {
    const name = `standby-${process.pid}`;
    const standby = await followWithoutReplay(inject('superuserUrl'), name);
    await eventually(async () =>
      (await found('replication-lag', { replication_lag_bytes: '1000000' })).includes(
        `warning ${name}`,
      ),
    );
    expect(
      await found('replication-lag', { replication_lag_bytes: '999999999999999' }),
    ).not.toContain(`warning ${name}`);
    await standby.stop();
  });
});

describe('the checks', () => {
  test('all have a test that violates them', () => {
    const elsewhere = [
      ...['invalid-index', 'partition-default', 'long-transactions', 'disk-free'],
      // In test/cli/old-cluster.test.ts: it needs a server of its own.
      ...['oldest-xmin', 'never-analyzed', 'server-program'],
      // In test/ops/pitr.test.ts.
      'archive',
    ];
    const ownServer = ['wal-archiver'];
    // The two of pg_cron are tried where it is, in test/db/operations/cron.test.ts.
    const replication = ['slot-wal', 'replication-lag', 'cron-jobs', 'declared-jobs'];
    const tried = [
      ...healthFaults.map(({ check }) => check),
      ...elsewhere,
      ...replication,
      ...ownServer,
    ];
    expect([...new Set(tried)].sort()).toEqual(healthNames());
  });

  test('have the defaults in SQL that their headers name', () => {
    for (const { name, params, text } of healthFiles()) {
      for (const param of params) {
        expect(text, name).toContain(`'health.${param.name}'`);
        const body = text.slice(text.indexOf(`'health.${param.name}'`), text.length);
        if (param.fallback !== '') expect(body, name).toContain(`'${param.fallback}'`);
      }
    }
  });

  test.each(['superuser', 'owner', 'monitor'] as const)('run as %s', async (role) => {
    const health = await checkHealth(db.url(role), 'test', new Map());
    expect(health.findings.filter(({ detail }) => detail.startsWith('cannot tell'))).toEqual([]);
    expect(health.findings.filter(({ detail }) => detail.includes('failed:'))).toEqual([]);
    const skipped = health.skipped.map(({ name }) => name);
    // Neither pg_cron nor change capture is in this database.
    expect([
      ...['cron-jobs', 'declared-jobs', 'change-capture', 'disk-free', 'server-program', 'archive'],
    ]).toEqual(expect.arrayContaining(skipped));
  });
});
