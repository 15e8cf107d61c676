import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Config, loadConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { unsubscribeLinks } from '../../src/messages/unsubscribe-links.ts';
import type { Channel, Message } from '../../src/worker/channels/channel.ts';
import { openChannel } from '../../src/worker/channels/open.ts';
import { startWorker, type Worker } from '../../src/worker/worker.ts';
import { type NewUser, useDatabase } from '../helpers/database.ts';
import { headerOf, MailServer, Refusal } from '../helpers/mail-server.ts';
import { hurryQueue, logOf, planDue, planOne } from '../helpers/messages.ts';
import { eventually } from '../helpers/wait.ts';

const log = createLog('worker', 'silent');
let server: MailServer;
let channels: Channel[] = [];

/** The channel that the environment names. */
function open(env: Record<string, string> = {}): Channel {
  const config: Config = loadConfig({
    GW_DELIVERY_URL: server.url(),
    GW_DELIVERY_TIMEOUT_MS: '1000',
    GW_MAIL_FROM: 'Groundwork <news@example.com>',
    ...env,
  });
  const channel = openChannel(config, 'no file');
  channels.push(channel);
  return channel;
}

const message = (changes: Partial<Message> = {}): Message => ({
  job_id: '',
  message_id: '',
  user_id: '3e8f2a0c-0000-4000-8000-000000000000',
  scheduled_send_time: '2026-06-15T08:00:00+00:00',
  message_type: 'BIRTHDAY',
  delivery_date: '2026-06-15',
  email: 'ada@example.org',
  full_name: 'Ada Lovelace',
  message_subject: 'Happy birthday!',
  message_content: 'Hey, Ada!\nHave a great day.',
  idempotency_key: 'a-key',
  attempt: 0,
  was_attempted: false,
  is_optional: true,
  ...changes,
});

async function send(changes: Partial<Message> = {}, channel = open()) {
  const [attempt] = await channel.deliver([message(changes)]);
  return attempt;
}

/** The part of a letter with that type, decoded. */
function partOf(text: string, type: string): string {
  const boundary = /boundary="([^"]+)"/.exec(text)?.[1];
  const part = text
    .split(`\r\n--${boundary}`)
    .find((each) => each.startsWith(`\r\nContent-Type: ${type}`));
  const [head = '', ...body] = (part ?? '').split('\r\n\r\n');
  const content = body.join('\r\n\r\n');
  if (/base64/i.test(head)) return Buffer.from(content, 'base64').toString();
  if (!/quoted-printable/i.test(head)) return content;
  return content
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

beforeEach(async () => {
  server = new MailServer();
  await server.start();
});

afterEach(async () => {
  await Promise.all(channels.map((channel) => channel.close()));
  channels = [];
  await server.stop();
});

describe('a letter', () => {
  test('has sender, receiver, subject, date, and says that a machine wrote it', async () => {
    const attempt = await send();
    expect(attempt).toMatchObject({ status: 'SENT', code: 250, body: '250 queued as 4711' });
    const [letter] = server.letters;
    // Returned mail names the message so.
    expect(headerOf(letter, 'Message-ID')).toBe(`<${attempt?.provider_message_id}>`);
    expect(letter).toMatchObject({ from: 'news@example.com', to: ['ada@example.org'] });
    expect(headerOf(letter, 'From')).toBe('Groundwork <news@example.com>');
    expect(headerOf(letter, 'To')).toBe('Ada Lovelace <ada@example.org>');
    expect(headerOf(letter, 'Subject')).toBe('Happy birthday!');
    expect(headerOf(letter, 'Auto-Submitted')).toBe('auto-generated');
    const age = Date.now() - Date.parse(headerOf(letter, 'Date') ?? '');
    expect(Math.abs(age)).toBeLessThan(60_000);
    expect(headerOf(letter, 'List-Unsubscribe')).toBeUndefined();
    expect(letter && partOf(letter.text, 'text/plain')).toContain('Hey, Ada!\r\nHave a great day.');
    expect(letter && partOf(letter.text, 'text/html')).toContain('Hey, Ada!<br>');
  });

  test('has the same Message-ID for every attempt, and another for another message', async () => {
    const channel = open();
    await send({}, channel);
    await send({ attempt: 1, was_attempted: true }, channel);
    await send({ idempotency_key: 'another-key' }, channel);
    const [first, again, other] = server.letters.map((each) => headerOf(each, 'Message-ID'));
    expect(first).toMatch(/^<[0-9a-f]{40}@example\.com>$/);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test('has a link to unsubscribe, which programs may press when it is https', async () => {
    const link = 'https://app.example.com/unsubscribe?token=abc';
    await send({ unsubscribe_url: link });
    const [letter] = server.letters;
    expect(headerOf(letter, 'List-Unsubscribe')).toBe(`<${link}>`);
    expect(headerOf(letter, 'List-Unsubscribe-Post')).toBe('List-Unsubscribe=One-Click');
    expect(letter && partOf(letter.text, 'text/plain')).toContain(`Unsubscribe: ${link}`);
    expect(letter && partOf(letter.text, 'text/html')).toContain(`<a href="${link}">`);

    await send({ unsubscribe_url: 'http://127.0.0.1/unsubscribe?token=abc' });
    expect(headerOf(server.letters[1], 'List-Unsubscribe')).toBeDefined();
    expect(headerOf(server.letters[1], 'List-Unsubscribe-Post')).toBeUndefined();
  });

  test('shows markup in a name as text', async () => {
    const name = `<script>alert("1 & 2's")</script>`;
    await send({ full_name: name, message_content: `Hey, ${name}!`, message_subject: name });
    const html = partOf(server.letters[0]?.text ?? '', 'text/html');
    const escaped = '&lt;script&gt;alert(&quot;1 &amp; 2&#39;s&quot;)&lt;/script&gt;';
    expect(html).toContain(`<p>Hey, ${escaped}!</p>`);
    expect(html).toContain(`<title>${escaped}</title>`);
    expect(html).not.toContain('<script');
  });

  test('gets no header and no receiver from a name or a subject', async () => {
    const injected = 'Ada\r\nBcc: eve@example.com\r\n\r\n<eve@example.com>, "x" <eve2@example.com>';
    expect(await send({ full_name: injected, message_subject: injected })).toMatchObject({
      status: 'SENT',
    });
    const [letter] = server.letters;
    expect(letter?.to).toEqual(['ada@example.org']);
    expect(headerOf(letter, 'Bcc')).toBeUndefined();
    expect(headerOf(letter, 'To')).toMatch(/<ada@example\.org>$/);
    expect(headerOf(letter, 'Message-ID')).toBeDefined();
  });

  test.each([
    'eve@example.com>, <ada@example.org',
    'a@example.org,b@example.org',
    'a@example.org\r\nDATA',
  ])('does not go to %j', async (email) => {
    expect(await send({ email })).toEqual({
      status: 'REFUSED',
      stage: 'address',
      error: 'the e-mail address cannot be used',
    });
    expect(server.connections).toBe(0);
  });

  test('has names in any script', async () => {
    await send({ full_name: 'Zoë 李', message_subject: 'Grüße 🎂', message_content: 'Grüße' });
    const [letter] = server.letters;
    expect(headerOf(letter, 'To')).toMatch(/^=\?UTF-8\?.*\?= <ada@example\.org>$/);
    expect(headerOf(letter, 'Subject')).toMatch(/^=\?UTF-8\?/);
  });
});

describe('what the server answers', () => {
  const refuse = (code: number) => () => {
    throw new Refusal(code);
  };

  test.each([
    ['mail', 451, 'MAIL FROM'],
    ['receiver', 452, 'RCPT TO'],
    ['content', 450, 'DATA'],
    ['content', 421, 'DATA'],
    ['mail', 553, 'MAIL FROM'],
    ['receiver', 550, 'RCPT TO'],
    ['content', 554, 'DATA'],
    ['mail', 530, 'MAIL FROM'],
  ] as const)('to %s with %i is a refusal of that', async (step, code, stage) => {
    server.answer = { [step]: refuse(code) };
    const attempt = await send();
    expect(attempt).toEqual({
      status: 'REFUSED',
      stage,
      code,
      body: `${code} refused by the test`,
      error: `the server answered ${code} to ${stage}`,
    });
  });

  test('a refused session is certain', async () => {
    server.answer = { connect: refuse(554) };
    const attempt = await send();
    expect(attempt).toMatchObject({ status: 'REFUSED', stage: 'connect', code: 554 });
    expect(attempt).not.toHaveProperty('is_uncertain');
  });

  test('a refused password is not in the error', async () => {
    await server.stop();
    server = new MailServer({
      disabledCommands: ['STARTTLS'],
      authOptional: false,
      allowInsecureAuth: true,
      onAuth: ({ username, password }, _session, done) =>
        username === 'ada' && password === 'p@ss/word'
          ? done(null, { user: 'ada' })
          : done(new Refusal(535)),
    });
    await server.start();
    const wrong = await send({}, open({ GW_DELIVERY_URL: server.url('ada:hush-hush@') }));
    expect(wrong).toMatchObject({ status: 'REFUSED', stage: 'login', code: 535 });
    expect(JSON.stringify(wrong)).not.toContain('hush-hush');

    const channel = open({ GW_DELIVERY_URL: server.url('ada:p%40ss%2Fword@') });
    expect(channel.description).not.toMatch(/ada|word/);
    expect(await send({}, channel)).toMatchObject({ status: 'SENT' });
  });

  test('nobody listening, and no such host, are certain', async () => {
    await server.stop();
    for (const url of [server.url(), 'smtp://nowhere.invalid:25']) {
      const attempt = await send({}, open({ GW_DELIVERY_URL: url }));
      expect(attempt).toMatchObject({ status: 'RETRYING', is_uncertain: false });
      expect(attempt?.error).toMatch(/ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EDNS/);
    }
    await server.start();
  });

  test('no answer to the content is uncertain', async () => {
    server.answer = { content: () => new Promise(() => {}) };
    expect(await send()).toEqual({
      status: 'RETRYING',
      error: 'the server took longer than 1000 ms',
      is_uncertain: true,
    });
    expect(server.letters).toHaveLength(1);
  });

  test('a connection that ends after the content is uncertain', async () => {
    server.answer = {
      content: (hangUp) => {
        hangUp();
        return new Promise(() => {});
      },
    };
    expect(await send()).toMatchObject({ status: 'RETRYING', is_uncertain: true });
  });

  test('a connection that ends before the content is certain', async () => {
    server.answer = {
      mail: (hangUp) => {
        hangUp();
        return new Promise(() => {});
      },
    };
    expect(await send()).toMatchObject({ status: 'RETRYING', is_uncertain: false });
    expect(server.letters).toEqual([]);
  });
});

describe('connections', () => {
  test('are kept: 60 messages over at most 4, each once', async () => {
    const channel = open({ GW_DELIVERY_CONCURRENCY: '4' });
    const batch = Array.from({ length: 60 }, (_, i) => message({ idempotency_key: `key-${i}` }));
    const attempts = await channel.deliver(batch);
    expect(new Set(attempts.map((attempt) => attempt.status))).toEqual(new Set(['SENT']));
    expect(new Set(server.letters.map((each) => headerOf(each, 'Message-ID'))).size).toBe(60);
    expect(server.letters).toHaveLength(60);
    expect(server.connections).toBeLessThanOrEqual(4);
  });

  test('are made anew when the server has closed them', async () => {
    const channel = open();
    expect(await send({}, channel)).toMatchObject({ status: 'SENT' });
    await server.stop();
    await server.start();
    expect(await send({}, channel)).toMatchObject({ status: 'SENT' });
    expect(server.letters).toHaveLength(2);
  });

  test('with a password, over a network, are encrypted or not used', async () => {
    // Linux answers on 127.0.0.1 for 0.0.0.0, which is no loopback address.
    const url = server.url('ada:hush-hush@').replace('127.0.0.1', '0.0.0.0');
    const attempt = await send({}, open({ GW_DELIVERY_URL: url }));
    expect(attempt).toMatchObject({ status: 'REFUSED', stage: 'connect' });
    expect(attempt?.error).toMatch(/STARTTLS|ETLS/);
    expect(server.letters).toEqual([]);
  });
});

test.each([
  ['smtps', { secure: true }],
  ['smtp', { disabledCommands: ['AUTH'] }],
])('over %s a certificate that nobody vouches for is not trusted', async (scheme, options) => {
  await server.stop();
  server = new MailServer(options);
  await server.start();
  const url = server.url().replace('smtp:', `${scheme}:`);
  const attempt = await send({}, open({ GW_DELIVERY_URL: url }));
  expect(attempt).toMatchObject({ status: 'RETRYING', is_uncertain: false });
  expect(attempt?.error).toMatch(/certificate/);
  expect(server.letters).toEqual([]);
});

describe('from the queue', () => {
  const db = useDatabase();
  const links = unsubscribeLinks(
    'https://app.example.com',
    'a secret with more than 32 characters',
  );
  let worker: Worker | undefined;

  const work = async (): Promise<void> => {
    const channel = open();
    worker = await startWorker({
      workerUrl: db.url('worker'),
      channel,
      log,
      unsubscribeUrl: links,
    });
  };

  const statusIs = (user: NewUser, status: string) =>
    eventually(async () => {
      const row = await logOf(db.as('owner'), user);
      return row.status === status && row;
    });

  beforeEach(() => hurryQueue(db.as('owner')));

  afterEach(async () => {
    await worker?.close();
    await db.as('owner')`delete from app_public.users`;
    await db.as('owner')`delete from pgboss.job`;
  });

  test('due messages become mail, and are SENT with the answer', async () => {
    const users = await planDue(db.as('owner'), 3);
    await work();
    for (const user of users) {
      expect(await statusIs(user, 'SENT')).toMatchObject({
        api_response_code: 250,
        api_response_body: '250 queued as 4711',
      });
      const letter = server.letters.find(({ to }) => to[0] === user.email);
      expect(headerOf(letter, 'List-Unsubscribe')).toBe(`<${links(user.id, 'BIRTHDAY')}>`);
    }
  });

  test('a server that is away is asked again, and mail then goes out once', async () => {
    await server.stop();
    const user = await planOne(db.as('owner'));
    await work();
    expect((await statusIs(user, 'RETRYING')).error_message).toMatch(/ECONNREFUSED/);
    await server.start();
    await statusIs(user, 'SENT');
    expect(server.letters).toHaveLength(1);
  });

  test('what may have arrived is remembered, and goes out again as the same letter', async () => {
    server.answer.content = () => new Promise(() => {});
    const user = await planOne(db.as('owner'));
    await work();
    await statusIs(user, 'RETRYING');
    const [row] = await db.as('owner')`
      select uncertain_since from app_public.message_logs where user_id = ${user.id}`;
    expect(row?.uncertain_since).not.toBeNull();
    server.answer = {};
    await statusIs(user, 'SENT');
    expect(new Set(server.letters.map((each) => headerOf(each, 'Message-ID'))).size).toBe(1);
  });

  test('who has no e-mail address any more gets no message, and that is no failure', async () => {
    const user = await planOne(db.as('owner'));
    await db.as('owner')`
      update app_public.users set email = null, is_guest = true where id = ${user.id}`;
    await work();
    expect(await statusIs(user, 'CANCELED')).toMatchObject({
      error_message: 'the user has no e-mail address',
    });
    expect(server.connections).toBe(0);
  });
});
