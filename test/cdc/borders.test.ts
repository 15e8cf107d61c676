import { expect, test } from 'vitest';
import { locks } from '../../src/cdc/link.ts';
import { plugins } from '../../src/cdc/slot.ts';
import type { Sql } from '../../src/postgres/connect.ts';
import { Capture, expectDays, insertTask } from '../helpers/capture.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();

interface Commit {
  /** Where its record begins. */
  lsn: string;
  /** Where it ends. */
  end: string;
}

/** The commits that a slot of pgoutput has not passed, oldest first. */
async function commitsOf(sql: Sql, slot: string): Promise<Commit[]> {
  const rows = await sql<{ data: Buffer }[]>`
    select data from pg_logical_slot_peek_binary_changes(${slot}, null, null,
      'proto_version', '1', 'publication_names', 'gw_cdc')`;
  const lsnAt = (data: Buffer, at: number): string =>
    `${data.readUInt32BE(at).toString(16)}/${data.readUInt32BE(at + 4).toString(16)}`.toUpperCase();
  return rows
    .filter(({ data }) => data.toString('latin1', 0, 1) === 'C')
    .map(({ data }) => ({ lsn: lsnAt(data, 2), end: lsnAt(data, 10) }));
}

/** Two sessions write, and commit so that nothing lies between their commits in the log. */
async function commitSideBySide(ids: [string, string], slot: string): Promise<Commit> {
  const sql = db.as('superuser');
  return eventually(async () => {
    const [first, second] = [await sql.reserve(), await sql.reserve()];
    try {
      for (const [session, id] of [
        [first, ids[0]],
        [second, ids[1]],
      ] as const) {
        await session`begin`;
        await session`set local session_replication_role = replica`;
        // A slot shows what is on the disk: without it the second commit may be missing.
        await session`set local synchronous_commit = on`;
        await session`insert into app_public.tasks (user_id, title, created_at)
          values (${id}, 'At the border', '2026-03-01T10:00Z')`;
      }
      await first`commit`;
      await second`commit`;
      const [one, two] = (await commitsOf(sql, slot)).slice(-2);
      if (one !== undefined && one.end === two?.lsn) return one;
      // Somebody else has written meanwhile.
      await sql`delete from app_public.tasks where user_id = any (${ids})`;
      return undefined;
    } finally {
      first.release();
      second.release();
    }
  }, 60_000);
}

/** A consumer that has stopped, and two transactions that it has not read, side by side. */
async function useBorder(
  plugin: (typeof plugins)[number],
  work: (capture: Capture, ids: [string, string], first: Commit) => Promise<void>,
): Promise<void> {
  const sql = db.as('superuser');
  const capture = new Capture(db, plugin);
  const slot = `${db.database.description}_borders_${plugin}`;
  const ids = [(await createUser(sql)).id, (await createUser(sql)).id] as [string, string];
  try {
    const { stop } = await capture.started();
    await stop();
    await sql`select pg_create_logical_replication_slot(${slot}, 'pgoutput')`;
    await work(capture, ids, await commitSideBySide(ids, slot));
  } finally {
    await capture.close();
    await capture.dropSlot();
    await sql`
      select pg_drop_replication_slot(slot_name) from pg_replication_slots
      where slot_name = ${slot}`;
    await sql`delete from ops.change_capture`;
  }
  expect(capture.log).not.toContain('"level":50');
}

const day = { agg_date: '2026-03-01', tasks_created: 1 };
const timeout = patience(120_000);

test.each(plugins)(
  'with %s the transaction that begins where the last one ended is the next',
  { timeout },
  (plugin) =>
    useBorder(plugin, async (capture, ids, first) => {
      const sql = db.as('superuser');
      // As if the consumer had stored the first of the two, and died before it could confirm it.
      await sql`update ops.change_capture set applied_lsn = ${first.end}`;
      await capture.started();
      await expectDays(sql, ids[1], [day]);
      await expectDays(sql, ids[0], []);
      // And it goes on from there.
      await insertTask(sql, ids[1], '2026-03-02T10:00Z');
      await expectDays(sql, ids[1], [day, { agg_date: '2026-03-02', tasks_created: 1 }]);
    }),
);

test.each(plugins)(
  'with %s the transaction that begins where reconcile has it wait waits',
  { timeout },
  (plugin) =>
    useBorder(plugin, async (capture, ids, first) => {
      const sql = db.as('superuser');
      const reconcile = await db.as('cdc', 1).reserve();
      await reconcile`select pg_advisory_lock(${locks.reconcile[0]}, ${locks.reconcile[1]})`;
      await reconcile`select app_private.hold_capture(${capture.slot}, ${first.end})`;
      const { consumer } = capture.start();
      await eventually(async () => {
        const [row] = await sql<{ is_there: boolean }[]>`
          select applied_lsn = ${first.end} as is_there from ops.change_capture`;
        return row?.is_there;
      });
      await expectDays(sql, ids[0], [day]);
      await expectDays(sql, ids[1], []);
      await reconcile`select app_private.hold_capture(${capture.slot}, null)`;
      await expectDays(sql, ids[1], [day]);
      await reconcile`select pg_advisory_unlock_all()`;
      reconcile.release();
      await consumer.stop();
    }),
);
