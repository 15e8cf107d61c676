import { generateKeyPairSync } from 'node:crypto';
import { dkimVerify } from 'mailauth/lib/dkim/verify.js';
import PostalMime from 'postal-mime';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Message } from '../../src/worker/channels/channel.ts';
import { SmtpChannel } from '../../src/worker/channels/smtp.ts';
import { MailServer } from '../helpers/mail-server.ts';

/*
 * What mail servers and mail programs read: by a parser and a verifier of others.
 */
const server = new MailServer();
beforeAll(() => server.start());
afterAll(() => server.stop());

const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const link = 'https://app.example.com/unsubscribe?token=abc';

const message: Message = {
  ...{ job_id: '', message_id: '', user_id: 'u', attempt: 0, was_attempted: false },
  scheduled_send_time: '2026-06-15T09:00:00Z',
  ...{ message_type: 'BIRTHDAY', delivery_date: '2026-06-15', is_optional: true },
  email: 'ada@example.org',
  full_name: 'Zoë, "Ada" Lovelace (née Byron) and a name that is long enough to be folded twice',
  message_subject: `Grüße 🎂 ${'und alles Gute '.repeat(8)}`,
  message_content: `Hey!\n${'A line of text that is longer than a line of mail may be. '.repeat(40)}`,
  idempotency_key: 'key',
  unsubscribe_url: link,
};

/** Sends it, and resolves with the bytes as they came. */
async function sent(more: Partial<Message> = {}): Promise<string> {
  const channel = new SmtpChannel(server.url(), {
    ...{ concurrency: 1, timeoutMs: 5_000 },
    from: { name: 'Groundwork', address: 'news@example.com' },
    dkim: { selector: 's1', key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() },
  });
  try {
    expect(await channel.deliver([{ ...message, ...more }])).toMatchObject([{ status: 'SENT' }]);
  } finally {
    await channel.close();
  }
  return server.sources.at(-1) ?? '';
}

/** DNS, which has the public key. */
const resolver = (key: string) => async (name: string, type: string) => {
  if (name !== 's1._domainkey.example.com' || type !== 'TXT') {
    throw Object.assign(new Error('not found'), { code: 'ENOTFOUND' });
  }
  return [[`v=DKIM1; k=rsa; p=${key}`]];
};
const der = publicKey.export({ type: 'spki', format: 'der' }).toString('base64');

async function verdictOf(mail: string, key = der) {
  const { results } = await dkimVerify(Buffer.from(mail), { resolver: resolver(key) } as never);
  return results.map(({ status, signingDomain }) => ({
    domain: signingDomain,
    result: (status as { result: string }).result,
  }));
}

test('headers are those of RFC 5322: each once, in lines of at most 998, and read back', async () => {
  const mail = await sent();
  const [head = ''] = mail.split('\r\n\r\n');
  const lines = mail.split('\r\n');
  expect(Math.max(...lines.map((line) => Buffer.byteLength(line)))).toBeLessThanOrEqual(998);
  // 7-bit, so that a server without 8BITMIME or SMTPUTF8 takes it.
  expect(Buffer.byteLength(head)).toBe(head.length);
  expect(head.replace(/[\r\n\t]/g, '')).not.toMatch(/\p{Cc}/u);
  const names = head
    .replace(/\r\n[ \t]+/g, ' ')
    .split('\r\n')
    .map((line) => line.slice(0, line.indexOf(':')).toLowerCase());
  for (const once of ['from', 'to', 'subject', 'date', 'message-id', 'mime-version']) {
    expect(names.filter((name) => name === once)).toEqual([once]);
  }
  const read = await PostalMime.parse(mail);
  expect(read).toMatchObject({
    from: { name: 'Groundwork', address: 'news@example.com' },
    to: [{ name: message.full_name, address: 'ada@example.org' }],
    subject: message.message_subject.trim(),
  });
  expect(read.text).toContain(message.message_content);
  expect(read.messageId).toMatch(/^<[0-9a-f]{40}@example\.com>$/);
});

test('a mail program can unsubscribe with one click, as RFC 8058 says', async () => {
  const read = await PostalMime.parse(await sent());
  const valuesOf = (name: string) =>
    read.headers.filter(({ key }) => key === name).map(({ value }) => value);
  expect(valuesOf('list-unsubscribe')).toEqual([`<${link}>`]);
  expect(valuesOf('list-unsubscribe-post')).toEqual(['List-Unsubscribe=One-Click']);
  // It must be covered by a valid signature.
  const [signature = ''] = valuesOf('dkim-signature');
  const signed = /\bh=([^;]+)/.exec(signature)?.[1]?.toLowerCase().replace(/\s/g, '').split(':');
  expect(signed).toEqual(
    expect.arrayContaining(['list-unsubscribe', 'list-unsubscribe-post', 'from']),
  );
});

test('the signature of DKIM holds, and breaks with any change', async () => {
  const mail = await sent();
  expect(await verdictOf(mail)).toEqual([{ domain: 'example.com', result: 'pass' }]);
  for (const changed of [
    mail.replace('Hey!', 'Hoy!'),
    mail.replace('unsubscribe?token=abc>', 'unsubscribe?token=abd>'),
    mail.replace('One-Click', 'Two-Click'),
    mail.replace('<ada@example.org>', '<eve@example.org>'),
  ]) {
    expect(changed).not.toBe(mail);
    expect((await verdictOf(changed))[0]?.result).not.toBe('pass');
  }
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
  const key = other.export({ type: 'spki', format: 'der' }).toString('base64');
  expect((await verdictOf(mail, key))[0]?.result).not.toBe('pass');
});

test('what cannot be turned off has no link to unsubscribe', async () => {
  const read = await PostalMime.parse(await sent({ unsubscribe_url: undefined }));
  expect(read.headers.filter(({ key }) => key.startsWith('list-'))).toEqual([]);
});

test.each([
  ['de', '<html lang="de">', 'Abbestellen'],
  ['ar-EG', '<html lang="ar-EG" dir="rtl">', 'Unsubscribe'],
  ['az-Arab', '<html lang="az-Arab" dir="rtl">', 'Unsubscribe'],
  ['ur-Latn', '<html lang="ur-Latn">', 'Unsubscribe'],
  ['zh-Hant-TW', '<html lang="zh-Hant-TW">', 'Unsubscribe'],
  [undefined, '<html lang="en">', 'Unsubscribe'],
  ['"><script>', '<html lang="en">', 'Unsubscribe'],
])(
  'a text in %s says so, and its footer is in a language that we speak',
  async (locale, html, word) => {
    const read = await PostalMime.parse(await sent({ locale }));
    expect(read.html).toContain(html);
    expect(read.html).toContain(`>${word}</a>`);
    expect(read.text).toContain(`-- \n${word}: https://`);
  },
);
