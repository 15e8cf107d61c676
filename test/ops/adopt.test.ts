import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import { type Database, databaseName } from '../../src/postgres/urls.ts';
import { databaseAt } from '../../src/server/scratch.ts';
import { Checkout, type Finished } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { GwProcess, WorkerProcess } from '../helpers/gw-process.ts';
import { createDue, hurryQueue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * A copy is made, the original goes on and sends, and is lost. The copy takes its place: nobody gets a
 * message twice, and nobody waits for one in vain.
 */
const db = useDatabase();
const messages = 1_000;
const before = 600;

let vendor: Vendor;
let copy: Database;
let worker: WorkerProcess | undefined;
let capture: GwProcess | undefined;
const checkout = new Checkout();

const administer = (statement: string) =>
  withSql(inject('superuserUrl'), (sql) => sql.unsafe(statement));

const onCopy = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<Finished> =>
  checkout.run(args, {
    DATABASE_URL: copy.urls.owner,
    GW_DELIVERY_URL: vendor.url,
    GW_DELIVERY_STATUS_URL: vendor.statusUrl,
    ...env,
  });

interface Adoption {
  adopted: boolean;
  groups: { fate: string; messages: number; examples: string[] }[];
}

const fatesOf = ({ stdout }: Finished): Record<string, number> =>
  Object.fromEntries(
    (JSON.parse(stdout) as Adoption).groups.map(({ fate, messages: count }) => [fate, count]),
  );

const statusesOf = async (): Promise<Record<string, number>> => {
  const rows = await withSql(
    copy.urls.owner,
    (sql) => sql<{ status: string; count: number }[]>`
      select status, count(*)::integer as count from app_public.message_logs group by status`,
  );
  return Object.fromEntries(rows.map(({ status, count }) => [status, count]));
};

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
  const owner = db.as('owner');
  await hurryQueue(owner);
  await owner`delete from app_public.users`;
  // Half is planned when the copy is made, half is not: both are due.
  await createDue(owner, messages / 2);
  await owner`select app_private.plan_due_messages()`;
  await createDue(owner, messages / 2);
  await db.close();
  const name = `${databaseName(db.url('owner'))}_copy`;
  await administer(`drop database if exists ${name} with (force)`);
  await administer(`create database ${name} template ${databaseName(db.url('owner'))}`);
  await administer(`grant connect on database ${name} to gw_worker, gw_authenticator, gw_cdc`);
  copy = databaseAt(inject('superuserUrl'), name);

  // The original sends some, and is lost.
  await db.as('owner')`select app_private.plan_due_messages()`;
  vendor.answer = () => (vendor.accepted.length < before ? { status: 202 } : { status: 503 });
  const first = new WorkerProcess(db.url('owner'), vendor.url, {});
  await first.ready();
  await eventually(async () => vendor.accepted.length >= before);
  await first.kill();
  vendor.answer = () => ({ status: 202 });
}, patience(60_000));

afterEach(async () => {
  await Promise.all([worker?.kill(), capture?.kill()]);
  [worker, capture] = [undefined, undefined];
  await vendor.stop();
  const name = databaseName(copy.urls.owner);
  await withSql(inject('superuserUrl'), async (sql) => {
    await sql`
      select pg_drop_replication_slot(slot_name) from pg_replication_slots
      where database = ${name} and not active`;
  });
  await administer(`drop database if exists ${name} with (force)`);
});

/** Starts a worker on the copy; resolves when every message that it knows of is settled. */
async function sendTheRest(): Promise<void> {
  worker = new WorkerProcess(copy.urls.owner, vendor.url, {});
  await worker.ready();
  await withSql(copy.urls.owner, async (sql) => {
    await sql`select app_private.plan_due_messages()`;
    await eventually(async () => {
      const rows = await sql`select from app_public.message_logs where stage = 'open'
        and scheduled_send_time <= now()`;
      return rows.length === 0;
    });
  });
}

describe('a copy of before 1,000 messages were sent', () => {
  test(
    'sends what the receiver has not, and nothing twice',
    async () => {
      worker = new WorkerProcess(copy.urls.owner, vendor.url, { GW_LOG_LEVEL: 'warn' });
      await eventually(async () => worker?.output.includes('waiting for the database') === true);
      expect(worker.output).toContain('a copy that nobody has adopted');
      const { cdc } = copy.urls;
      capture = new GwProcess(['cdc'], {
        DATABASE_URL: copy.urls.owner,
        GW_CDC_PASSWORD: new URL(cdc).password,
        GW_LOG_LEVEL: 'warn',
      });
      await eventually(async () => capture?.output.includes('waiting for the database') === true);

      const sent = vendor.accepted.length;
      const rehearsed = await onCopy(['adopt', '--dry-run', '--json']);
      expect(rehearsed.code, rehearsed.stderr).toBe(0);
      expect(fatesOf(rehearsed)).toEqual({ 'will not send': sent, 'will send': messages - sent });
      // The act, rolled back.
      expect(await statusesOf()).toEqual({ QUEUED: messages / 2 });
      expect((await onCopy(['fence', 'status'])).code).toBe(1);

      const adopted = await onCopy(['adopt', '--yes', '--json', '--reason', 'a test']);
      expect(adopted.code, adopted.stderr).toBe(0);
      expect(fatesOf(adopted)).toEqual(fatesOf(rehearsed));
      expect(await statusesOf()).toEqual({ SENT: sent, QUEUED: messages - sent });

      // What waited goes on by itself.
      await Promise.all([worker.ready(), capture.ready()]);
      await eventually(async () => vendor.accepted.length === messages);
      expect(new Set(vendor.accepted).size).toBe(messages);
      await eventually(async () => (await statusesOf()).SENT === messages);
      expect((await onCopy(['fence', 'status'])).code).toBe(0);
      const again = await onCopy(['adopt', '--yes', '--reason', 'again']);
      expect(again).toMatchObject({ code: 0, stderr: expect.stringContaining('this is no copy') });
    },
    patience(60_000),
  );

  test.each([
    ['hold', { UNKNOWN: messages }, 0],
    ['skip', { CANCELED: messages }, 0],
    ['send', { SENT: messages }, messages],
  ] as const)(
    'when nobody can tell, --unknown %s decides',
    async (choice, statuses, more) => {
      vendor.tells = false;
      const sent = vendor.accepted.length;
      const adopted = await onCopy(
        ['adopt', '--yes', '--unknown', choice, '--reason', 'a test', '--json'],
        choice === 'skip' ? {} : { GW_DELIVERY_STATUS_URL: undefined },
      );
      expect(adopted.code, adopted.stderr).toBe(0);
      await sendTheRest();
      expect(await statusesOf()).toEqual(statuses);
      expect(vendor.accepted).toHaveLength(sent + more);
    },
    patience(60_000),
  );

  test('it is not adopted without a reason, nor without an answer', async () => {
    expect(await onCopy(['adopt', '--yes'])).toMatchObject({ code: 2 });
    const asked = await onCopy(['adopt', '--reason', 'x']);
    expect(asked).toMatchObject({ code: 2, stderr: expect.stringContaining('no terminal') });
    expect((await onCopy(['fence', 'status'])).code).toBe(1);
  });
});
