import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  createUser,
  expectRefusal,
  rolledBack,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';
import { bornAround, explain, planned, said, setWishes } from '../../helpers/message-stages.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

describe('the user', () => {
  test('who does not exist is said to', async () => {
    await asOwner(async (sql) => {
      expect(await explain(sql, randomUUID(), '2027-06-15')).toEqual([
        { at: null, topic: 'user', detail: 'there is no user with this id' },
      ]);
    });
  });

  test('has an open account, a zone, a language and wishes', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, {
        timezone: 'Europe/Paris',
        birthday_date: '1990-06-15',
      });
      await setWishes(sql, id, { locale: 'fr' });
      const steps = await explain(sql, id, '2027-06-15');
      expect(said(steps, 'user')).toEqual([
        'the account is open; time zone Europe/Paris, language fr',
      ]);
      expect(said(steps, 'wish')).toEqual(['the user wants messages of this type']);
    });
  });

  test('who has closed the account gets nothing', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { birthday_date: '1990-06-15' });
      await sql`update app_public.users set deleted_at = now() where id = ${id}`;
      const steps = await explain(sql, id, '2027-06-15');
      expect(said(steps, 'user')[0]).toMatch('the account was closed');
      expect(steps.at(-1)).toMatchObject({ detail: 'no message: the account was closed' });
    });
  });

  test.each([
    ['BIRTHDAY', 'birthday_messages', '2027-06-15'],
    ['ANNIVERSARY', 'anniversary_messages', '2027-06-15'],
    ['DIGEST', 'weekly_digest', '2027-06-14'],
  ])('who has opted out of %s gets none', async (type, wish, date) => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, {
        birthday_date: '1990-06-15',
        anniversary_date: '2010-06-15',
      });
      await setWishes(sql, id, { [wish]: false });
      const steps = await explain(sql, id, date, type);
      expect(said(steps, 'wish')).toEqual(['the user has opted out of messages of this type']);
      expect(steps.at(-1)).toMatchObject({ detail: 'no message: the user does not want it' });
    });
  });
});

describe('the occasion', () => {
  const leap = 'February 29 is celebrated on';
  test.each([
    ['1990-06-15', 'feb28', '2027-06-15', true, "this is the user's birthday of 2027"],
    [
      '1990-06-15',
      'feb28',
      '2027-06-16',
      false,
      "this is not the user's birthday: that of 2027 is on 2027-06-15",
    ],
    [null, 'feb28', '2027-06-15', false, 'the user has set no birthday'],
    [
      '2027-06-15',
      'feb28',
      '2027-06-15',
      false,
      'the date itself is 2027-06-15: there is no birthday before the next year',
    ],
    [
      '1988-02-29',
      'feb28',
      '2027-02-28',
      true,
      `${leap} February 28 in 2027: policy feb28; this is the user's birthday of 2027`,
    ],
    [
      '1988-02-29',
      'mar1',
      '2027-02-28',
      false,
      `${leap} March 1 in 2027: policy mar1; this is not the user's birthday: that of 2027 is on 2027-03-01`,
    ],
    [
      '1988-02-29',
      'skip',
      '2027-02-28',
      false,
      'February 29 is skipped in 2027: policy skip; the next birthday is on 2028-02-29',
    ],
    [
      '1988-02-29',
      'skip',
      '2097-03-01',
      false,
      'February 29 is skipped in 2097: policy skip; the next birthday is on 2104-02-29',
    ],
    [
      '1988-02-29',
      'mar1',
      '2028-02-29',
      true,
      "February 29 exists in 2028: policy mar1 is not needed; this is the user's birthday of 2028",
    ],
  ])('born %s, policy %s: of %s it says so', async (birthday, policy, date, is, detail) => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { birthday_date: birthday, leap_day_policy: policy });
      const steps = await explain(sql, id, date);
      expect(said(steps, 'occasion')).toEqual([detail]);
      expect(said(steps, 'instant')).toHaveLength(is ? 1 : 0);
      if (!is) {
        expect(steps.at(-1)).toMatchObject({ detail: 'no message: the day is not an occasion' });
      }
    });
  });

  test('of an anniversary is its own date', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { anniversary_date: '2010-06-15' });
      expect(said(await explain(sql, id, '2027-06-15', 'ANNIVERSARY'), 'occasion')).toEqual([
        "this is the user's anniversary of 2027",
      ]);
    });
  });

  test('of a digest is a Monday at 08:00', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { timezone: 'Europe/Paris' });
      const monday = await explain(sql, id, '2027-06-14', 'DIGEST');
      expect(said(monday, 'occasion')).toEqual(['digests are of Mondays, and this is one']);
      expect(said(monday, 'instant')[0]).toMatch(/^08:00 in Europe\/Paris .* 06:00:00 UTC$/);
      expect(said(await explain(sql, id, '2027-06-16', 'DIGEST'), 'occasion')).toEqual([
        'digests are of Mondays, this is a Wednesday; that of its week is of 2027-06-14',
      ]);
    });
  });
});

describe('the instant', () => {
  test.each([
    [
      'America/New_York',
      '09:00',
      '2027-06-15',
      '2027-06-15T13:00:00Z',
      '09:00 in America/New_York on 2027-06-15, an ordinary time there, EDT (-04:00): 2027-06-15 13:00:00 UTC',
    ],
    [
      'America/New_York',
      '02:30',
      '2027-03-14',
      '2027-03-14T07:30:00Z',
      '02:30 does not exist in America/New_York on 2027-03-14; the offset before, EST (-05:00), is used: 03:30 EDT, 2027-03-14 07:30:00 UTC',
    ],
    [
      'America/New_York',
      '01:30',
      '2027-11-07',
      '2027-11-07T05:30:00Z',
      '01:30 occurs twice in America/New_York on 2027-11-07; the first is used, EDT (-04:00) rather than EST: 2027-11-07 05:30:00 UTC',
    ],
    [
      'Pacific/Apia',
      '09:00',
      '2011-12-30',
      '2011-12-30T19:00:00Z',
      '09:00 does not exist in Pacific/Apia on 2011-12-30; the offset before, -10 (-10:00), is used: 2011-12-31 09:00 +14, 2011-12-30 19:00:00 UTC',
    ],
    [
      'Asia/Kathmandu',
      '00:00:05',
      '2027-06-15',
      '2027-06-14T18:15:05Z',
      '00:00:05 in Asia/Kathmandu on 2027-06-15, an ordinary time there, +0545 (+05:45): 2027-06-14 18:15:05 UTC',
    ],
  ])('in %s at %s on %s', async (timezone, send_time, date, at, detail) => {
    await asOwner(async (sql) => {
      const birthday_date = `1990${date.slice(4)}`;
      const { id } = await createUser(sql, { timezone, send_time, birthday_date });
      await sql`set local timezone to 'Asia/Tokyo'`;
      const [step] = (await explain(sql, id, date)).filter(({ topic }) => topic === 'instant');
      expect(step).toEqual({ at: new Date(at), topic: 'instant', detail });
      expect((await sql`show timezone`)[0]).toEqual({ TimeZone: 'Asia/Tokyo' });
    });
  });

  test.each([
    ['08:00', '22:00', 'not in them', null],
    ['22:00', '10:00', 'held until they end', '2027-06-15T08:00:00Z'],
  ])('quiet hours from %s to %s: %s', async (quiet_from, quiet_until, outcome, at) => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, {
        birthday_date: '1990-06-15',
        timezone: 'Europe/Paris',
        send_time: quiet_from === '08:00' ? '23:00' : '09:00',
      });
      const before = await explain(sql, id, '2027-06-15');
      expect(said(before, 'quiet hours')).toEqual(['none']);
      await setWishes(sql, id, { quiet_from, quiet_until });
      const steps = await explain(sql, id, '2027-06-15');
      expect(steps.filter(({ topic }) => topic === 'quiet hours')).toEqual([
        {
          topic: 'quiet hours',
          detail: `${quiet_from} to ${quiet_until}, local time: it is ${outcome}`,
          at: at === null ? null : new Date(at),
        },
      ]);
    });
  });
});

describe('why there is no message', () => {
  const plan = async (sql: Transaction, id: string, date: string) =>
    said(await explain(sql, id, date), 'plan');

  test('it is planned 24 hours before its time', async () => {
    await asOwner(async (sql) => {
      const user = await bornAround(sql, 3 * 24 * 60);
      expect(await plan(sql, user.id, user.date)).toEqual([
        'not planned yet: a message is planned 24 hours before its time',
      ]);
    });
  });

  test("it is the planner's next tick that plans it", async () => {
    await asOwner(async (sql) => {
      const user = await bornAround(sql, 60);
      expect((await plan(sql, user.id, user.date))[0]).toMatch(
        /^not planned yet: the planner's next tick does it. But .*plan-due-messages is not active/,
      );
    });
  });

  test('its place in the schedule is not what the rules now say', async () => {
    await asOwner(async (sql) => {
      const user = await bornAround(sql, 3 * 24 * 60);
      await sql`
        update app_private.message_schedule
        set scheduled_send_time = scheduled_send_time + interval '1 hour'
        where user_id = ${user.id}`;
      expect((await plan(sql, user.id, user.date))[0]).toMatch(
        new RegExp(`The schedule says .*, the rules now say .*replan --user ${user.id}$`),
      );
    });
  });

  test('another occasion comes first', async () => {
    await asOwner(async (sql) => {
      const user = await bornAround(sql, 3 * 24 * 60);
      const next = `${Number(user.date.slice(0, 4)) + 1}${user.date.slice(4)}`;
      expect(await plan(sql, user.id, next)).toEqual([
        `not planned yet: the schedule comes to it after the occasion of ${user.date}`,
      ]);
    });
  });

  test('the schedule has lost it', async () => {
    await asOwner(async (sql) => {
      const user = await bornAround(sql, 3 * 24 * 60);
      await sql`delete from app_private.message_schedule where user_id = ${user.id}`;
      expect(await plan(sql, user.id, user.date)).toEqual([
        `not planned: the schedule lacks it; gw messages replan --user ${user.id}`,
      ]);
    });
  });

  test('it was before the account, or before what the user wishes now', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { birthday_date: '1990-06-15' });
      expect(await plan(sql, id, '2020-06-15')).toEqual([
        'not planned: the account was made after it',
      ]);
      await sql`alter table app_public.users disable trigger _100_timestamps`;
      await sql`update app_public.users set created_at = '2019-01-01' where id = ${id}`;
      expect((await plan(sql, id, '2020-06-15'))[0]).toMatch(/^not planned: it had passed when/);
    });
  });

  test('the message of a day beside it counts, because February 29 was moved', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, {
        birthday_date: '1988-02-29',
        leap_day_policy: 'mar1',
      });
      await sql`
        insert into app_private.message_ledger
        values (${id}, 'BIRTHDAY', '2027-02-28', gen_random_uuid(), '2027-02-28 09:00Z')`;
      await sql`
        select app_private.schedule_messages(array[${id}::uuid], '2027-02-28T10:00Z')`;
      expect(await plan(sql, id, '2027-03-01')).toEqual([
        'not planned: the message of 2027-02-28 counts for this occasion',
      ]);
    });
  });

  test('it has left the database', async () => {
    await asOwner(async (sql) => {
      const user = await planned(sql);
      await sql`delete from app_public.message_logs where id = ${user.messageId}`;
      expect(await plan(sql, user.id, user.date)).toEqual([
        'it was planned then; what became of it has left the database',
      ]);
    });
  });
});

describe('the question', () => {
  test('must have a type and a date that there are', async () => {
    await asOwner(async (sql) => {
      const id = randomUUID();
      await expectRefusal(
        sql,
        'GW040',
        (inner) => inner`
        select ops.explain_message(${id}, 'EASTER', '2027-06-15')`,
      );
      await expectRefusal(
        sql,
        'GW040',
        (inner) => inner`
        select ops.explain_message(${id}, null, '2027-06-15')`,
      );
      await expectRefusal(
        sql,
        'GW040',
        (inner) => inner`
        select ops.explain_message(${id}, 'BIRTHDAY', 'infinity')`,
      );
    });
  });

  test('may be asked by gw_monitor, who can read none of the tables, and by no other role', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const user = await planned(sql);
      await sql`set local role gw_monitor`;
      expect(said(await explain(sql, user.id, user.date), 'state')).toHaveLength(1);
      await expectRefusal(sql, '42501', (inner) => inner`select from app_public.message_logs`);
      for (const role of ['app_user', 'app_anonymous', 'gw_worker', 'gw_readonly', 'gw_cdc']) {
        await sql.unsafe(`set local role ${role}`);
        await expectRefusal(
          sql,
          '42501',
          (inner) => inner`
          select ops.explain_message(${user.id}, 'BIRTHDAY', ${user.date}::text::date)`,
        );
      }
    });
  });
});
