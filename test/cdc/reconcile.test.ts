import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { reconcile, resnapshot } from '../../src/cdc/reconcile.ts';
import { plugins } from '../../src/cdc/slot.ts';
import { asReplica, Capture, daysOf, insertTask, useCapture } from '../helpers/capture.ts';
import { Checkout } from '../helpers/checkout.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

// A slot reads the log of the whole server: what other files write too.
vi.setConfig({ testTimeout: patience(120_000) });

const long = { timeout: patience(90_000) };

/** The most memory that a process has had, in bytes. */
const peakMemory = (pid: number): number =>
  Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;

describe.each(plugins)('reconcile with %s', (plugin) => {
  const db = useDatabase();
  const capture = useCapture(db, plugin);

  test('compares at one position while everything moves', long, async () => {
    const sql = db.as('superuser');
    const users = await Promise.all(Array.from({ length: 4 }, () => createUser(sql)));
    await capture.started();
    let isOver = false;
    const writers = users.map(async ({ id }) => {
      while (!isOver) {
        await sql`insert into app_public.tasks (user_id, title) values (${id}, 'More')`;
        await sql`update app_public.tasks set status = 'done' where user_id = ${id}
          and status = 'todo' and id in (select id from app_public.tasks
            where user_id = ${id} and status = 'todo' limit 1)`;
        await sql`delete from app_public.tasks where user_id = ${id} and random() < 0.1`;
      }
    });
    for (let round = 0; round < 3; round += 1) {
      const { differences, rows } = await reconcile(capture.options);
      expect(differences).toEqual([]);
      expect(rows).toBeGreaterThan(0);
    }
    isOver = true;
    await Promise.all(writers);
    // The consumer was let go on.
    const [row] = await sql`select hold_lsn from ops.change_capture`;
    expect(row).toEqual({ hold_lsn: null });
    await capture.expectRight();
  });

  test('finds every difference, and repairs it', long, async () => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    const days = ['2026-03-01', '2026-03-02', '2026-03-03'];
    for (const day of days) await insertTask(sql, id, `${day}T10:00Z`);
    await capture.started();
    await capture.expectRight();
    await sql`update app_public.user_dashboard_aggregates set tasks_created = 5
      where user_id = ${id} and agg_date = '2026-03-01'`;
    await sql`delete from app_public.user_dashboard_aggregates
      where user_id = ${id} and agg_date = '2026-03-02'`;
    await sql`insert into app_public.user_dashboard_aggregates
      (user_id, agg_date, mood_sum, mood_count) values (${id}, '2026-03-09', 3, 1)`;
    const difference = (agg_date: string, measure: string, expected: number, found: number) => ({
      ...{ user_id: id, agg_date, measure, expected, found },
    });
    expect(await capture.differences()).toEqual([
      difference('2026-03-01', 'tasks_created', 1, 5),
      difference('2026-03-02', 'tasks_created', 1, 0),
      difference('2026-03-09', 'mood_count', 0, 1),
      difference('2026-03-09', 'mood_sum', 0, 3),
    ]);
    await resnapshot(capture.options);
    expect((await daysOf(sql, id)).map(({ agg_date }) => agg_date)).toEqual(days);
    await capture.expectRight();
    // Aggregates and what was captured agree, and both are wrong.
    await sql`delete from app_private.captured_tasks
      where user_id = ${id} and created_on = '2026-03-01'`;
    await sql`delete from app_public.user_dashboard_aggregates
      where user_id = ${id} and agg_date = '2026-03-01'`;
    expect(await capture.differences()).toEqual([difference('2026-03-01', 'tasks_created', 1, 0)]);
    await resnapshot(capture.options);
    await capture.expectRight();
  });

  test('a consumer whose reconcile has died goes on', long, async () => {
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    await capture.started();
    await db.as('cdc')`select app_private.hold_capture(${capture.slot}, '0/0')`;
    await insertTask(sql, id, '2026-03-01T10:00Z');
    await eventually(async () => (await daysOf(sql, id)).length === 1);
  });

  test('a large transaction is applied whole, and never held whole', {
    timeout: patience(300_000),
  }, async () => {
    const sql = db.as('superuser');
    // Memory is looked at with one of the two: what holds it is the same for both.
    const rows = plugin === plugins[0] ? 200_000 : 50_000;
    const { id } = await createUser(sql);
    const consumer = new GwProcess(['cdc'], {
      DATABASE_URL: db.url('superuser'),
      GW_CDC_PASSWORD: decodeURIComponent(new URL(db.url('cdc')).password),
      GW_CDC_PLUGIN: plugin,
      // What it would hold of them has no room in this heap.
      NODE_OPTIONS: '--max-old-space-size=64 --max-semi-space-size=4',
    });
    try {
      await consumer.ready();
      await eventually(async () => (await capture.status())?.state === 'running', 60_000);
      const before = peakMemory(consumer.pid);
      let partial = 0;
      // Without triggers, which would take longer than what is tested.
      const made = asReplica(
        sql,
        (inner) => inner`insert into app_public.tasks (user_id, title, description)
          select ${id}, 'One of many', repeat('x', 1500) from generate_series(1, ${rows}::integer)`,
      );
      await eventually(async () => {
        expect(consumer.hasFailed, consumer.output).toBe(false);
        const [row] = await sql`select coalesce(sum(tasks_created), 0)::integer as n
          from app_public.user_dashboard_aggregates where user_id = ${id}`;
        if (row?.n > 0 && row?.n < rows) partial += 1;
        return row?.n === rows;
      }, 240_000);
      await made;
      expect(partial).toBe(0);
      // Nor is it kept outside of the heap, unread. It takes half of this.
      expect((peakMemory(consumer.pid) - before) / 1e6).toBeLessThan(100);
      await asReplica(sql, (inner) => inner`delete from app_public.tasks where user_id = ${id}`);
      await eventually(async () => (await daysOf(sql, id)).length === 0, 120_000);
      expect(await consumer.stop()).toBe(0);
      expect(await capture.differences()).toEqual([]);
    } finally {
      await consumer.kill();
    }
  });
});

describe('gw cdc', () => {
  const db = useDatabase();
  const capture = new Capture(db);
  let checkout: Checkout;
  const gw = (...args: string[]) =>
    checkout.run(['cdc', ...args], {
      DATABASE_URL: db.url('superuser'),
      GW_STATE_DIR: process.env.GW_STATE_DIR ?? '',
      GW_CDC_PASSWORD: decodeURIComponent(new URL(db.url('cdc')).password),
    });

  beforeAll(() => {
    checkout = new Checkout();
  });
  afterAll(async () => {
    await checkout.remove();
    await capture.close();
    await capture.dropSlot();
  }, patience(60_000));

  test('says how it stands, compares, repairs and counts anew', {
    timeout: patience(180_000),
  }, async () => {
    expect(await gw('status')).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('nothing'),
    });
    expect(await gw('reconcile')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('yet'),
    });
    const sql = db.as('superuser');
    const { id } = await createUser(sql);
    await insertTask(sql, id, '2026-03-01T10:00Z');
    const { stop } = await capture.started();
    const status = await gw('status', '--json');
    expect(status.code).toBe(0);
    expect(JSON.parse(status.stdout)).toMatchObject({
      slot_name: capture.slot,
      state: 'running',
      active: true,
      wal_status: 'reserved',
      lag_bytes: expect.any(Number),
    });
    await stop();
    expect((await gw('status')).code).toBe(1);

    // Without a consumer, too.
    const right = await gw('reconcile', '--json');
    expect(right.code).toBe(0);
    expect(JSON.parse(right.stdout)).toMatchObject({ rows: 1, differences: [], repaired: null });
    await sql`update app_public.user_dashboard_aggregates set tasks_created = 5`;
    expect(await gw('reconcile', '--repair')).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(
        /^\S+ 2026-03-01 tasks_created: 5, must be 1\n1 differences.*\nrepaired/,
      ),
    });
    expect((await gw('reconcile')).code).toBe(0);

    expect((await gw('resnapshot')).code).toBe(2);
    const dry = await gw('resnapshot', '--dry-run');
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining(capture.slot) });
    expect(await gw('resnapshot', '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^counted anew at \S+\n$/),
    });
  });
});
