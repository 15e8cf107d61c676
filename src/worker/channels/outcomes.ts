import type { IncomingHttpHeaders } from 'node:http';
import { codeOf, messageOf } from '../../errors.ts';
import type { Attempt } from './channel.ts';

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
 * @param headers Retry-After (seconds, or an HTTP date) and X-Message-Id are read
 */
export function fromResponse(
  code: number,
  body: string,
  headers: IncomingHttpHeaders = {},
): Attempt {
  if (code >= 200 && code < 300) {
    const id = providerMessageId(body, first(headers['x-message-id']));
    return { status: 'SENT', code, body, ...(id === undefined ? {} : { provider_message_id: id }) };
  }
  const seconds = retryAfterSeconds(first(headers['retry-after']));
  return {
    status: 'REFUSED',
    stage: 'response',
    code,
    body,
    error: `the receiver answered ${code}`,
    ...(seconds === undefined ? {} : { retry_after_seconds: seconds }),
    ...(uncertain.has(code) ? { is_uncertain: true } : {}),
  };
}

const first = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value[0] : value;

/** As vendors of e-mail answer: a header, or a key of a JSON object, whose name differs. */
function providerMessageId(body: string, header: string | undefined): string | undefined {
  const known = (value: unknown): value is string =>
    typeof value === 'string' && value.length > 0 && value.length <= 250;
  if (known(header)) return header;
  if (!body.trimStart().startsWith('{')) return undefined;
  let said: Record<string, unknown>;
  try {
    said = JSON.parse(body) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  const id = ['id', 'messageId', 'message_id', 'MessageID'].map((key) => said[key]).find(known);
  return id?.replace(/^<|>$/g, '');
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

const maxBody = 4096;

/** The first 4 KB of a response, cut at a character; the rest is read and dropped. */
export async function readStart(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    if (length < maxBody) chunks.push(chunk);
    length += chunk.length;
  }
  // A stream decoder leaves out a character that the cut went through. PostgreSQL's text
  // holds no NUL.
  return new TextDecoder()
    .decode(Buffer.concat(chunks).subarray(0, maxBody - 3), { stream: true })
    .replaceAll('\0', '');
}
