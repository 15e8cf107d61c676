import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';

const db = useDatabase();

const asWorker = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await work(sql);
  });

async function permits(sql: Transaction, wanted: number) {
  await sql`set local role gw_worker`;
  const [row] = await sql<{ permits: number; wait_ms: number }[]>`
    select permits, wait_ms from app_private.take_send_permits('http', ${wanted})`;
  await sql`set local role none`;
  return row as { permits: number; wait_ms: number };
}

const note = (sql: Transaction, sent: number, failed: number) => sql`
  select app_private.note_channel_health('http', ${sent}, 0, ${failed}, 0, null)`;

const set = (sql: Transaction, assignments: string) =>
  sql.unsafe(`update app_private.delivery_channels set ${assignments} where name = 'http'`);

async function channel(sql: Transaction) {
  const [row] = await sql`
    select circuit, failures, extract(epoch from pause)::integer as pause,
      probe_after > clock_timestamp() as waits
    from app_private.delivery_channels where name = 'http'`;
  return row;
}

const alerts = async (sql: Transaction) =>
  (
    await sql`select level, object from ops.alerts
      where check_name = 'message-channel' and resolved_at is null`
  ).map((row) => ({ ...row }));

/** Makes something that can be sent. */
const queue = (sql: Transaction) => sql`insert into pgboss.job (name) values ('message-send')`;

describe('a limit', () => {
  test('is none unless there is one, and then nothing is written', async () => {
    await asWorker(async (sql) => {
      const [before] = await sql`select xmin from app_private.delivery_channels`;
      expect(await permits(sql, 5_000)).toEqual({ permits: 5_000, wait_ms: 0 });
      await note(sql, 500, 0);
      const [after] = await sql`select xmin from app_private.delivery_channels`;
      expect(after).toEqual(before);
    });
  });

  test('takes back what no message used, of the second and of the day', async () => {
    await asWorker(async (sql) => {
      await queue(sql);
      await queue(sql);
      await set(
        sql,
        `messages_per_second = 10, permits = 10, permits_at = clock_timestamp(),
        warm_up_from = (now() at time zone 'UTC')::date, warm_up_messages = 4`,
      );
      const left = async () => {
        const [row] = await sql`
          select floor(permits)::integer as permits, counted::integer
          from app_private.delivery_channels where name = 'http'`;
        return row;
      };
      // No more than there are messages.
      expect((await permits(sql, 100)).permits).toBe(2);
      expect(await left()).toMatchObject({ counted: 2 });
      const before = (await left())?.permits as number;
      await sql`select app_private.return_send_permits('http', 1)`;
      expect(await left()).toEqual({ permits: before + 1, counted: 1 });
    });
  });

  test('gives out a second at most, then as many as time brings', async () => {
    await asWorker(async (sql) => {
      await set(sql, "messages_per_second = 100, permits_at = now() - interval '1 hour'");
      expect(await permits(sql, 70)).toEqual({ permits: 70, wait_ms: 0 });
      const second = await permits(sql, 70);
      expect(second.permits).toBeGreaterThanOrEqual(30);
      expect(second.permits).toBeLessThan(60);
      await set(sql, 'messages_per_second = 1, permits = 0, permits_at = clock_timestamp()');
      const third = await permits(sql, 70);
      expect(third.permits).toBe(0);
      expect(third.wait_ms).toBeGreaterThan(0);
      expect(third.wait_ms).toBeLessThanOrEqual(1_000);
      await set(
        sql,
        "messages_per_second = 100, permits_at = clock_timestamp() - interval '500 milliseconds'",
      );
      expect((await permits(sql, 70)).permits).toBeGreaterThanOrEqual(50);
    });
  });

  test('below one a second makes the next wait', async () => {
    await asWorker(async (sql) => {
      await set(
        sql,
        "messages_per_second = 0.1, permits = 0, permits_at = now() - interval '1 minute'",
      );
      expect((await permits(sql, 10)).permits).toBe(1);
      const next = await permits(sql, 10);
      expect(next.permits).toBe(0);
      expect(next.wait_ms).toBeGreaterThan(9_000);
    });
  });

  test('of a channel that does not exist is an error', async () => {
    await asWorker(async (sql) => {
      await expectRefusal(
        sql,
        'GW013',
        (inner) => inner`select permits, wait_ms from app_private.take_send_permits('pigeon', 1)`,
      );
    });
  });
});

describe('the circuit', () => {
  test('opens after so many calls in a row without an answer, and says so', async () => {
    await asWorker(async (sql) => {
      await note(sql, 0, 49);
      expect(await channel(sql)).toMatchObject({ circuit: 'closed', failures: 49 });
      // One answer, and the count starts again.
      await note(sql, 1, 60);
      expect(await channel(sql)).toMatchObject({ circuit: 'closed', failures: 0 });
      await note(sql, 0, 50);
      expect(await channel(sql)).toMatchObject({ circuit: 'open', pause: 15, waits: true });
      expect(await alerts(sql)).toEqual([{ level: 'critical', object: 'http' }]);
      const refused = await permits(sql, 100);
      expect(refused.permits).toBe(0);
      expect(refused.wait_ms).toBeGreaterThan(10_000);
    });
  });

  test('lets one probe through after the pause, not two', async () => {
    await asWorker(async (sql) => {
      await note(sql, 0, 50);
      await queue(sql);
      await set(sql, "probe_after = clock_timestamp() - interval '1 second'");
      expect(await permits(sql, 100)).toEqual({ permits: 1, wait_ms: 0 });
      expect(await channel(sql)).toMatchObject({ circuit: 'half-open' });
      expect((await permits(sql, 100)).permits).toBe(0);
    });
  });

  test('does not probe without a message, and then with the first that is due', async () => {
    await asWorker(async (sql) => {
      await note(sql, 0, 50);
      await set(sql, "probe_after = clock_timestamp() - interval '1 second'");
      expect(await permits(sql, 100)).toEqual({ permits: 0, wait_ms: 1_000 });
      expect(await channel(sql)).toMatchObject({ circuit: 'open' });
      await queue(sql);
      expect(await permits(sql, 100)).toEqual({ permits: 1, wait_ms: 0 });
    });
  });

  test('closes when the probe is answered, and the alert is over', async () => {
    await asWorker(async (sql) => {
      await note(sql, 0, 50);
      await queue(sql);
      await set(sql, "probe_after = clock_timestamp() - interval '1 second'");
      await permits(sql, 100);
      await note(sql, 1, 0);
      expect(await channel(sql)).toMatchObject({ circuit: 'closed', failures: 0, waits: null });
      expect(await alerts(sql)).toEqual([]);
      expect((await permits(sql, 100)).permits).toBe(100);
    });
  });

  test('waits twice as long after each probe in vain, 5 minutes at most', async () => {
    await asWorker(async (sql) => {
      await note(sql, 0, 50);
      await queue(sql);
      for (const pause of [30, 60, 120, 240, 300, 300]) {
        await set(sql, "probe_after = clock_timestamp() - interval '1 second'");
        await permits(sql, 100);
        await note(sql, 0, 1);
        expect(await channel(sql)).toMatchObject({ circuit: 'open', pause, waits: true });
      }
      expect(await alerts(sql)).toHaveLength(1);
    });
  });

  test('is not held open longer by calls that were on their way', async () => {
    await asWorker(async (sql) => {
      await note(sql, 0, 50);
      const [before] = await sql`select probe_after from app_private.delivery_channels
        where name = 'http'`;
      await note(sql, 0, 200);
      const [after] = await sql`select probe_after from app_private.delivery_channels
        where name = 'http'`;
      expect(after).toEqual(before);
    });
  });
});
