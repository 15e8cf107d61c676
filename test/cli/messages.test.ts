import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { attempt, type Planned, planned } from '../helpers/message-stages.ts';
import { patience } from '../helpers/patience.ts';

const db = useDatabase();
const checkout = new Checkout();
afterAll(() => checkout.remove());

const gw = (...args: string[]) =>
  checkout.run(['messages', ...args], { DATABASE_URL: db.url('owner') });
const json = async (...args: string[]) => {
  const { code, stdout, stderr } = await gw(...args, '--json');
  expect(stderr).not.toMatch(/^error/m);
  return { code, data: JSON.parse(stdout) };
};
const statusOf = async (user: Planned) => {
  const [row] = await db.as('owner')`
    select status from app_public.message_logs where id = ${user.messageId}`;
  return row?.status;
};

describe('gw messages', { timeout: patience(60_000) }, () => {
  let sent: Planned;
  beforeAll(async () => {
    sent = await planned(db.as('owner'));
    await attempt(db.as('owner'), sent, { status: 'SENT', code: 202 });
  });

  test('explain says why, by e-mail or id, as text and as JSON', async () => {
    const text = await gw('explain', sent.email.toUpperCase(), 'birthday', sent.date);
    expect(text.code).toBe(0);
    expect(text.stdout).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ {2}user +the account is open/);
    expect(text.stdout).toMatch(/state +SENT: the receiver has accepted it$/m);
    const { code, data } = await json('explain', sent.id, 'BIRTHDAY', sent.date);
    expect(code).toBe(0);
    expect(data.at(-1)).toMatchObject({ topic: 'state', detail: expect.stringMatching(/^SENT/) });
  });

  test('explain refuses what is no question, and has no answer about nobody', async () => {
    const nobody = await gw('explain', randomUUID(), 'BIRTHDAY', '2027-06-15');
    expect(nobody).toMatchObject({ code: 1, stdout: expect.stringContaining('no user with this') });
    expect(await gw('explain', 'no@example.com', 'BIRTHDAY', '2027-06-15')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('error: no user has this e-mail address'),
    });
    for (const args of [
      ['ada', 'BIRTHDAY', '2027-06-15'],
      [sent.id, 'EASTER', '2027-06-15'],
      [sent.id, 'BIRTHDAY', '2027-02-30'],
    ]) {
      expect((await gw('explain', ...args)).code).toBe(2);
    }
  });

  test('list filters, limits, and hides addresses', async () => {
    const failed = await planned(db.as('owner'));
    const error = 'no mailbox ada@example.org';
    await attempt(db.as('owner'), failed, { status: 'FAILED', code: 550, error });
    const { data } = await json('list', '--status', 'failed,expired', '--date', failed.date);
    expect(data.map((row: { user_id: string }) => row.user_id)).toEqual([failed.id]);
    expect(data[0]).toMatchObject({ status: 'FAILED', error_message: 'no mailbox <address>' });
    const { stdout, stderr } = await gw('list', '--limit', '1');
    expect(stdout.split('\n')[0]).toMatch(/^due +type +date +status +/);
    expect(stdout.split('\n')).toHaveLength(3);
    expect(stderr).toContain('only the latest 1');
    expect((await json('list', '--message', sent.messageId)).data).toMatchObject([
      { message_id: sent.messageId, status: 'SENT' },
    ]);
    expect((await json('list', '--user', sent.email, '--type', 'anniversary')).data).toEqual([]);
    expect((await gw('list', '--status', 'LOST')).code).toBe(2);
  });

  test('simulate prints hours and zones, and what a change would make other', async () => {
    const { id } = await createUser(db.as('owner'), {
      birthday_date: '1990-06-15',
      timezone: 'Asia/Tokyo',
    });
    const range = ['--from', '2031-06-15', '--to', '2031-06-16T00:00'];
    const text = await gw('simulate', ...range);
    expect(text.stdout).toMatch(/2031-06-15 00:00:00Z +Asia\/Tokyo +BIRTHDAY +2031-06-15 +1 +0/);
    expect(text.stdout).toMatch(
      /^1 messages: 0 planned, 0 sent, 0 stopped, 0 to suppressed addresses$/m,
    );

    const change = ['--user', id, '--if', 'timezone=Europe/Paris'];
    const { data } = await json('simulate', ...range, ...change, '--if', 'send_time=10:15');
    expect(data).toMatchObject([
      { difference: 'before', at: '2031-06-15T00:00:00.000Z', timezone: 'Asia/Tokyo' },
      { difference: 'after', at: '2031-06-15T08:15:00.000Z', timezone: 'Europe/Paris' },
    ]);
    const none = await gw('simulate', ...range, '--user', id, '--if', 'birthday_date=');
    expect(none.stdout).toMatch(/^before .*\n1 only before, 0 only after$/m);

    const wrong = await gw('simulate', ...range, '--user', id, '--if', 'timezone=Mars');
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong.stderr).toContain('error: timezone cannot be "Mars"\nhint: ');
    expect((await gw('simulate', '--to', '2001-01-01')).code).toBe(2);
  });

  test('replan shows what would move, and moves it', async () => {
    const owner = db.as('owner');
    const { id } = await createUser(owner, {
      birthday_date: '1990-01-01',
      timezone: 'Asia/Seoul',
    });
    await owner`
      update app_private.message_schedule
      set scheduled_send_time = scheduled_send_time + interval '1 hour'
      where user_id = ${id}`;
    const dry = await gw('replan', '--zone', 'Asia/Seoul', '--dry-run');
    expect(dry.code).toBe(0);
    expect(dry.stdout).toMatch(
      /Asia\/Seoul +\S+ 01:00:00Z +\S+ 00:00:00Z +not planned yet +1\nwould be: 1 changes for 1 users; 0 new zones\n$/,
    );
    expect((await json('replan', '--user', id, '--dry-run')).data).toMatchObject({
      ...{ dryRun: true, users: 1, changes: 1, moved: [{ messages: 1 }] },
    });

    const unasked = await gw('replan', '--user', id);
    expect(unasked).toMatchObject({ code: 2, stderr: expect.stringContaining('--yes') });
    const done = await json('replan', '--zone', 'Asia/Seoul', '--yes');
    expect(done).toEqual({ code: 0, data: { dryRun: false, zones: 0, users: 1, changes: 1 } });
    expect((await gw('replan', '--dry-run')).stdout).toMatch(/^would be: 0 changes for \d+ users/);
  });

  test('a dry run of replan is the act, taken back: it counts texts that are written anew', async () => {
    const owner = db.as('owner');
    const user = await planned(owner, 60);
    const text = async () => {
      const [row] = await owner`
        select message_content as text from app_public.message_logs where id = ${user.messageId}`;
      return row?.text;
    };
    const before = await text();
    await owner`
      update app_private.message_templates set body = 'Hello, {{full_name}}!'
      where message_type = 'BIRTHDAY' and locale = 'en'`;
    const dry = await json('replan', '--user', user.id, '--dry-run');
    expect(dry.data).toMatchObject({ dryRun: true, users: 1, changes: 1, moved: [] });
    expect(await text()).toBe(before);
    const done = await json('replan', '--user', user.id, '--yes');
    expect(done.data).toMatchObject({ dryRun: false, users: 1, changes: 1 });
    expect(await text()).toMatch(/^Hello, /);
  });

  test('redrive asks first, sends again, and says what it refused', async () => {
    const user = await planned(db.as('owner'));
    await attempt(db.as('owner'), user, { status: 'FAILED', code: 400, error: 'refused' });
    expect(await gw('redrive')).toMatchObject({ code: 2 });
    // Not even a yes means all that ever failed.
    expect(await gw('redrive', '--yes')).toMatchObject({
      ...{ code: 2, stderr: expect.stringContaining('which messages?') },
    });
    expect(await gw('redrive', '--message', user.messageId)).toMatchObject({ code: 2 });
    const dry = await gw('redrive', '--message', user.messageId, '--dry-run');
    expect(dry.stdout).toMatch(/1 +FAILED +BIRTHDAY +would be sent again/);
    expect(await statusOf(user)).toBe('FAILED');

    const done = await json('redrive', '--user', user.email, '--since', '1h', '--yes');
    expect(done).toEqual({
      code: 0,
      data: {
        dryRun: false,
        messages: 1,
        refused: 0,
        groups: [{ status: 'FAILED', message_type: 'BIRTHDAY', refusal: null, messages: 1 }],
      },
    });
    expect(await statusOf(user)).toBe('QUEUED');
    expect(await gw('redrive', '--message', user.messageId, '--yes')).toMatchObject({
      code: 1,
      stdout: 'no message matches\n',
    });

    await db.as('owner')`
      update app_public.message_logs set status = 'UNKNOWN', uncertain_since = now(), job_id = null
      where id = ${user.messageId}`;
    const refused = await gw('redrive', '--message', user.messageId, '--yes');
    expect(refused).toMatchObject({ code: 1, stdout: expect.stringMatching(/--even-unknown/) });
    const even = await json('redrive', '--message', user.messageId, '--even-unknown', '--yes');
    expect(even).toMatchObject({ code: 0, data: { messages: 1 } });
  });

  test('cancel needs a reason', async () => {
    const user = await planned(db.as('owner'), 60);
    expect((await gw('cancel', '--message', user.messageId, '--yes')).code).toBe(2);
    expect((await gw('cancel', '--reason', 'why', '--yes')).code).toBe(2);
    const cancel = ['cancel', '--user', user.id, '--reason', 'a wrong text'];
    expect((await gw(...cancel, '--dry-run')).stdout).toMatch(/would be canceled/);
    expect(await statusOf(user)).toBe('SCHEDULED');
    expect(await gw(...cancel, '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/1 +SCHEDULED +BIRTHDAY +canceled/),
    });
    expect(await statusOf(user)).toBe('CANCELED');
  });

  test('hold stops, holds shows it, release lets go', async () => {
    const user = await planned(db.as('owner'));
    for (const wrong of [
      ['hold', '--reason', 'x'],
      ['hold', '--all', '--type', 'BIRTHDAY', '--reason', 'x'],
      ['hold', '--all'],
      ['hold', '--zone', 'Mars/Base', '--reason', 'x'],
      ['release', '999', '--send', '--yes'],
      ['release', 'first', '--send', '--yes'],
      ['release', '1', '--yes'],
      ['release', '1', '--send', '--skip', '--yes'],
    ]) {
      expect(await gw(...wrong)).toMatchObject({ code: 2, stdout: '' });
    }
    const held = await json('hold', '--type', 'birthday', '--reason', 'a wrong text');
    const { hold } = held.data;
    await db.as('owner')`
      select app_private.claim_messages(jsonb_agg(jsonb_build_object('job_id', job_id,
        'user_id', user_id, 'message_id', id, 'scheduled_send_time', scheduled_send_time)), 'http')
      from app_public.message_logs where id = ${user.messageId}`;
    expect((await json('holds')).data).toMatchObject([
      { hold, message_type: 'BIRTHDAY', reason: 'a wrong text', messages: 1 },
    ]);
    expect((await gw('holds')).stdout).toMatch(/BIRTHDAY +all +all +.* 1 +gw_owner +a wrong text/);
    const explained = await gw('explain', user.id, 'BIRTHDAY', user.date);
    expect(explained.stderr).toBe('');
    expect(explained.stdout).toContain(`gw messages release ${hold}`);
    expect(await gw('release', String(hold), '--skip')).toMatchObject({ code: 2, stdout: '' });
    const dry = await gw('release', String(hold), '--skip', '--dry-run');
    expect(dry.stdout).toBe(`hold ${hold} would be released: 1 messages, skip\n`);
    expect(await statusOf(user)).toBe('QUEUED');
    expect(await gw('release', String(hold), '--skip', '--yes')).toMatchObject({
      ...{ code: 0, stdout: `hold ${hold} is released: 1 messages, skip\n` },
    });
    expect(await statusOf(user)).toBe('CANCELED');
    expect((await gw('holds')).stdout).toBe('nothing is held\n');
  });

  test('an address is suppressed, asked after, and lifted', async () => {
    const address = `${randomUUID()}@example.com`;
    expect((await gw('suppression', address)).stdout).toBe('messages are sent there\n');
    expect(await gw('suppress', address)).toMatchObject({ code: 2 });
    expect(await gw('suppress', 'nobody', '--reason', 'x')).toMatchObject({ code: 2 });
    await gw('suppress', address, '--reason', 'asked by phone');
    expect((await gw('suppression', address)).stdout).toMatch(
      /^blocked since .*: asked by phone\n$/,
    );
    expect((await json('suppression', address)).data).toMatchObject({ state: 'blocked' });
    expect(await gw('lift', address, '--reason', 'a mistake')).toMatchObject({ code: 0 });
    expect((await gw('suppression', address)).stdout).toBe(
      'messages are sent there: lifted: a mistake\n',
    );
    expect(await gw('lift', address, '--reason', 'again')).toMatchObject({ code: 2 });
  });

  test('an address that unsubscribed from a type is asked after, and lifted for it', async () => {
    const user = await createUser(db.as('owner'));
    await db.as('owner')`select app_private.unsubscribe(${user.id}, 'BIRTHDAY')`;
    expect((await gw('suppression', user.email)).stdout).toMatch(
      /^messages are sent there\nunsubscribed from BIRTHDAY since .*\n$/,
    );
    const lift = ['lift', user.email, '--reason', 'asked by phone'];
    const refused = await gw(...lift);
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.stderr).toContain('unsubscribed from: BIRTHDAY');
    expect((await gw(...lift, '--type', 'BIRTHDAY')).stdout).toBe(
      'messages of type BIRTHDAY are sent there again\n',
    );
    expect((await json('suppression', user.email)).data).toMatchObject({ unsubscribed_from: [] });
  });

  test('resolve says what became of an UNKNOWN message', async () => {
    const user = await planned(db.as('owner'));
    const resolve = ['resolve', '--message', user.messageId, '--as'];
    expect(await gw(...resolve, 'sent')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is not UNKNOWN, but QUEUED'),
    });
    await db.as('owner')`update app_public.message_logs set status = 'UNKNOWN'
      where id = ${user.messageId}`;
    expect((await gw(...resolve, 'perhaps')).code).toBe(2);
    expect(await gw(...resolve, 'sent')).toMatchObject({
      code: 0,
      stdout: `message ${user.messageId} is SENT\n`,
    });
    expect(await statusOf(user)).toBe('SENT');
  });

  test('limit and channels', async () => {
    expect((await gw('limit', 'smtp', '2.5')).stdout).toBe('smtp: 2.5 messages a second\n');
    expect((await gw('channels')).stdout).toMatch(/^smtp +2\.5 +20 +closed +0$/m);
    expect((await gw('limit', 'smtp', 'none')).stdout).toBe('smtp: no limit\n');
    expect((await json('channels')).data).toContainEqual({
      channel: 'smtp',
      messages_per_second: null,
      max_attempts: 20,
      circuit: 'closed',
      failures: 0,
      open_since: null,
      next_probe: null,
      domains: null,
    });
    expect((await gw('limit', 'smtp', '20', '--domain', 'Example.com')).stdout).toBe(
      'smtp to Example.com: 20 messages a second\n',
    );
    expect((await gw('channels')).stdout).toMatch(/^smtp .+ example\.com 20\/s$/m);
    await gw('limit', 'smtp', 'none', '--domain', 'example.com');
    expect((await gw('channels')).stdout).not.toContain('example.com');
    for (const args of [
      ['fax', '1'],
      ['smtp', '-1'],
      ['smtp', '0.001'],
      ['smtp', 'many'],
      ['smtp', '0', '--domain', 'example.com'],
      ['smtp', '1', '--domain', 'a b'],
    ]) {
      expect((await gw('limit', ...args)).code).toBe(2);
    }
  });
});
