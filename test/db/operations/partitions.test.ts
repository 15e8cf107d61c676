import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import { createUser, expectRefusal, transactionsOf, useDatabase } from '../../helpers/database.ts';
import { waitUntilBlocked } from '../../helpers/waiting.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

interface Partition {
  name: string;
  bound: string;
}

const partitionsOf = (sql: Sql | Transaction, parent: string): PromiseLike<Partition[]> =>
  sql<Partition[]>`
    select relid::regclass::text as name, pg_get_expr(relpartbound, pg_class.oid) as bound
    from pg_partition_tree(${parent}::text::regclass)
    inner join pg_class on pg_class.oid = relid
    where isleaf
    order by 1`;

/** What partitions by month look like, from this month (plus an offset) on. */
const months = (sql: Sql | Transaction, first: number, last: number): PromiseLike<Partition[]> =>
  sql<Partition[]>`
    select 'app_partitions.message_logs_p' || to_char(month, 'YYYYMM') as name,
      format('FOR VALUES FROM (%L) TO (%L)',
        month::text || '+00', (month + interval '1 month')::text || '+00') as bound
    from generate_series(
      date_trunc('month', now() at time zone 'UTC') + make_interval(months => ${first}),
      date_trunc('month', now() at time zone 'UTC') + make_interval(months => ${last}),
      interval '1 month') as month
    order by 1`;

async function ensure(sql: Sql | Transaction): Promise<number> {
  const [row] = await sql`select ops.ensure_partitions() as created`;
  return row?.created;
}

/** Logs a message that is due some months from now. */
async function logMessage(sql: Transaction, inMonths: number): Promise<string> {
  const user = await createUser(sql);
  const id = randomUUID();
  await sql`
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      message_content, scheduled_send_time, idempotency_key)
    select ${user.id}, ${id}, 'BIRTHDAY', due, 'x', due, 'x'
    from (select date_trunc('month', now()) + make_interval(months => ${inMonths}, days => 14))
      as moment (due)`;
  return id;
}

/** Where a message lies, and all its columns. */
async function stored(sql: Transaction, id: string) {
  const [row] = await sql`
    select tableoid::regclass::text as partition, to_jsonb(message_logs) as columns
    from app_public.message_logs where id = ${id}`;
  return row;
}

async function create(sql: Transaction, parent: string, inMonths: number, step = '1 month') {
  const [row] = await sql`
    select ops.create_range_partition(${parent}::text::regclass,
      date_trunc('month', now()) + make_interval(months => ${inMonths}, days => 20),
      ${step}::text::interval) as name`;
  return row?.name;
}

describe('message_logs', () => {
  test('has this month, the 12 after it, and DEFAULT', async () => {
    const sql = db.as('owner');
    expect(await partitionsOf(sql, 'app_public.message_logs')).toEqual([
      { name: 'app_partitions.message_logs_default', bound: 'DEFAULT' },
      ...(await months(sql, 0, 12)),
    ]);
  });

  test('has every index, constraint and trigger on a partition made later', async () => {
    await asOwner(async (sql) => {
      const name = await create(sql, 'app_public.message_logs', 20);
      const describePartition = async (partition: string) => {
        const [row] = await sql`
          select
            (select count(*)::int from pg_index where indrelid = relation) as indexes,
            (select array_agg(conname || pg_get_constraintdef(oid) order by conname)
              from pg_constraint where conrelid = relation and contype <> 'p') as constraints,
            (select array_agg(tgname order by tgname) from pg_trigger
              where tgrelid = relation and not tgisinternal) as triggers
          from (select ${partition}::text::regclass) as partition (relation)`;
        return row;
      };
      const made = await describePartition(name);
      expect(made).toEqual(await describePartition('app_partitions.message_logs_default'));
      expect(made?.indexes).toBe(4);
      expect(made?.triggers).toEqual(['_100_timestamps']);
    });
  });
});

describe('ensure_partitions', () => {
  test('creates nothing when all are there', async () => {
    await asOwner(async (sql) => {
      const before = await partitionsOf(sql, 'app_public.message_logs');
      expect([await ensure(sql), await ensure(sql)]).toEqual([0, 0]);
      expect(await partitionsOf(sql, 'app_public.message_logs')).toEqual(before);
    });
  });

  test('catches up after missed runs, and brings home the rows of that time', async () => {
    await asOwner(async (sql) => {
      const [third, fourth] = await months(sql, 3, 4);
      await sql.unsafe(`drop table ${third?.name}, ${fourth?.name}`);
      const id = await logMessage(sql, 4);
      expect((await stored(sql, id))?.partition).toBe('app_partitions.message_logs_default');
      expect(await ensure(sql)).toBe(2);
      expect((await stored(sql, id))?.partition).toBe(fourth?.name);
      expect(await partitionsOf(sql, 'app_public.message_logs')).toHaveLength(14);
    });
  });

  test('follows a policy of days, in UTC whatever the session says', async () => {
    await asOwner(async (sql) => {
      await sql`create table ops.scratch (at timestamptz not null) partition by range (at)`;
      await sql`insert into ops.partition_policies (parent_table, step, premake)
        values ('ops.scratch', '1 day', 3)`;
      await sql`set local timezone = 'Pacific/Kiritimati'`;
      expect(await ensure(sql)).toBe(4);
      expect(await ensure(sql)).toBe(0);
      await sql`set local timezone = 'UTC'`;
      const wanted = await sql<Partition[]>`
        select 'app_partitions.scratch_p' || to_char(day, 'YYYYMMDD') as name,
          format('FOR VALUES FROM (%L) TO (%L)', day, day + interval '1 day') as bound
        from generate_series(date_trunc('day', now()), now() + interval '3 days',
          interval '1 day') as day`;
      expect(await partitionsOf(sql, 'ops.scratch')).toEqual([...wanted]);
    });
  });

  test('gives the rows of past and far months a partition too, and none to infinity', async () => {
    await asOwner(async (sql) => {
      const past = await logMessage(sql, -3);
      const far = await logMessage(sql, 40);
      expect(await ensure(sql)).toBe(2);
      const found = [await stored(sql, past), await stored(sql, far)];
      expect(found.map((each) => each?.partition)).toEqual([
        (await months(sql, -3, -3))[0]?.name,
        (await months(sql, 40, 40))[0]?.name,
      ]);
      expect(await ensure(sql)).toBe(0);
    });
  });

  test('leaves a table that is in use or cannot have one, and makes the others', async () => {
    const owner = db.as('owner');
    await owner.unsafe(`
      create table ops.aa_busy (at timestamptz not null) partition by range (at);
      create table ops.aa_busy_default partition of ops.aa_busy default;
      create table ops.aa_list (at integer) partition by list (at);
      create table ops.zz_idle (at timestamptz not null) partition by range (at);
      insert into ops.partition_policies (parent_table, step, premake)
      values ('ops.aa_busy', '1 month', 1), ('ops.aa_list', '1 month', 1),
        ('ops.zz_idle', '1 month', 1)`);
    const left = await db.as('superuser').begin(async (reader) => {
      await reader`select from ops.aa_busy`;
      return owner`
        select parent_table::text, created, failure from ops.make_partitions()
        where parent_table::text ~ '(aa|zz)_'`;
    });
    expect(left).toEqual([
      { parent_table: 'aa_busy', created: 0, failure: 'another session is using the table' },
      { parent_table: 'aa_list', created: 0, failure: expect.stringMatching(/^GW010: /) },
      { parent_table: 'zz_idle', created: 2, failure: null },
    ]);
    expect(await ensure(owner)).toBe(2);
    await owner.unsafe(`
      delete from ops.partition_policies where parent_table::text ~ '(aa|zz)_';
      drop table ops.aa_busy, ops.aa_list, ops.zz_idle`);
  });

  test('can run twice at once: the second waits and has nothing to do', async () => {
    const [eleventh, twelfth] = await months(db.as('owner'), 11, 12);
    await db.as('owner').unsafe(`drop table ${eleventh?.name}, ${twelfth?.name}`);
    let second: Promise<number> | undefined;
    const first = await db.as('owner').begin(async (sql) => {
      const created = await ensure(sql);
      second = ensure(db.as('owner'));
      await waitUntilBlocked(db.as('superuser'));
      return created;
    });
    expect([first, await second]).toEqual([2, 0]);
    expect(await partitionsOf(db.as('owner'), 'app_public.message_logs')).toHaveLength(14);
  });
});

describe('create_range_partition', () => {
  test('moves the rows of its range out of DEFAULT, unchanged, and no others', async () => {
    await asOwner(async (sql) => {
      const id = await logMessage(sql, 20);
      const later = await logMessage(sql, 21);
      await sql`update app_public.message_logs set status = 'QUEUED' where id = ${id}`;
      const before = await stored(sql, id);
      expect(before?.partition).toBe('app_partitions.message_logs_default');
      const [month] = await months(sql, 20, 20);

      expect(await create(sql, 'app_public.message_logs', 20)).toBe(month?.name);

      expect(await stored(sql, id)).toEqual({ partition: month?.name, columns: before?.columns });
      const left = await sql`select id from app_partitions.message_logs_default`;
      expect(left).toEqual([{ id: later }]);
      await create(sql, 'app_public.message_logs', 21);
      expect(await sql`select from app_partitions.message_logs_default`).toHaveLength(0);
      expect(await partitionsOf(sql, 'app_public.message_logs')).toEqual([
        { name: 'app_partitions.message_logs_default', bound: 'DEFAULT' },
        ...(await months(sql, 0, 12)),
        ...(await months(sql, 20, 21)),
      ]);
    });
  });

  test('returns null when the partition is there', async () => {
    await asOwner(async (sql) => {
      expect(await create(sql, 'app_public.message_logs', 0)).toBeNull();
    });
  });

  test('grants nothing on the partition', async () => {
    await asOwner(async (sql) => {
      const name = await create(sql, 'app_public.message_logs', 20);
      const [row] = await sql`
        select relacl, relnamespace::regnamespace::text as schema
        from pg_class where oid = ${name}::text::regclass`;
      expect(row).toEqual({ relacl: null, schema: 'app_partitions' });
    });
  });

  test.each([
    ['a table without partitions', 'app_public.users'],
    ['a table partitioned by hash', 'app_public.tasks'],
    ['a table partitioned by two columns', 'ops.scratch'],
    ['an index', 'app_public.message_logs_pkey'],
  ])('refuses %s with GW010', async (_what, parent) => {
    await asOwner(async (sql) => {
      await sql`create table ops.scratch (a date, b date) partition by range (a, b)`;
      await expectRefusal(
        sql,
        'GW010',
        (inner) => inner`
          select ops.create_range_partition(${parent}::text::regclass, now(), '1 month')`,
      );
    });
  });
});
