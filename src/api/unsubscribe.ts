import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Pool } from 'pg';
import { codeOf, messageOf } from '../errors.ts';
import { escapeHtml } from '../html.ts';
import type { Log } from '../log.ts';
import { UnsubscribeTokens, type Unsubscription } from '../messages/unsubscribe-links.ts';
import { readBody } from './body.ts';

export const unsubscribePath = '/unsubscribe';

/** Bytes; the form and RFC 8058 send some thirty. */
const maxBody = 4_096;

const settings = 'You can change this at any time in your settings.';

/** The token is in the address: no other site is told it, and no cache keeps the page. */
const headers = {
  'content-type': 'text/html; charset=utf-8',
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; " +
    "frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
  'x-frame-options': 'DENY',
  'x-robots-tag': 'noindex',
};

interface Page {
  status: 200 | 400 | 405 | 413 | 503;
  title: string;
  text: string;
  /** What the button says, when there is one. */
  button?: string;
}

function htmlOf({ title, text, button }: Page): string {
  // Without an action the form goes to the address of the page, which has the token.
  const form =
    button === undefined
      ? ''
      : `<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button>${escapeHtml(button)}</button>
</form>
`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem }
button { font: inherit; padding: 0.5rem 1rem }
</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(text)}</p>
${form}</body>
</html>
`;
}

const notValid: Page = {
  status: 400,
  title: 'This link is not valid',
  text: 'It may be incomplete. Open it again from the message, or use your settings.',
};

/**
 * Makes the handler of `/unsubscribe?token=…`. The token is all that is needed: no session,
 * no cookie. GET shows a page and changes nothing, because scanners of mail follow links;
 * POST, from the page's form or by a mail program (RFC 8058), unsubscribes.
 *
 * @param secret of access tokens
 */
export function makeUnsubscribe(
  pool: Pick<Pool, 'query'>,
  secret: string,
  log: Log,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const tokens = new UnsubscribeTokens(secret);

  /** What the user turns off; undefined where nobody can turn that type off. */
  async function labelOf({ messageType }: Unsubscription): Promise<string | undefined> {
    const { rows } = await pool.query<{ label: string | null }>({
      name: 'unsubscribe-label',
      text: 'select app_private.unsubscribe_label($1::text) as label',
      values: [messageType],
    });
    return rows[0]?.label ?? undefined;
  }

  async function unsubscribe(wish: Unsubscription): Promise<string | undefined> {
    await pool.query({
      name: 'unsubscribe',
      text: 'select app_private.unsubscribe($1::uuid, $2::text)',
      values: [wish.userId, wish.messageType],
    });
    return labelOf(wish);
  }

  async function respond(request: IncomingMessage): Promise<Page> {
    const { method = '' } = request;
    if (!['GET', 'HEAD', 'POST'].includes(method)) {
      return { status: 405, title: 'Method not allowed', text: 'This address takes GET and POST.' };
    }
    const query = new URLSearchParams((request.url ?? '').split('?').slice(1).join('?'));
    const wish = tokens.verify(query.get('token') ?? '');
    if (wish === undefined) return notValid;
    // Nothing in it is needed, but the connection is used again.
    if (method === 'POST' && (await readBody(request, maxBody)) === undefined) {
      return { status: 413, title: 'Too long', text: 'This was more than a click.' };
    }
    let what: string | undefined;
    try {
      what = await (method === 'POST' ? unsubscribe(wish) : labelOf(wish));
    } catch (error) {
      log.error({ error: messageOf(error), sqlState: codeOf(error) }, 'could not unsubscribe');
      return {
        status: 503,
        title: 'That did not work',
        text: 'Nothing was changed. Please try again in a few minutes.',
        button: 'Try again',
      };
    }
    if (what === undefined) return notValid;
    if (method !== 'POST') {
      return {
        status: 200,
        title: 'Unsubscribe',
        text: `Do you want to turn off ${what}?`,
        button: `Turn off ${what}`,
      };
    }
    log.info({ messageType: wish.messageType }, 'unsubscribed');
    return { status: 200, title: 'Done', text: `We have turned off ${what}. ${settings}` };
  }

  return async (request, response) => {
    const page = await respond(request);
    const text = htmlOf(page);
    response.writeHead(page.status, {
      ...headers,
      'content-length': Buffer.byteLength(text),
      ...(page.status === 405 ? { allow: 'GET, HEAD, POST' } : {}),
      // What was not read of a body would be taken for the next request.
      ...(request.complete || request.method === 'GET' ? {} : { connection: 'close' }),
    });
    response.end(request.method === 'HEAD' ? undefined : text);
  };
}
