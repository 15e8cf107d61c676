import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { unsubscribeLinks } from '../../src/messages/unsubscribe-links.ts';
import { jwtSecret, useApi } from '../helpers/api.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { code, expectTable, type Row } from '../helpers/reference.ts';
import { sign } from '../helpers/stripe.ts';
import { eventually } from '../helpers/wait.ts';

const secret = 'whsec_a_secret_of_the_tests';
const db = useDatabase();
const api = useApi(db, 'silent', {
  stripeWebhookSecret: secret,
  deliverySecrets: { generic: Buffer.alloc(32, 1) },
  metrics: { sample: 0, slowMs: 1_000, port: 0 },
});
const withoutStripe = useApi(db, 'silent', {
  metrics: { sample: 1, slowMs: 1_000 },
  rates: { anonymous: 1, signIn: 0, user: 0 },
});
const query = (text: string): string => JSON.stringify({ query: text });

/** The status, as the reference's table has it; `label` for paths that are any. */
async function ask(path: string, init: RequestInit = {}, origin = api.origin, label = path) {
  const received = await fetch(`${origin}${path}`, init);
  const text = await received.text();
  const isJson = received.headers.get('content-type')?.includes('json') === true;
  const body = isJson ? (JSON.parse(text) as { errors?: { extensions: { code: string } }[] }) : {};
  return {
    response: `${received.status} ${label.startsWith('/') ? code(label.split('?', 1)[0] ?? '') : label}`,
    code: code(body.errors?.[0]?.extensions.code ?? ''),
  };
}

const post = (body: string, headers: Record<string, string> = {}): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json', ...headers },
  body,
});

test('every HTTP status that the API answers with is in the reference', {
  timeout: patience(60_000),
}, async () => {
  const { id } = await createUser(db.as('owner'));
  const claims = { sub: id, sid: id, exp: Math.floor(Date.now() / 1000) - 1 };
  const expired = `Bearer ${await signAccessToken(claims, jwtSecret)}`;
  const link = unsubscribeLinks('', jwtSecret)(id, 'BIRTHDAY');
  const long = 'x'.repeat(1_100_000);
  const event = '{"id": "evt_1", "object": "event", "type": "customer.subscription.created"}';
  const signed = (body: string) => post(body, { 'stripe-signature': sign(body, secret) });
  const reported = (body: string): RequestInit => {
    const time = String(Math.floor(Date.now() / 1000));
    const mac = createHmac('sha256', Buffer.alloc(32, 1)).update(`m.${time}.${body}`);
    return post(body, {
      ...{ 'webhook-id': 'm', 'webhook-timestamp': time },
      'webhook-signature': `v1,${mac.digest('base64')}`,
    });
  };
  const askReport = (init?: RequestInit, origin = api.origin) =>
    ask('/webhooks/delivery/relay', init, origin, '/webhooks/delivery/…');
  const metrics = `http://127.0.0.1:${api.api.metricsPort}`;
  const seen: Row[] = [
    await ask('/graphql', post('{}')),
    await ask('/graphql', post('{"query": "{ nothing }"}')),
    await ask('/graphql', post('{}', { authorization: 'Bearer none' })),
    await ask('/graphql', post('{}', { authorization: expired })),
    await ask('/graphql', { method: 'PUT' }),
    await ask('/graphql', post('{}', { accept: 'image/png' })),
    await ask('/graphql', post('{}', { 'content-type': 'text/plain' })),
    await ask('/graphql', post(long)),
    await ask('/graphql', post(query('{'.repeat(100)))),
    await ask('/graphql', post(query(`{ __typename } # ${'x'.repeat(70_000)}`))),
    await ask('/graphql', post(query('{ __typename }')), withoutStripe.origin),
    await ask('/graphql', post(query('{ __typename }')), withoutStripe.origin),
    await ask('/metrics', { headers: { via: 'a proxy' } }, withoutStripe.origin),
    await ask('/nowhere', {}, metrics, 'another path'),
    await ask('/nowhere', {}, api.origin, 'another path'),
    await ask('/unsubscribe'),
    await ask(link, { method: 'PUT' }),
    await ask(link, post(long.slice(0, 5_000))),
    await ask('/webhooks/stripe', {}, withoutStripe.origin),
    await ask('/webhooks/stripe'),
    await ask('/webhooks/stripe', post(event)),
    await ask('/webhooks/stripe', signed('[]')),
    await ask('/webhooks/stripe', signed(long)),
    await askReport(undefined, withoutStripe.origin),
    await askReport(),
    await askReport(post('[]')),
    await askReport(reported('no JSON')),
    await askReport(reported(long)),
  ];
  await db.as('superuser').unsafe(`
    drop function app_private.unsubscribe, app_private.apply_subscription_event,
      app_private.apply_returned_mail, app_private.apply_delivery_events,
      ops.last_migration`);
  const read = db.url('owner').split('/').at(-1) ?? '';
  await db.as('superuser').unsafe(`alter database ${read} set default_transaction_read_only = on`);
  await db.as('superuser')`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and usename = 'gw_authenticator'`;
  const register = `mutation { continueAsGuest(input: {}) { result { userId } } }`;
  const refused = await eventually(async () => {
    const { response, code: name } = await ask(
      '/graphql',
      post(JSON.stringify({ query: register })),
    );
    return response.startsWith('503') && { response, code: name };
  });
  await db.as('superuser').unsafe(`alter database ${read} reset default_transaction_read_only`);
  seen.push(
    refused,
    await ask(link, post('')),
    await ask('/webhooks/stripe', signed(event)),
    await askReport(reported('[]')),
    await ask('/readyz'),
    // A fault outside GraphQL, which no request is known to cause.
    { response: '500 every path', code: code('INTERNAL') },
  );
  const byResponse = new Map<string, Set<string>>();
  for (const { response = '', code: name = '' } of seen) {
    byResponse.set(response, (byResponse.get(response) ?? new Set()).add(name));
  }
  // The first of two requests, of which one is allowed.
  byResponse.delete(`200 ${code('/graphql')}`);
  expect([...byResponse.keys()].map((response) => response.slice(0, 3))).not.toContain('200');
  expectTable(
    'errors',
    'HTTP statuses',
    [...byResponse].map(([response, codes]) => ({
      response,
      code: [...codes].filter(Boolean).sort().join(', '),
    })),
  );
});
