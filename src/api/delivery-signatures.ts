import { createHmac, type KeyObject, timingSafeEqual, verify } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/** The secrets by which vendors sign what they report; a vendor without one is not heard. */
export interface DeliverySecrets {
  /** Any vendor that signs as Standard Webhooks says: the bytes of whsec_…. */
  generic?: Buffer | undefined;
  /** SendGrid's verification key, a public key. */
  sendgrid?: KeyObject | undefined;
  /** Mailgun's HTTP webhook signing key. */
  mailgun?: string | undefined;
}

/** A request as it was received: the signature is of these bytes. */
export interface SignedRequest {
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** The JSON in the body. */
  value: unknown;
  /** Seconds since 1970. */
  now: number;
}

/** Seconds by which the vendor's clock and ours may differ, delivery included. */
const tolerance = 300;

/** Mailgun repeats a report for 8 hours, and does not sign it anew. */
const mailgunTolerance = 9 * 3600;

const text = (headers: IncomingHttpHeaders, name: string): string => {
  const value = headers[name];
  return typeof value === 'string' ? value : '';
};

function isSame(given: Buffer, wanted: Buffer): boolean {
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

function timeProblem(seconds: string, now: number, allowed: number): string | undefined {
  if (!/^\d{1,15}$/.test(seconds)) return 'the signature has no time';
  return Math.abs(now - Number(seconds)) > allowed
    ? `the signature is of another time, more than ${allowed} seconds from now`
    : undefined;
}

/** https://www.standardwebhooks.com: HMAC-SHA256 of "id.timestamp.body"; several while keys change. */
function genericProblem({ headers, body, now }: SignedRequest, secret: Buffer) {
  const [id, time] = [text(headers, 'webhook-id'), text(headers, 'webhook-timestamp')];
  const wanted = createHmac('sha256', secret).update(`${id}.${time}.`).update(body).digest();
  const given = text(headers, 'webhook-signature')
    .split(' ')
    .filter((part) => part.startsWith('v1,'))
    .map((part) => Buffer.from(part.slice(3), 'base64'));
  // All are compared, each in constant time.
  if (given.filter((signature) => isSame(signature, wanted)).length === 0) {
    return 'the webhook-signature is not that of this body and our secret';
  }
  return timeProblem(time, now, tolerance);
}

/** https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features */
function sendgridProblem({ headers, body, now }: SignedRequest, key: KeyObject) {
  const time = text(headers, 'x-twilio-email-event-webhook-timestamp');
  const signature = text(headers, 'x-twilio-email-event-webhook-signature');
  const said = Buffer.concat([Buffer.from(time), body]);
  if (!verify('sha256', said, key, Buffer.from(signature, 'base64'))) {
    return 'the signature is not that of this body and our verification key';
  }
  return timeProblem(time, now, tolerance);
}

/** https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks */
function mailgunProblem({ value, now }: SignedRequest, secret: string) {
  const { signature } = (value ?? {}) as { signature?: Record<string, unknown> };
  const [time, token, given] = [signature?.timestamp, signature?.token, signature?.signature].map(
    (part) => (typeof part === 'string' ? part : typeof part === 'number' ? String(part) : ''),
  ) as [string, string, string];
  const wanted = createHmac('sha256', secret).update(`${time}${token}`).digest();
  if (!/^[0-9a-f]{64}$/.test(given) || !isSame(Buffer.from(given, 'hex'), wanted)) {
    return 'the signature in the body is not that of our signing key';
  }
  return timeProblem(time, now, mailgunTolerance);
}

/**
 * Verifies that a vendor made a request.
 *
 * @returns what is wrong; undefined when all is well; false when the vendor has no secret here
 */
export function deliverySignatureProblem(
  vendor: string,
  request: SignedRequest,
  secrets: DeliverySecrets,
): string | false | undefined {
  if (vendor === 'sendgrid') {
    return secrets.sendgrid !== undefined && sendgridProblem(request, secrets.sendgrid);
  }
  if (vendor === 'mailgun') {
    return secrets.mailgun !== undefined && mailgunProblem(request, secrets.mailgun);
  }
  return secrets.generic !== undefined && genericProblem(request, secrets.generic);
}
