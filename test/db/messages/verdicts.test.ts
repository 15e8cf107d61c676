import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  asSuperuser,
  asWorkerOf,
  type Claimed,
  claim,
  type Job,
  logged,
  type Result,
} from '../../helpers/claims.ts';
import { expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';

/*
 * What a refusal means: of the message, of its address, of now, or of the sender.
 */
const db = useDatabase();

type Said = { stage: string; code?: number; body?: string };

async function verdict(channel: string, { stage, code, body }: Said) {
  const [row] = await db.as('superuser')`
    select app_private.refusal_verdict(${channel}, ${stage}, ${code ?? null}, ${body ?? null})
      as verdict`;
  return row?.verdict;
}

describe('a response of HTTP', () => {
  test.each([
    [301, '', 'channel'],
    [400, 'missing "content"', 'message'],
    [400, '{"error":"Daily quota exceeded"}', 'channel'],
    [401, 'bad key', 'channel'],
    [402, '', 'channel'],
    [403, '', 'channel'],
    [404, '', 'channel'],
    [405, '', 'channel'],
    [408, '', 'later'],
    [409, '', 'later'],
    [410, '', 'channel'],
    [413, '', 'message'],
    [422, '{"Message":"Inactive recipient"}', 'address'],
    [422, '', 'message'],
    [425, '', 'later'],
    [429, 'slow down', 'later'],
    [451, '', 'message'],
    [500, '', 'later'],
    [503, '', 'later'],
  ])('%i %j is about: %s', async (code, body, expected) => {
    expect(await verdict('http', { stage: 'response', code, body })).toBe(expected);
  });
});

describe('an answer of a mail server', () => {
  test.each([
    ['connect', '554 5.7.1 no service for you', 'channel'],
    ['connect', '421 4.3.2 try later', 'channel'],
    ['login', '535 5.7.8 wrong password', 'channel'],
    ['MAIL FROM', '550 5.7.1 sender rejected', 'channel'],
    ['MAIL FROM', '530 5.7.0 authentication required', 'channel'],
    ['RCPT TO', '451 4.7.1 greylisted', 'later'],
    ['RCPT TO', '450 4.2.1 mailbox busy', 'later'],
    ['RCPT TO', '550 5.1.1 no such user here', 'address'],
    ['RCPT TO', '550-5.1.1 The email account that you tried to reach', 'address'],
    ['RCPT TO', '550 5.1.8 sender domain does not exist', 'channel'],
    ['RCPT TO', '550 5.2.1 mailbox disabled', 'address'],
    ['RCPT TO', '552 5.2.2 mailbox over quota', 'message'],
    ['RCPT TO', '554 5.7.1 relay access denied', 'channel'],
    ['RCPT TO', '550 User unknown', 'address'],
    ['RCPT TO', '550 your address 1.2.3.4 is on a blocklist', 'channel'],
    ['RCPT TO', '550 no', 'message'],
    ['DATA', '552 5.3.4 message too big', 'message'],
    ['DATA', '550 5.7.26 fails SPF and DKIM', 'channel'],
    ['DATA', '554 5.7.1 blocked by reputation', 'channel'],
    ['DATA', '550 daily sending limit exceeded', 'channel'],
    ['DATA', '554 transaction failed', 'message'],
  ])('to %s: "%s" is about: %s', async (stage, body, expected) => {
    expect(await verdict('smtp', { stage, code: Number(body.slice(0, 3)), body })).toBe(expected);
  });
});

test('a rule of a person comes first, and is audited', async () => {
  await rolledBack(db.as('owner'), async (sql) => {
    await sql`
      insert into app_private.answer_rules (position, lowest_code, highest_code, verdict, note)
      values (1, 401, 401, 'message', 'this vendor says 401 of a text')`;
    const [row] = await sql`
      select app_private.refusal_verdict('http', 'response', 401, '') as verdict`;
    expect(row?.verdict).toBe('message');
    const [audit] = await sql`
      select action, details -> 'after' ->> 'note' as note
      from ops.audit_log order by id desc limit 1`;
    expect(audit).toMatchObject({
      action: 'messages.answer_rule_added',
      note: 'this vendor says 401 of a text',
    });
    for (const pattern of ['(', '']) {
      await expectRefusal(
        sql,
        pattern === '' ? '23514' : '2201B',
        (inner) => inner`
          insert into app_private.answer_rules (position, pattern, verdict, note)
          values (2, ${pattern}, 'later', 'x')`,
      );
    }
  });
});

/** Records results of all these jobs, claimed anew, in one statement. */
async function answer(
  sql: Transaction,
  jobs: readonly Job[],
  of: (number: number) => Partial<Result> & Record<string, unknown>,
  channel = 'http',
): Promise<void> {
  await asSuperuser(
    sql,
    () => sql`update pgboss.job set state = 'active' where name = 'message-send'`,
  );
  const claimed = await claim(sql, jobs);
  const place = new Map(jobs.map(({ job_id }, index) => [job_id, index]));
  const results = claimed
    .map((each: Claimed) => {
      const { job_id, user_id, message_id, scheduled_send_time, attempt } = each;
      const number = place.get(job_id) ?? -1;
      return {
        number,
        ...{ job_id, user_id, message_id, scheduled_send_time, attempt },
        status: 'REFUSED',
        stage: 'response',
        ...of(number),
      };
    })
    .sort((one, other) => one.number - other.number);
  await sql`select app_private.record_send_results(${sql.json(results)}, ${channel})`;
}

const channelOf = (sql: Transaction, name = 'http') =>
  asSuperuser(sql, async () => {
    const [row] = await sql`
      select circuit, opened_because, failures, refusal, probes_sent, recent_outcomes
      from app_private.delivery_channels where name = ${name}`;
    return row;
  });

const countByStatus = async (sql: Transaction, jobs: readonly Job[]) => {
  const counts: Record<string, number> = {};
  for (const { status } of await logged(sql, jobs)) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};

const alertsOf = (sql: Transaction) =>
  asSuperuser(sql, async () => [
    ...(await sql`
      select check_name, level, detail from ops.alerts
      where resolved_at is null order by check_name`),
  ]);

/** Lets the next probe go now. */
const letProbe = (sql: Transaction) =>
  asSuperuser(
    sql,
    () => sql`
      update app_private.delivery_channels
      set circuit = 'half-open', probe_after = now() where circuit <> 'closed'`,
  );

describe('a channel', () => {
  test('whose key is refused loses no message, and says so once, with the answer', async () => {
    await asWorkerOf(db, 60, async (sql, jobs) => {
      await answer(sql, jobs, () => ({ code: 401, body: 'key of a@example.com expired' }));
      expect(await countByStatus(sql, jobs)).toEqual({ RETRYING: 60 });
      expect(await channelOf(sql)).toMatchObject({ circuit: 'open', opened_because: 'sender' });
      const alerts = await alertsOf(sql);
      expect(alerts).toEqual([
        {
          check_name: 'message-channel',
          level: 'critical',
          detail: 'the receiver refuses the sender; messages wait: "key of <address> expired"',
        },
      ]);
      // A probe that is refused again is no attempt of its message.
      await letProbe(sql);
      const [before] = await logged(sql, jobs.slice(0, 1));
      await answer(sql, jobs.slice(0, 1), () => ({ code: 401 }));
      const [after] = await logged(sql, jobs.slice(0, 1));
      expect(after?.retry_count).toBe(before?.retry_count);
      await letProbe(sql);
      await answer(sql, jobs.slice(0, 1), () => ({ status: 'SENT', code: 200 }));
      expect(await channelOf(sql)).toMatchObject({ circuit: 'closed', refusal: null });
      expect(await alertsOf(sql)).toEqual([]);
    });
  });

  test('that refuses 20 of 50 for good is held, and the rest waits', async () => {
    await asWorkerOf(db, 120, async (sql, jobs) => {
      const few = jobs.slice(0, 50);
      await answer(sql, few, (number) =>
        number % 3 === 0 ? { code: 422, body: 'no' } : { status: 'SENT', code: 200 },
      );
      expect(await countByStatus(sql, few)).toEqual({ SENT: 33, FAILED: 17 });
      expect(await channelOf(sql)).toMatchObject({ circuit: 'closed' });
      const rest = jobs.slice(50);
      await answer(sql, rest, () => ({ code: 422, body: 'content rejected' }));
      // Five more, while two of the first leave the latest fifty.
      expect(await countByStatus(sql, rest)).toEqual({ FAILED: 4, RETRYING: 66 });
      expect(await channelOf(sql)).toMatchObject({ circuit: 'open', opened_because: 'refusals' });
      expect(await alertsOf(sql)).toContainEqual({
        check_name: 'message-channel',
        level: 'critical',
        detail: expect.stringMatching(/of the latest 50 messages were refused.*content rejected/),
      });
      // Nothing fails while it is held, and one that is sent does not open it.
      const waiting = rest.slice(30);
      await letProbe(sql);
      await answer(sql, waiting.slice(0, 1), () => ({ code: 422, body: 'content rejected' }));
      expect((await countByStatus(sql, waiting)).RETRYING).toBe(40);
      for (let sent = 1; sent <= 10; sent += 1) {
        expect(await channelOf(sql)).toMatchObject({ circuit: 'open' });
        await letProbe(sql);
        await answer(sql, waiting.slice(sent, sent + 1), () => ({ status: 'SENT', code: 200 }));
      }
      expect(await channelOf(sql)).toMatchObject({ circuit: 'closed', recent_outcomes: '' });
    });
  });

  test('that refuses every tenth is not held', async () => {
    await asWorkerOf(db, 200, async (sql, jobs) => {
      for (let from = 0; from < 200; from += 40) {
        await answer(sql, jobs.slice(from, from + 40), (number) =>
          number % 10 === 0 ? { code: 422 } : { status: 'SENT', code: 200 },
        );
      }
      expect(await countByStatus(sql, jobs)).toEqual({ SENT: 180, FAILED: 20 });
      expect(await channelOf(sql)).toMatchObject({ circuit: 'closed' });
    });
  });
});

describe('an attempt that reached nobody', () => {
  const changeUser = (sql: Transaction, job: Job | undefined) =>
    asSuperuser(
      sql,
      () => sql`
        update app_public.users set email = 'new@example.com', first_name = 'New', last_name = ''
        where id = ${job?.user_id ?? null}`,
    );

  test('is repeated with the address, the name and the text of now', async () => {
    await asWorkerOf(db, 1, async (sql, jobs) => {
      await answer(sql, jobs, () => ({ code: 429 }));
      await changeUser(sql, jobs[0]);
      await asSuperuser(sql, () => sql`update pgboss.job set state = 'active'`);
      const [again] = await claim(sql, jobs);
      expect(again).toMatchObject({ email: 'new@example.com', full_name: 'New' });
      expect((again as unknown as { message_content: string }).message_content).toContain('New');
    });
  });

  test('unlike one that may have: that goes to nobody else', async () => {
    await asWorkerOf(db, 1, async (sql, jobs, [user]) => {
      await answer(sql, jobs, () => ({ code: 504, is_uncertain: true }));
      // What comes after it changes nothing about that.
      await answer(sql, jobs, () => ({ code: 429 }));
      await changeUser(sql, jobs[0]);
      await asSuperuser(sql, () => sql`update pgboss.job set state = 'active'`);
      const [again] = await claim(sql, jobs);
      expect(again).toMatchObject({ email: user?.email });
    });
  });
});
