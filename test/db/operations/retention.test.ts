import { describe, expect, inject, test } from 'vitest';
import { connect, type Sql, type Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, rolledBack, transactionsOf, useDatabase } from '../../helpers/database.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

interface Policy {
  retention?: string | null;
  action?: 'detach' | 'drop';
  backup?: boolean;
}

/** A table with a partition for each of the last six days and today, and a row in each. */
async function createAged(sql: Sql | Transaction, name: string, policy: Policy = {}) {
  const { retention = '2 days', action = 'detach', backup = false } = policy;
  await sql.unsafe(`
    create table ops.${name} (at timestamptz not null, note text) partition by range (at);
    create table app_partitions.${name}_default partition of ops.${name} default;
  `);
  await sql`
    insert into ops.partition_policies
      (parent_table, step, premake, retention, retention_action, require_backup)
    values (${`ops.${name}`}::text::regclass, '1 day', 1, ${retention}, ${action}, ${backup})`;
  await sql`
    select ops.create_range_partition(${`ops.${name}`}::text::regclass,
      now() - make_interval(days => age), '1 day')
    from generate_series(0, 6) as age`;
  await sql.unsafe(`
    insert into ops.${name} select now() - make_interval(days => age), 'day ' || age
    from generate_series(0, 6) as age`);
}

/** The name of the partition that held what is some days old. */
async function partition(sql: Sql | Transaction, name: string, age: number): Promise<string> {
  const [row] = await sql`
    select to_char(now() - make_interval(days => ${age}), 'YYYYMMDD') as day`;
  return `app_partitions.${name}_p${row?.day}`;
}

const notes = async (sql: Sql | Transaction, table: string): Promise<string[]> =>
  (await sql.unsafe(`select note from ${table} order by note`)).map(({ note }) => note);

async function prune(sql: Sql | Transaction): Promise<number> {
  const [row] = await sql`select ops.prune_partitions() as pruned`;
  return row?.pruned;
}

async function dropDetached(sql: Sql | Transaction): Promise<number> {
  const [row] = await sql`select ops.drop_detached_partitions() as dropped`;
  return row?.dropped;
}

const exists = async (sql: Sql | Transaction, name: string): Promise<boolean> =>
  (await sql`select to_regclass(${name}) is not null as found`)[0]?.found;

interface Event {
  event: string;
  name: string;
  reason: string | null;
}

/** What was recorded of a table's partitions besides their creation, in order. */
const events = async (sql: Sql | Transaction, name: string): Promise<Event[]> => [
  ...(await sql<Event[]>`
    select event, partition_name as name, reason from ops.partition_events
    where parent_table = ${`ops.${name}`} and event <> 'created'
    order by id`),
];

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

describe('a partition that is to be dropped', () => {
  test('is dropped at once when neither backup nor replication slot is in the way', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged', { action: 'drop' });
      expect(await prune(sql)).toBe(4);
      const recorded = (await events(sql, 'aged')).map(({ event }) => event);
      expect(recorded).toEqual([...Array(4).fill('detached'), ...Array(4).fill('dropped')]);
      expect(await exists(sql, await partition(sql, 'aged', 3))).toBe(false);
      expect(await exists(sql, await partition(sql, 'aged', 2))).toBe(true);
    });
  });

  test('waits for a verified backup that began after it had left', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged', { action: 'drop', backup: true, retention: '5 days' });
      const oldest = await partition(sql, 'aged', 6);
      // The three times of a backup are never the same.
      const record = (startedAfter: string, tables: string[] | null) => sql`
        with ended as (
          select occurred_at + ${startedAfter}::text::interval as started_at
          from ops.partition_events
          where partition_name = ${oldest} and event = 'detached'
        )
        insert into ops.backups (kind, tables, location, started_at, finished_at, verified_at)
        select 'logical', ${tables}, 'x', started_at, started_at + interval '1 hour',
          started_at + interval '2 hours'
        from ended
        returning id`;
      const expectKept = async () => {
        expect(await dropDetached(sql)).toBe(0);
        expect(await notes(sql, oldest)).toEqual(['day 6']);
      };

      expect(await prune(sql)).toBe(1);
      await expectKept();
      await record('-1 second', null);
      await expectKept();
      await record('1 second', ['ops.aged', 'ops.partition_policies']);
      await expectKept();
      await sql`
        insert into ops.backups (kind, location, started_at, finished_at)
        values ('physical', 'not verified', now() + interval '1 hour', now() + interval '2 hours')`;
      await expectKept();
      await record('1 second', ['ops.partition_policies', oldest]);
      expect(await dropDetached(sql)).toBe(1);
      expect(await exists(sql, oldest)).toBe(false);
      // The obstacle is recorded once, however often it was met.
      expect(await events(sql, 'aged')).toEqual([
        { event: 'detached', name: oldest, reason: null },
        {
          event: 'skipped',
          name: oldest,
          reason: 'no verified backup began after it was detached',
        },
        { event: 'dropped', name: oldest, reason: null },
      ]);
    });
  });

  test('waits for every logical replication slot of this database', async () => {
    const [owner, superuser] = [db.as('owner'), db.as('superuser')];
    const slot = `${db.database.description}_cdc`;
    await createAged(owner, 'streamed', { action: 'drop' });
    const oldest = await partition(owner, 'streamed', 6);
    await superuser`select pg_create_logical_replication_slot(${slot}, 'test_decoding')`;
    try {
      expect(await prune(owner)).toBe(4);
      expect(await dropDetached(owner)).toBe(0);
      expect(await notes(owner, oldest)).toEqual(['day 6']);
      expect((await events(owner, 'streamed')).at(-1)?.reason).toMatch(/replication slot/);
      const [confirmed] = await superuser`select ops.is_confirmed_by_cdc() as yes`;
      expect(confirmed?.yes).toBe(false);
      // Commits of the tests' server reach the log a moment later.
      let dropped = 0;
      await eventually(async () => {
        await superuser`select from pg_logical_slot_get_changes(${slot}, null, null)`;
        dropped += await dropDetached(owner);
        return dropped === 4;
      });
      expect(await exists(owner, oldest)).toBe(false);
    } finally {
      await superuser`select pg_drop_replication_slot(${slot})`;
      await owner`drop table ops.streamed`;
    }
  });

  test('waits for a slot that is being made, and not for those of other databases', async () => {
    const superuser = db.as('superuser');
    const isConfirmed = async (position: string) => {
      const [row] = await superuser`
        select ops.is_confirmed_by_cdc(${position}::text::pg_lsn) as yes`;
      return row?.yes;
    };
    const slot = `${db.database.description}_other`;
    const elsewhere = connect(inject('superuserUrl'), { max: 1 });
    try {
      await elsewhere`select pg_create_logical_replication_slot(${slot}, 'test_decoding')`;
      expect(await isConfirmed('FFFFFFFF/0')).toBe(true);
      await elsewhere`select pg_drop_replication_slot(${slot})`;

      // It waits for a transaction that writes, and has confirmed nothing until then.
      const making = await superuser.begin(async (sql) => {
        await sql`select pg_current_xact_id()`;
        const made = db.as('superuser', 1)`
          select pg_create_logical_replication_slot(${slot}, 'test_decoding')`.then(() => {});
        await eventually(async () => {
          const rows = await elsewhere`
            select from pg_replication_slots
            where slot_name = ${slot} and confirmed_flush_lsn is null`;
          return rows.length > 0;
        });
        expect(await isConfirmed('0/1')).toBe(false);
        return { made };
      });
      await making.made;
      const [made] = await elsewhere`
        select confirmed_flush_lsn::text as lsn, (confirmed_flush_lsn + 1)::text as next
        from pg_replication_slots where slot_name = ${slot}`;
      expect(await isConfirmed(made?.lsn)).toBe(true);
      expect(await isConfirmed(made?.next)).toBe(false);
    } finally {
      await elsewhere`
        select pg_drop_replication_slot(slot_name) from pg_replication_slots
        where slot_name = ${slot}`;
      await elsewhere.end();
    }
  });

  test('is not waited for longer than those who come after may wait', async () => {
    const rows = await db.as('superuser')`
      select proname as name, setting from pg_proc
      cross join unnest(proconfig) as setting
      where pronamespace = 'ops'::regnamespace and proname ~ '^(prune|drop)'
        and setting like 'lock_timeout=%'
      order by 1`;
    expect(rows).toEqual([
      { name: 'drop_detached_partitions', setting: 'lock_timeout=300ms' },
      { name: 'prune_partitions', setting: 'lock_timeout=300ms' },
    ]);
  });

  test('stays while another session reads it', async () => {
    const owner = db.as('owner');
    await createAged(owner, 'read', { action: 'drop', backup: true, retention: '5 days' });
    const oldest = await partition(owner, 'read', 6);
    expect(await prune(owner)).toBe(1);
    await owner`update ops.partition_policies set require_backup = false`;
    await db.as('superuser').begin(async (reader) => {
      await reader.unsafe(`select from ${oldest}`);
      expect(await dropDetached(owner)).toBe(0);
    });
    expect((await events(owner, 'read')).at(-1)?.reason).toBe('another session is using it');
    expect(await dropDetached(owner)).toBe(1);
    await owner`drop table ops.read`;
  });

  test.each([
    ['was detached to be kept', 'detach', "set retention_action = 'drop'"],
    ['is not to be dropped any more', 'drop', "set retention_action = 'detach'"],
  ] as const)('stays when it %s', async (_what, action, change) => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged', { action, backup: true });
      expect(await prune(sql)).toBe(4);
      await sql.unsafe(`update ops.partition_policies ${change}, require_backup = false`);
      expect(await dropDetached(sql)).toBe(0);
      expect(await exists(sql, await partition(sql, 'aged', 6))).toBe(true);
    });
  });

  test('stays when somebody has attached it again', async () => {
    await asOwner(async (sql) => {
      await createAged(sql, 'aged', { action: 'drop', backup: true, retention: '5 days' });
      const oldest = await partition(sql, 'aged', 6);
      expect(await prune(sql)).toBe(1);
      const [range] = await sql`
        select format('from (%L) to (%L)', day, day + 1) as bounds
        from (select (now() - interval '6 days')::date) as oldest (day)`;
      await sql.unsafe(
        `alter table ops.aged attach partition ${oldest} for values ${range?.bounds}`,
      );
      await sql`update ops.partition_policies set require_backup = false`;
      expect(await dropDetached(sql)).toBe(0);
      expect(await notes(sql, 'ops.aged')).toContain('day 6');
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
