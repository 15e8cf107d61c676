import type { ErrorCode } from './errors.ts';

/** How a webhook is answered; the sender delivers again what is not answered with 200. */
export interface WebhookAnswer {
  status: 200 | 400 | 404 | 405 | 413 | 503;
  body:
    | ({ received: true } & Record<string, unknown>)
    | { errors: [{ message: string; extensions: { code: ErrorCode } }] };
}

export const refuse = (
  status: Exclude<WebhookAnswer['status'], 200>,
  code: ErrorCode,
  message: string,
): WebhookAnswer => ({ status, body: { errors: [{ message, extensions: { code } }] } });

/** A body of JSON: the value, and the text that it was. */
export function readJson(body: Buffer): { value: unknown; text: string } | undefined {
  const text = body.toString('utf8');
  try {
    return { value: JSON.parse(text) as unknown, text };
  } catch {
    return undefined;
  }
}
