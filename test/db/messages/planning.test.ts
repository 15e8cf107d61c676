import { describe, expect, test } from 'vitest';
import type { Transaction } from '../../../src/postgres/connect.ts';
import {
  createUser,
  expectRefusal,
  rolledBack,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';
import { createDue, type DueUser } from '../../helpers/messages.ts';
import { plan, plannedFor, traces } from '../../helpers/planner.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

describe('a birthday on February 29', () => {
  const policies = async (sql: Transaction, now: string) => {
    const dates: Record<string, string[]> = {};
    const users: [policy: string, id: string][] = [];
    for (const leap_day_policy of ['feb28', 'mar1', 'skip']) {
      const user = await createUser(sql, { birthday_date: '2000-02-29', leap_day_policy });
      users.push([leap_day_policy, user.id]);
    }
    await plan(sql, now);
    for (const [policy, id] of users) {
      dates[policy] = (await plannedFor(sql, id)).map(({ date }) => date);
    }
    return dates;
  };

  test('follows the policy in a year without one', async () => {
    await asOwner(async (sql) => {
      // The window reaches from February 28, 00:00 to March 1, 12:00.
      expect(await policies(sql, '2027-02-28T12:00Z')).toEqual({
        feb28: ['2027-02-28'],
        mar1: ['2027-03-01'],
        skip: [],
      });
    });
  });

  test('is celebrated on the day in a leap year, whatever the policy', async () => {
    await asOwner(async (sql) => {
      const users = await policies(sql, '2028-02-28T20:00Z');
      expect(users).toEqual({ feb28: ['2028-02-29'], mar1: ['2028-02-29'], skip: ['2028-02-29'] });
      expect(await plan(sql, '2028-02-28T09:00Z')).toBe(0);
      expect(await plan(sql, '2028-03-01T08:00Z')).toBe(0);
      expect(await traces(sql)).toEqual({ ledger: 3, logs: 3, jobs: 3 });
    });
  });

  test('does not move birthdays that are on the days beside it', async () => {
    await asOwner(async (sql) => {
      for (const birthday_date of ['2000-02-28', '2000-03-01']) {
        await createUser(sql, { birthday_date, leap_day_policy: 'skip' });
      }
      expect(await plan(sql, '2027-02-28T12:00Z')).toBe(2);
    });
  });
});

describe('the instant of a message', () => {
  test.each([
    ['in a gap', 'America/New_York', '03-08', '02:30', '2026-03-08T00:00Z', '2026-03-08T07:30:00Z'],
    [
      'in an overlap',
      'America/New_York',
      '11-01',
      '01:30',
      '2026-11-01T00:00Z',
      '2026-11-01T05:30:00Z',
    ],
    [
      'a day ahead',
      'Pacific/Kiritimati',
      '06-15',
      '09:00',
      '2026-06-14T00:00Z',
      '2026-06-14T19:00:00Z',
    ],
    [
      'a day behind',
      'Pacific/Pago_Pago',
      '06-15',
      '23:30',
      '2026-06-16T00:00Z',
      '2026-06-16T10:30:00Z',
    ],
    [
      'a year ahead',
      'Pacific/Kiritimati',
      '01-01',
      '00:00',
      '2025-12-30T10:00Z',
      '2025-12-31T10:00:00Z',
    ],
    [
      'a year behind',
      'Pacific/Pago_Pago',
      '12-31',
      '23:59',
      '2027-01-01T22:00Z',
      '2027-01-01T10:59:00Z',
    ],
  ])('%s is right: %s, %s at %s', async (_what, timezone, date, send_time, now, at) => {
    await asOwner(async (sql) => {
      const user = await createUser(sql, { timezone, birthday_date: `1990-${date}`, send_time });
      expect(await plan(sql, now)).toBe(1);
      const [planned] = await plannedFor(sql, user.id);
      expect(planned).toMatchObject({ type: 'BIRTHDAY', at });
      expect(planned?.date.slice(5)).toBe(date);
    });
  });
});

test.each([
  ['12-31', '2026-12-30T10:00Z', '2027-12-31'],
  ['01-01', '2026-12-31T10:00Z', '2028-01-01'],
  ['01-02', '2027-01-01T10:00Z', '2028-01-02'],
])('who is told on %s is told again a year later', async (birthday, now, next) => {
  await asOwner(async (sql) => {
    await createUser(sql, { birthday_date: `1990-${birthday}` });
    expect(await plan(sql, now)).toBe(1);
    const rows = await sql`select delivery_date::text as date from app_private.message_schedule`;
    expect([...rows]).toEqual([{ date: next }]);
  });
});

describe('the window', () => {
  test.each([
    ['in 24 hours', '2026-06-14T09:00Z', 1],
    ['in 24 hours and a minute', '2026-06-14T08:59Z', 0],
    ['now', '2026-06-15T09:00Z', 1],
    ['11 hours and 59 minutes ago', '2026-06-15T20:59Z', 1],
    ['exactly 12 hours ago', '2026-06-15T21:00Z', 0],
    ['12 hours and a minute ago', '2026-06-15T21:01Z', 0],
  ])('of a message that was due %s', async (when, now, count) => {
    await asOwner(async (sql) => {
      await createUser(sql, { birthday_date: '1990-06-15' });
      expect(await plan(sql, now)).toBe(count);
      // A job is made for what is due by the next tick.
      const jobs = when.endsWith('ago') || when === 'now' ? count : 0;
      expect(await traces(sql)).toEqual({ ledger: count, logs: count, jobs });
    });
  });
});

describe('planning', () => {
  test('again adds nothing, until next year', async () => {
    await asOwner(async (sql) => {
      const user = await createUser(sql, { birthday_date: '1990-06-15' });
      expect(await plan(sql, '2026-06-15T00:00Z')).toBe(1);
      for (const now of ['2026-06-15T00:00Z', '2026-06-15T00:01Z', '2026-06-15T20:00Z']) {
        expect(await plan(sql, now)).toBe(0);
      }
      await sql`update app_public.users set timezone = 'Asia/Tokyo' where id = ${user.id}`;
      expect(await plan(sql, '2026-06-15T01:00Z')).toBe(0);
      expect(await traces(sql)).toEqual({ ledger: 1, logs: 1, jobs: 1 });
      expect(await plan(sql, '2027-06-15T00:00Z')).toBe(1);
      const dates = (await plannedFor(sql, user.id)).map(({ date }) => date);
      expect(dates).toEqual(['2026-06-15', '2027-06-15']);
    });
  });

  test.each([
    ['a closed account', { birthday_date: '1990-06-15', deleted_at: '2026-01-01' }],
    ['somebody born today', { birthday_date: '2026-06-15' }],
    ['somebody yet to be born', { birthday_date: '2030-06-15' }],
    ['somebody without dates', {}],
  ])('leaves out %s', async (_who, columns) => {
    await asOwner(async (sql) => {
      const born = await createUser(sql, { birthday_date: '2025-06-15' });
      await createUser(sql, columns);
      expect(await plan(sql, '2026-06-15T00:00Z')).toBe(1);
      expect(await plannedFor(sql, born.id)).toHaveLength(1);
    });
  });

  test('writes to the name, and never reads it as a template', async () => {
    await asOwner(async (sql) => {
      const dates = { birthday_date: '1990-06-15', anniversary_date: '2010-06-15' };
      const texts: string[][] = [];
      for (const name of [
        ['Ann', 'Lee'],
        ['Bob', ''],
        ['{{last_name}}', 'Cid'],
      ]) {
        const [first_name, last_name] = name as [string, string];
        const user = await createUser(sql, { ...dates, first_name, last_name });
        await plan(sql, '2026-06-15T00:00Z');
        const rows = await sql`
          select message_content from app_public.message_logs where user_id = ${user.id}
          order by message_type`;
        texts.push(rows.map((row) => row.message_content as string));
      }
      expect(texts).toEqual(
        ['Ann Lee', 'Bob', '{{last_name}} Cid'].map((name) => [
          `Hey, ${name}, happy anniversary!`,
          `Hey, ${name}, it's your birthday! Have a great day.`,
        ]),
      );
    });
  });

  test('leaves neither ledger, log nor schedule when the job cannot be made', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await createDue(sql, 1);
      await sql`alter table pgboss.job add constraint planted check (name <> 'message-send')`;
      const run = (inner: Transaction) => inner`select app_private.plan_due_messages()`;
      const scheduled = await sql`select * from app_private.message_schedule`;
      await expectRefusal(sql, '23514', run);
      expect(await traces(sql)).toEqual({ ledger: 0, logs: 0, jobs: 0 });
      expect(await sql`select * from app_private.message_schedule`).toEqual(scheduled);
      await sql`alter table pgboss.job drop constraint planted`;
      await run(sql);
      expect(await traces(sql)).toEqual({ ledger: 1, logs: 1, jobs: 1 });
    });
  });

  test('says of what it missed that it is too late', async () => {
    await asOwner(async (sql) => {
      const user = await createUser(sql, { birthday_date: '1990-06-15' });
      await sql`delete from app_private.message_schedule`;
      await sql`
        select app_private.schedule_messages(array[${user.id}::uuid], '2026-06-10T00:00Z')`;
      // The planner was down for a week.
      await sql`select app_private.plan_due_messages('2026-06-17T12:00Z')`;
      const [log] = await sql`select status, error_message from app_public.message_logs`;
      expect(log).toEqual({
        status: 'EXPIRED',
        error_message: 'planned 2026-06-17 12:00 UTC, after the late window of 12:00:00 had passed',
      });
      expect(await traces(sql)).toEqual({ ledger: 1, logs: 1, jobs: 0 });
      const [next] = await sql`select delivery_date::text from app_private.message_schedule`;
      expect(next).toEqual({ delivery_date: '2027-06-15' });
    });
  });
});

describe('a tick', () => {
  test('plans the first due first, and the rest with the next', async () => {
    await asOwner(async (sql) => {
      for (const send_time of ['15:00', '09:00', '12:00']) {
        await createUser(sql, { birthday_date: '1990-06-15', send_time, last_name: send_time });
      }
      await sql`delete from app_private.message_schedule`;
      await sql`
        select app_private.schedule_messages(array_agg(id), '2026-06-15T00:00Z')
        from app_public.users`;
      const tick = async () => {
        await sql`select app_private.plan_due_messages('2026-06-15T00:00Z', 2)`;
        const rows = await sql<{ last_name: string }[]>`
          select users.last_name from app_public.message_logs
          inner join app_public.users on users.id = message_logs.user_id order by 1`;
        return rows.map(({ last_name }) => last_name);
      };
      expect(await tick()).toEqual(['09:00', '12:00']);
      expect(await tick()).toEqual(['09:00', '12:00', '15:00']);
    });
  });

  test('leaves alone a user who is being changed, and plans the change with the next', async () => {
    const [user] = (await createDue(db.as('owner'), 1)) as [DueUser];
    await db.as('owner').begin(async (sql) => {
      await sql`update app_public.users set first_name = 'Changed' where id = ${user.id}`;
      await db.as('superuser')`select app_private.plan_due_messages()`;
      expect(await db.as('owner')`select from app_public.message_logs`).toHaveLength(0);
    });
    await db.as('owner')`select app_private.plan_due_messages()`;
    const [log] = await db.as('owner')`select message_content from app_public.message_logs`;
    expect(log?.message_content).toContain('Changed');
    await db.as('owner')`delete from app_public.users`;
    await db.as('owner')`delete from pgboss.job`;
  });
});
