import { setTimeout as later } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { useDatabase } from '../helpers/database.ts';
import { createDue, hurryQueue, planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { type Answer, Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const log = createLog('worker', 'silent');
let vendor: Vendor;
let workers: Worker[] = [];

async function work(workerUrl: string): Promise<void> {
  const channel = new HttpChannel(vendor.url, { concurrency: 8, timeoutMs: 5_000 });
  workers.push(await startWorker({ workerUrl, channel, log }));
}

/** How many messages are in each status. */
async function countsOf(sql = db.as('owner')): Promise<Record<string, number>> {
  const rows = await sql<{ status: string; count: number }[]>`
    select status, count(*)::integer as count from app_public.message_logs group by status`;
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
}

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
});

afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  workers = [];
  await vendor.stop();
  await db.as('owner')`delete from app_public.users`;
  await db.as('owner')`delete from pgboss.job`;
});

const timeout = 120_000;

test('a vendor that is down is probed with one message, and when it is back gets them all', {
  timeout,
}, async () => {
  const sql = db.as('owner');
  const messages = 3;
  await hurryQueue(sql);
  await sql`
    update app_private.delivery_channels set failures_to_open = 3, max_attempts = 3`;
  let inFlight = 0;
  let mostInFlight = 0;
  vendor.answer = async (): Promise<Answer> => {
    inFlight += 1;
    mostInFlight = Math.max(mostInFlight, inFlight);
    await later(30);
    inFlight -= 1;
    return { status: 503 };
  };
  await planDue(sql, messages);
  await work(db.url('worker'));

  const channel = async () => {
    const [row] = await sql`
      select circuit, failures from app_private.delivery_channels where name = 'http'`;
    return row as { circuit: string; failures: number };
  };
  // A message may have been tried again before the circuit opened: each call is counted once.
  await eventually(async () => {
    const { circuit, failures } = await channel();
    return circuit === 'open' && failures === vendor.deliveries.length;
  });
  expect(await countsOf()).toEqual({ RETRYING: messages });
  const [alert] = await sql`
    select level from ops.alerts where check_name = 'message-channel' and resolved_at is null`;
  expect(alert).toEqual({ level: 'critical' });

  // An hour has 15 probes, each up to 5 minutes after the one before.
  const calls = vendor.deliveries.length;
  mostInFlight = 0;
  for (let probe = 1; probe <= 15; probe += 1) {
    await eventually(async () => {
      const { circuit, failures } = await channel();
      // It is counted after the answer, and once.
      return circuit === 'open' && failures === calls + probe - 1;
    });
    await sql`
      update app_private.delivery_channels
      set probe_after = clock_timestamp(), pause = '1 minute' where name = 'http'`;
    await vendor.arrived(calls + probe);
  }
  await eventually(async () => (await channel()).circuit === 'open');
  expect(mostInFlight).toBe(1);
  expect(vendor.deliveries).toHaveLength(calls + 15);
  // Nobody was there: that is no fault of the messages that tried.
  expect(await countsOf()).toEqual({ RETRYING: messages });

  vendor.answer = () => ({ status: 200 });
  await sql`update app_private.delivery_channels set probe_after = now() where name = 'http'`;
  await eventually(async () => (await countsOf()).SENT === messages);
  expect(await channel()).toEqual({ circuit: 'closed', failures: 0 });
  expect(
    await sql`select from ops.alerts
      where check_name = 'message-channel' and resolved_at is null`,
  ).toEqual([]);
  expect(vendor.accepted.toSorted()).toEqual([...new Set(vendor.keys())].toSorted());
  await sql`
    update app_private.delivery_channels
    set failures_to_open = default, max_attempts = default`;
});

test('a planner that was down for a day sends what is not too late, and says of the rest why', {
  timeout,
}, async () => {
  const sql = db.as('owner');
  // Due 30 minutes ago, an hour and a half ago, and so on, to 24 and a half.
  await sql`
    insert into app_public.users (email, first_name, birthday_date, send_time)
    select hours || '@example.com', hours, ('1988' || to_char(due, '-MM-DD'))::date, due::time
    from generate_series(0.5, 24.5) as hours
    cross join lateral (
      select now() at time zone 'UTC' - hours * interval '1 hour'
    ) as moment (due)`;
  await sql`insert into app_public.user_settings (user_id, weekly_digest)
    select id, false from app_public.users`;
  // As the schedule was when the planner was last there.
  await sql`delete from app_private.message_schedule`;
  await sql`
    select app_private.schedule_messages(array_agg(id), now() - interval '26 hours')
    from app_public.users`;
  await work(db.url('worker'));
  const [planned] = await sql`select app_private.plan_due_messages() as count`;
  expect(planned).toEqual({ count: 25 });
  await eventually(async () => (await countsOf()).SENT === 12);

  const rows = await sql<{ hours: number; status: string; why: string | null }[]>`
    select first_name::float as hours, status, error_message as why
    from app_public.message_logs
    inner join app_public.users on users.id = message_logs.user_id
    order by hours`;
  for (const { hours, status, why } of rows) {
    expect({ hours, status }).toEqual({ hours, status: hours < 12 ? 'SENT' : 'EXPIRED' });
    if (status === 'EXPIRED') expect(why).toMatch(/^planned .*, after the late window of 12:00/);
  }
  expect(vendor.accepted).toHaveLength(12);
  // The next year's are scheduled, of those that were missed too.
  const [next] = await sql`
    select count(*)::integer as count, min(scheduled_send_time) > now() + interval '300 days' as later
    from app_private.message_schedule`;
  expect(next).toEqual({ count: 25, later: true });
});

test.skipIf(process.env.GW_TEST_DB === 'docker')(
  'a worker outlives crashes of the database, and sends the rest',
  { timeout: patience(240_000) },
  async () => {
    const messages = 3_000;
    const scratch = await startScratch('gw_cron', {
      topic: 'recovery',
      settings: ['synchronous_commit = on', 'full_page_writes = on'],
    });
    try {
      const { urls } = await createMigrated(scratch.superuserUrl, 'gw_recovery');
      const owner = connect(urls.owner, { max: 2 });
      await hurryQueue(owner);
      const users = await createDue(owner, messages);
      await owner`select app_private.plan_due_messages()`;
      vendor.answer = async () => {
        await later(10);
        return { status: 200 };
      };
      await work(urls.worker);
      for (const part of [0.2, 0.5]) {
        await vendor.arrived(messages * part);
        await scratch.restart('at once');
      }
      await eventually(async () => (await countsOf(owner)).SENT === messages, 90_000);
      expect(new Set(vendor.accepted)).toEqual(new Set(users.map(({ key }) => key)));
      await eventually(async () => (await owner`select from pgboss.job limit 1`).length === 0);
      await Promise.all(workers.splice(0).map((worker) => worker.close()));
      await owner.end({ timeout: 1 });
    } finally {
      await scratch.stop();
    }
  },
);
