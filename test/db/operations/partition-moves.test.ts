import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, transactionsOf, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

/** A partitioned table of a given shape, with one row of January 2026 in DEFAULT. */
async function createParent(sql: Transaction, name: string, columns: string): Promise<void> {
  const short = name.replace(/^.*\./, '');
  await sql.unsafe(`
    create table ${name} (at timestamptz not null, n integer, ${columns})
      partition by range (at);
    create table app_partitions.${short}_default partition of ${name} default;
    insert into ${name} (at, n) values ('2026-01-15', 7);
  `);
}

const create = (sql: Transaction, name: string, month = '2026-01-01') =>
  sql`select ops.create_range_partition(${name}::text::regclass, ${month}, '1 month') as name`;

describe('creating a partition whose rows are in DEFAULT', () => {
  test('works with generated and dropped columns', async () => {
    await asOwner(async (sql) => {
      await createParent(
        sql,
        'ops.shaped',
        'gone text default $$x$$, twice integer generated always as (n * 2) stored',
      );
      await sql`alter table ops.shaped drop column gone`;
      await create(sql, 'ops.shaped');
      const rows = await sql`
        select n, twice, tableoid::regclass::text as partition from ops.shaped`;
      expect(rows).toEqual([{ n: 7, twice: 14, partition: 'app_partitions.shaped_p202601' }]);
    });
  });

  test('is refused when others reference the rows, which moving would delete', async () => {
    await asOwner(async (sql) => {
      await createParent(sql, 'ops.referenced', 'unique (at, n)');
      await sql`
        create table ops.child (at timestamptz, n integer,
          foreign key (at, n) references ops.referenced (at, n) on delete cascade)`;
      await sql`insert into ops.child values ('2026-01-15', 7)`;
      await expectRefusal(sql, 'GW012', (inner) => create(inner, 'ops.referenced'));
      expect(await sql`select n from ops.child`).toHaveLength(1);
      // A month without rows in DEFAULT is no danger.
      expect((await create(sql, 'ops.referenced', '2026-02-01'))[0]?.name).toMatch(/_p202602$/);
    });
  });
});

describe('names of partitions', () => {
  test('two tables of one name do not take each other for done', async () => {
    await asOwner(async (sql) => {
      await createParent(sql, 'ops.twin', 'x text');
      await sql`create table app_private.twin (at timestamptz) partition by range (at)`;
      expect((await create(sql, 'ops.twin'))[0]?.name).toBe('app_partitions.twin_p202601');
      await expectRefusal(sql, '42P07', (inner) => create(inner, 'app_private.twin'));
    });
  });

  test('a name that leaves no room for the month is refused', async () => {
    await asOwner(async (sql) => {
      const name = `ops.${'x'.repeat(58)}`;
      await sql.unsafe(`create table ${name} (at timestamptz) partition by range (at)`);
      await expectRefusal(sql, 'GW010', (inner) => create(inner, name));
    });
  });

  test('a policy whose table is gone keeps nobody else from getting partitions', async () => {
    await asOwner(async (sql) => {
      await sql`create table ops.short_lived (at timestamptz) partition by range (at)`;
      await sql`
        insert into ops.partition_policies (parent_table, step, premake)
        values ('ops.short_lived', '1 month', 1)`;
      await sql`drop table ops.short_lived`;
      await sql`update ops.partition_policies set premake = 13
        where parent_table = 'app_public.message_logs'::regclass`;
      expect((await sql`select ops.ensure_partitions() as created`)[0]?.created).toBe(1);
    });
  });
});
