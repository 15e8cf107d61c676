import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import { become, createUser, transactionsOf, useDatabase } from '../../helpers/database.ts';
import { planOne } from '../../helpers/messages.ts';

const db = useDatabase();
const { asOwner, asSuperuser } = transactionsOf(db);

/** The clock in these tests is the real one: instants are told relative to it. */
interface Message {
  status: string;
  date: string;
  content: string;
  error: string | null;
  /** Hours from now, rounded. */
  hours: number;
  is_queued: boolean;
}

const messages = (sql: Transaction, userId: string) => sql<Message[]>`
  select status, delivery_date::text as date, message_content as content,
    error_message as error,
    round(extract(epoch from scheduled_send_time - now()) / 3600)::integer as hours,
    job_id is not null as is_queued
  from app_public.message_logs where user_id = ${userId} order by created_at, delivery_date, status`;

const schedule = async (sql: Transaction, userId: string) =>
  (
    await sql<{ type: string; date: string; hours: number }[]>`
      select message_type as type, delivery_date::text as date,
        round(extract(epoch from scheduled_send_time - now()) / 3600)::integer as hours
      from app_private.message_schedule where user_id = ${userId} order by 1`
  ).map((row) => ({ ...row }));

const ledger = async (sql: Transaction, userId: string) =>
  (
    await sql`select delivery_date::text as date from app_private.message_ledger
      where user_id = ${userId} order by 1`
  ).map(({ date }) => date as string);

const change = (sql: Transaction, userId: string, columns: Record<string, string | null>) =>
  sql`update app_public.users set ${sql(columns)} where id = ${userId}`;

const plan = (sql: Transaction) => sql`select app_private.plan_due_messages()`;

/** A local date and time that many hours from now in UTC. */
async function at(sql: Transaction, hours: number) {
  const [row] = await sql<{ date: string; time: string }[]>`
    select moment::date::text as date, to_char(moment, 'HH24:MI:SS') as time
    from (select now() at time zone 'UTC' + ${hours}::integer * interval '1 hour') as x (moment)`;
  return row as { date: string; time: string };
}

/** A user with a birthday that many hours from now, planned when that is within 24. */
async function birthdayIn(sql: Transaction, hours: number) {
  const { date, time } = await at(sql, hours);
  const user = await createUser(sql, {
    birthday_date: `1988${date.slice(4)}`,
    send_time: time,
  });
  await plan(sql);
  return { ...user, date, time };
}

describe('a planned message', () => {
  test('moves with the time zone', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 3);
      expect(await messages(sql, user.id)).toMatchObject([{ status: 'SCHEDULED', hours: 3 }]);
      // Ten hours behind UTC all year.
      await change(sql, user.id, { timezone: 'Pacific/Honolulu' });
      expect(await messages(sql, user.id)).toMatchObject([
        { status: 'SCHEDULED', hours: 13, date: user.date },
      ]);
      const [same] = await sql`
        select message_ledger.scheduled_send_time = message_logs.scheduled_send_time as "isSame"
        from app_private.message_ledger inner join app_public.message_logs using (user_id)`;
      expect(same).toEqual({ isSame: true });
    });
  });

  test('that is due by the new zone already is sent now, not missed', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 3);
      // Fourteen hours ahead.
      await change(sql, user.id, { timezone: 'Pacific/Kiritimati' });
      expect(await messages(sql, user.id)).toMatchObject([{ status: 'SCHEDULED', hours: 0 }]);
      await plan(sql);
      expect(await messages(sql, user.id)).toMatchObject([{ status: 'QUEUED', is_queued: true }]);
    });
  });

  test('is not sent again to somebody who moved after it was sent', async () => {
    await asOwner(async (sql) => {
      const user = await planOne(sql);
      await sql`update app_public.message_logs set status = 'SENT', actual_send_time = now()`;
      for (const timezone of ['Pacific/Kiritimati', 'Pacific/Pago_Pago']) {
        await change(sql, user.id, { timezone });
        await plan(sql);
        expect(await messages(sql, user.id)).toMatchObject([{ status: 'SENT' }]);
        const [next] = await schedule(sql, user.id);
        expect(Number(next?.date.slice(0, 4))).toBe(Number(user.date.slice(0, 4)) + 1);
      }
    });
  });

  test('is canceled when the birthday moves, and planned again when it moves back', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 3);
      const birthday = `1988${user.date.slice(4)}`;
      const { date: later } = await at(sql, 24 * 40);
      await change(sql, user.id, { birthday_date: `1988${later.slice(4)}` });
      expect(await messages(sql, user.id)).toMatchObject([
        { status: 'CANCELED', error: 'the date was changed' },
      ]);
      expect(await ledger(sql, user.id)).toEqual([]);
      expect(await schedule(sql, user.id)).toMatchObject([{ date: later }]);
      await change(sql, user.id, { birthday_date: birthday });
      await plan(sql);
      expect(await messages(sql, user.id)).toMatchObject([
        { status: 'CANCELED' },
        { status: 'SCHEDULED', date: user.date, hours: 3 },
      ]);
      expect(await ledger(sql, user.id)).toEqual([user.date]);
    });
  });

  test('moves with the send time', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 3);
      const { date, time } = await at(sql, 4);
      await change(sql, user.id, { send_time: time });
      expect(await messages(sql, user.id)).toMatchObject([
        { status: 'SCHEDULED', hours: date === user.date ? 4 : 0 },
      ]);
    });
  });

  test('follows the leap-day policy, once', async () => {
    await asOwner(async (sql) => {
      const user = await createUser(sql, { birthday_date: '2000-02-29', leap_day_policy: 'feb28' });
      const plan2027 = (now: string) => sql`
        select app_private.plan_due_messages(${now}::text::timestamptz)`;
      await sql`delete from app_private.message_schedule`;
      await sql`
        select app_private.schedule_messages(array[${user.id}::uuid], '2027-02-27T12:00Z')`;
      await plan2027('2027-02-27T12:00Z');
      expect(await ledger(sql, user.id)).toEqual(['2027-02-28']);
      const [before] = await messages(sql, user.id);
      expect(before).toMatchObject({ status: 'SCHEDULED', date: '2027-02-28' });
      // Sent on the 28th; who then prefers March 1 was greeted already.
      await sql`update app_public.message_logs set status = 'SENT', actual_send_time = now()`;
      await sql`
        update app_public.users set leap_day_policy = 'mar1' where id = ${user.id}`;
      await sql`
        select app_private.schedule_messages(array[${user.id}::uuid], '2027-02-28T12:00Z')`;
      await plan2027('2027-03-01T09:00Z');
      expect(await ledger(sql, user.id)).toEqual(['2027-02-28']);
      const [next] = await schedule(sql, user.id);
      expect(next?.date).toBe('2028-02-29');
    });
  });

  test('is rewritten with the name, until somebody may have it', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 3);
      await change(sql, user.id, { first_name: 'Ada' });
      expect(await messages(sql, user.id)).toMatchObject([
        { content: "Hey, Ada, it's your birthday! Have a great day." },
      ]);
      await sql`update app_public.user_settings set locale = 'fr' where user_id = ${user.id}`;
      const [french] = await messages(sql, user.id);
      expect(french?.content).toMatch(/^Bonjour Ada, joyeux anniversaire pour vos \d+ ans !$/);
      // After an attempt that reached nobody, too.
      await sql`update app_public.message_logs set attempted_at = now(), status = 'RETRYING'`;
      await change(sql, user.id, { first_name: 'Eve' });
      expect((await messages(sql, user.id))[0]?.content).toMatch(/^Bonjour Eve, /);
      // What somebody may have is repeated as it was.
      await sql`update app_public.message_logs
        set recipient_name = 'Eve', uncertain_since = now()`;
      await change(sql, user.id, { first_name: 'Zoe' });
      expect((await messages(sql, user.id))[0]?.content).toMatch(/^Bonjour Eve, /);
    });
  });

  test.each(['birthday_messages', 'anniversary_messages'])(
    'is canceled by opting out of %s, and comes back by opting in',
    async (column) => {
      await asOwner(async (sql) => {
        const { date, time } = await at(sql, 3);
        const user = await createUser(sql, {
          [column === 'birthday_messages' ? 'birthday_date' : 'anniversary_date']:
            `1988${date.slice(4)}`,
          send_time: time,
        });
        await plan(sql);
        const opt = (value: boolean) => sql`
          update app_public.user_settings set ${sql(column)} = ${value} where user_id = ${user.id}`;
        await opt(false);
        expect(await messages(sql, user.id)).toMatchObject([
          { status: 'CANCELED', error: 'the user does not want this message any more' },
        ]);
        expect(await schedule(sql, user.id)).toEqual([]);
        await opt(true);
        await plan(sql);
        expect(await messages(sql, user.id)).toMatchObject([
          { status: 'CANCELED' },
          { status: 'SCHEDULED', hours: 3 },
        ]);
      });
    },
  );

  test('is canceled when the account is closed, and comes back with it', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 3);
      await sql`update app_public.users set deleted_at = now() where id = ${user.id}`;
      expect(await messages(sql, user.id)).toMatchObject([
        { status: 'CANCELED', error: 'the account was closed' },
      ]);
      expect(await schedule(sql, user.id)).toEqual([]);
      await change(sql, user.id, { deleted_at: null });
      await plan(sql);
      expect(await ledger(sql, user.id)).toEqual([user.date]);
    });
  });

  test('is left alone while the call is being made', async () => {
    await asOwner(async (sql) => {
      const user = await planOne(sql);
      await sql`update app_public.message_logs set status = 'SENDING', attempted_at = now()`;
      await change(sql, user.id, { birthday_date: '1990-01-20', timezone: 'Asia/Tokyo' });
      expect(await messages(sql, user.id)).toMatchObject([{ status: 'SENDING', date: user.date }]);
      expect(await ledger(sql, user.id)).toEqual([user.date]);
    });
  });

  test('goes with a user who is deleted for good', async () => {
    await asOwner(async (sql) => {
      const user = await planOne(sql);
      await sql`delete from app_public.users where id = ${user.id}`;
      const [claimed] = await sql`
        select count(*)::integer as count from app_private.claim_messages((
          select jsonb_agg(data || jsonb_build_object('job_id', id)) from pgboss.job
          where name = 'message-send'), 'http')`;
      expect(claimed).toEqual({ count: 0 });
      expect(await sql`select from pgboss.job where name = 'message-send'`).toHaveLength(0);
    });
  });
});

describe('the schedule', () => {
  test('has the next occasion of a new user, and follows changes of the user themselves', async () => {
    await asSuperuser(async (sql) => {
      const { date } = await at(sql, 24 * 30);
      const user = await createUser(sql);
      expect(await schedule(sql, user.id)).toEqual([]);
      await become(sql, user.id);
      await change(sql, user.id, {
        birthday_date: `1988${date.slice(4)}`,
        anniversary_date: `2008${date.slice(4)}`,
      });
      await sql`set local role none`;
      expect(await schedule(sql, user.id)).toMatchObject([
        { type: 'ANNIVERSARY', date },
        { type: 'BIRTHDAY', date },
      ]);
      await become(sql, user.id);
      await change(sql, user.id, { anniversary_date: null });
      await sql`set local role none`;
      expect(await schedule(sql, user.id)).toMatchObject([{ type: 'BIRTHDAY', date }]);
    });
  });

  test('keeps an occasion that a move puts into the past before it was planned', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 25);
      expect(await messages(sql, user.id)).toEqual([]);
      await change(sql, user.id, { timezone: 'Pacific/Kiritimati', send_time: '00:00' });
      expect(await schedule(sql, user.id)).toMatchObject([{ date: user.date }]);
      const [{ hours } = { hours: -1 }] = await schedule(sql, user.id);
      expect(hours).toBeGreaterThanOrEqual(0);
      expect(hours).toBeLessThan(12);
    });
  });

  test('is not touched by what has nothing to do with messages', async () => {
    await asOwner(async (sql) => {
      const user = await birthdayIn(sql, 48);
      const [before] = await sql`select xmin from app_private.message_schedule`;
      await change(sql, user.id, { location_city: 'Oslo', timezone: 'UTC' });
      const [after] = await sql`select xmin from app_private.message_schedule`;
      expect(after).toEqual(before);
    });
  });
});

test('a change that is rolled back leaves the message where it was', async () => {
  await asOwner(async (sql) => {
    const user = await birthdayIn(sql, 3);
    const before = await messages(sql, user.id);
    await sql
      .savepoint(async (inner) => {
        await change(inner, user.id, { timezone: 'Asia/Tokyo' });
        throw new Error('changed my mind');
      })
      .catch(() => {});
    expect(await messages(sql, user.id)).toEqual(before);
  });
});
