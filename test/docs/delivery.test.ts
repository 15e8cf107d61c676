import { afterAll, beforeAll, expect, test } from 'vitest';
import { variables } from '../../src/config.ts';
import { readMailbox } from '../../src/mailbox.ts';
import type { Message } from '../../src/worker/channels/channel.ts';
import { HttpChannel } from '../../src/worker/channels/http.ts';
import { letterOf } from '../../src/worker/channels/letter.ts';
import { fromError, fromResponse } from '../../src/worker/channels/outcomes.ts';
import { fromRefusal } from '../../src/worker/channels/smtp.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, readPage, readTable } from '../helpers/reference.ts';
import { Vendor } from '../helpers/vendor.ts';

const db = useDatabase();
const vendor = new Vendor();
beforeAll(() => vendor.start());
afterAll(() => vendor.stop());

const message: Message = {
  job_id: '',
  message_id: '',
  user_id: '7d0c',
  scheduled_send_time: '2026-06-15T08:00:00+00:00',
  message_type: 'BIRTHDAY',
  delivery_date: '2026-06-15',
  email: 'ada@example.org',
  full_name: 'Ada Lovelace',
  message_subject: 'Happy birthday, Ada!',
  message_content: "Hey, Ada Lovelace, it's your birthday! Have a great day.",
  idempotency_key: '7d0c:BIRTHDAY:2026-06-15',
  attempt: 0,
  was_attempted: false,
  is_optional: true,
  unsubscribe_url: 'https://app.example.com/unsubscribe?token=t',
};

test('every setting of delivery is in the reference', () => {
  const names = Object.keys(variables.shape).filter((name) =>
    /^GW_(DELIVERY_|MAIL_FROM|PUBLIC_URL)/.test(name),
  );
  expectTable(
    'delivery',
    'Settings',
    names.map((name) => ({ variable: code(name) })),
  );
});

test('the headers and the body of a request are those of the reference', async () => {
  const url = vendor.url.replace('://', '://user:secret@');
  const secret = Buffer.alloc(24, 1);
  const channel = new HttpChannel(url, { concurrency: 1, timeoutMs: 5_000, secret });
  await channel.deliver([message]);
  await channel.close();
  const [{ headers, text } = { headers: {}, text: '{}' }] = vendor.deliveries;
  const ofHttp = ['host', 'connection', 'content-length'];
  expectTable(
    'delivery',
    'Headers of a request',
    Object.keys(headers)
      .filter((name) => !ofHttp.includes(name))
      .map((name) => ({ header: code(name) })),
  );
  const body = JSON.parse(text) as Record<string, unknown>;
  expectTable(
    'delivery',
    'Body of a request',
    Object.keys(body).map((key) => ({ key: code(key) })),
  );
  const [, example = ''] = /```\nPOST [^{]*(\{[^`]*)```/.exec(readPage('delivery')) ?? [];
  expect(Object.keys(JSON.parse(example) as object)).toEqual(Object.keys(body));
});

test('every HTTP status may have been delivered, or not, as the reference says', () => {
  const rows = new Map(
    readTable('delivery', 'Answers').map((row) => [(row.status ?? '').replaceAll('`', ''), row]),
  );
  for (let status = 200; status < 600; status += 1) {
    const row =
      rows.get(String(status)) ??
      rows.get(`${Math.floor(status / 100)}xx`) ??
      rows.get('any other');
    const { status: outcome, is_uncertain: isUncertain } = fromResponse(status, '');
    const may = outcome === 'SENT' || isUncertain === true;
    expect([status, outcome, row?.['may have been delivered']]).toEqual([
      status,
      status < 300 ? 'SENT' : 'REFUSED',
      may ? 'yes' : 'no',
    ]);
  }
});

test('every rule of verdicts is in the reference', async () => {
  const rules = await db.as('superuser')`
    select position, channel, stage, lowest_code, highest_code, enhanced_code, pattern, verdict,
      note
    from app_private.answer_rules order by position`;
  const shown = (value: unknown): string => (value === null ? '' : code(String(value)));
  expectTable(
    'delivery',
    'Rules',
    rules.map((rule) => ({
      position: String(rule.position),
      channel: shown(rule.channel),
      stage: shown(rule.stage),
      codes:
        rule.lowest_code === rule.highest_code
          ? shown(rule.lowest_code)
          : `${shown(rule.lowest_code)} to ${shown(rule.highest_code)}`,
      'enhanced code': shown(rule.enhanced_code),
      pattern: shown(rule.pattern),
      verdict: code(rule.verdict),
      means: rule.note as string,
    })),
  );
});

test('calls without a response have the outcome of the reference', () => {
  const rows = readTable('delivery', 'No response');
  expect(rows.length).toBeGreaterThan(2);
  for (const row of rows) {
    const name = (row.error ?? '').replaceAll('`', '');
    const { status, is_uncertain: isUncertain } = fromError({ code: name, message: '' }, 1);
    expect([name, status, isUncertain]).toEqual([
      name,
      'RETRYING',
      row['may have been delivered'] === 'yes',
    ]);
  }
});

test('responses of a mail server may have been delivered, or not, as the reference says', () => {
  const rows = readTable('delivery', 'E-mail responses');
  expect(rows.length).toBe(6);
  const steps: Record<string, string[]> = {
    '`MAIL FROM`, `RCPT TO` or `DATA`': ['MAIL FROM', 'RCPT TO', 'DATA'],
    'the connection or the login': ['CONN', 'AUTH PLAIN'],
    'the session, after the content has begun': ['CONN'],
  };
  for (const { response = '', to = '', ...row } of rows) {
    // What is accepted never comes here.
    if (response.includes('2xx')) continue;
    const hasBegun = / after|^after/.test(to);
    const may = row['may have been delivered'] === 'yes';
    const codes = response.includes('none') ? [undefined] : [421, 450, 530, 550];
    for (const number of codes) {
      for (const command of steps[to] ?? [undefined]) {
        const error = { command, response: number && `${number} said`, message: 'x' };
        const attempt = fromRefusal(error, hasBegun);
        expect([response, to, attempt.status, attempt.is_uncertain === true]).toEqual([
          response,
          to,
          number === undefined ? 'RETRYING' : 'REFUSED',
          may,
        ]);
      }
    }
  }
});

test('the headers of an e-mail are those of the reference', () => {
  const from = readMailbox('Groundwork <news@example.com>');
  if (from === undefined) throw new Error('not a mailbox');
  const { headers } = letterOf(message, from, 'ada@example.org');
  const standard = ['From', 'To', 'Subject', 'Message-ID'];
  expectTable(
    'delivery',
    'E-mail',
    [...standard, ...Object.keys(headers as object)].map((header) => ({ header: code(header) })),
  );
});

test('every column of a channel is in the reference, with its default', async () => {
  const columns = await db.as('superuser')<
    { name: string; value: string | null; comment: string }[]
  >`
    select attname as name, pg_get_expr(adbin, adrelid) as value,
      col_description(attrelid, attnum) as comment
    from pg_attribute
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = 'app_private.delivery_channels'::regclass and attnum > 0
      and not attisdropped`;
  const rows = columns.map(({ name, value, comment }) => ({
    column: code(name),
    default: code((value ?? 'null').replace(/::.*$/, '').replaceAll("'", '')),
    means: comment,
  }));
  // What the functions write; the others are for people.
  const states = [
    ...['circuit', 'failures', 'opened_at', 'pause', 'probe_after', 'permits'],
    ...['opened_because', 'refusal', 'recent_outcomes', 'probes_sent'],
  ];
  const isState = ({ column }: { column: string }): boolean =>
    [...states, 'permits_at'].map(code).includes(column);
  expectTable(
    'delivery',
    'Limits of a channel',
    rows.filter((row) => !isState(row)),
  );
  expectTable('delivery', 'State of a channel', rows.filter(isState));
});
