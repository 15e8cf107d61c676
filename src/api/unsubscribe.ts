import type { IncomingMessage, ServerResponse } from 'node:http';
import Negotiator from 'negotiator';
import type { Pool } from 'pg';
import { codeOf, messageOf } from '../errors.ts';
import { escapeHtml } from '../html.ts';
import type { Log } from '../log.ts';
import { UnsubscribeTokens, type Unsubscription } from '../messages/unsubscribe-links.ts';
import { languageAttributes, spokenLanguages, type Words, wordsOf } from '../messages/words.ts';
import { readBody } from './body.ts';

export const unsubscribePath = '/unsubscribe';

/** Bytes; the form and RFC 8058 send some thirty. */
const maxBody = 4_096;

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

interface Label {
  label: string;
  /** The language of the label. */
  locale: string;
}

interface Page {
  status: 200 | 400 | 405 | 413 | 503;
  words: Words;
  title: string;
  text: string;
  /** What the button says, when there is one. */
  button?: string;
  /** What a second one says, which turns all off. */
  all?: string;
}

function htmlOf({ words, title, text, button, all }: Page): string {
  // Without an action the form goes to the address of the page, which has the token.
  const second =
    all === undefined ? '' : `<button name="all" value="yes">${escapeHtml(all)}</button>\n`;
  const form =
    button === undefined
      ? ''
      : `<form method="post">
<input type="hidden" name="List-Unsubscribe" value="One-Click">
<button>${escapeHtml(button)}</button>
${second}</form>
`;
  return `<!doctype html>
<html ${languageAttributes(words.locale)}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 4rem auto; padding: 0 1rem }
button { font: inherit; padding: 0.5rem 1rem; margin: 0 0.5rem 0.5rem 0 }
</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(text)}</p>
${form}</body>
</html>
`;
}

const notValid = (words: Words): Page => ({
  ...{ status: 400, words },
  title: words.notValid,
  text: words.notValidText,
});

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

  /** What the user turns off, and in which language; undefined where nobody can. */
  async function labelOf({ userId, messageType }: Unsubscription): Promise<Label | undefined> {
    const { rows } = await pool.query<Label>({
      name: 'unsubscribe-label',
      text: 'select label, locale from app_private.unsubscribe_label($1::uuid, $2::text)',
      values: [userId, messageType],
    });
    return rows[0];
  }

  async function unsubscribe(wish: Unsubscription, fromAll: boolean): Promise<Label | undefined> {
    await pool.query({
      name: 'unsubscribe',
      text: 'select app_private.unsubscribe($1::uuid, $2::text)',
      values: [wish.userId, fromAll ? null : wish.messageType],
    });
    return labelOf(wish);
  }

  async function respond(request: IncomingMessage): Promise<Page> {
    const { method = '' } = request;
    // Until the token says who it is.
    const guessed = wordsOf(new Negotiator(request).language(spokenLanguages));
    if (!['GET', 'HEAD', 'POST'].includes(method)) {
      return {
        ...{ status: 405, words: wordsOf('en') },
        ...{ title: 'Method not allowed', text: 'This address takes GET and POST.' },
      };
    }
    const query = new URLSearchParams((request.url ?? '').split('?').slice(1).join('?'));
    const wish = tokens.verify(query.get('token') ?? '');
    if (wish === undefined) return notValid(guessed);
    const body = method === 'POST' ? await readBody(request, maxBody) : Buffer.alloc(0);
    if (body === undefined) {
      return {
        ...{ status: 413, words: wordsOf('en') },
        ...{ title: 'Too long', text: 'This was more than a click.' },
      };
    }
    const fromAll = new URLSearchParams(body.toString('utf8')).get('all') === 'yes';
    let what: Label | undefined;
    try {
      what = await (method === 'POST' ? unsubscribe(wish, fromAll) : labelOf(wish));
    } catch (error) {
      log.error({ error: messageOf(error), sqlState: codeOf(error) }, 'could not unsubscribe');
      return {
        ...{ status: 503, words: guessed },
        ...{ title: guessed.failed, text: guessed.failedText, button: guessed.again },
      };
    }
    if (what === undefined) return notValid(guessed);
    const words = wordsOf(what.locale);
    if (method !== 'POST') {
      return {
        ...{ status: 200, words, title: words.unsubscribe, all: words.all },
        ...{ text: words.question(what.label), button: words.button(what.label) },
      };
    }
    log.info({ messageType: wish.messageType, fromAll }, 'unsubscribed');
    const off = fromAll ? words.everything : what.label;
    return {
      ...{ status: 200, words, title: words.done },
      text: `${words.turnedOff(off)} ${words.settings}`,
    };
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
