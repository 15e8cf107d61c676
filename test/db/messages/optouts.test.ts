import { expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { asSuperuser, asWorkerOf, claim } from '../../helpers/claims.ts';
import { expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { createDue, type DueUser, planDue } from '../../helpers/messages.ts';

/*
 * Who turns messages off by the link of one of them does so for the address, which outlives
 * the account.
 */
const db = useDatabase();

const asOwner = (work: (sql: Transaction) => Promise<void>) =>
  rolledBack(db.as('superuser'), async (sql) => {
    await sql`set local role gw_owner`;
    await work(sql);
  });

/** As the API does for a link. */
async function unsubscribe(sql: Transaction, userId: string, type: string | null) {
  await sql`set local role gw_authenticator`;
  await sql`select app_private.unsubscribe(${userId}, ${type})`;
  await sql`set local role gw_owner`;
}

const turn = (sql: Transaction, user: DueUser | undefined, isOn: boolean) =>
  sql`update app_public.user_settings set birthday_messages = ${isOn}
    where user_id = ${user?.id ?? ''}`;

const logsOf = async (sql: Transaction, user: DueUser | undefined) => {
  const rows = await sql`
    select status, error_message as reason from app_public.message_logs
    where user_id = ${user?.id ?? ''} and status <> 'CANCELED'`;
  return rows.map((row) => ({ ...row }));
};

/** Another account with the address, once the first is gone. */
async function again(sql: Transaction, first: DueUser | undefined): Promise<DueUser | undefined> {
  await sql`delete from app_public.users where id = ${first?.id ?? ''}`;
  const [second] = await createDue(sql, 1);
  await sql`update app_public.users set email = ${(first?.email ?? '').toUpperCase()}
    where id = ${second?.id ?? ''}`;
  return second;
}

const optouts = async (sql: Transaction) =>
  (await sql`select message_type from app_private.address_optouts order by 1`).map(
    ({ message_type }) => message_type,
  );

const today = new Date().toISOString().slice(0, 10);
const suppressed = {
  status: 'SUPPRESSED',
  reason: `the address was unsubscribed from these messages on ${today}`,
};

test('a later account with the address gets nothing of that type, and all others', async () => {
  await asOwner(async (sql) => {
    const [first] = await createDue(sql, 1);
    await unsubscribe(sql, first?.id ?? '', 'BIRTHDAY');
    const second = await again(sql, first);
    await sql`update app_public.users set anniversary_date = birthday_date
      where id = ${second?.id ?? ''}`;
    await sql`select app_private.plan_due_messages()`;
    const rows = await sql`
      select message_type, status, error_message as reason from app_public.message_logs
      where user_id = ${second?.id ?? ''} order by message_type`;
    expect(rows.map((row) => ({ ...row }))).toEqual([
      { message_type: 'ANNIVERSARY', status: 'QUEUED', reason: null },
      { message_type: 'BIRTHDAY', ...suppressed },
    ]);
  });
});

test('what was planned before is not sent either, and explain says why', async () => {
  await asWorkerOf(db, 2, async (sql, jobs, [user, other]) => {
    await asSuperuser(sql, async () => {
      const [gone] = await createDue(sql, 1);
      await sql`select app_private.unsubscribe(${gone?.id ?? ''}, 'BIRTHDAY')`;
      const address = gone?.email ?? '';
      await sql`delete from app_public.users where id = ${gone?.id ?? ''}`;
      await sql`update app_public.users set email = ${address} where id = ${user?.id ?? ''}`;
    });
    expect((await claim(sql, jobs)).map(({ user_id }) => user_id)).toEqual([other?.id]);
    await asSuperuser(sql, async () => {
      expect(await logsOf(sql, user)).toEqual([suppressed]);
      const said = await sql`
        select topic, detail from ops.explain_message(${user?.id ?? ''}, 'BIRTHDAY',
          ${user?.date ?? ''}::date)
        where topic = 'address'`;
      expect(said.map((row) => ({ ...row }))).toEqual([
        { topic: 'address', detail: suppressed.reason },
      ]);
      expect(await sql`select from ops.alerts where resolved_at is null`).toHaveLength(0);
    });
  });
});

test('from all of them is from every type that can be turned off', async () => {
  await asOwner(async (sql) => {
    const [user] = await createDue(sql, 1);
    await unsubscribe(sql, user?.id ?? '', null);
    await unsubscribe(sql, user?.id ?? '', null);
    const types = await sql`
      select type from app_private.message_types where opt_out_column is not null order by 1`;
    expect(await optouts(sql)).toEqual(types.map(({ type }) => type));
  });
});

test('who unsubscribed may turn it on again', async () => {
  await asOwner(async (sql) => {
    const [user] = await createDue(sql, 1);
    await unsubscribe(sql, user?.id ?? '', 'BIRTHDAY');
    // Other settings say nothing of it.
    await sql`update app_public.user_settings set theme = 'dark', weekly_digest = true`;
    expect(await optouts(sql)).toEqual(['BIRTHDAY']);
    await turn(sql, user, true);
    expect(await optouts(sql)).toEqual([]);
    await sql`select app_private.plan_due_messages()`;
    expect(await logsOf(sql, user)).toEqual([{ status: 'QUEUED', reason: null }]);
  });
});

test.each([
  ['has shown that the address is theirs may', true],
  ['only names the address may not', false],
])('another account that %s', async (_who, isVerified) => {
  await asOwner(async (sql) => {
    const [first] = await createDue(sql, 1);
    await unsubscribe(sql, first?.id ?? '', 'BIRTHDAY');
    const second = await again(sql, first);
    await sql`update app_public.users set email_verified = ${isVerified}
      where id = ${second?.id ?? ''}`;
    await turn(sql, second, false);
    await turn(sql, second, true);
    expect(await optouts(sql)).toEqual(isVerified ? [] : ['BIRTHDAY']);
    await sql`select app_private.plan_due_messages()`;
    expect(await logsOf(sql, second)).toEqual([
      isVerified ? { status: 'QUEUED', reason: null } : suppressed,
    ]);
  });
});

test('what nobody can turn off is sent all the same', async () => {
  await asOwner(async (sql) => {
    const [user] = await planDue(sql, 1);
    await unsubscribe(sql, user?.id ?? '', 'BIRTHDAY');
    const [row] = await sql`
      select app_private.suppression(${user?.email ?? ''}, 'BIRTHDAY', true, true) as optional,
        app_private.suppression(${user?.email ?? ''}, 'BIRTHDAY', false, true) as needed,
        app_private.suppression(${user?.email ?? ''}, 'DIGEST', true, true) as other`;
    expect(row).toEqual({ optional: suppressed.reason, needed: null, other: null });
  });
});

test('a type is lifted by its name, by a person with a reason; a mended mailbox is not that', async () => {
  await asOwner(async (sql) => {
    const [user] = await createDue(sql, 1);
    const address = user?.email ?? '';
    await unsubscribe(sql, user?.id ?? '', 'BIRTHDAY');
    await sql`select ops.suppress_address(${address}, 'asked')`;
    await sql`select ops.lift_suppression(${address}, 'a mistake')`;
    expect(await optouts(sql)).toEqual(['BIRTHDAY']);
    for (const type of [null, 'DIGEST']) {
      await expectRefusal(
        sql,
        'GW041',
        (inner) => inner`select ops.lift_suppression(${address}, 'x', ${type})`,
      );
    }
    await sql`select ops.lift_suppression(${address}, 'asked by phone', 'BIRTHDAY')`;
    expect(await optouts(sql)).toEqual([]);
    const [audit] = await sql`select action, details from ops.audit_log order by id desc limit 1`;
    expect(audit).toMatchObject({
      action: 'messages.suppression_lifted',
      details: { state: 'unsubscribed', type: 'BIRTHDAY', reason: 'asked by phone' },
    });
  });
});

test('nobody else reads who has unsubscribed', async () => {
  await asOwner(async (sql) => {
    for (const role of ['app_user', 'gw_worker', 'gw_authenticator', 'gw_readonly', 'gw_support']) {
      await sql`set local role none`;
      await sql.unsafe(`set local role ${role}`);
      await expectRefusal(sql, '42501', (inner) =>
        inner.unsafe('select from app_private.address_optouts'),
      );
    }
  });
});
