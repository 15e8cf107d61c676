import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import type { Channel } from '../../src/worker/channels/channel.ts';
import { FileChannel } from '../../src/worker/channels/file.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { type NewUser, useDatabase } from '../helpers/database.ts';
import { hurryQueue, logOf, planDue, planOne } from '../helpers/messages.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const log = createLog('worker', 'silent');
let vendor: Vendor;
let workers: Worker[] = [];

const http = (): Channel => new HttpChannel(vendor.url, { concurrency: 8, timeoutMs: 1_000 });

async function work(channel: Channel): Promise<void> {
  workers.push(await startWorker({ workerUrl: db.url('worker'), channel, log }));
}

const statusIs = (user: NewUser, status: string) =>
  eventually(async () => {
    const row = await logOf(db.as('owner'), user);
    return row.status === status && row;
  });

/** pg-boss moves the job after the message is FAILED. */
const deadLetterOf = (user: NewUser) =>
  eventually(async () => {
    const [dead] = await db.as('owner')`
      select from pgboss.job
      where name = 'message-send-dead' and source_name = 'message-send'
        and data ->> 'user_id' = ${user.id}`;
    return dead !== undefined;
  });

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
  await hurryQueue(db.as('owner'));
});

afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  workers = [];
  await vendor.stop();
  // The next test starts with no message of this one.
  await db.as('owner')`delete from app_public.users`;
  await db.as('owner')`delete from pgboss.job`;
});

describe('over HTTP', () => {
  test('a due message is posted once with its key, and is SENT with the answer', async () => {
    vendor.answer = () => ({ status: 201, body: '{"id":"abc"}' });
    const user = await planOne(db.as('owner'));
    await work(http());
    const row = await statusIs(user, 'SENT');
    expect(row).toMatchObject({
      api_response_code: 201,
      api_response_body: '{"id":"abc"}',
      error_message: null,
      retry_count: 0,
    });
    expect(vendor.deliveries).toHaveLength(1);
    expect(vendor.deliveries[0]).toMatchObject({
      key: user.key,
      body: {
        idempotencyKey: row.idempotency_key,
        messageType: 'BIRTHDAY',
        deliveryDate: user.date,
        to: { userId: user.id, email: user.email, name: 'Due0' },
        content: "Hey, Due0, it's your birthday! Have a great day.",
      },
    });
  });

  test('status goes through SCHEDULED, QUEUED and SENDING', async () => {
    const sql = db.as('superuser');
    await sql.unsafe(`
      create table if not exists public.seen (n serial, status text);
      grant insert on public.seen to public;
      grant usage on sequence public.seen_n_seq to public;
      create or replace function public.see() returns trigger language plpgsql security definer as
        $$ begin insert into public.seen (status) values (new.status); return null; end $$;
      create trigger see after insert or update on app_public.message_logs
        for each row execute function public.see();
    `);
    const user = await planOne(db.as('owner'));
    await work(http());
    await statusIs(user, 'SENT');
    const seen = await sql<{ status: string }[]>`select status from public.seen order by n`;
    await sql`drop trigger see on app_public.message_logs`;
    expect(seen.map(({ status }) => status)).toEqual(['SCHEDULED', 'QUEUED', 'SENDING', 'SENT']);
  });

  test('refused for now is RETRYING with code, body and error, then SENT under the same key', async () => {
    const sql = db.as('superuser');
    // By jitter it may be tried again at once: nobody who looks now and then sees it wait.
    await sql.unsafe(`
      create table if not exists public.retried (message jsonb);
      grant insert on public.retried to public;
      create or replace function public.keep() returns trigger language plpgsql security definer as
        $$ begin insert into public.retried values (to_jsonb(new)); return null; end $$;
      create trigger keep after update on app_public.message_logs
        for each row when (new.status = 'RETRYING') execute function public.keep();
    `);
    const user = await planOne(db.as('owner'));
    vendor.answer = () =>
      vendor.deliveries.length === 1 ? { status: 503, body: 'busy' } : { status: 200 };
    await work(http());
    const sent = await statusIs(user, 'SENT');
    const retried = await sql<{ message: object }[]>`select message from public.retried`;
    await sql`drop trigger keep on app_public.message_logs`;
    expect(retried.map(({ message }) => message)).toMatchObject([
      {
        api_response_code: 503,
        api_response_body: 'busy',
        error_message: 'the receiver answered 503',
        retry_count: 1,
      },
    ]);
    expect(sent).toMatchObject({ api_response_code: 200, error_message: null, retry_count: 1 });
    expect(new Set(vendor.keys()).size).toBe(1);
    expect(vendor.keys()).toHaveLength(2);
  });

  test.each([400, 413, 415, 422, 451])(
    'refused for good with %i is FAILED at once',
    async (code) => {
      vendor.answer = () => ({ status: code, body: 'no' });
      const user = await planOne(db.as('owner'));
      await work(http());
      expect(await statusIs(user, 'FAILED')).toMatchObject({ api_response_code: code });
      await deadLetterOf(user);
      expect(vendor.deliveries).toHaveLength(1);
    },
  );

  // Of the first three, the sender has to mend something.
  test.each([401, 404, 410, 408, 409, 425, 429, 500, 502])(
    'refused with %i may succeed later',
    async (code) => {
      vendor.answer = () => ({ status: vendor.deliveries.length === 1 ? code : 200 });
      const user = await planOne(db.as('owner'));
      await work(http());
      await statusIs(user, 'SENT');
      expect(vendor.deliveries).toHaveLength(2);
    },
  );

  test('no answer in time, and nobody listening, are RETRYING', async () => {
    const user = await planOne(db.as('owner'));
    vendor.answer = () => new Promise(() => {});
    await work(http());
    expect((await statusIs(user, 'RETRYING')).error_message).toMatch(/^ETIMEDOUT: no response/);
    await vendor.stop();
    await eventually(async () =>
      /ECONNREFUSED/.test((await logOf(db.as('owner'), user)).error_message ?? ''),
    );
  });

  test('the last allowed attempt is FAILED and goes to the dead letters', async () => {
    await db.as('owner')`update app_private.delivery_channels set max_attempts = 2`;
    vendor.answer = () => ({ status: 500 });
    const user = await planOne(db.as('owner'));
    await work(http());
    expect(await statusIs(user, 'FAILED')).toMatchObject({ retry_count: 1 });
    await deadLetterOf(user);
    await db.as('owner')`update app_private.delivery_channels set max_attempts = 20`;
    expect(vendor.deliveries).toHaveLength(2);
    const [alert] = await db.as('owner')`
      select level from ops.alerts where check_name = 'health-dead-letters' and resolved_at is null`;
    expect(alert).toEqual({ level: 'warning' });
  });

  test('an answer of any length or bytes is kept, cut to 4 KB', async () => {
    vendor.answer = () => ({ status: 200, body: `\0${'€'.repeat(5_000)}` });
    const user = await planOne(db.as('owner'));
    await work(http());
    const { api_response_body: body } = await statusIs(user, 'SENT');
    expect(Buffer.byteLength(body ?? '')).toBeLessThanOrEqual(4_096);
    expect(body).toMatch(/^€+$/);
  });

  test('an account closed after planning gets nothing', async () => {
    const user = await planOne(db.as('owner'));
    await db.as('owner')`update app_public.users set deleted_at = now() where id = ${user.id}`;
    await work(http());
    const { error_message } = await statusIs(user, 'CANCELED');
    expect(error_message).toBe('the account was closed');
    await eventually(async () => {
      const [job] = await db.as('owner')`select from pgboss.job where name = 'message-send'`;
      return job === undefined;
    });
    expect(vendor.deliveries).toEqual([]);
  });

  test('three workers over 300 messages send each once', async () => {
    const users = await planDue(db.as('owner'), 300);
    await Promise.all([work(http()), work(http()), work(http())]);
    await eventually(async () => {
      const [row] = await db.as('owner')`
        select count(*)::integer as left from app_public.message_logs where status <> 'SENT'`;
      return row?.left === 0;
    });
    expect(vendor.keys()).toHaveLength(users.length);
    expect(new Set(vendor.keys()).size).toBe(users.length);
  });
});

describe('to a file', () => {
  test('one JSON line a message; a key that is there already is not written again', async () => {
    const path = join(tmpdir(), `outbox-${randomUUID()}.jsonl`);
    const lines = () => (existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : []);
    const users = await planDue(db.as('owner'), 3);
    await work(new FileChannel(path));
    for (const user of users) await statusIs(user, 'SENT');
    expect(lines()).toHaveLength(3);
    const keys = lines().map(
      (line) => (JSON.parse(line) as { idempotencyKey: string }).idempotencyKey,
    );
    expect(keys.sort()).toEqual(users.map(({ key }) => key).sort());

    // As if the worker had died after writing and before saying so.
    await db.as('owner')`
      update app_public.message_logs set status = 'SENDING', actual_send_time = null`;
    await db.as('owner')`
      select app_private.enqueue_messages(
        array_agg(user_id), array_agg(id), array_agg(scheduled_send_time), now())
      from app_public.message_logs`;
    for (const user of users) await statusIs(user, 'SENT');
    expect(lines()).toHaveLength(3);
  });
});
