import { createHmac, createSign, generateKeyPairSync, randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Api, startApi } from '../../src/api/server.ts';
import { createLog } from '../../src/log.ts';
import { jwtSecret, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const unconfigured = useApi(db);
const generic = randomBytes(32);
const mailgun = 'key-0123456789abcdef0123456789abcdef';
const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
let api: Api;

beforeAll(async () => {
  api = await startApi({
    authenticatorUrl: db.url('authenticator'),
    jwtSecret,
    deliverySecrets: { generic, mailgun, sendgrid: publicKey },
    host: '127.0.0.1',
    port: 0,
    poolSize: 3,
    log: createLog('api', 'silent'),
  });
});
afterAll(() => api?.close());

const seconds = (): number => Math.floor(Date.now() / 1000);

async function post(
  vendor: string,
  body: string,
  headers: Record<string, string>,
  port = api.port,
  method = 'POST',
) {
  const response = await fetch(`http://127.0.0.1:${port}/webhooks/delivery/${vendor}`, {
    method,
    headers: { 'content-type': 'application/json', ...headers },
    ...(method === 'POST' ? { body } : {}),
  });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

const code = (answer: { body: Record<string, unknown> }) =>
  (answer.body.errors as { extensions: { code: string } }[] | undefined)?.[0]?.extensions.code;

/** As https://www.standardwebhooks.com says. */
function signGeneric(body: string, time = seconds(), key: Buffer = generic) {
  const said = createHmac('sha256', key).update(`msg_1.${time}.${body}`).digest('base64');
  return {
    'webhook-id': 'msg_1',
    'webhook-timestamp': String(time),
    'webhook-signature': `v1,AAAA v1,${said}`,
  };
}

function signSendgrid(body: string, time = seconds()) {
  const signature = createSign('sha256').update(`${time}${body}`).sign(privateKey, 'base64');
  return {
    'x-twilio-email-event-webhook-signature': signature,
    'x-twilio-email-event-webhook-timestamp': String(time),
  };
}

function mailgunBody(event: object, time = seconds(), key = mailgun) {
  const token = randomBytes(25).toString('hex');
  const signature = createHmac('sha256', key).update(`${time}${token}`).digest('hex');
  return JSON.stringify({
    signature: { timestamp: String(time), token, signature },
    'event-data': event,
  });
}

const bounced = (id: string, email: string) => ({
  ...{ id, event: 'bounced', timestamp: seconds(), email, reason: '550 5.1.1 unknown' },
});

const stateOf = async (address: string) => {
  const [row] = await db.as('owner')`
    select state from app_private.address_states
    where address_hash = app_private.address_hash(${address})`;
  return row?.state;
};

describe('a report that is signed', () => {
  test('by Standard Webhooks is stored, once', async () => {
    const body = JSON.stringify([bounced('g1', 'g1@example.com'), { id: 'no event' }]);
    expect(await post('our-relay', body, signGeneric(body))).toEqual({
      status: 200,
      body: { received: true, applied: 1, known: 0, ignored: 1 },
    });
    expect((await post('our-relay', body, signGeneric(body))).body).toMatchObject({ known: 1 });
    expect(await stateOf('g1@example.com')).toBe('bounced');
  });

  test('by SendGrid is stored', async () => {
    const body = JSON.stringify([
      {
        ...{ email: 's1@example.com', timestamp: seconds(), event: 'spamreport' },
        ...{ sg_event_id: 's1', sg_message_id: '14c5.filter1' },
      },
    ]);
    expect(await post('sendgrid', body, signSendgrid(body))).toMatchObject({
      status: 200,
      body: { applied: 1 },
    });
    expect(await stateOf('s1@example.com')).toBe('complained');
  });

  test('by Mailgun is stored', async () => {
    const body = mailgunBody({
      ...{ id: 'm1', event: 'failed', severity: 'permanent', timestamp: seconds() },
      recipient: 'm1@example.com',
      'delivery-status': { code: 550, message: '5.1.1 unknown' },
    });
    expect(await post('mailgun', body, {})).toMatchObject({ status: 200, body: { applied: 1 } });
    expect(await stateOf('m1@example.com')).toBe('bounced');
  });
});

describe('a report is refused', () => {
  const body = JSON.stringify([bounced('x', 'x@example.com')]);
  const old = seconds() - 600;

  test.each([
    ['our-relay', body, {}],
    ['our-relay', body, signGeneric(body, old)],
    ['our-relay', body, signGeneric(`${body} `)],
    ['our-relay', body, signGeneric(body, seconds(), randomBytes(32))],
    ['sendgrid', body, {}],
    ['sendgrid', body, signSendgrid(body, old)],
    ['sendgrid', body, signSendgrid(`${body} `)],
    ['sendgrid', body, { ...signSendgrid(body), 'x-twilio-email-event-webhook-signature': 'AA==' }],
    ['mailgun', mailgunBody({ id: 'x' }, seconds(), 'another key'), {}],
    ['mailgun', mailgunBody({ id: 'x' }, seconds() - 40_000), {}],
    ['mailgun', 'null', {}],
    // The signature of one vendor is not good for another.
    ['sendgrid', body, signGeneric(body)],
  ])('of %s, when its signature is not that of it', async (vendor, text, headers) => {
    const answer = await post(vendor, text, headers);
    expect([answer.status, code(answer)]).toEqual([400, 'SIGNATURE_INVALID']);
    expect(await stateOf('x@example.com')).toBeUndefined();
  });

  test('when it is not what the vendor sends', async () => {
    const text = 'not JSON';
    expect(code(await post('our-relay', text, signGeneric(text)))).toBe('BAD_REQUEST');
    const nul = '[{"id":"\\u0000"}]';
    expect(await post('our-relay', nul, signGeneric(nul))).toMatchObject({ status: 400 });
    expect(await post('our-relay', '', {}, api.port, 'GET')).toMatchObject({ status: 405 });
    const long = JSON.stringify('x'.repeat(1_000_001));
    expect(await post('our-relay', long, signGeneric(long))).toMatchObject({ status: 413 });
  });

  test('of a vendor that has no secret here, or no name', async () => {
    const { port } = unconfigured.api;
    for (const vendor of ['our-relay', 'sendgrid', 'mailgun']) {
      const answer = await post(vendor, body, signGeneric(body), port);
      expect([answer.status, code(answer)]).toEqual([404, 'NOT_FOUND']);
    }
    expect(await post('Not%20A%20Name', body, signGeneric(body))).toMatchObject({ status: 404 });
    expect(await post('', body, signGeneric(body))).toMatchObject({ status: 404 });
  });
});
