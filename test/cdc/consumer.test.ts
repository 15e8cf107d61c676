import { afterEach, describe, expect, test, vi } from 'vitest';
import { Consumer } from '../../src/cdc/consumer.ts';
import { plugins } from '../../src/cdc/slot.ts';
import { expectDays, insertTask, useCapture } from '../helpers/capture.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

// A slot reads the log of the whole server: what other files write too.
vi.setConfig({ testTimeout: patience(120_000) });

const long = { timeout: patience(90_000) };

describe.each(plugins)('with %s', (plugin) => {
  const db = useDatabase();
  const capture = useCapture(db, plugin);

  const confirmed = async () => {
    const [row] = await db.as('superuser')`
      select confirmed_flush_lsn::text as lsn, active_pid as pid from pg_replication_slots
      where slot_name = ${capture.slot}`;
    return row;
  };
  const alerts = async (check: string) => {
    const rows = await db.as('monitor')`
      select level, detail, resolved_at is null as open from ops.alerts
      where check_name = ${check} order by id`;
    return [...rows];
  };

  afterEach(async () => {
    await db.as('superuser')`alter table app_public.user_dashboard_aggregates
      drop constraint if exists refused`;
  });

  test('what is confirmed is on the disk, whatever the server says of commits', long, async () => {
    const sql = db.as('superuser');
    await sql.unsafe(`
      create table public.commits (setting text);
      grant insert on public.commits to public;
      create function public.note_commit() returns trigger language plpgsql as $$
      begin
        insert into public.commits values (current_setting('synchronous_commit'));
        return null;
      end $$;
      create trigger note after insert or update on app_public.user_dashboard_aggregates
        execute function public.note_commit()`);
    const [{ name } = { name: '' }] = await sql<{ name: string }[]>`
      select current_database() as name`;
    await sql.unsafe(`alter role gw_cdc in database ${name} set synchronous_commit = off`);
    try {
      await capture.started();
      const { id } = await createUser(sql);
      await insertTask(sql, id, '2026-03-01T12:00Z');
      await eventually(async () => (await sql`select from public.commits`).length > 0);
      const settings = await sql`select distinct setting from public.commits`;
      expect([...settings]).toEqual([{ setting: 'on' }]);
    } finally {
      await sql.unsafe(`alter role gw_cdc in database ${name} reset all;
        drop function public.note_commit cascade; drop table public.commits`);
    }
  });

  test('whoever is stopped while a slot is made leaves none behind', long, async () => {
    const sql = db.as('superuser');
    await capture.dropSlot();
    await sql.begin(async (running) => {
      await running`select txid_current()`;
      const { stop } = capture.start();
      await eventually(async () => (await confirmed())?.pid != null);
      await stop();
      expect(await confirmed()).toBe(undefined);
    });
    await capture.started();
  });

  test(
    'the first start counts what is there, and loses nothing that comes meanwhile',
    long,
    async () => {
      const sql = db.as('superuser');
      const { id } = await createUser(sql, { timezone: 'America/New_York' });
      await insertTask(sql, id, '2026-03-01T01:00Z');
      const writing = (async () => {
        for (let n = 0; n < 200; n += 1) {
          await sql`insert into app_public.tasks (user_id, title) values (${id}, 'Meanwhile')`;
        }
      })();
      await capture.started();
      await writing;
      await capture.expectRight();
      const [row] = await sql`select sum(tasks_created)::integer as n
      from app_public.user_dashboard_aggregates where user_id = ${id}`;
      expect(row?.n).toBe(201);
      expect(await capture.status()).toMatchObject({ plugin, state: 'running', active: true });
    },
  );

  test('how far it is behind, and whether it runs, are metrics', long, async () => {
    const metrics = async () => {
      const rows = await db.as('monitor')`
        select name, value from ops.metrics()
        where name like 'gw_cdc%' and labels ->> 'slot' = ${capture.slot}`;
      return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
    };
    const { stop } = await capture.started();
    expect(await metrics()).toEqual({
      gw_cdc_active: 1,
      gw_cdc_lag_bytes: expect.any(Number),
      gw_cdc_lag_seconds: expect.any(Number),
    });
    await stop();
    await eventually(async () => (await metrics()).gw_cdc_active === 0);
    const { gw_cdc_lag_bytes: before = 0 } = await metrics();
    await db.as('superuser')`select pg_logical_emit_message(false, 'fill', repeat('x', 100000))`;
    await eventually(async () => (await metrics()).gw_cdc_lag_bytes > before + 100_000);
  });

  test('a snapshot that is broken off is taken again', long, async () => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    await insertTask(sql, id, '2026-03-01T10:00Z');
    await (await capture.started()).stop();
    // As it is when the process dies between making the slot and the end of counting.
    await db.as('cdc')`select app_private.begin_capture_snapshot(${capture.slot}, ${plugin})`;
    await capture.started();
    expect(capture.log).toContain('no slot was made for the last count');
    await capture.expectRight();
  });

  test.each([
    ['dropped', 'the replication slot is gone'],
    ['moved on by somebody else', 'moved or made anew by somebody else'],
    ['lost in a restored copy, whose partitions are others', 'the replication slot is gone'],
  ])('a slot that was %s is noticed, said, and everything counted anew', long, async (how, why) => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    await (await capture.started()).stop();
    await insertTask(sql, id, '2026-03-01T10:00Z');
    await eventually(async () => (await confirmed())?.pid === null);
    if (how === 'moved on by somebody else') {
      await sql`select pg_replication_slot_advance(${capture.slot}, pg_current_wal_insert_lsn())`;
    } else {
      await capture.dropSlot();
      if (how !== 'dropped') await sql`update ops.change_capture set partitions = '{}'`;
    }
    await capture.started();
    await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    expect(capture.log).toContain(why);
    expect((await alerts('change-capture-slot')).at(-1)).toMatchObject({
      level: 'warning',
      detail: expect.stringContaining(why),
      open: false,
    });
    await capture.expectRight();
  });

  test(
    'a change that cannot be applied stops it, raises an alert, and is not skipped',
    long,
    async () => {
      const sql = db.as('superuser');
      const { id } = await createUser(sql);
      const { id: other } = await createUser(sql);
      const { ended, stop } = await capture.started();
      await sql.unsafe(`alter table app_public.user_dashboard_aggregates
      add constraint refused check (agg_date <> '2026-03-13') not valid`);
      await sql.begin(async (inner) => {
        await inner`set local session_replication_role = replica`;
        for (const [user, day] of [
          [other, '01'],
          [id, '13'],
          [other, '02'],
        ] as const) {
          await inner`insert into app_public.tasks (user_id, title, created_at)
          values (${user}, 'Refused', ${`2026-03-${day}T10:00Z`})`;
        }
      });
      await expect(ended).rejects.toThrow(/committed at .* cannot be applied: .*refused/);
      await stop();
      expect(await capture.status()).toMatchObject({
        state: 'failed',
        error: expect.stringContaining('refused'),
      });
      expect((await alerts('change-capture-failed')).at(-1)).toMatchObject({
        level: 'critical',
        open: true,
      });
      // All of a transaction or nothing, and again when it is started again.
      await expectDays(sql, other, []);
      await expect(capture.start().ended).rejects.toThrow(/refused/);

      await sql`alter table app_public.user_dashboard_aggregates drop constraint refused`;
      await capture.started();
      await expectDays(sql, id, [{ agg_date: '2026-03-13', tasks_created: 1 }]);
      await capture.expectRight();
      await eventually(async () =>
        (await alerts('change-capture-failed')).every(({ open }) => !open),
      );
      expect(await capture.status()).toMatchObject({ state: 'running', error: null });
    },
  );

  test('those before a change that cannot be applied are applied', long, async () => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    await (await capture.started()).stop();
    await sql.unsafe(`alter table app_public.user_dashboard_aggregates
      add constraint refused check (agg_date <> '2026-03-13') not valid`);
    for (const day of ['01', '13', '02']) await insertTask(sql, id, `2026-03-${day}T10:00Z`);
    await expect(capture.start().ended).rejects.toThrow(/refused/);
    await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    await sql`alter table app_public.user_dashboard_aggregates drop constraint refused`;
    await capture.started();
    await capture.expectRight();
  });

  test('a slot of another name takes over, and the old one keeps no log', long, async () => {
    const sql = db.as('superuser');
    await (await capture.started()).stop();
    await eventually(async () => (await confirmed())?.pid === null);
    const slot = `${capture.slot}_b`;
    const other = new Consumer({ ...capture.options, slot });
    const running = other.run();
    await eventually(async () => {
      const rows = await sql`select slot_name, state from ops.change_capture`;
      return JSON.stringify([...rows]) === JSON.stringify([{ slot_name: slot, state: 'running' }]);
    });
    expect(await confirmed()).toBeUndefined();
    await other.stop();
    await running;
    await eventually(async () => {
      await sql`select pg_drop_replication_slot(slot_name) from pg_replication_slots
        where slot_name = ${slot} and not active`;
      return (await sql`select from pg_replication_slots where slot_name = ${slot}`).length === 0;
    });
    await capture.started();
  });

  test('a second consumer waits, and takes over when the first is gone', long, async () => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    const first = await capture.started();
    capture.start();
    await eventually(async () => capture.log.includes('another consumer runs'));
    await insertTask(sql, id, '2026-03-01T10:00Z');
    await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    await first.stop();
    await insertTask(sql, id, '2026-03-01T10:00Z');
    await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 2 }]);
    await capture.expectRight();
  });

  test('connections that are ended, all or one, are made again', long, async () => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    await capture.started();
    for (let round = 1; round <= 6; round += 1) {
      await sql`insert into app_public.tasks (user_id, title)
        select ${id}, 'Many' from generate_series(1, 500)`;
      // All, then each by itself.
      await sql`
        select pg_terminate_backend(pid) from (
          select pid, row_number() over (order by backend_start) as nth from pg_stat_activity
          where application_name = 'gw cdc' and datname = current_database()
        ) as links
        where ${round} in (1, 6) or nth = ${round} - 1`;
    }
    await eventually(async () => {
      const [row] = await sql`select sum(tasks_created)::integer as n
        from app_public.user_dashboard_aggregates where user_id = ${id}`;
      return row?.n === 3_000;
    });
    expect(capture.log).toContain('connecting again');
    await capture.expectRight();
  });

  test('an idle database is confirmed too, and its slot holds nothing up', long, async () => {
    await capture.started();
    const [before] = await db.as('superuser')`select pg_current_wal_insert_lsn()::text as lsn`;
    await eventually(async () => {
      const [row] = await db.as('superuser')`
        select ${(await confirmed())?.lsn as string}::pg_lsn > ${before?.lsn}::pg_lsn as passed,
          ops.is_confirmed_by_cdc(${before?.lsn}) as confirmed`;
      return row?.passed && row.confirmed;
    });
    const status = await capture.status();
    expect(status?.lag_seconds).toBeLessThan(5);
    expect(Number(status?.lag_bytes)).toBeLessThan(16 * 1024 * 1024);
  });

  test('it confirms nothing that is not stored', long, async () => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    await capture.started();
    await insertTask(sql, id, '2026-03-01T10:00Z');
    await expectDays(sql, id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
    await sql.begin(async (inner) => {
      await inner`select from ops.change_capture for update`;
      await insertTask(sql, id, '2026-03-02T10:00Z');
      const [row] = await sql`select pg_current_wal_insert_lsn()::text as lsn`;
      await eventually(async () => {
        const waiting = await sql`
          select from pg_stat_activity
          where application_name = 'gw cdc' and datname = current_database()
            and wait_event_type = 'Lock' and query like '%apply_changes%'`;
        return waiting.length > 0;
      });
      for (let n = 0; n < 50; n += 1) {
        const [held] = await sql`
          select confirmed_flush_lsn <= applied_lsn as by_position,
            confirmed_flush_lsn < ${row?.lsn} as by_commit
          from ops.change_capture_status where slot_name = ${capture.slot}`;
        expect(held).toEqual({ by_position: true, by_commit: true });
      }
    });
    await capture.expectRight();
  });

  test('a batch that is handed over twice, or by one who is behind, is refused', long, async () => {
    await (await capture.started()).stop();
    const cdc = db.as('cdc');
    const [state] = await cdc`select applied_lsn::text as lsn from ops.change_capture`;
    const lsn = state?.lsn as string;
    const apply = (from: string) => cdc`
      select app_private.apply_changes(${capture.slot}, ${from}, ${from}, null, null, '{}')`;
    await apply(lsn);
    await expect(apply('0/1')).rejects.toMatchObject({ code: 'GW060' });
    // Nor when somebody else begins to count everything anew.
    await cdc`select app_private.begin_capture_snapshot(${capture.slot}, ${plugin})`;
    await expect(apply(lsn)).rejects.toMatchObject({ code: 'GW060' });
    await capture.started();
    expect(await capture.differences()).toEqual([]);
  });
});
