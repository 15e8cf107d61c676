import { createECDH } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { PushChannel } from '../../src/worker/channels/push.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { become, useDatabase } from '../helpers/database.ts';
import { createDue, type DueUser, hurryQueue, logOf } from '../helpers/messages.ts';
import { type Browser, PushService } from '../helpers/push-service.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const curve = createECDH('prime256v1');
const publicKey = curve.generateKeys('base64url');
const key = curve.getPrivateKey('base64url');
const subject = 'mailto:ops@example.com';
let service: PushService;
let vendor: Vendor;
let worker: Worker | undefined;

async function work(signedWith = key): Promise<void> {
  const pace = { concurrency: 8, timeoutMs: 1_000 };
  worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new HttpChannel(vendor.url, pace),
    vendors: [new PushChannel({ ...pace, key: signedWith, subject })],
    log: createLog('worker', 'silent'),
  });
}

const tick = () => db.as('owner')`select app_private.plan_due_messages()`;

/** As the user's page does with what its browser gave it. */
const register = (user: DueUser, { address, p256dh, auth }: Browser) =>
  db.as('superuser').begin(async (sql) => {
    await become(sql, user.id);
    return sql`
      select * from app_public.register_push_endpoint(${address}, ${p256dh}, ${auth})`;
  });

const statusIs = (user: DueUser, status: string) =>
  eventually(async () => {
    const row = await logOf(db.as('owner'), user);
    return row?.status === status && row;
  });

const endpoints = (user: DueUser) => db.as('owner')<{ address: string }[]>`
  select address from app_public.user_endpoints where user_id = ${user.id} order by address`;

beforeEach(async () => {
  service = new PushService();
  vendor = new Vendor();
  await Promise.all([service.start(), vendor.start()]);
  const owner = db.as('owner');
  await owner`
    insert into app_private.push_services (origin, note) values (${service.origin}, 'a test')`;
  await owner`
    insert into app_private.message_routes (message_type, step, channel)
    values ('BIRTHDAY', 1, 'push'), ('BIRTHDAY', 2, 'http')`;
  await hurryQueue(owner);
});

afterEach(async () => {
  await worker?.close();
  worker = undefined;
  await Promise.all([service.stop(), vendor.stop()]);
  const owner = db.as('owner');
  await owner`delete from app_public.users`;
  await owner`delete from pgboss.job`;
  await owner`delete from app_private.message_routes`;
  await owner`delete from app_private.push_services where note = 'a test'`;
});

test('a message is shown in each browser of its user, encrypted and signed', async () => {
  await work();
  const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
  const [laptop, phone] = [service.browser('laptop'), service.browser('phone')];
  await register(user, laptop);
  await register(user, phone);
  await tick();
  expect(await statusIs(user, 'SENT')).toMatchObject({ channel: 'push', api_response_code: 201 });
  for (const browser of [laptop, phone]) {
    expect(service.read(browser)).toEqual([
      {
        title: 'Happy birthday, Due0!',
        body: "Hey, Due0, it's your birthday! Have a great day.",
        lang: 'en',
        tag: expect.stringMatching(/^[\w-]{32}$/),
        data: { messageId: expect.any(String), messageType: 'BIRTHDAY' },
      },
    ]);
  }
  const [notice] = service.notices;
  if (notice === undefined) throw new Error('nothing came');
  expect(notice.headers).toMatchObject({ ttl: '43200', 'content-encoding': 'aes128gcm' });
  expect(service.signerOf(notice, publicKey)).toMatchObject({ aud: service.origin, sub: subject });
  const text = JSON.stringify(service.notices.map(({ body }) => body.toString('latin1')));
  expect(text).not.toContain('birthday');
});

test('a browser that is gone is forgotten, and the others count', async () => {
  await work();
  const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
  const [old, present] = [service.browser('old'), service.browser('present')];
  await register(user, old);
  await register(user, present);
  service.answer = ({ path }) => (path === '/push/old' ? 410 : 201);
  await tick();
  await statusIs(user, 'SENT');
  expect(await endpoints(user)).toEqual([{ address: present.address }]);
  expect(vendor.deliveries).toEqual([]);
});

test('who has no browser, or only one that is gone, gets it by the next step', async () => {
  await work();
  const [without, gone] = (await createDue(db.as('owner'), 2)) as [DueUser, DueUser];
  await register(gone, service.browser('gone'));
  service.answer = () => 404;
  await tick();
  expect(await statusIs(without, 'SENT')).toMatchObject({ channel: 'http', retry_count: 0 });
  expect(await statusIs(gone, 'SENT')).toMatchObject({ channel: 'http', retry_count: 1 });
  expect(await endpoints(gone)).toEqual([]);
  // That a browser is gone says nothing of the e-mail address.
  expect(await db.as('owner')`select from app_private.address_states`).toHaveLength(0);
});

test('who has an address for no step gets nothing, by no other way, and once', async () => {
  await db.as('owner')`delete from app_private.message_routes where step = 2`;
  await work();
  const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
  await tick();
  expect(await statusIs(user, 'SUPPRESSED')).toMatchObject({
    error_message: 'the user has no address of the kind push',
  });
  await tick();
  expect(await db.as('owner')`select from app_public.message_logs`).toHaveLength(1);
  const [state] = await db.as('owner')`
    select detail from ops.explain_message(${user.id}, 'BIRTHDAY', ${user.date})
    where topic = 'state'`;
  expect(state?.detail).toContain('Should the user have one: gw messages redrive');
  expect(vendor.deliveries).toEqual([]);
});

test('keys of which no point can be made are forgotten too', async () => {
  await work();
  const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
  await register(user, { ...service.browser('bad'), p256dh: `B${'A'.repeat(86)}` });
  await tick();
  expect(await statusIs(user, 'SENT')).toMatchObject({ channel: 'http' });
  expect(await endpoints(user)).toEqual([]);
});

test('many browsers that are gone do not hold the channel', async () => {
  await work();
  const users = await createDue(db.as('owner'), 60);
  for (const [index, user] of users.entries()) {
    await register(user, service.browser(`gone-${index}`));
  }
  service.answer = () => 410;
  await tick();
  await eventually(async () => vendor.accepted.length === 60);
  const [push] = await db.as('owner')`
    select circuit from app_private.delivery_channels where name = 'push'`;
  expect(push).toEqual({ circuit: 'closed' });
});

test('a service that is busy is asked again; what nobody took is not lost', async () => {
  await work();
  const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
  const browser = service.browser('busy');
  await register(user, browser);
  service.answer = () => (service.notices.length <= 2 ? 429 : 201);
  await tick();
  expect(await statusIs(user, 'SENT')).toMatchObject({ channel: 'push', retry_count: 2 });
  // The same topic: a notification that is not shown yet is replaced, not repeated.
  expect(new Set(service.notices.map(({ headers }) => headers.topic)).size).toBe(1);
});

test('with another key a browser has to register again', async () => {
  await work();
  const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
  const browser = service.browser('laptop');
  await register(user, browser);
  await worker?.close();
  const other = createECDH('prime256v1');
  other.generateKeys();
  await work(other.getPrivateKey('base64url'));
  await tick();
  expect(await statusIs(user, 'SENT')).toMatchObject({ channel: 'http' });
  expect(service.notices).toEqual([]);
  const [shown] = await db.as('owner')`select app_public.push_public_key() as key`;
  expect(shown?.key).toBe(other.getPublicKey('base64url'));
});

test('a long text is cut to what a push service takes, between characters', async () => {
  const channel = new PushChannel({ concurrency: 1, timeoutMs: 1_000, key, subject });
  const browser = service.browser('laptop');
  const { address, p256dh, auth } = browser;
  const message = {
    job_id: '',
    message_id: '',
    user_id: '',
    scheduled_send_time: '',
    message_type: 'BIRTHDAY',
    delivery_date: '',
    email: null,
    full_name: '',
    message_subject: 'Long',
    message_content: '🎂"'.repeat(5_000),
    idempotency_key: 'key',
    attempt: 0,
    was_attempted: false,
    is_optional: false,
    endpoints: [{ id: 'laptop', address, keys: { p256dh, auth } }],
  };
  expect(await channel.deliver([message])).toMatchObject([{ status: 'SENT' }]);
  await channel.close();
  const [shown] = service.read(browser);
  expect(shown?.body).toMatch(/^(🎂")+🎂?…$/u);
  expect(service.notices[0]?.body.length).toBeLessThanOrEqual(4_096);
  expect(service.notices[0]?.body.length).toBeGreaterThan(3_800);
});
