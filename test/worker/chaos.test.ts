import { setInterval as every } from 'node:timers/promises';
import { afterAll, beforeAll, expect, onTestFailed, test } from 'vitest';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import type { Database } from '../../src/postgres/urls.ts';
import { type Scratch, startScratch } from '../../src/server/scratch.ts';
import { WorkerProcess } from '../helpers/gw-process.ts';
import { createDue, hurryQueue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { makeUnreliable } from '../helpers/unreliable-vendor.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * Its server is its own, because it crashes. A crash of the server takes nothing that was
 * committed: synchronous_commit hands each commit to the kernel before it is acknowledged,
 * and the kernel, which lives on, needs no fsync.
 */
const messages = 5_000;
/** At most, and at least, while there is something left to send. */
const kills = { most: 15, least: 5 };
const killThatCrashesTheDatabase = 3;

const vendor = new Vendor();
let scratch: Scratch;
let database: Database;
let owner: Sql;
const workers: WorkerProcess[] = [];

/** Few calls at once, so that there is still work when the last of them is killed. */
const settings = { GW_DELIVERY_TIMEOUT_MS: '2000', GW_DELIVERY_CONCURRENCY: '4' };

/** Starts workers until there are three. */
function hire(): void {
  while (workers.filter(({ isRunning }) => isRunning).length < 3) {
    workers.push(new WorkerProcess(database.urls.owner, vendor.url, settings));
  }
}

beforeAll(async () => {
  scratch = await startScratch('gw_cron', {
    topic: 'chaos',
    settings: ['synchronous_commit = on', 'full_page_writes = on'],
  });
  database = await createMigrated(scratch.superuserUrl, 'gw_chaos');
  owner = connect(database.urls.owner, { max: 2 });
  await vendor.start();
}, patience(120_000));

afterAll(async () => {
  await Promise.all(workers.map((worker) => worker.kill()));
  await vendor.stop();
  await owner.end({ timeout: 1 });
  await scratch.stop();
}, patience(60_000));

const leftToSend = async (): Promise<number> => {
  const [row] = await owner`
    select count(*)::integer as left from app_public.message_logs where status <> 'SENT'`;
  return row?.left;
};

/**
 * Kills the worker that has worked longest each second, and starts another; crashes the
 * database once. Resolves with how many it killed.
 */
async function wreak(): Promise<number> {
  let killed = 0;
  for await (const _ of every(1_000)) {
    if ((await leftToSend()) === 0 || killed === kills.most) break;
    // While the database is down no worker becomes ready: it ends, and another tries.
    hire();
    const victim = workers.find(({ isRunning, isReady }) => isRunning && isReady);
    if (victim === undefined) continue;
    await victim.kill();
    killed += 1;
    if (killed === killThatCrashesTheDatabase) await scratch.restart('at once');
  }
  return killed;
}

test.skipIf(process.env.GW_TEST_DB === 'docker')(
  'killed workers, a database that crashes and a vendor that fails lose and mix up nothing',
  {
    timeout: patience(300_000),
  },
  async () => {
    const seed = Number(process.env.GW_TEST_SEED ?? Math.floor(Math.random() * 1e9));
    const met = makeUnreliable(vendor, seed);
    onTestFailed(() => {
      process.stderr.write(`GW_TEST_SEED=${seed} ${JSON.stringify(met)}\n`);
    });
    await hurryQueue(owner);
    // A machine under load lets calls time out that nobody meant to fail.
    await owner`update app_private.delivery_channels set max_attempts = 1000`;
    const users = await createDue(owner, messages);
    const [planned] = await owner`select app_private.plan_due_messages() as count`;
    expect(planned).toEqual({ count: messages });

    hire();
    await Promise.all(workers.map((worker) => worker.ready()));
    expect(await wreak()).toBeGreaterThanOrEqual(kills.least);
    await eventually(async () => {
      hire();
      return (await leftToSend()) === 0;
    }, 200_000);

    // Each key was accepted, and there is no other.
    const keys = users.map(({ key }) => key).sort();
    expect([...new Set(vendor.accepted)].sort()).toEqual(keys);
    expect(new Set(vendor.keys())).toEqual(new Set(keys));

    const [logs] = await owner`
    select count(*)::integer as logs, count(distinct idempotency_key)::integer as keys,
      count(distinct (user_id, message_type, delivery_date))::integer as occasions,
      bool_and(api_response_code = 200 and actual_send_time is not null) as answered,
      bool_and(idempotency_key = concat_ws(':', user_id, message_type, delivery_date)) as own
    from app_public.message_logs`;
    expect(logs).toEqual({
      logs: messages,
      keys: messages,
      occasions: messages,
      answered: true,
      own: true,
    });
    const [ledger] = await owner`
    select count(*)::integer as rows, count(message_logs.id)::integer as matched
    from app_private.message_ledger
    left join app_public.message_logs
      on message_logs.user_id = message_ledger.user_id
      and message_logs.id = message_ledger.message_id
      and message_logs.scheduled_send_time = message_ledger.scheduled_send_time`;
    expect(ledger).toEqual({ rows: messages, matched: messages });
    await eventually(async () => {
      const [job] = await owner`select from pgboss.job limit 1`;
      return job === undefined;
    });

    // Otherwise this was no test of it: workers died in the call, and all faults were met.
    const [deaths] = await owner`
    select count(*)::integer as count
    from app_public.message_logs
    where attempts @> '[{"error": "the worker died in the call"}]'`;
    expect(deaths?.count).toBeGreaterThan(0);
    expect(Object.values(met).every((count) => count > 0)).toBe(true);
    // What began to work ends only when it is killed.
    expect(workers.filter(({ isReady, hasFailed }) => isReady && hasFailed)).toEqual([]);
  },
);
