import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { longestReturnName, ReturnPaths } from '../../src/messages/return-path.ts';
import { unsubscribeLinks } from '../../src/messages/unsubscribe-links.ts';
import { SmtpChannel } from '../../src/worker/channels/smtp.ts';
import { startWorker } from '../../src/worker/worker.ts';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { MailServer } from '../helpers/mail-server.ts';
import { type DueUser, planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * A mail server takes messages, and returns them later, each to its own address.
 */
const secret = 'a secret of the tests with 32 letters';
const bounces = 'bounce@mail.example.com';
const db = useDatabase();
const checkout = new Checkout();
const server = new MailServer();
let maildir: string;

beforeAll(() => server.start());

beforeEach(() => {
  maildir = mkdtempSync(join(tmpdir(), 'gw-maildir-'));
  for (const folder of ['new', 'cur', 'tmp']) mkdirSync(join(maildir, folder));
});
afterEach(() => rmSync(maildir, { recursive: true }));
afterAll(async () => {
  checkout.remove();
  await server.stop();
});

const environment = () => ({
  DATABASE_URL: db.url('owner'),
  GW_WORKER_PASSWORD: new URL(db.url('worker')).password,
  GW_MAIL_BOUNCES: bounces,
  GW_JWT_SECRET: secret,
});
const gw = (args: string[], input?: string) =>
  checkout.run(['bounces', ...args], environment(), input);

/** Sends real messages to the mail server. @returns the users, and the return path of each */
async function deliver(count: number): Promise<(DueUser & { returnPath: string })[]> {
  const users = await planDue(db.as('owner'), count);
  const paths = new ReturnPaths(bounces, secret);
  const worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new SmtpChannel(server.url(), {
      ...{ concurrency: 4, timeoutMs: 5_000 },
      from: { name: 'Groundwork', address: 'news@example.com' },
    }),
    log: createLog('worker', 'silent'),
    unsubscribeUrl: unsubscribeLinks('https://app.example.com', secret),
    returnPath: paths.addressOf.bind(paths),
  });
  try {
    const letters = await eventually(async () => {
      const found = users.map(({ email }) => server.letters.find(({ to }) => to.includes(email)));
      const rows = await db.as('owner')`
        select from app_public.message_logs
        where status = 'SENT' and user_id = any (${users.map(({ id }) => id)}::uuid[])`;
      return rows.length === count && found.every((each) => each !== undefined) && found;
    });
    return users.map((user, place) => ({ ...user, returnPath: letters[place]?.from ?? '' }));
  } finally {
    await worker.close();
  }
}

const stateOf = async ({ email }: { email: string }) => {
  const [row] = await db.as('owner')`
    select state from app_private.address_states
    where address_hash = app_private.address_hash(${email})`;
  return row?.state;
};

/** As Postfix writes it. */
const dsn = (to: string, { action = 'failed', status = '5.1.1', said = 'User unknown' } = {}) =>
  `Return-Path: <>
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
To: ${to}
Subject: Undelivered Mail Returned to Sender
Date: ${new Date().toUTCString()}
Message-Id: <${randomUUID()}@mx.example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="B1"

--B1
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.net.

--B1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Arrival-Date: ${new Date().toUTCString()}

Final-Recipient: rfc822; somebody.else@example.net
Action: ${action}
Status: ${status}
Diagnostic-Code: smtp; 550 ${status} <somebody@example.net>:
    ${said}

--B1
Content-Type: text/rfc822-headers

From: news@example.com

--B1--
`;

/** As RFC 5965 has it: to a mailbox of its own, and the message with it. */
const arf = (returnPath: string, type: string) =>
  `From: <abusedesk@example.net>
To: <abuse@example.com>
Date: ${new Date().toUTCString()}
Message-ID: <${randomUUID()}@example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="B2"

--B2
Content-Type: text/plain

This is an email abuse report.

--B2
Content-Type: message/feedback-report

Feedback-Type: ${type}
User-Agent: SomeGenerator/1.0
Version: 1

--B2
Content-Type: message/rfc822

Return-Path: <${returnPath.toUpperCase()}>
From: news@example.com
Subject: Happy birthday

Hello.
--B2--
`;

describe('gw bounces', { timeout: patience(60_000) }, () => {
  test('suppresses each address whose mail was returned, and no other', async () => {
    const users = await deliver(6);
    const mails = [
      dsn(users[0]?.returnPath ?? ''),
      dsn(users[1]?.returnPath ?? '', { status: '5.7.1', said: 'blocked by SPF' }),
      dsn(users[2]?.returnPath ?? '', { action: 'delayed', status: '4.4.1' }),
      dsn(users[3]?.returnPath ?? '', { action: 'delivered', status: '2.0.0' }),
      arf(users[4]?.returnPath ?? '', 'abuse'),
      arf(users[5]?.returnPath ?? '', 'opt-out'),
      'Subject: Out of office\n\nI am away.',
      // Forged: a return path that nobody signed.
      dsn(`bounce+${'a'.repeat(55)}@mail.example.com`),
      '',
    ];
    for (const [place, text] of mails.entries()) {
      writeFileSync(join(maildir, 'new', `${place}.host`), text);
    }
    const dry = await gw(['--maildir', maildir, '--dry-run']);
    expect(dry.stdout).toMatch(/would be: 6 new, 0 known, 0 of no use, 3 no reports\n$/);
    expect(readdirSync(join(maildir, 'new'))).toHaveLength(mails.length);
    expect(await Promise.all(users.map(stateOf))).toEqual(new Array(6).fill(undefined));

    const done = await gw(['--maildir', maildir, '--json']);
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(done.stdout)).toMatchObject({
      ...{ applied: 6, known: 0, ignored: 0 },
      others: [
        { mail: '6.host', problem: 'it is no report of a mail server' },
        { mail: '7.host', problem: 'no return path of ours stands in it' },
        { mail: '8.host', problem: 'it is no report of a mail server' },
      ],
    });
    expect(await Promise.all(users.map(stateOf))).toEqual([
      'bounced',
      undefined,
      undefined,
      undefined,
      'complained',
      'unsubscribed',
    ]);
    expect(readdirSync(join(maildir, 'new'))).toEqual([]);
    expect(readdirSync(join(maildir, 'cur'))).toContain('0.host:2,S');
    const events = await db.as('owner')`
      select kind, message_id is not null as "hasMessage", detail
      from app_private.delivery_events
      where vendor = 'mail' and user_id = any (${users.map(({ id }) => id)}::uuid[])
      order by kind`;
    expect(events.map(({ kind }) => kind)).toEqual([
      ...['bounced', 'complained', 'deferred', 'delivered', 'refused', 'unsubscribed'],
    ]);
    expect(events.every(({ hasMessage }) => hasMessage)).toBe(true);
    expect(events[0]?.detail).toBe('550 5.1.1 <<address>>: User unknown');
  });

  test('reads one mail on standard input, as a mail server gives it to a program', async () => {
    const [user] = await deliver(1);
    const mail = dsn(user?.returnPath ?? '').replaceAll('\n', '\r\n');
    expect((await gw([], mail)).stdout).toBe('1 new, 0 known, 0 of no use, 0 no reports\n');
    expect((await gw([], mail)).stdout).toBe('0 new, 1 known, 0 of no use, 0 no reports\n');
    expect(await stateOf({ email: user?.email ?? '' })).toBe('bounced');
  });

  test('says what is missing', async () => {
    expect(await gw(['--maildir', join(maildir, 'new')])).toMatchObject({
      ...{ code: 2, stderr: expect.stringContaining('has the folders new, cur and tmp') },
    });
    const unset = await checkout.run(['bounces'], { ...environment(), GW_MAIL_BOUNCES: '' });
    expect(unset).toMatchObject({ code: 2, stderr: expect.stringContaining('GW_MAIL_BOUNCES') });
    const long = await checkout.run(['bounces'], {
      ...environment(),
      GW_MAIL_BOUNCES: `${'b'.repeat(longestReturnName + 1)}@example.com`,
    });
    expect(long).toMatchObject({ code: 2, stderr: expect.stringContaining('GW_MAIL_BOUNCES') });
  });
});

test('a return path is read as it was made, in any case, and no other is', () => {
  const paths = new ReturnPaths(bounces, secret);
  const others = new ReturnPaths(bounces, `${secret}!`);
  fc.assert(
    fc.property(
      fc.uuid(),
      fc.string(),
      fc.date({ min: new Date(0), max: new Date('2149-06-01'), noInvalidDate: true }),
      fc.nat(54),
      (id, key, due, at) => {
        const address = paths.addressOf(id, key, due.toISOString());
        expect(address.indexOf('@')).toBeLessThanOrEqual(64);
        const read = paths.find(`To: <${address.toUpperCase()}>`);
        expect(read).toMatchObject({ userId: id, day: due.toISOString().slice(0, 10) });
        expect(others.find(address)).toBeUndefined();
        // Any letter that is another one.
        const place = 'bounce+'.length + at;
        const letter = address[place] === 'a' ? 'q' : 'a';
        const changed = address.slice(0, place) + letter + address.slice(place + 1);
        // The last letter has bits that say nothing.
        if (at < 54) expect(paths.find(changed)).toBeUndefined();
      },
    ),
  );
});
