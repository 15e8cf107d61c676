import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { slotNameOf } from '../../src/cdc/slot.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql, withSql } from '../../src/postgres/connect.ts';
import type { Database } from '../../src/postgres/urls.ts';
import { projectRoot } from '../../src/project.ts';
import { type Scratch, startScratch } from '../../src/server/scratch.ts';
import { Address } from '../helpers/address.ts';
import { WorkerProcess } from '../helpers/gw-process.ts';
import { createDue, type DueUser, hurryQueue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { declareStandby, type Standby, startStandby } from '../helpers/standby.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * A primary, a standby that streams, and an address in front of them that moves, as a virtual IP
 * does. The primary loses its power while the worker sends and change capture reads. Both are
 * processes, and stay the same ones.
 */
const messages = 2_000;
const name = 'gw_failover';
const slot = slotNameOf(name);

let primary: Scratch;
let standby: Standby;
let address: Address;
let vendor: Vendor;
let database: Database;
/** The owner on the server behind the address, whichever it is. */
let owner: Sql;
let worker: WorkerProcess;
let capture: ChildProcess;
let said = '';

/** A URL of ours, through the address. */
function throughAddress(url: string): string {
  const moved = new URL(url);
  moved.port = String(address.port);
  return moved.href;
}

beforeEach(async () => {
  primary = await startScratch('gw_cron', {
    topic: 'primary',
    settings: ['synchronous_commit = on', 'full_page_writes = on'],
  });
  address = new Address(Number(new URL(primary.superuserUrl).port));
  await address.start();
  database = await createMigrated(primary.superuserUrl, name);
  standby = await startStandby(primary.superuserUrl, 'standby');
  await declareStandby(database.urls.owner, standby);
  owner = connect(throughAddress(database.urls.owner), { max: 2, connect_timeout: 2 });
  vendor = new Vendor();
  await vendor.start();
}, patience(120_000));

afterEach(async () => {
  capture?.kill('SIGKILL');
  await worker?.kill();
  await owner.end({ timeout: 1 });
  await vendor.stop();
  await address.stop();
  await Promise.all([primary.stop(), standby.stop()]);
}, patience(60_000));

/** Starts `gw worker` and `gw cdc`, which know the address alone. */
async function startProcesses(): Promise<void> {
  worker = new WorkerProcess(throughAddress(database.urls.owner), vendor.url, {
    GW_DELIVERY_CONCURRENCY: '8',
  });
  const password = decodeURIComponent(new URL(database.urls.cdc).password);
  capture = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), 'cdc'], {
    cwd: projectRoot,
    env: {
      ...process.env,
      DATABASE_URL: throughAddress(database.urls.owner),
      GW_CDC_PASSWORD: password,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  said = '';
  capture.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await worker.ready();
  await eventually(async () => said.includes('"reading"'), 60_000);
}

/** Makes tasks one by one, until it is refused. Resolves with those that were acknowledged. */
async function writeTasks(userId: string): Promise<string[]> {
  const acknowledged: string[] = [];
  const sql = connect(database.urls.owner, { max: 1 });
  try {
    for (;;) {
      const [row] = await sql`
        insert into app_public.tasks (user_id, title) values (${userId}, 'Task') returning id`;
      acknowledged.push(row?.id);
    }
  } catch {
    return acknowledged;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/**
 * The primary crashes, and the standby takes its place.
 *
 * @param silently as a host that loses its power: connections to it do not end
 */
async function failOver({ silently }: { silently: boolean }): Promise<void> {
  if (silently) address.silence();
  await primary.kill();
  await standby.promote();
  address.moveTo(standby.port);
  await owner.end({ timeout: 0 });
  owner = connect(throughAddress(database.urls.owner), { max: 2, connect_timeout: 2 });
}

const unsent = async (): Promise<number> => {
  const [row] = await owner`
    select count(*)::integer as rows from app_public.message_logs where status <> 'SENT'`;
  return row?.rows;
};

/** Each message was accepted, and none under another key than its own. */
function expectOnce(users: DueUser[]): void {
  const keys = users.map(({ key }) => key).sort();
  expect([...new Set(vendor.accepted)].sort()).toEqual(keys);
  expect(new Set(vendor.keys())).toEqual(new Set(keys));
}

async function expectCaptured(): Promise<void> {
  await eventually(async () => said.split('"reading"').length > 2, 90_000);
  await eventually(async () => {
    const child = spawn(
      process.execPath,
      [join(projectRoot, 'src', 'cli.ts'), 'cdc', 'reconcile'],
      {
        cwd: projectRoot,
        env: {
          ...process.env,
          DATABASE_URL: throughAddress(database.urls.owner),
          GW_CDC_PASSWORD: decodeURIComponent(new URL(database.urls.cdc).password),
        },
        stdio: 'ignore',
      },
    );
    const code = await new Promise((resolve) => child.once('close', resolve));
    return code === 0;
  }, 60_000);
  expect(capture.exitCode).toBeNull();
}

const isDocker = process.env.GW_TEST_DB === 'docker';

describe.skipIf(isDocker)(
  'when a standby is promoted under load',
  { timeout: patience(300_000) },
  () => {
    test('with synchronous replication nothing is lost, and nothing is sent under two keys', async () => {
      await withSql(primary.superuserUrl, async (sql) => {
        await sql`alter system set synchronous_standby_names = 'standby'`;
        await sql`select pg_reload_conf()`;
        await eventually(async () => {
          const rows = await sql`select from pg_stat_replication where sync_state = 'sync'`;
          return rows.length > 0;
        });
      });
      await hurryQueue(owner);
      const users = await createDue(owner, messages);
      await owner`select app_private.plan_due_messages()`;
      await startProcesses();
      const writing = writeTasks(users[0]?.id as string);
      await vendor.arrived(messages / 4);
      await failOver({ silently: true });
      const acknowledged = await writing;

      await eventually(async () => (await unsent().catch(() => 1)) === 0, 200_000);
      expectOnce(users);
      expect(worker.isRunning).toBe(true);
      const kept = await owner`
      select id from app_public.tasks where id = any (${acknowledged}::uuid[])`;
      expect(acknowledged.length).toBeGreaterThan(10);
      expect(kept).toHaveLength(acknowledged.length);
      await expectCaptured();
      expect(said).toMatch(/followed a failover: nothing read is lost/);
      expect(await owner`select from ops.alerts where check_name = 'failover-loss'`).toHaveLength(
        0,
      );
    });

    test('with asynchronous replication what was lost is found, said and sent with its key', async () => {
      await hurryQueue(owner);
      const users = await createDue(owner, messages);
      await owner`select app_private.plan_due_messages()`;
      await startProcesses();
      await vendor.arrived(messages / 4);
      await standby.disconnect();
      const before = vendor.deliveries.length;
      const writing = writeTasks(users[0]?.id as string);
      await vendor.arrived(before + messages / 4);
      await failOver({ silently: false });
      const acknowledged = await writing;

      await eventually(async () => (await unsent().catch(() => 1)) === 0, 200_000);
      expectOnce(users);
      expect(worker.isRunning).toBe(true);
      const kept = await owner`
      select id from app_public.tasks where id = any (${acknowledged}::uuid[])`;
      expect(kept).toHaveLength(0);
      await expectCaptured();
      const alerts = await owner`
      select level, detail from ops.alerts where check_name = 'failover-loss' and object = ${slot}`;
      expect(alerts).toEqual([
        {
          level: 'critical',
          detail: expect.stringMatching(
            /^timeline 2 began at \S+, but change capture had read up to \S+: at least \d+ transactions are lost, committed from 20\d\d-.+ to 20\d\d-/,
          ),
        },
      ]);
      const [, lost] = /at least (\d+) transactions/.exec(alerts[0]?.detail) ?? [];
      // Of those that it had read by then; it may be behind.
      expect(Number(lost)).toBeGreaterThan(0);
    });
  },
);
