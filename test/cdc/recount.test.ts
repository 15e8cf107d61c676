import { once } from 'node:events';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Sql } from '../../src/postgres/connect.ts';
import { asReplica } from '../helpers/capture.ts';
import { type CaptureProcess, useCaptureServer } from '../helpers/capture-server.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const server = useCaptureServer('recount');
const long = { timeout: patience(180_000) };

const status = async () => {
  const [row] = await server.sql`select * from ops.change_capture_status`;
  return row;
};
const tasksOf = async (user: string): Promise<number> => {
  const [row] = await server.sql`
    select coalesce(sum(tasks_created), 0)::integer as n
    from app_public.user_dashboard_aggregates where user_id = ${user}`;
  return row?.n;
};
const addTask = (sql: Sql, user: string) => sql`
  insert into app_public.tasks (user_id, title) values (${user}, 'One more')`;
const counted = (consumer: CaptureProcess) =>
  eventually(async () => {
    const row = await status();
    if (row?.state !== 'running') return false;
    return consumer.output().includes('counted everything');
  }, 60_000);
async function expectRight(): Promise<void> {
  const { code, output } = await server.run('reconcile');
  expect(output).toContain('no difference');
  expect(code).toBe(0);
}
async function end(consumer: CaptureProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  if (consumer.exitCode !== null || consumer.signalCode !== null) return;
  consumer.kill(signal);
  await once(consumer, 'exit');
}

/** A transaction that has written, and stays open until it is told to end. */
async function openTransaction(work: (sql: Sql) => PromiseLike<unknown>) {
  const session = await server.sql.reserve();
  await session`begin`;
  await work(session as unknown as Sql);
  return async () => {
    await session`commit`;
    session.release();
  };
}

describe('everything is counted anew', { shuffle: false }, () => {
  let last = '';
  let consumer: CaptureProcess;
  const start = async () => {
    consumer = server.gw();
    await server.reading(consumer);
  };

  beforeAll(async () => {
    const { sql } = server;
    // Commits wait for nobody, but where a test says so.
    await sql`alter system set synchronous_commit = local`;
    await sql`select pg_reload_conf()`;
    // Two slices of users, and some of a third.
    await asReplica(
      sql,
      (inner) => inner`
        insert into app_public.users (email, first_name, timezone)
        select 'user' || n || '@example.com', 'User', (array['UTC', 'Asia/Tokyo'])[1 + n % 2]
        from generate_series(1, 4500) as n`,
    );
    const [row] = await sql`select max(id::text) as id from app_public.users`;
    last = row?.id;
    await addTask(sql, last);
  }, patience(60_000));
  afterEach(() => end(consumer, 'SIGKILL'));

  test(
    'goes on where it was when it is killed, and whoever is in the way holds up only it',
    long,
    async () => {
      const { sql } = server;
      const [first] = await sql`select min(id::text) as id from app_public.users`;
      await start();
      await counted(consumer);
      expect(await tasksOf(last)).toBe(1);

      // Counting begins when who writes now has ended; until then it can be prepared for.
      const commit = await openTransaction((inner) => inner`select pg_current_xact_id()`);
      await sql`select app_private.request_resnapshot(${server.slot})`;
      await eventually(async () => (await status())?.counted_users === '0');
      await addTask(sql, last);
      // As one who deletes the user has it.
      const unlock = await openTransaction(
        (inner) => inner`select from app_public.users where id = ${last} for update`,
      );
      await commit();
      await eventually(async () => (await status())?.counted_users === '4000', 30_000);
      expect(await status()).toMatchObject({
        ...{ state: 'snapshotting', snapshot_users: '4500', recounts: 1 },
        remaining_seconds: expect.any(Number),
      });
      // Who is counted is followed meanwhile; who is not, is not.
      await addTask(sql, first?.id);
      await eventually(async () => (await tasksOf(first?.id)) === 1);
      expect(await tasksOf(last)).toBe(1);

      const before = await status();
      await end(consumer, 'SIGKILL');
      await start();
      await addTask(sql, first?.id);
      await eventually(async () => (await tasksOf(first?.id)) === 2);
      expect(await status()).toMatchObject({
        ...{ state: 'snapshotting', counted_users: '4000', recounts: 1 },
        snapshot_started_at: before?.snapshot_started_at,
      });
      await unlock();
      await counted(consumer);
      expect(await tasksOf(last)).toBe(2);
      expect(await status()).toMatchObject({ snapshot_started_at: null, counted_users: null });
      await expectRight();
    },
  );

  test('waits for what others do not see yet, of what the log has told', long, async () => {
    const { sql } = server;
    await sql`alter system set synchronous_standby_names = 'nobody'`;
    await sql`select pg_reload_conf()`;
    /** Its commit is in the log, and waits for a standby. */
    const commitUnseen = async () => {
      const session = await sql.reserve();
      await session`set synchronous_commit = on`;
      const [row] = await session`select pg_backend_pid() as pid`;
      const written = addTask(session as unknown as Sql, last).execute();
      return async () => {
        await sql`select pg_cancel_backend(${row?.pid})`;
        await written;
        await session`reset synchronous_commit`;
        session.release();
      };
    };
    const waiting = (count: number) =>
      eventually(async () => {
        const rows = await sql`select from pg_stat_activity where wait_event = 'SyncRep'`;
        return rows.length === count;
      });
    const before = await tasksOf(last);

    await start();
    const beforeRecount = await commitUnseen();
    await waiting(1);
    await eventually(async () => (await tasksOf(last)) === before + 1);
    await sql`select app_private.request_resnapshot(${server.slot})`;
    await eventually(async () => (await status())?.recounts === 2);
    const duringRecount = await commitUnseen();
    await waiting(2);
    /** The consumer has been where it would count a slice. */
    const passed = async () => {
      // What comes with the second heartbeat is applied after that.
      for (let beat = 0; beat < 2; beat += 1) {
        const lsn = (await status())?.applied_lsn;
        await sql`select app_private.capture_heartbeat(${server.slot})`;
        await eventually(async () => {
          const [row] = await sql`
            select applied_lsn > ${lsn}::pg_lsn as yes from ops.change_capture`;
          return row?.yes;
        }, 30_000);
      }
    };
    await passed();
    expect(await status()).toMatchObject({ state: 'snapshotting', counted_users: '0' });

    await beforeRecount();
    await passed();
    expect(await status()).toMatchObject({ state: 'snapshotting', counted_users: '0' });

    await duringRecount();
    await counted(consumer);
    expect(await tasksOf(last)).toBe(before + 2);
    await sql`alter system reset synchronous_standby_names`;
    await sql`select pg_reload_conf()`;
    await expectRight();
  });

  test('needs less room in the log than it writes, while others write', long, async () => {
    const { sql } = server;
    await asReplica(
      sql,
      (inner) => inner`
        insert into app_public.tasks (user_id, title, created_at)
        select id, 'Many', date '2025-01-01' + n from app_public.users, generate_series(1, 40) as n`,
    );
    await sql`alter system set max_slot_wal_keep_size = '32MB'`;
    await sql`alter system set max_wal_size = '64MB'`;
    await sql`select pg_reload_conf()`;
    await sql`checkpoint`;
    // The slot is lost by that, and made anew.
    const [{ wal } = {}] = await sql`select pg_current_wal_lsn()::text as wal`;
    await start();
    const written = async (): Promise<number> => {
      const [row] = await sql`select pg_wal_lsn_diff(pg_current_wal_lsn(), ${wal})::float as bytes`;
      return row?.bytes;
    };
    let isOver = false;
    const writing = (async () => {
      while (!isOver) {
        await addTask(sql, last);
        await sql`checkpoint`;
      }
    })();
    await counted(consumer);
    isOver = true;
    await writing;
    expect(await written()).toBeGreaterThan(80_000_000);
    expect(consumer.output().match(/lost its log/g)).toHaveLength(1);
    expect(await status()).toMatchObject({ state: 'running', wal_status: 'reserved' });
    await expectRight();
  });
});
