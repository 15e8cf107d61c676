import { request as httpRequest } from 'node:http';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { type Api, startApi } from '../../src/api/server.ts';
import { signatureProblem } from '../../src/api/stripe-webhook.ts';
import { loadConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { databaseName } from '../../src/postgres/urls.ts';
import { jwtSecret, useApi } from '../helpers/api.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { type EventOptions, sign, stripeId, subscriptionEvent } from '../helpers/stripe.ts';
import { eventually } from '../helpers/wait.ts';

const secret = 'whsec_a_secret_of_the_tests';
const db = useDatabase();
const withoutStripe = useApi(db);
let api: Api;

beforeAll(async () => {
  api = await startApi({
    authenticatorUrl: db.url('authenticator'),
    jwtSecret,
    stripeWebhookSecret: secret,
    host: '127.0.0.1',
    port: 0,
    poolSize: 3,
    log: createLog('api', 'silent'),
  });
});
afterAll(() => api?.close());

const url = (port = api.port) => `http://127.0.0.1:${port}/webhooks/stripe`;

async function post(body: string, signature: string | undefined = sign(body, secret)) {
  const response = await fetch(url(), {
    method: 'POST',
    headers: {
      'content-type': 'application/json; charset=utf-8',
      ...(signature === undefined ? {} : { 'stripe-signature': signature }),
    },
    body,
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const code = (answer: { body: Record<string, unknown> }) =>
  (answer.body.errors as { extensions: { code: string } }[] | undefined)?.[0]?.extensions.code;

/** A new user, and events about the subscription that they make. */
async function customer() {
  const { id: userId } = await createUser(db.as('owner'));
  const ids = { customer: stripeId('cus'), subscription: stripeId('sub'), userId };
  return {
    event: (options: Partial<EventOptions> = {}) =>
      JSON.stringify(subscriptionEvent({ ...ids, ...options })),
    subscription: async () => {
      const [row] = await db.as('owner')`
        select tier, status from app_public.subscriptions where user_id = ${userId}`;
      return { ...row };
    },
  };
}

const free = { tier: 'free', status: 'active' };
const seconds = () => Math.floor(Date.now() / 1000);

describe('an event of Stripe', () => {
  test('that is signed is applied', async () => {
    const { event, subscription } = await customer();
    // Not ASCII, and not as JSON.stringify would write it: the bytes are what is signed.
    const body = event().replace('{', '{ "note": "für Zoë 🎉",\n');
    expect(await post(body)).toEqual({ status: 200, body: { received: true, outcome: 'applied' } });
    expect(await subscription()).toEqual({ tier: 'pro', status: 'active' });
  });

  test('that comes again is a duplicate', async () => {
    const { event } = await customer();
    const body = event();
    await post(body);
    expect((await post(body, sign(body, secret, seconds() + 3))).body).toEqual({
      received: true,
      outcome: 'duplicate',
    });
  });

  test('that comes after a newer one is stale', async () => {
    const { event, subscription } = await customer();
    await post(event({ created: 1_800_000_100, kind: 'deleted' }));
    expect((await post(event({ created: 1_800_000_050 }))).body).toEqual({
      received: true,
      outcome: 'stale',
    });
    expect(await subscription()).toEqual({ tier: 'free', status: 'canceled' });
  });

  test('of another kind is answered with 200, so that it does not come again', async () => {
    const answer = await post(JSON.stringify({ id: 'evt_1', type: 'invoice.paid' }));
    expect(answer).toEqual({ status: 200, body: { received: true, outcome: 'ignored' } });
  });

  test('may be signed with a former secret too, in any place', async () => {
    const { event } = await customer();
    const body = event();
    const [time, v1] = sign(body, secret).split(',');
    const former = sign(body, 'whsec_a_former_secret').split(',')[1];
    expect((await post(body, `${time},${former},${v1}`)).status).toBe(200);
    expect((await post(body, `${time},${former}`)).status).toBe(400);
  });

  test.each<[string, (body: string) => [body: string, signature: string | undefined]]>([
    ['signed with another secret', (body) => [body, sign(body, `${secret}x`)]],
    ['altered', (body) => [body.replace('"pro_', '"team_'), sign(body, secret)]],
    ['signed six minutes ago', (body) => [body, sign(body, secret, seconds() - 360)]],
    ['signed in six minutes', (body) => [body, sign(body, secret, seconds() + 360)]],
    [
      'given another time',
      (body) => [body, sign(body, secret, seconds() - 360).replace(/t=\d+/, `t=${seconds()}`)],
    ],
    ['signed in scheme v0', (body) => [body, sign(body, secret).replace(/v1=/, 'v0=')]],
    ['signed by half', (body) => [body, sign(body, secret).replace(/v1=.{32}/, 'v1=')]],
    ['without a time', (body) => [body, sign(body, secret).replace(/t=\d+,/, '')]],
    ['signed with nonsense', (body) => [body, '=,,t=,v1']],
  ])('that is %s is refused, and not kept', async (_, forge) => {
    const { event, subscription } = await customer();
    const answer = await post(...forge(event()));
    expect(answer.status).toBe(400);
    expect(code(answer)).toBe('SIGNATURE_INVALID');
    expect(await subscription()).toEqual(free);
  });

  test('without a signature is refused', async () => {
    const { event, subscription } = await customer();
    const response = await fetch(url(), { method: 'POST', body: event() });
    expect(response.status).toBe(400);
    expect(await subscription()).toEqual(free);
  });

  test('signed 299 seconds ago is not too old', () => {
    const body = Buffer.from('{}');
    const header = sign('{}', secret, 1_000_000);
    expect(signatureProblem(header, body, secret, 1_000_299)).toBeUndefined();
    expect(signatureProblem(header, body, secret, 1_000_301)).toContain('another time');
    expect(signatureProblem(header, body, secret, 999_699)).toContain('another time');
  });

  test.each([
    '',
    'nonsense',
    '[]',
    '"x"',
    'null',
    '{}',
    '{"id":"evt_1","type":"customer.subscription.updated"}',
    '{"id":"evt_1","type":"\\u0000"}',
  ])('that is signed and is %j is refused', async (body) => {
    const answer = await post(body);
    expect(answer.status).toBe(400);
    expect(code(answer)).toBe('BAD_REQUEST');
  });

  test('of more than 1 MB is refused, also when its length is not told', async () => {
    const body = JSON.stringify({ id: 'evt_1', type: 'x', padding: 'x'.repeat(1_100_000) });
    const told = await fetch(url(), { method: 'POST', body });
    expect(told.status).toBe(413);
    const untold = await new Promise<number | undefined>((resolve, reject) => {
      const request = httpRequest(url(), { method: 'POST' }, (response) => {
        resolve(response.statusCode);
        response.resume();
      });
      request.on('error', reject);
      // Never ended: the answer does not wait for the rest.
      request.write(body);
    });
    expect(untold).toBe(413);
  });

  test('is posted', async () => {
    const response = await fetch(url());
    expect(response.status).toBe(405);
  });

  test('while the database is away is answered with 503, and applied when it comes again', async () => {
    const { event, subscription } = await customer();
    const body = event();
    const name = databaseName(db.url('owner'));
    const open = (allowed: boolean) =>
      withSql(inject('superuserUrl'), async (sql) => {
        await sql`alter database ${sql(name)} with allow_connections ${sql.unsafe(String(allowed))}`;
        // Those that come after it is open again are not meant.
        if (!allowed)
          await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
      });
    await open(false);
    const answer = await post(body);
    await open(true);
    expect(answer.status).toBe(503);
    expect(JSON.stringify(answer.body)).not.toContain(name);
    const outcome = await eventually(async () => {
      const again = await post(body);
      return again.status === 200 && again.body.outcome;
    });
    expect(outcome).toBe('applied');
    expect(await subscription()).toEqual({ tier: 'pro', status: 'active' });
  });
});

test('without a secret the route does not exist', async () => {
  const { event } = await customer();
  const body = event();
  const response = await fetch(url(withoutStripe.api.port), {
    method: 'POST',
    headers: { 'stripe-signature': sign(body, secret) },
    body,
  });
  expect(response.status).toBe(404);
});

test('the secret comes from the environment, and must look like one', () => {
  expect(loadConfig({}).GW_STRIPE_WEBHOOK_SECRET).toBeUndefined();
  expect(loadConfig({ GW_STRIPE_WEBHOOK_SECRET: secret }).GW_STRIPE_WEBHOOK_SECRET).toBe(secret);
  expect(() => loadConfig({ GW_STRIPE_WEBHOOK_SECRET: 'sk_live_not_this_one' })).toThrow(
    /GW_STRIPE_WEBHOOK_SECRET: must look like whsec_/,
  );
});

test('a limit that is reached has a code of its own in GraphQL', async () => {
  const { accessToken } = await withoutStripe.register('limit@example.com');
  const consume = (n: number) =>
    withoutStripe.query(
      `mutation { consumeUsage(input: { n: ${n} }) { result { usageCount monthlyLimit } } }`,
      {},
      accessToken,
    );
  expect((await consume(50)).data).toEqual({
    consumeUsage: { result: { usageCount: 50, monthlyLimit: 50 } },
  });
  expect((await consume(1)).errors[0]?.extensions).toEqual({ code: 'USAGE_LIMIT_REACHED' });
  expect((await consume(0)).errors[0]?.extensions).toEqual({
    code: 'VALIDATION_FAILED',
    field: 'n',
  });
});
