import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { asSuperuser, asWorkerOf, claim, logged, record } from '../../helpers/claims.ts';
import { expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { createDue, planDue, planOne } from '../../helpers/messages.ts';

/*
 * What vendors report afterwards, and to whom nothing more is sent.
 */
const db = useDatabase();

const asOwner = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local role gw_owner`;
    await work(sql);
  });

const seconds = (ago = 0): number => Math.floor(Date.now() / 1000) - ago;

/** As the API does. */
async function report(sql: Transaction, vendor: string, payload: unknown) {
  await sql`set local role gw_authenticator`;
  const [row] = await sql`
    select applied, known, ignored
    from app_private.apply_delivery_events(${vendor}, ${sql.json(payload as never)})`;
  await sql`set local role gw_owner`;
  return { ...row };
}

const stateOf = async (sql: Transaction, address: string) => {
  const [row] = await sql`
    select state, reason from app_private.address_states
    where address_hash = app_private.address_hash(${address})`;
  return row === undefined ? undefined : { ...row };
};

const kinds = async (sql: Transaction) => [
  ...(await sql`select kind, detail from app_private.delivery_events order by event_id`),
];

describe('events of SendGrid, as it publishes them', () => {
  const event = (id: string, more: object) => ({
    email: 'Example@test.com',
    timestamp: seconds(60),
    'smtp-id': '<14c5d75ce93.dfd.64b469@ismtpd-555>',
    category: ['cat facts'],
    sg_event_id: id,
    sg_message_id: '14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0',
    ...more,
  });

  test.each([
    [{ event: 'processed' }, [], undefined],
    [{ event: 'open', useragent: 'Mozilla/4.0', ip: '255.255.255.255' }, [], undefined],
    [{ event: 'delivered', response: '250 OK' }, ['delivered'], undefined],
    [{ event: 'deferred', response: '400 try again later', attempt: '5' }, ['deferred'], undefined],
    [
      { event: 'bounce', type: 'bounce', reason: '550 5.1.1 unknown recipient', status: '5.1.1' },
      ['bounced'],
      'bounced',
    ],
    // The server refuses the sender: the address is well.
    [{ event: 'bounce', type: 'bounce', reason: '550 5.7.1 SPF failed' }, ['refused'], undefined],
    [{ event: 'bounce', type: 'blocked', reason: '421 busy' }, ['soft_bounced'], undefined],
    [{ event: 'dropped', reason: 'Bounced Address', status: '5.0.0' }, ['bounced'], 'bounced'],
    [{ event: 'dropped', reason: 'Spam Content' }, ['refused'], undefined],
    [{ event: 'spamreport' }, ['complained'], 'complained'],
    [{ event: 'unsubscribe' }, ['unsubscribed'], 'unsubscribed'],
    [{ event: 'group_unsubscribe', asm_group_id: 10 }, ['unsubscribed'], 'unsubscribed'],
  ])('%j', async (more, expected, state) => {
    await asOwner(async (sql) => {
      const result = await report(sql, 'sendgrid', [event('a==', more)]);
      expect(result).toEqual({ applied: expected.length, known: 0, ignored: 1 - expected.length });
      expect((await kinds(sql)).map(({ kind }) => kind)).toEqual(expected);
      expect((await stateOf(sql, 'example@TEST.com'))?.state).toBe(state);
    });
  });
});

describe('events of Mailgun, as it publishes them', () => {
  const body = (data: object) => ({
    signature: { timestamp: '1529006854', token: 'a8ce0edb2dd8301dee6c', signature: 'd2271d' },
    'event-data': {
      id: 'DACSsAdVSeGpLid7TN03WA',
      timestamp: seconds(60) + 0.329574,
      'log-level': 'info',
      recipient: 'alice@example.com',
      message: { headers: { 'message-id': '20130503182626.18666.16540@example.org' } },
      ...data,
    },
  });

  test.each([
    [{ event: 'opened', geolocation: { country: 'US' } }, [], undefined],
    [
      { event: 'delivered', 'delivery-status': { code: 250, message: 'OK', 'attempt-no': 1 } },
      ['delivered'],
      undefined,
    ],
    [
      {
        event: 'failed',
        severity: 'permanent',
        reason: 'generic',
        'delivery-status': {
          code: 550,
          message: '5.1.1 The email account that you tried to reach does not exist.',
          description: '',
        },
      },
      ['bounced'],
      'bounced',
    ],
    [
      {
        event: 'failed',
        severity: 'permanent',
        reason: 'generic',
        'delivery-status': { code: 550, message: '550 5.7.1 blocked by policy' },
      },
      ['refused'],
      undefined,
    ],
    [
      {
        event: 'failed',
        severity: 'temporary',
        reason: 'generic',
        'delivery-status': { code: 452 },
      },
      ['deferred'],
      undefined,
    ],
    [{ event: 'failed', severity: 'permanent', reason: 'suppress-bounce' }, ['bounced'], 'bounced'],
    [{ event: 'complained' }, ['complained'], 'complained'],
    [{ event: 'unsubscribed' }, ['unsubscribed'], 'unsubscribed'],
  ])('%j', async (data, expected, state) => {
    await asOwner(async (sql) => {
      await report(sql, 'mailgun', body(data));
      expect((await kinds(sql)).map(({ kind }) => kind)).toEqual(expected);
      expect((await stateOf(sql, 'alice@example.com'))?.state).toBe(state);
    });
  });
});

describe('an event', () => {
  const bounce = (id: string, more: object = {}) => ({
    id,
    event: 'bounced',
    timestamp: seconds(10),
    email: 'a@example.com',
    reason: '550 5.1.1 a@example.com is unknown',
    ...more,
  });

  test('counts once, however often it is posted, and shows no address', async () => {
    await asOwner(async (sql) => {
      expect(await report(sql, 'relay', bounce('1'))).toEqual({ applied: 1, known: 0, ignored: 0 });
      expect(await report(sql, 'relay', [bounce('1'), bounce('2'), bounce('2')])).toEqual({
        ...{ applied: 1, known: 2, ignored: 0 },
      });
      expect(await kinds(sql)).toEqual([
        { kind: 'bounced', detail: '550 5.1.1 <address> is unknown' },
        { kind: 'bounced', detail: '550 5.1.1 <address> is unknown' },
      ]);
      const [stored] = await sql`select * from app_private.delivery_events`;
      expect(JSON.stringify(stored)).not.toContain('a@example');
    });
  });

  test('that is of no use does not stop the others', async () => {
    await asOwner(async (sql) => {
      const result = await report(sql, 'relay', [
        ...[7, null, 'x', [], {}, { id: 'a' }],
        bounce('no time', { timestamp: undefined }),
        bounce('far ahead', { timestamp: seconds(-3 * 86_400) }),
        bounce('not a time', { timestamp: '2026-99-99T00:00' }),
        bounce('x'.repeat(251)),
        bounce('strange', { event: 'exploded' }),
        bounce('strange key', { idempotencyKey: "';drop table x", timestamp: seconds(1) }),
        bounce('good', { timestamp: new Date().toISOString() }),
      ]);
      expect(result).toEqual({ applied: 2, known: 0, ignored: 11 });
    });
  });

  test('finds its message and address by the key of the request', async () => {
    await asOwner(async (sql) => {
      const user = await planOne(sql);
      await sql`update app_public.message_logs set recipient_email = ${user.email}`;
      await report(sql, 'relay', bounce('1', { email: undefined, idempotencyKey: user.key }));
      const [event] = await sql`
        select user_id, message_id = (select id from app_public.message_logs) as "isIt"
        from app_private.delivery_events`;
      expect(event).toEqual({ user_id: user.id, isIt: true });
      expect((await stateOf(sql, user.email))?.state).toBe('bounced');
    });
  });

  test('of a soft bounce counts when there are five within seven days', async () => {
    await asOwner(async (sql) => {
      const soft = (id: number, daysAgo: number) =>
        bounce(`soft ${id}`, { permanent: false, timestamp: seconds(daysAgo * 86_400) });
      await report(sql, 'relay', [soft(0, 12), soft(1, 6), soft(2, 5), soft(3, 4), soft(4, 3)]);
      expect(await stateOf(sql, 'a@example.com')).toBeUndefined();
      await report(sql, 'relay', soft(5, 0));
      expect(await stateOf(sql, 'a@example.com')).toEqual({
        state: 'bounced',
        reason: '5 soft bounces within 7.0 days',
      });
    });
  });

  test('of another kind does not take a complaint back', async () => {
    await asOwner(async (sql) => {
      await report(sql, 'relay', bounce('1', { event: 'complained' }));
      await report(sql, 'relay', bounce('2'));
      expect((await stateOf(sql, 'a@example.com'))?.state).toBe('complained');
    });
  });

  test('is written by nobody but that function, and never changed', async () => {
    await asOwner(async (sql) => {
      await report(sql, 'relay', bounce('1'));
      await expectRefusal(sql, 'GW030', (inner) => inner`delete from app_private.delivery_events`);
      for (const role of ['app_user', 'gw_worker', 'gw_authenticator', 'gw_readonly']) {
        await sql`set local role none`;
        await sql.unsafe(`set local role ${role}`);
        for (const table of ['delivery_events', 'address_states', 'address_key']) {
          await expectRefusal(sql, '42501', (inner) =>
            inner.unsafe(`select from app_private.${table}`),
          );
        }
      }
    });
  });
});

describe('an address that is suppressed', () => {
  const suppress = (sql: Transaction, address: string) =>
    sql`select ops.suppress_address(${address}, 'asked by a@example.com')`;
  const statusOf = async (sql: Transaction, userId: string) => {
    const [row] = await sql`
      select status, error_message as reason from app_public.message_logs
      where user_id = ${userId}`;
    return row === undefined ? undefined : { ...row };
  };
  const reason = 'a person has blocked the address: asked by <address>';

  test('is planned as SUPPRESSED', async () => {
    await asOwner(async (sql) => {
      const [user, other] = await createDue(sql, 2);
      await suppress(sql, (user?.email ?? '').toUpperCase());
      await sql`select app_private.plan_due_messages()`;
      expect(await statusOf(sql, user?.id ?? '')).toEqual({ status: 'SUPPRESSED', reason });
      expect(await statusOf(sql, other?.id ?? '')).toMatchObject({ status: 'QUEUED' });
    });
  });

  test('gets nothing of what was planned, and that is no failure', async () => {
    await asWorkerOf(db, 2, async (sql, jobs, [user]) => {
      await asSuperuser(sql, () => suppress(sql, user?.email ?? ''));
      expect(await claim(sql, jobs)).toHaveLength(1);
      await asSuperuser(sql, async () => {
        expect(await statusOf(sql, user?.id ?? '')).toEqual({ status: 'SUPPRESSED', reason });
        expect(await sql`select from pgboss.job where name = 'message-send-dead'`).toHaveLength(0);
        expect(await sql`select from ops.alerts where resolved_at is null`).toHaveLength(0);
      });
    });
  });

  test('is free again when a person lifts it, and what was before counts no more', async () => {
    await asOwner(async (sql) => {
      const [user] = await planDue(sql, 1);
      const address = user?.email ?? '';
      const bounced = { event: 'bounced', email: address, timestamp: seconds(1) };
      await report(sql, 'relay', { id: '1', ...bounced });
      await sql`select ops.lift_suppression(${address}, 'the mailbox was mended')`;
      expect(await stateOf(sql, address)).toMatchObject({ state: null });
      // Delivered late by the vendor: it happened before.
      await report(sql, 'relay', { id: '2', ...bounced });
      expect(await stateOf(sql, address)).toMatchObject({ state: null });
      await expectRefusal(
        sql,
        'GW041',
        (inner) => inner`select ops.lift_suppression(${address}, 'again')`,
      );
      const [audit] = await sql`select action, details from ops.audit_log order by id desc limit 1`;
      expect(audit).toMatchObject({
        action: 'messages.suppression_lifted',
        details: { state: 'bounced', reason: 'the mailbox was mended' },
      });
      expect(JSON.stringify(audit)).not.toContain(address);
    });
  });

  test('because of an unsubscription gets what nobody can turn off', async () => {
    await asOwner(async (sql) => {
      const [user] = await planDue(sql, 1);
      await report(sql, 'relay', {
        ...{ id: '1', event: 'unsubscribed', email: user?.email, timestamp: seconds() },
      });
      const [row] = await sql`
        select app_private.suppression(${user?.email ?? ''}, 'BIRTHDAY', true, true) is not null as optional,
          app_private.suppression(${user?.email ?? ''}, 'BIRTHDAY', false, true) as needed`;
      expect(row).toEqual({ optional: true, needed: null });
    });
  });
});

test('a receiver that knows no such address suppresses it at once, and nobody is alarmed', async () => {
  await asWorkerOf(db, 1, async (sql, jobs, [user]) => {
    const [claimed] = await claim(sql, jobs);
    const said = '{"Message":"Inactive recipient"}';
    await record(sql, claimed, { status: 'REFUSED', stage: 'response', code: 422, body: said });
    expect(await logged(sql, jobs)).toMatchObject([{ status: 'FAILED', code: 422 }]);
    await asSuperuser(sql, async () => {
      expect((await stateOf(sql, user?.email ?? ''))?.state).toBe('bounced');
      expect(await sql`select from ops.alerts where resolved_at is null`).toHaveLength(0);
      expect(await sql`select from pgboss.job where name like 'message-send%'`).toHaveLength(0);
    });
  });
});

test('who has no address is not planned, until there is one', async () => {
  await asOwner(async (sql) => {
    const [user] = await createDue(sql, 1);
    const id = user?.id ?? '';
    const planned = () => sql`select status from app_public.message_logs where user_id = ${id}`;
    await sql`update app_public.users set is_guest = true, email = null where id = ${id}`;
    await sql`select app_private.plan_due_messages()`;
    expect(await planned()).toHaveLength(0);
    const [step] = await sql`
      select detail from ops.explain_message(${id}, 'BIRTHDAY', ${user?.date ?? ''}::text::date)
      where topic = 'plan'`;
    expect(step?.detail).toBe('no message: the user has no e-mail address');
    await sql`update app_public.users set is_guest = false, email = 'new@example.com' where id = ${id}`;
    await sql`select app_private.plan_due_messages()`;
    expect(await planned()).toEqual([{ status: 'QUEUED' }]);
    // And it is taken back when it is gone.
    await sql`update app_public.users set is_guest = true, email = null where id = ${id}`;
    expect(await planned()).toEqual([{ status: 'CANCELED' }]);
  });
});
