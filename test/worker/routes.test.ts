import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { useDatabase } from '../helpers/database.ts';
import { createDue, type DueUser, hurryQueue, logOf, planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { type Answer, reset, Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const log = createLog('worker', 'silent');
let vendors: Record<'plain' | 'ses' | 'relay', Vendor>;
let worker: Worker | undefined;

/** Routes of birthdays: step, channel, weight. */
async function route(...routes: [number, string, number?][]): Promise<void> {
  for (const [step, channel, weight = 100] of routes) {
    await db.as('owner')`
      insert into app_private.message_routes (message_type, step, channel, weight)
      values ('BIRTHDAY', ${step}, ${channel}, ${weight})`;
  }
}

async function work(): Promise<void> {
  const pace = { concurrency: 8, timeoutMs: 1_000 };
  worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new HttpChannel(vendors.plain.url, pace),
    vendors: (['ses', 'relay'] as const).map(
      (name) => new HttpChannel(vendors[name].url, { ...pace, name }),
    ),
    log,
  });
}

const sent = (count: number) =>
  eventually(async () => {
    const rows = await db.as('owner')<{ channel: string; count: number }[]>`
      select channel, count(*)::integer from app_public.message_logs
      where status = 'SENT' group by channel order by channel`;
    const total = rows.reduce((sum, row) => sum + row.count, 0);
    return total === count && Object.fromEntries(rows.map((row) => [row.channel, row.count]));
  }, patience(30_000));

const tick = () => db.as('owner')`select app_private.plan_due_messages()`;

beforeEach(async () => {
  vendors = { plain: new Vendor(), ses: new Vendor(), relay: new Vendor() };
  await Promise.all(Object.values(vendors).map((vendor) => vendor.start()));
  await db.as('owner')`
    insert into app_private.delivery_channels (name, protocol)
    values ('ses', 'http'), ('relay', 'http')`;
  await hurryQueue(db.as('owner'));
});

afterEach(async () => {
  await worker?.close();
  worker = undefined;
  await Promise.all(Object.values(vendors).map((vendor) => vendor.stop()));
  const owner = db.as('owner');
  await owner`delete from app_public.users`;
  await owner`delete from pgboss.job`;
  await owner`delete from app_private.message_routes`;
  await owner`delete from app_private.address_states`;
  await owner`delete from app_private.delivery_channels where protocol is not null`;
});

test('vendors of one step share by their weights, each user with one of them', async () => {
  await route([1, 'ses', 300], [1, 'relay', 100]);
  await work();
  await planDue(db.as('owner'), 400);
  const counts = await sent(400);
  // Three quarters of 400, within five standard deviations.
  expect(Math.abs(Number(counts.ses) - 300)).toBeLessThan(44);
  expect(Number(counts.ses) + Number(counts.relay)).toBe(400);
  expect(vendors.plain.deliveries).toEqual([]);
  const keys = [...vendors.ses.keys(), ...vendors.relay.keys()];
  expect(new Set(keys).size).toBe(400);
  expect(keys).toHaveLength(400);
});

test('a type without a route goes by the channel of GW_DELIVERY_URL', async () => {
  await db.as('owner')`
    insert into app_private.message_routes (message_type, step, channel)
    values ('DIGEST', 1, 'ses')`;
  await work();
  await planDue(db.as('owner'), 3);
  expect(await sent(3)).toEqual({ http: 3 });
});

test('what a vendor that is down does not take, the other one sends', async () => {
  await route([1, 'ses'], [1, 'relay']);
  await db.as('owner')`
    update app_private.delivery_channels set failures_to_open = 3 where name = 'ses'`;
  vendors.ses.answer = () => ({ status: 401, body: 'the key is revoked' });
  await work();
  const users = await planDue(db.as('owner'), 40);
  await eventually(async () => {
    await tick();
    const [open] = await db.as('owner')`
      select from app_private.delivery_channels where name = 'ses' and circuit <> 'closed'`;
    return open !== undefined;
  });
  await eventually(async () => {
    await tick();
    return vendors.relay.accepted.length === 40;
  }, patience(30_000));
  expect(await sent(40)).toEqual({ relay: 40 });
  expect(vendors.relay.accepted.toSorted()).toEqual(users.map(({ key }) => key).toSorted());
});

test('a vendor that refuses the sender loses the message to the other at once', async () => {
  await route([1, 'ses', 1000], [1, 'relay', 1]);
  vendors.ses.answer = () => ({ status: 402 });
  await work();
  await planDue(db.as('owner'), 5);
  expect(await sent(5)).toEqual({ relay: 5 });
});

test('an attempt that may have been delivered is not repeated by another vendor', async () => {
  await route([1, 'ses', 1000], [1, 'relay', 1]);
  let broken = 0;
  vendors.ses.answer = () => {
    broken += 1;
    // Also when the vendor refuses the sender afterwards.
    const answers: Answer[] = [reset, { status: 402 }, reset];
    return answers[broken - 1] ?? { status: 202 };
  };
  await work();
  await planDue(db.as('owner'), 1);
  await sent(1);
  expect([vendors.ses.deliveries.length, vendors.relay.deliveries.length]).toEqual([4, 0]);
});

describe('a step that refuses', () => {
  test('the message goes by the next one; the address is remembered', async () => {
    await route([1, 'ses'], [2, 'relay']);
    await db.as('owner')`
      update app_private.delivery_channels set address_kind = 'sms' where name = 'relay'`;
    vendors.ses.answer = () => ({ status: 422, body: 'recipient is inactive' });
    await work();
    const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
    await db.as('owner')`select app_hidden.put_endpoint(${user.id}, 'sms', '+49 30 1234')`;
    await tick();
    await sent(1);
    expect(vendors.relay.deliveries[0]?.body.to).toMatchObject({ addresses: ['+49 30 1234'] });
    expect(await logOf(db.as('owner'), user)).toMatchObject({
      status: 'SENT',
      channel: 'relay',
      retry_count: 1,
      route_step: 2,
    });
    const states = await db.as('owner')`select state from app_private.address_states`;
    expect(states).toEqual([{ state: 'bounced' }]);
    const steps = await db.as('owner')`
      select detail from ops.explain_message(${user.id}, 'BIRTHDAY', ${user.date})
      where topic = 'attempt'`;
    expect(steps.map(({ detail }) => detail)).toEqual([
      expect.stringMatching(/^1: answer 422 .*which is about the address/),
      expect.stringContaining('the latest: delivered'),
    ]);
  });

  test('the other vendors of the step are not asked: they would refuse it too', async () => {
    await route([1, 'ses'], [1, 'relay'], [2, 'http']);
    for (const name of ['ses', 'relay'] as const) {
      vendors[name].answer = () => ({ status: 422 });
    }
    await work();
    await planDue(db.as('owner'), 4);
    expect(await sent(4)).toEqual({ http: 4 });
    expect(vendors.ses.deliveries.length + vendors.relay.deliveries.length).toBe(4);
  });

  test('and is FAILED where there is no next one', async () => {
    await route([1, 'ses'], [2, 'relay']);
    for (const name of ['ses', 'relay'] as const) {
      vendors[name].answer = () => ({ status: 422 });
    }
    await work();
    const [user] = (await planDue(db.as('owner'), 1)) as [DueUser];
    await eventually(async () => (await logOf(db.as('owner'), user)).status === 'FAILED');
    expect([vendors.ses.deliveries.length, vendors.relay.deliveries.length]).toEqual([1, 1]);
  });
});

test('a stopped channel holds up nobody else', async () => {
  await db.as('owner')`
    insert into app_private.message_routes (message_type, step, channel)
    values ('ANNIVERSARY', 1, 'ses')`;
  await db.as('owner')`select ops.limit_channel('ses', 0)`;
  await work();
  const users = await createDue(db.as('owner'), 20);
  await db.as('owner')`
    update app_public.users set anniversary_date = birthday_date
    where id = any(${users.map(({ id }) => id)})`;
  await tick();
  expect(await sent(20)).toEqual({ http: 20 });
  const waiting = await db.as('owner')`
    select channel, waiting::integer, problem from ops.route_status()`;
  expect(waiting).toEqual([{ channel: 'ses', waiting: 20, problem: 'it is stopped' }]);
  await db.as('owner')`select ops.limit_channel('ses', null)`;
  expect(await sent(40)).toEqual({ http: 20, ses: 20 });
});

test('what waits for a channel that loses its route, or is deleted, goes as without one', async () => {
  await route([1, 'ses'], [2, 'relay']);
  await db.as('owner')`select ops.limit_channel('ses', 0)`;
  await work();
  await planDue(db.as('owner'), 10);
  await db.as('owner')`delete from app_private.message_routes`;
  await tick();
  expect(await sent(10)).toEqual({ http: 10 });

  await db.as('owner')`delete from app_public.users`;
  await route([1, 'ses']);
  await planDue(db.as('owner'), 10);
  await db.as('owner')`delete from app_private.message_routes`;
  await worker?.close();
  await db.as('owner')`delete from app_private.delivery_channels where name = 'ses'`;
  const pace = { concurrency: 8, timeoutMs: 1_000 };
  worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new HttpChannel(vendors.plain.url, pace),
    log,
  });
  expect(await sent(10)).toEqual({ http: 10 });
});

test('a warm-up sends so many a day, to the message, and the rest goes to the others', async () => {
  await route([1, 'ses', 1000], [1, 'relay', 1]);
  await db.as('owner')`
    update app_private.delivery_channels
    set warm_up_from = (now() at time zone 'UTC')::date - 2, warm_up_messages = 10,
      warm_up_growth = 2
    where name = 'ses'`;
  await work();
  await planDue(db.as('owner'), 100);
  await eventually(async () => {
    await tick();
    return vendors.ses.accepted.length + vendors.relay.accepted.length === 100;
  }, patience(30_000));
  expect(await sent(100)).toEqual({ ses: 40, relay: 60 });
});

test('a domain that takes so many messages in a second gets no more, each in its turn', async () => {
  const rate = 20;
  const from = performance.now();
  await db.as('owner')`select ops.limit_channel('http', ${rate}, 'example.com')`;
  const at: number[] = [];
  vendors.plain.answer = () => {
    at.push(performance.now());
    return { status: 202 };
  };
  await work();
  await planDue(db.as('owner'), 60);
  await sent(60);
  await db.as('owner')`select ops.limit_channel('http', null, 'example.com')`;
  // Nothing was saved up before the limit was set.
  for (const [index, time] of at.entries()) {
    expect(index + 1).toBeLessThanOrEqual(((time - from) / 1_000) * rate);
  }
  expect(vendors.plain.deliveries).toHaveLength(60);
  const tried = await db.as('owner')`
    select from app_public.message_logs where retry_count > 0 or attempts is not null`;
  expect(tried).toHaveLength(0);
});

test('a worker whose vendor has no row says so', async () => {
  await expect(
    startWorker({
      workerUrl: db.url('worker'),
      channel: new HttpChannel(vendors.plain.url, { concurrency: 1, timeoutMs: 1_000 }),
      vendors: [
        new HttpChannel(vendors.ses.url, { concurrency: 1, timeoutMs: 1_000, name: 'nobody' }),
      ],
      log,
    }),
  ).rejects.toMatchObject({
    message: 'there is no channel nobody',
    hint: expect.stringContaining('insert into app_private.delivery_channels'),
  });
});
