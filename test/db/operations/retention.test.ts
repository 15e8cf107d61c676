import { describe, expect, test } from 'vitest';
import { createAged, events, notes, partition, prune } from '../../helpers/aged.ts';
import { expectRefusal, rolledBack, transactionsOf, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

describe('prune_partitions', () => {
  test('detaches what ended before the retention, and nothing else', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged');
      // The day before yesterday ended less than two days ago.
      expect(await prune(sql)).toBe(4);
      expect(await notes(sql, 'ops.aged')).toEqual(['day 0', 'day 1', 'day 2']);
      const gone = await Promise.all([6, 5, 4, 3].map((age) => partition(sql, 'aged', age)));
      expect(await events(sql, 'aged')).toEqual(
        gone.map((name) => ({ event: 'detached', name, reason: null })),
      );
      for (const [index, name] of gone.entries()) {
        expect(await notes(sql, name)).toEqual([`day ${6 - index}`]);
      }
      expect(await prune(sql)).toBe(0);
    });
  });

  test('leaves DEFAULT and what has no end where they are', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged', { retention: '1 microsecond' });
      await sql.unsafe(`
        insert into ops.aged values ('2001-01-01', 'in DEFAULT');
        create table app_partitions.aged_future partition of ops.aged
          for values from ('2900-01-01') to (maxvalue)`);
      expect(await prune(sql)).toBe(6);
      expect(await notes(sql, 'ops.aged')).toEqual(['day 0', 'in DEFAULT']);
      expect((await events(sql, 'aged')).map(({ name }) => name)).not.toContain(
        'app_partitions.aged_future',
      );
    });
  });

  test('keeps everything without a retention', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged', { retention: null, action: 'drop' });
      expect(await prune(sql)).toBe(0);
      expect(await notes(sql, 'ops.aged')).toHaveLength(7);
    });
  });

  test('understands a table that is partitioned by date, whatever the zone', async () => {
    await asOwner(async (sql) => {
      await sql.unsafe(`
        create table ops.dated (day date not null) partition by range (day);
        insert into ops.partition_policies (parent_table, step, premake, retention)
        values ('ops.dated', '1 month', 1, '1 month')`);
      for (const months of [3, 1]) {
        await sql`
          select ops.create_range_partition('ops.dated',
            date_trunc('month', now()) - make_interval(months => ${months}), '1 month')`;
      }
      await sql`set local timezone = 'Pacific/Kiritimati'`;
      await sql`set local datestyle = 'SQL, DMY'`;
      expect(await prune(sql)).toBe(1);
    });
  });

  test('skips a partition whose rows others reference, and goes on', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged');
      await sql.unsafe(`
        alter table ops.aged add unique (at, note);
        create table ops.child (at timestamptz, note text,
          foreign key (at, note) references ops.aged (at, note));
        insert into ops.child select * from ops.aged where note = 'day 6'`);
      expect(await prune(sql)).toBe(3);
      expect(await notes(sql, 'ops.aged')).toEqual(['day 0', 'day 1', 'day 2', 'day 6']);
      const [first] = await events(sql, 'aged');
      expect(first).toMatchObject({
        event: 'skipped',
        name: await partition(sql, 'aged', 6),
        reason: expect.stringContaining('violates foreign key constraint'),
      });
    });
  });

  test('gives up on a table in use, and begins with the others the next time', async () => {
    const owner = db.as('owner');
    // Both are due; the name that sorts first is in use.
    await createAged(owner, 'busy');
    await createAged(owner, 'idle');
    await db.as('superuser').begin(async (reader) => {
      await reader`select from ops.busy`;
      expect(await prune(owner)).toBe(0);
      expect(await prune(owner)).toBe(4);
    });
    expect(await notes(owner, 'ops.idle')).toHaveLength(3);
    expect(await events(owner, 'busy')).toMatchObject(
      Array(2).fill({ event: 'skipped', reason: 'another session is using the table' }),
    );
    expect(await prune(owner)).toBe(4);
    await owner.unsafe('drop table ops.busy, ops.idle');
  });

  test('ignores a policy whose table is gone', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'gone');
      await createAged(sql, 'aged');
      await sql`drop table ops.gone`;
      expect(await prune(sql)).toBe(4);
    });
  });
});

describe('partition_events', () => {
  test('records each creation', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged');
      const created = await sql`
        select partition_name from ops.partition_events
        where parent_table = 'ops.aged' and event = 'created' order by id`;
      expect(created).toHaveLength(7);
      expect(created[0]).toEqual({ partition_name: await partition(sql, 'aged', 0) });
    });
  });

  test.each([
    'update ops.partition_events set event = event where false',
    'delete from ops.partition_events',
    'truncate ops.partition_events',
  ])('refuses "%s", the owner too', async (statement) => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged');
      await expectRefusal(sql, 'GW030', (inner) => inner.unsafe(statement));
      expect((await sql`select from ops.partition_events`).length).toBeGreaterThan(0);
    });
  });

  test('is for monitoring to read, not to write', async () => {
    const monitor = db.as('monitor');
    expect(await monitor`select from ops.partition_events where false`).toHaveLength(0);
    expect(await monitor`select from ops.backups`).toHaveLength(0);
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`set local role gw_monitor`;
      await expectRefusal(sql, '42501', (inner) => inner`select ops.prune_partitions()`);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`
          insert into ops.backups (kind, location) values ('physical', 'x')`,
      );
    });
  });
});

describe("the operators' names", () => {
  test('serve every policy', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged');
      const [made] = await sql`select ops.create_next_month_partition() as n`;
      expect(made?.n).toBe(1);
      // Through the search_path, as it is typed by hand.
      const [pruned] = await sql`select prune_old_activity_partitions() as n`;
      expect(pruned?.n).toBe(4);
    });
  });

  test('are what pg_cron runs', async () => {
    const jobs = await db.as('owner')`
      select job_name, schedule from ops.cron_jobs
      where job_name in ('create-next-month-partition', 'prune-old-partitions')
      order by job_name`;
    expect(jobs).toEqual([
      { job_name: 'create-next-month-partition', schedule: '0 0 1 * *' },
      { job_name: 'prune-old-partitions', schedule: '0 0 2 * *' },
    ]);
  });
});

describe('a policy', () => {
  test.each(["retention = '0'", "retention = '-1 day'", "retention_action = 'archive'"])(
    'cannot have %s',
    async (assignment) => {
      await asOwner(async (sql) => {
        await expectRefusal(sql, '23514', (inner) =>
          inner.unsafe(`update ops.partition_policies set ${assignment}`),
        );
      });
    },
  );
});
