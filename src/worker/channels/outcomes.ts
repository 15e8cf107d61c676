import { codeOf, messageOf } from '../../errors.ts';
import type { Attempt } from './channel.ts';

/** Client errors that time may cure: timeout, conflict, too early, too many. */
const curable = new Set([408, 409, 425, 429]);

/** Responses of a gateway that does not know what the server behind it did. */
const uncertain = new Set([408, 502, 504]);

/** Errors after which it is certain that nothing was delivered: nobody was reached. */
const unreached = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/**
 * The outcome that an HTTP response means for a message.
 *
 * @param retryAfter the Retry-After header: seconds, or an HTTP date
 */
export function fromResponse(code: number, body: string, retryAfter: string | undefined): Attempt {
  if (code >= 200 && code < 300) return { status: 'SENT', code, body };
  const error = `the receiver answered ${code}`;
  if (code < 500 && !curable.has(code)) return { status: 'FAILED', code, body, error };
  const seconds = retryAfterSeconds(retryAfter);
  return {
    status: 'RETRYING',
    code,
    body,
    error,
    ...(seconds === undefined ? {} : { retry_after_seconds: seconds }),
    ...(uncertain.has(code) ? { is_uncertain: true } : {}),
  };
}

/** The outcome of a call without a response. */
export function fromError(error: unknown, timeoutMs: number): Attempt {
  const code = codeOf(error) ?? 'error';
  return {
    status: 'RETRYING',
    error: `${code}: ${messageOf(error)} (${timeoutMs} ms allowed)`,
    is_uncertain: !unreached.has(code),
  };
}

function retryAfterSeconds(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+$/.test(header.trim())) return Number(header);
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, (at - Date.now()) / 1000);
}
