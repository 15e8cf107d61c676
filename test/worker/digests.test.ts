import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { logOf } from '../helpers/messages.ts';
import { joinedAt, wantDigest } from '../helpers/past.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
let vendor: Vendor;
let worker: Worker | undefined;

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
});

afterEach(async () => {
  await worker?.close();
  await vendor.stop();
});

test('a digest is posted once, with the key of its Monday, and who did nothing gets none', async () => {
  const sql = db.as('superuser');
  const [date] = await sql<{ monday: string; sunday: string }[]>`
    select monday::text, (monday - 1)::text as sunday
    from (select date_trunc('week', now() at time zone 'UTC')::date) as week (monday)`;
  const { monday = '', sunday = '' } = date ?? {};
  const active = await createUser(sql, { first_name: 'Ada' });
  const idle = await createUser(sql, { first_name: 'Bob' });
  for (const { id } of [active, idle]) {
    await sql.begin((transaction) => joinedAt(transaction, id, '2020-01-01T00:00Z'));
    await wantDigest(sql, id);
  }
  await sql`
    insert into app_public.reflections (user_id, reflection_date, mood_score)
    values (${active.id}, ${sunday}::text::date, 4)`;
  // As if it were Monday.
  await sql`delete from app_private.message_schedule`;
  await sql`
    select app_private.schedule_messages(array_agg(id), ${`${monday}T07:00Z`}::text::timestamptz)
    from app_public.users`;
  await sql`select app_private.plan_due_messages(${`${monday}T08:00Z`}::text::timestamptz)`;
  await sql`update app_public.message_logs set send_until = now() + interval '1 hour'`;
  await sql`update pgboss.job set start_after = now() where name = 'message-send'`;

  const channel = new HttpChannel(vendor.url, { concurrency: 8, timeoutMs: 1_000 });
  const log = createLog('worker', 'silent');
  worker = await startWorker({ workerUrl: db.url('worker'), channel, log });

  await eventually(async () => (await logOf(sql, active)).status === 'SENT');
  await eventually(async () => (await logOf(sql, idle)).status === 'CANCELED');
  expect(vendor.keys()).toEqual([`${active.id}:DIGEST:${monday}`]);
  expect(vendor.deliveries[0]?.body).toMatchObject({
    messageType: 'DIGEST',
    deliveryDate: monday,
    content: 'Hi Ada, this was your week:\nReflections: 1 (week before: 0)\nMood, of 5: 4\n',
  });
  expect(await sql`select user_id from app_public.digests order by 1`).toHaveLength(2);
});
