import { createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Pool } from 'pg';
import { codeOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { readBody } from './body.ts';
import { readJson, refuse, type WebhookAnswer } from './webhooks.ts';

export const stripeWebhookPath = '/webhooks/stripe';

/** Bytes; Stripe's events are a few thousand. */
const maxBody = 1_000_000;
/** Seconds by which Stripe's clock and ours may differ, delivery included. */
const tolerance = 300;

/** What became of an event, as app_private.apply_subscription_event() says. */
export type Outcome = 'applied' | 'duplicate' | 'stale' | 'ignored';

/**
 * Verifies a signature of Stripe's scheme v1: HMAC-SHA256, in hex, over the time, a point
 * and the body. While a secret is being replaced the header has a signature for each.
 * https://docs.stripe.com/webhooks#verify-manually
 *
 * @param header the Stripe-Signature header: `t=<seconds>,v1=<hex>,…`
 * @param body as it was received, byte by byte
 * @param now in seconds since 1970
 * @returns what is wrong, or undefined when all is well
 */
export function signatureProblem(
  header: string | undefined,
  body: Buffer,
  secret: string,
  now: number,
): string | undefined {
  const parts = (header ?? '').split(',').map((part) => part.trim().split('=', 2));
  const time = parts.find(([key]) => key === 't')?.[1] ?? '';
  const given = parts
    .filter(([key, value]) => key === 'v1' && /^[0-9a-f]{64}$/.test(value ?? ''))
    .map(([, value]) => Buffer.from(value ?? '', 'hex'));
  if (!/^\d{1,15}$/.test(time) || given.length === 0) {
    return 'the Stripe-Signature header has no time or no v1 signature';
  }
  const expected = createHmac('sha256', secret).update(`${time}.`).update(body).digest();
  // All are compared, each in constant time.
  const matching = given.filter((signature) => timingSafeEqual(signature, expected));
  if (matching.length === 0) return 'the signature is not that of this body and our secret';
  if (Math.abs(now - Number(time)) > tolerance) {
    return `the signature is of another time, more than ${tolerance} seconds from now`;
  }
  return undefined;
}

/** The text of a JSON object, or undefined. */
function jsonObject(body: Buffer): string | undefined {
  const json = readJson(body);
  const isObject =
    typeof json?.value === 'object' && json.value !== null && !Array.isArray(json.value);
  return isObject ? json.text : undefined;
}

/**
 * Makes the handler of `POST /webhooks/stripe`, which hands verified events to the database.
 * Stripe delivers again, for three days, what is not answered with 200.
 *
 * @param secret of the endpoint, `whsec_…`; without one every request is answered with 404
 */
export function makeStripeWebhook(
  pool: Pick<Pool, 'query'>,
  secret: string | undefined,
  log: Log,
): (request: IncomingMessage) => Promise<WebhookAnswer> {
  return async (request) => {
    if (secret === undefined) return refuse(404, 'NOT_FOUND', 'Stripe is not configured here');
    if (request.method !== 'POST') return refuse(405, 'BAD_REQUEST', 'events are posted');
    const body = await readBody(request, maxBody);
    if (body === undefined) {
      return refuse(413, 'BODY_TOO_LARGE', `an event has at most ${maxBody} bytes`);
    }
    const header = request.headers['stripe-signature'];
    const problem = signatureProblem(
      typeof header === 'string' ? header : undefined,
      body,
      secret,
      Date.now() / 1000,
    );
    if (problem !== undefined) {
      log.warn({ problem }, 'refused an event of Stripe');
      return refuse(400, 'SIGNATURE_INVALID', problem);
    }
    const event = jsonObject(body);
    if (event === undefined) return refuse(400, 'BAD_REQUEST', 'the body is not a JSON object');
    try {
      const { rows } = await pool.query<{ outcome: Outcome }>({
        name: 'stripe-event',
        text: 'select app_private.apply_subscription_event($1::jsonb) as outcome',
        values: [event],
      });
      const outcome = rows[0]?.outcome ?? 'ignored';
      log.info({ outcome }, 'received an event of Stripe');
      return { status: 200, body: { received: true, outcome } };
    } catch (error) {
      const code = codeOf(error);
      log.error({ err: error, sqlState: code }, 'could not apply an event of Stripe');
      // A value that the event cannot have is the same each time; all else may pass.
      return code === 'GW022' || code?.startsWith('22') === true
        ? refuse(400, 'BAD_REQUEST', 'this is not an event of Stripe that is understood')
        : refuse(503, 'UNAVAILABLE', 'the event could not be stored; deliver it again');
    }
  };
}
