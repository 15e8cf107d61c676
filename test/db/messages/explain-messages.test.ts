import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { transactionsOf, useDatabase } from '../../helpers/database.ts';
import {
  attempt,
  claim,
  explain,
  planned,
  said,
  setUser,
  setWishes,
} from '../../helpers/message-stages.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

const setLog = (sql: Transaction, id: string, columns: Record<string, unknown>) =>
  sql`update app_public.message_logs set ${sql(columns as Record<string, string>)}
    where id = ${id}`;
describe('a message', () => {
  test('that is planned waits for its time, without a job', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'plan')[0]).toMatch(`planned as message ${user.messageId}, due at `);
      expect(said(steps, 'job')).toEqual(['none yet: it gets one 90 seconds before it is due']);
      expect(said(steps, 'state')).toEqual(['SCHEDULED: waits for its time']);
      expect(said(steps, 'expires')).toEqual(['too late from then on: it becomes EXPIRED']);
      expect(said(steps, 'channel')).toEqual([]);
    });
  });

  test('whose time is not what the rules now say asks for a replan', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      await sql`
        update app_public.message_logs
        set scheduled_send_time = scheduled_send_time + interval '1 hour'
        where id = ${user.messageId}`;
      expect(said(await explain(sql, user.id, user.date), 'plan')[0]).toMatch(
        new RegExp(`; the rules now say .*: gw messages replan --user ${user.id}$`),
      );
    });
  });

  test('that a change moved into the past was made due at once', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      await setUser(sql, user.id, { timezone: 'Pacific/Kiritimati' });
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'plan')[0]).toMatch(
        /; a change moved its time into the past, and made it due at once$/,
      );
    });
  });

  test('that is over followed the rules of then', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await attempt(sql, user, { status: 'SENT', code: 202 });
      await setUser(sql, user.id, { timezone: 'Pacific/Honolulu' });
      expect(said(await explain(sql, user.id, user.date), 'plan')[0]).toMatch(
        /; the rules of then, those of now say /,
      );
    });
  });

  test('that is due has a job; a job that is gone is replaced', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'job')[0]).toMatch(/^job [0-9a-f-]{36} is created$/);
      expect(said(steps, 'state')).toEqual(['QUEUED: due, and waits for a worker']);
      // Taken twice before, by whomever: a plain retry is nobody's death.
      await sql`update pgboss.job set retry_count = 2 where data ->> 'user_id' = ${user.id}`;
      expect(said(await explain(sql, user.id, user.date), 'job')[0]).toMatch(/ is created$/);
      await sql`delete from pgboss.job where data ->> 'user_id' = ${user.id}`;
      expect(said(await explain(sql, user.id, user.date), 'job')[0]).toMatch(
        /^it is gone; .*requeue-lost-messages/,
      );
    });
  });

  test('that quiet hours hold says until when', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await sql`
        update app_public.user_settings
        set quiet_from = (now() at time zone 'UTC' - interval '2 hours')::time,
          quiet_until = (now() at time zone 'UTC' + interval '2 hours')::time
        where user_id = ${user.id}`;
      await claim(sql, user);
      expect(said(await explain(sql, user.id, user.date), 'state')[0]).toMatch(
        /^QUEUED: held until .*quiet hours$/,
      );
    });
  });

  test('shows each attempt, what was answered, and no address', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      const body = 'busy: <ada@example.org>\nask root@vendor.example';
      await attempt(sql, user, { status: 'RETRYING', code: 503, body, error: 'answered 503' });
      await attempt(sql, user, {
        status: 'RETRYING',
        error: 'ETIMEDOUT to ada@example.org',
        is_uncertain: true,
      });
      const waiting = await explain(sql, user.id, user.date);
      expect(said(waiting, 'attempt')).toEqual([
        expect.stringMatching(
          /^1: answer 503 after [0-9.]+ s; answered 503; it said "busy: <<address>> ask <address>"; to be tried again at .* UTC$/,
        ),
        expect.stringMatching(/^2: no answer after .*; ETIMEDOUT to <address>; to be tried again/),
      ]);
      expect(said(waiting, 'state')[0]).toMatch(/^RETRYING: /);
      expect(said(waiting, 'job')[0]).toMatch(/ is retry$/);
      expect(said(waiting, 'expires')[0]).toMatch(/it becomes UNKNOWN/);

      await claim(sql, user);
      const sending = await explain(sql, user.id, user.date);
      expect(said(sending, 'attempt').at(-1)).toMatch(/^the latest: it is being made/);
      expect(said(sending, 'state')[0]).toMatch(/^SENDING: /);
      expect(JSON.stringify(sending)).not.toMatch(/@/);
    });
  });

  test('that was sent shows what the receiver said', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await attempt(sql, user, { status: 'SENT', code: 202, body: 'queued' });
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'attempt')).toEqual([
        'the latest: delivered, answer 202; it said "queued"',
      ]);
      expect(steps.at(-1)).toMatchObject({
        topic: 'state',
        detail: 'SENT: the receiver has accepted it',
        at: expect.any(Date),
      });
      expect(said(steps, 'job')).toEqual([]);
    });
  });

  test('that was refused is a dead letter, and can be sent again', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await attempt(sql, user, { status: 'FAILED', code: 400, error: 'no such address' });
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'dead letter')[0]).toMatch(/^kept in queue message-send-dead until /);
      expect(said(steps, 'state')).toEqual([
        `FAILED: no such address. To send it again: gw messages redrive --message ${user.messageId}`,
      ]);
    });
  });

  test.each([
    ['EXPIRED', 'too late', /^EXPIRED: too late\. To send it all the same: .*redrive --message /],
    ['CANCELED', 'stop', /^CANCELED: stop\. It is not planned again, but can be sent: .*redrive/],
    ['UNKNOWN', 'lost', /^UNKNOWN: lost\. A person asks .*resolve --message .* --as sent\|failed$/],
  ])('that is %s says why and what a person can do', async (status, error_message, expected) => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await setLog(sql, user.messageId, { status, error_message, uncertain_since: new Date() });
      expect(said(await explain(sql, user.id, user.date), 'state')[0]).toMatch(expected);
    });
  });

  test('that its rules canceled is planned again when they have it again', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql, 60);
      await setWishes(sql, user.id, { birthday_messages: false });
      expect(said(await explain(sql, user.id, user.date), 'state')).toEqual([
        'CANCELED: the user does not want this message any more. It is planned again when the rules have it again in time',
      ]);
      await setWishes(sql, user.id, { birthday_messages: true });
      await sql`select app_private.plan_due_messages()`;
      const steps = await explain(sql, user.id, user.date);
      expect(said(steps, 'state').map((state) => state.split(':')[0])).toEqual(
        expect.arrayContaining(['CANCELED', 'SCHEDULED']),
      );
    });
  });

  test('waits for a channel whose circuit is open or that is limited', async () => {
    await asOwner(async (sql) => {
      await sql`
        update app_private.delivery_channels
        set circuit = 'open', opened_at = now(), probe_after = now()
        where name = 'http'`;
      await sql`select ops.limit_channel('smtp', 10)`;
      const user = await planned(sql);
      expect(said(await explain(sql, user.id, user.date), 'channel')).toEqual([
        expect.stringMatching(
          /^http: the circuit is open: the receiver does not answer; .* probe .* UTC$/,
        ),
        'smtp: at most 10 messages a second',
      ]);
      await attempt(sql, user, { status: 'SENT', code: 202 });
      expect(said(await explain(sql, user.id, user.date), 'channel')).toEqual([]);
    });
  });
});
