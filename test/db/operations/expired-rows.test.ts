import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, rolledBack, transactionsOf, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

/** A table with a row for each age in days, and a policy that keeps two days. */
async function createKept(sql: Transaction, name: string, days: number[], type = 'timestamptz') {
  await sql.unsafe(`
    create table ops."${name}" (id int, happened ${type} not null);
    insert into ops."${name}"
    select row_number() over (), now() - days * interval '1 day'
    from unnest('{${days.join(',')}}'::int[]) as days`);
  await keep(sql, `ops.${name}`);
}

const keep = (sql: Transaction, relation: string, column = 'happened') => sql`
  insert into ops.retention_policies (relation, time_column, kept_for, reason)
  values (${relation}, ${column}, '2 days', 'a test')`;

async function deleteExpired(sql: Transaction, rows = 10_000, batches = 100): Promise<number> {
  const [row] = await sql`select ops.delete_expired_rows(${rows}, ${batches})::int as deleted`;
  return row?.deleted;
}

const ids = async (sql: Transaction, name: string): Promise<number[]> =>
  (await sql.unsafe(`select id from ops."${name}" order by id`)).map(({ id }) => id);

interface Alert {
  object: string;
  detail: string;
}

/** What is open about retention, apart from pg_cron's history, which is not here. */
const alerts = async (sql: Transaction): Promise<Alert[]> => [
  ...(await sql<Alert[]>`
    select object, detail from ops.alerts
    where check_name = 'retention-failed' and resolved_at is null
      and object <> 'cron.job_run_details'
    order by object`),
];

describe('delete_expired_rows', () => {
  test.each(['timestamptz', 'timestamp'])(
    'deletes what is older than a %s may be',
    async (type) => {
      await asOwner(async (sql) => {
        await createKept(sql, 'kept', [0, 1, 3, 400], type);
        await sql`set local timezone = 'Pacific/Kiritimati'`;
        expect(await deleteExpired(sql)).toBe(2);
        expect(await ids(sql, 'kept')).toEqual([1, 2]);
        expect(await deleteExpired(sql)).toBe(0);
      });
    },
  );

  // At any hour the date is not that of UTC in one of the two.
  test.each(['Pacific/Kiritimati', 'Pacific/Pago_Pago'])(
    'keeps a date until all of that day of UTC is old enough, in %s too',
    async (zone) => {
      await asOwner(async (sql) => {
        await createKept(sql, 'kept', [1, 2, 3], 'date');
        await sql`select set_config('timezone', ${zone}, true)`;
        expect(await deleteExpired(sql)).toBe(1);
        expect(await ids(sql, 'kept')).toEqual([1, 2]);
      });
    },
  );

  test('works in batches, and leaves the rest to the next night', async () => {
    await asOwner(async (sql) => {
      await createKept(sql, 'kept', Array(25).fill(9));
      expect(await deleteExpired(sql, 10, 2)).toBe(20);
      expect(await deleteExpired(sql, 10, 2)).toBe(5);
      expect(await alerts(sql)).toEqual([]);
    });
  });

  test('spares what is not due in the other partitions of a table', async () => {
    await asOwner(async (sql) => {
      // Both rows are the first of their partition: one ctid.
      await sql.unsafe(`
        create table ops.parted (id int, happened timestamptz) partition by list (id);
        create table app_partitions.parted_1 partition of ops.parted for values in (1);
        create table app_partitions.parted_2 partition of ops.parted for values in (2);
        insert into ops.parted values (1, now() - interval '9 days'), (2, now())`);
      await keep(sql, 'ops.parted');
      expect(await deleteExpired(sql)).toBe(1);
      expect(await ids(sql, 'parted')).toEqual([2]);
    });
  });

  test('sets aside a table that is gone, lacks the column, or refuses, and does the others', async () => {
    await asOwner(async (sql) => {
      await createKept(sql, 'kept', [9]);
      await createKept(sql, 'zz_kept', [9]);
      await createKept(sql, 'refusing', [9]);
      await sql.unsafe(`
        create trigger refuse before delete on ops.refusing
          for each statement execute function app_private.tg__append_only()`);
      await createKept(sql, 'other_column', [9]);
      await sql`alter table ops.other_column rename happened to at`;
      await createKept(sql, 'no_time', [9]);
      await sql`alter table ops.no_time alter happened type text`;
      await keep(sql, 'ops.gone');

      expect(await deleteExpired(sql)).toBe(2);
      const expected = [
        { object: 'ops.gone', detail: 'there is no such table' },
        { object: 'ops.no_time', detail: 'happened is not a time' },
        { object: 'ops.other_column', detail: 'there is no column happened' },
        { object: 'ops.refusing', detail: expect.stringMatching(/^GW030: /) },
      ];
      expect(await alerts(sql)).toEqual(expected);
      expect(await ids(sql, 'refusing')).toEqual([1]);
      // Once, however often it is met.
      expect(await deleteExpired(sql)).toBe(0);
      expect(await alerts(sql)).toEqual(expected);

      // Put right in one way or another.
      await sql`delete from ops.retention_policies where relation = 'ops.gone'`;
      await sql`alter table ops.other_column rename at to happened`;
      await sql`drop trigger refuse on ops.refusing`;
      expect(await deleteExpired(sql)).toBe(2);
      expect(await alerts(sql)).toEqual([expected[1]]);
    });
  });

  test("tells where pg_cron's history is not here", async () => {
    await asOwner(async (sql) => {
      await deleteExpired(sql);
      await deleteExpired(sql);
      const told = await sql`
        select level, detail from ops.alerts
        where check_name = 'retention-failed' and object = 'cron.job_run_details'`;
      expect(told).toEqual([{ level: 'warning', detail: 'there is no such table' }]);
    });
  });

  test('takes a name for a name, whatever it holds', async () => {
    await asOwner(async (sql) => {
      await createKept(sql, 'kept', [9]);
      await sql`alter table ops.kept rename happened to "at < now() or true; --"`;
      await sql`
        update ops.retention_policies set time_column = 'at < now() or true; --'
        where relation = 'ops.kept'`;
      await sql`insert into ops.kept values (2, now())`;
      expect(await deleteExpired(sql)).toBe(1);
      expect(await ids(sql, 'kept')).toEqual([2]);
    });
  });

  test('is for the owner alone', async () => {
    for (const role of ['gw_monitor', 'gw_worker', 'gw_readonly', 'app_user']) {
      await rolledBack(db.as('superuser'), async (sql) => {
        await sql.unsafe(`set local role ${role}`);
        await expectRefusal(sql, '42501', (inner) => inner`select ops.delete_expired_rows()`);
        await expectRefusal(sql, '42501', (inner) => inner`delete from ops.retention_policies`);
      });
    }
  });
});

describe('a retention policy', () => {
  test.each([
    "kept_for = '0'",
    "kept_for = '-1 day'",
    "relation = 'sessions'",
    "relation = 'ops.x; drop table y'",
    "reason = ''",
  ])('cannot have %s', async (assignment) => {
    await asOwner(async (sql) => {
      await expectRefusal(sql, '23514', (inner) =>
        inner.unsafe(`
          update ops.retention_policies set ${assignment} where relation = 'ops.alert_notices'`),
      );
    });
  });

  test.each([
    ['happend', 'ops.kept has no column happend with a time'],
    ['id', 'ops.kept has no column id with a time'],
  ])(
    'refuses a policy for the column %s, which is no time of the table',
    async (column, message) => {
      await asOwner(async (sql) => {
        await createKept(sql, 'kept', [9]);
        await expect(
          sql.savepoint(
            (inner) => inner`
          update ops.retention_policies set time_column = ${column}
          where relation = 'ops.kept'`,
          ),
        ).rejects.toMatchObject({ code: 'GW014', message });
      });
    },
  );

  test('keeps the message ledger longer than a message may be late', async () => {
    await asOwner(async (sql) => {
      const shorten = (inner: Transaction, keptFor: string) => inner`
        update ops.retention_policies set kept_for = ${keptFor}::text::interval
        where relation = 'app_private.message_ledger'`;
      // What app_private.next_occasions() asks of the ledger: the late window and two days.
      await expect(
        sql.savepoint((inner) => shorten(inner, '8 days 23 hours')),
      ).rejects.toMatchObject({
        code: 'GW014',
        message: 'message_ledger must be kept for 9 days at least, not 8 days 23:00:00',
        hint: expect.stringContaining('sent twice'),
      });
      await expectRefusal(
        sql,
        'GW014',
        (inner) => inner`
          insert into ops.retention_policies (relation, time_column, kept_for, reason)
          values ('app_partitions.message_ledger_h00', 'delivery_date', '1 day', 'a detour')`,
      );
      expect((await shorten(sql, '9 days')).count).toBe(1);
    });
  });

  test('allows for the longest late window that can be set', async () => {
    await asOwner(async (sql) => {
      await sql`update app_private.message_settings set late_window = '7 days'`;
      await expectRefusal(
        sql,
        '23514',
        (inner) => inner`
          update app_private.message_settings set late_window = '7 days 1 second'`,
      );
    });
  });
});
