import type { IncomingMessage } from 'node:http';
import type { Pool } from 'pg';
import { codeOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { readBody } from './body.ts';
import { type DeliverySecrets, deliverySignatureProblem } from './delivery-signatures.ts';
import { readJson, refuse, type WebhookAnswer } from './webhooks.ts';

/** A name follows: sendgrid, mailgun, or any other that signs as Standard Webhooks says. */
export const deliveryWebhookPath = '/webhooks/delivery/';

/** Bytes. SendGrid posts some hundred events at once. */
const maxBody = 1_000_000;

/**
 * Makes the handler of `POST /webhooks/delivery/<vendor>`, which hands verified reports to the
 * database. Vendors deliver again, for hours, what is not answered with 200.
 */
export function makeDeliveryWebhook(
  pool: Pick<Pool, 'query'>,
  secrets: DeliverySecrets,
  log: Log,
): (request: IncomingMessage, vendor: string) => Promise<WebhookAnswer> {
  const isConfigured = (vendor: string): boolean =>
    (vendor === 'sendgrid' || vendor === 'mailgun' ? secrets[vendor] : secrets.generic) !==
    undefined;
  return async (request, vendor) => {
    if (!/^[a-z][a-z0-9_-]{0,39}$/.test(vendor) || !isConfigured(vendor)) {
      return refuse(404, 'NOT_FOUND', 'reports of this vendor are not configured here');
    }
    if (request.method !== 'POST') return refuse(405, 'BAD_REQUEST', 'reports are posted');
    const body = await readBody(request, maxBody);
    if (body === undefined) {
      return refuse(413, 'BODY_TOO_LARGE', `a report has at most ${maxBody} bytes`);
    }
    const json = readJson(body);
    const { headers } = request;
    const now = Date.now() / 1000;
    const signed = { headers, body, value: json?.value, now };
    const problem = deliverySignatureProblem(vendor, signed, secrets);
    if (problem !== undefined && problem !== false) {
      log.warn({ vendor, problem }, 'refused a report of deliveries');
      return refuse(400, 'SIGNATURE_INVALID', problem);
    }
    if (json === undefined) return refuse(400, 'BAD_REQUEST', 'the body is not JSON');
    try {
      const { rows } = await pool.query<{ applied: number; known: number; ignored: number }>({
        name: 'delivery-events',
        text: 'select applied, known, ignored from app_private.apply_delivery_events($1, $2::jsonb)',
        values: [vendor, json.text],
      });
      log.info({ vendor, ...rows[0] }, 'received a report of deliveries');
      return { status: 200, body: { received: true, ...rows[0] } };
    } catch (error) {
      const code = codeOf(error);
      log.error({ err: error, sqlState: code, vendor }, 'could not store a report of deliveries');
      // A value that cannot be stored is the same each time; all else may pass.
      return code?.startsWith('22') === true
        ? refuse(400, 'BAD_REQUEST', 'this is not a report that is understood')
        : refuse(503, 'UNAVAILABLE', 'the report could not be stored; deliver it again');
    }
  };
}
