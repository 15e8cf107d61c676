import { createHmac, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { unsubscribeLinks } from '../../src/messages/unsubscribe-links.ts';
import { openChannel } from '../../src/worker/channels/open.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { useDatabase } from '../helpers/database.ts';
import { hurryQueue, logOf, planOne } from '../helpers/messages.ts';
import { type Delivery, Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const bytes = randomBytes(32);
const links = unsubscribeLinks('https://app.example.com', 'a secret with more than 32 characters');
let vendor: Vendor;
let worker: Worker | undefined;

async function work(env: Record<string, string> = {}): Promise<void> {
  const config = loadConfig({
    GW_DELIVERY_URL: vendor.url,
    GW_DELIVERY_SECRET: `whsec_${bytes.toString('base64')}`,
    ...env,
  });
  worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: openChannel(config, 'no file'),
    log: createLog('worker', 'silent'),
    unsubscribeUrl: links,
  });
}

/** What a receiver does, as docs/reference/delivery.md says. */
function isGenuine({ headers, text }: Delivery, key = bytes, now = Date.now() / 1000): boolean {
  const [id, timestamp, signatures] = ['id', 'timestamp', 'signature'].map((name) =>
    String(headers[`webhook-${name}`]),
  );
  const wanted = createHmac('sha256', key).update(`${id}.${timestamp}.${text}`).digest('base64');
  return (
    Math.abs(now - Number(timestamp)) <= 300 &&
    (signatures ?? '').split(' ').some((signature) => signature === `v1,${wanted}`)
  );
}

const arrivals = (count: number) =>
  eventually(async () => vendor.deliveries.length >= count && vendor.deliveries);

beforeEach(async () => {
  vendor = new Vendor();
  await vendor.start();
  await hurryQueue(db.as('owner'));
});

afterEach(async () => {
  await worker?.close();
  await vendor.stop();
  await db.as('owner')`delete from app_public.users`;
  await db.as('owner')`delete from pgboss.job`;
});

test('a request is signed with the secret of the environment, as Standard Webhooks says', async () => {
  const user = await planOne(db.as('owner'));
  await work();
  const delivery = (await arrivals(1))[0] as Delivery;
  expect(delivery.headers['webhook-id']).toBe(user.key);
  expect(isGenuine(delivery)).toBe(true);
  const { headers, text } = delivery;
  expect(isGenuine(delivery, randomBytes(32))).toBe(false);
  expect(isGenuine({ ...delivery, text: `${text} ` })).toBe(false);
  expect(isGenuine({ ...delivery, headers: { ...headers, 'webhook-id': 'x' } })).toBe(false);
  expect(isGenuine(delivery, bytes, Date.now() / 1000 + 600)).toBe(false);
});

test('a repetition has the same id and body, and a signature of its own time', async () => {
  // The retry begins in another second.
  vendor.answer = () =>
    vendor.deliveries.length === 1
      ? { status: 503, headers: { 'retry-after': '2' } }
      : { status: 200 };
  await planOne(db.as('owner'));
  await work();
  const [first, second] = await arrivals(2);
  expect(second?.headers['webhook-id']).toBe(first?.headers['webhook-id']);
  expect(second?.text).toBe(first?.text);
  const time = (delivery: Delivery | undefined) => Number(delivery?.headers['webhook-timestamp']);
  expect(time(second)).toBeGreaterThan(time(first));
  expect([first, second].map((each) => each && isGenuine(each))).toEqual([true, true]);
});

test('a message has the link by which its receiver unsubscribes', async () => {
  const user = await planOne(db.as('owner'));
  await work();
  const [delivery] = await arrivals(1);
  expect(delivery?.body).toMatchObject({ unsubscribeUrl: links(user.id, 'BIRTHDAY') });
});

test('without a secret requests are not signed', async () => {
  await planOne(db.as('owner'));
  await work({ GW_DELIVERY_SECRET: '' });
  const [delivery] = await arrivals(1);
  expect(Object.keys(delivery?.headers ?? {})).not.toContain('webhook-signature');
});

test('user and password of the URL are sent as such, and kept nowhere else', async () => {
  const user = await planOne(db.as('owner'));
  const url = vendor.url.replace('http://', 'http://ada:p%40ss@');
  await work({ GW_DELIVERY_URL: url });
  const [delivery] = await arrivals(1);
  const basic = Buffer.from('ada:p@ss').toString('base64');
  expect(delivery?.headers.authorization).toBe(`Basic ${basic}`);
  await eventually(async () => (await logOf(db.as('owner'), user)).status === 'SENT');
  const { description } = openChannel(loadConfig({ GW_DELIVERY_URL: url }), 'no file');
  expect(description).toBe(new URL(vendor.url).origin);
});
