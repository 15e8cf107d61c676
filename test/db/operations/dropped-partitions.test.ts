import { describe, expect, inject, test } from 'vitest';
import { connect } from '../../../src/postgres/connect.ts';
import {
  createAged,
  dropDetached,
  events,
  exists,
  notes,
  partition,
  prune,
} from '../../helpers/aged.ts';
import { transactionsOf, useDatabase } from '../../helpers/database.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

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
