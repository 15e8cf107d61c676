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
import { bornAround, planned } from '../../helpers/message-stages.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);

interface Options {
  user?: string;
  changes?: Record<string, string | null>;
}

const simulate = async (sql: Transaction, from: string, to: string, options: Options = {}) => [
  ...(await sql`
    select difference as only, to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as at,
      timezone, message_type as type, delivery_date::text as date, messages::integer,
      suppressed::integer, held::integer, planned::integer, sent::integer, stopped::integer
    from ops.simulate_messages(${from}::text::timestamptz, ${to}::text::timestamptz,
      ${options.user ?? null}, ${sql.json(options.changes ?? {})})`),
];

const nothingYet = { suppressed: 0, held: 0, planned: 0, sent: 0, stopped: 0 };

describe('what goes out by the rules', () => {
  test('is counted by hour in UTC, zone, type and date', async () => {
    await asOwner(async (sql) => {
      for (const [timezone, send_time] of [
        ['Europe/Paris', '09:00'],
        ['Europe/Paris', '09:30'],
        ['Europe/Paris', '10:00'],
        ['America/New_York', '09:00'],
      ] as const) {
        await createUser(sql, { timezone, send_time, birthday_date: '1990-06-15' });
      }
      await createUser(sql, { anniversary_date: '2010-06-15' });
      // Another day, an account that is closed, and a wish to be left alone.
      await createUser(sql, { birthday_date: '1990-06-20' });
      const closed = await createUser(sql, { birthday_date: '1990-06-15' });
      await sql`update app_public.users set deleted_at = now() where id = ${closed.id}`;
      const silent = await createUser(sql, { birthday_date: '1990-06-15' });
      await sql`update app_public.user_settings set birthday_messages = false
        where user_id = ${silent.id}`;

      const birthday = { only: null, type: 'BIRTHDAY', date: '2027-06-15', ...nothingYet };
      expect(await simulate(sql, '2027-06-15 00:00Z', '2027-06-16 00:00Z')).toEqual([
        { ...birthday, at: '2027-06-15 07:00', timezone: 'Europe/Paris', messages: 2 },
        { ...birthday, at: '2027-06-15 08:00', timezone: 'Europe/Paris', messages: 1 },
        { ...birthday, at: '2027-06-15 09:00', timezone: 'UTC', messages: 1, type: 'ANNIVERSARY' },
        { ...birthday, at: '2027-06-15 13:00', timezone: 'America/New_York', messages: 1 },
      ]);
      // From and until are sharp.
      expect(await simulate(sql, '2027-06-15 07:30Z', '2027-06-15 08:00Z')).toMatchObject([
        { at: '2027-06-15 07:00', messages: 1 },
      ]);
    });
  });

  test('counts those whose address takes none, as the worker would', async () => {
    await asOwner(async (sql) => {
      const born = { birthday_date: '1990-06-15' };
      const [bounced, left] = [await createUser(sql, born), await createUser(sql, born)];
      await createUser(sql, born);
      await sql`select ops.suppress_address(${bounced.email}, 'asked by telephone')`;
      await sql`insert into app_private.address_states (address_hash, state, reason)
        values (app_private.address_hash(${left.email.toUpperCase()}), 'unsubscribed', 'reported')`;
      const range = ['2027-06-15 00:00Z', '2027-06-16 00:00Z'] as const;
      expect(await simulate(sql, ...range)).toMatchObject([{ messages: 3, suppressed: 2 }]);
      expect(await simulate(sql, ...range, { user: bounced.id })).toMatchObject([
        { messages: 1, suppressed: 1 },
      ]);
      // A type that nobody can turn off is sent to who has unsubscribed.
      await sql`update app_private.message_types set opt_out_column = null
        where type = 'BIRTHDAY'`;
      expect(await simulate(sql, ...range)).toMatchObject([{ messages: 3, suppressed: 1 }]);
    });
  });

  test('agrees with the schedule about every user, clock change and leap day', async () => {
    await asOwner(async (sql) => {
      await sql`
        insert into app_public.users
          (email, first_name, timezone, birthday_date, send_time, leap_day_policy)
        select 'user' || n || '@example.com', 'Test',
          (array['America/New_York', 'Europe/Paris', 'Pacific/Apia', 'UTC'])[1 + n % 4],
          case when n % 10 = 0 then date '1988-02-29' else date '1970-01-01' + n * 37 end,
          time '00:30' + n % 6 * interval '1 hour', (array['feb28', 'mar1', 'skip'])[1 + n % 3]
        from generate_series(1, 300) as n`;
      const [difference] = await sql`
        with scheduled as (
          select date_trunc('hour', scheduled_send_time) as at, users.timezone,
            message_type, delivery_date, count(*) as messages
          from app_private.message_schedule
          inner join app_public.users on users.id = message_schedule.user_id
          where scheduled_send_time > now() and scheduled_send_time < now() + interval '300 days'
          group by 1, 2, 3, 4
        ),
        simulated as (
          select at, timezone, message_type, delivery_date, messages
          from ops.simulate_messages(now(), now() + interval '300 days')
          where message_type <> 'DIGEST'
        )
        select (select count(*)::integer from scheduled where message_type <> 'DIGEST') as groups,
          (select count(*)::integer from (
            (table scheduled except table simulated) union all
            (table simulated except table scheduled)) as odd
            where message_type <> 'DIGEST') as odd`;
      expect(difference?.groups).toBeGreaterThan(150);
      expect(difference?.odd).toBe(0);
    });
  });

  test('goes out when quiet hours end', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { birthday_date: '1990-06-15', send_time: '22:30' });
      await sql`
        update app_public.user_settings
        set quiet_from = '22:00', quiet_until = '07:15'
        where user_id = ${id}`;
      expect(await simulate(sql, '2027-06-15 00:00Z', '2027-06-16 00:00Z')).toEqual([]);
      expect(await simulate(sql, '2027-06-16 00:00Z', '2027-06-17 00:00Z')).toMatchObject([
        { at: '2027-06-16 07:00', date: '2027-06-15', messages: 1, held: 1 },
      ]);
    });
  });

  test('says what is planned, sent or stopped already', async () => {
    await asOwner(async (sql) => {
      const now = () => sql<{ from: string; to: string }[]>`
        select (now() - interval '1 day')::text as from, (now() + interval '2 days')::text as to`;
      const [{ from, to } = { from: '', to: '' }] = await now();
      const counts = async (user: string) => {
        const [row] = await simulate(sql, from, to, { user });
        return [row?.messages, row?.planned, row?.sent, row?.stopped];
      };
      const later = await bornAround(sql, 26 * 60);
      expect(await counts(later.id)).toEqual([1, 0, 0, 0]);
      const user = await planned(sql, 60);
      expect(await counts(user.id)).toEqual([1, 1, 0, 0]);
      await sql`update app_public.message_logs set status = 'SENT', actual_send_time = now()
        where id = ${user.messageId}`;
      expect(await counts(user.id)).toEqual([1, 0, 1, 0]);
      await sql`update app_public.message_logs set status = 'FAILED', actual_send_time = null
        where id = ${user.messageId}`;
      expect(await counts(user.id)).toEqual([1, 0, 0, 1]);
      // What the rules took back is free to be planned again.
      await sql`delete from app_private.message_ledger where user_id = ${user.id}`;
      expect(await counts(user.id)).toEqual([1, 0, 0, 0]);
    });
  });

  test('counts a digest on each Monday for who wants it', async () => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, { timezone: 'Europe/Paris' });
      await sql`update app_public.user_settings set weekly_digest = true where user_id = ${id}`;
      const rows = await simulate(sql, '2027-03-15 00:00Z', '2027-04-05 00:00Z', { user: id });
      expect(rows.map(({ at, type }) => [at, type])).toEqual([
        ['2027-03-15 07:00', 'DIGEST'],
        ['2027-03-22 07:00', 'DIGEST'],
        ['2027-03-29 06:00', 'DIGEST'],
      ]);
    });
  });
});

describe('the difference that a change makes', () => {
  const range = ['2027-01-01 00:00Z', '2028-01-01 00:00Z'] as const;
  const base = {
    birthday_date: '1990-06-15',
    anniversary_date: '2010-10-10',
    timezone: 'Europe/Paris',
  };
  const before = { only: 'before', at: '2027-06-15 07:00', type: 'BIRTHDAY' };

  test.each<[Record<string, string | null>, Record<string, unknown>[]]>([
    [
      { timezone: 'Asia/Tokyo' },
      [
        { only: 'after', at: '2027-06-15 00:00', timezone: 'Asia/Tokyo' },
        before,
        { only: 'after', at: '2027-10-10 00:00' },
        { only: 'before', at: '2027-10-10 07:00' },
      ],
    ],
    [{ timezone: 'Europe/Berlin' }, []],
    [{ birthday_date: '1990-06-16' }, [before, { only: 'after', at: '2027-06-16 07:00' }]],
    [{ birthday_date: null }, [before]],
    [
      { birthday_date: '1988-02-29', leap_day_policy: 'mar1' },
      [{ only: 'after', date: '2027-03-01' }, before],
    ],
    [
      { anniversary_date: '2010-10-11', send_time: '09:00' },
      [
        { only: 'before', date: '2027-10-10' },
        { only: 'after', date: '2027-10-11' },
      ],
    ],
    [{ send_time: '09:45' }, [before, { only: 'after', at: '2027-06-15 07:45' }, {}, {}]],
    [{ birthday_messages: 'false' }, [before]],
    [{ anniversary_messages: 'false' }, [{ only: 'before', type: 'ANNIVERSARY' }]],
    [{ anniversary_messages: 'true' }, []],
  ])('%j', async (changes, rows) => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, base);
      const [user] = await sql`select * from app_public.users where id = ${id}`;
      const [settings] = await sql`select * from app_public.user_settings where user_id = ${id}`;
      const schedule = await sql`select * from app_private.message_schedule where user_id = ${id}`;
      expect(await simulate(sql, ...range, { user: id, changes })).toMatchObject(rows);
      // Nothing is left of it.
      expect(await sql`select * from app_public.users where id = ${id}`).toEqual([user]);
      expect(await sql`select * from app_public.user_settings where user_id = ${id}`).toEqual([
        settings,
      ]);
      expect(await sql`select * from app_private.message_schedule where user_id = ${id}`).toEqual(
        schedule,
      );
    });
  });

  test.each([
    [{ timezone: 'Mars/Olympus' }, 'timezone cannot be "Mars/Olympus"'],
    [{ timezone: null }, 'timezone cannot be empty'],
    [{ birthday_date: '2027-02-30' }, 'birthday_date cannot be "2027-02-30"'],
    [{ anniversary_date: 'infinity' }, 'anniversary_date cannot be "infinity"'],
    [{ send_time: '24:00' }, 'send_time cannot be "24:00"'],
    [{ leap_day_policy: 'never' }, 'leap_day_policy cannot be "never"'],
    [{ weekly_digest: 'perhaps' }, 'weekly_digest cannot be "perhaps"'],
    [{ email: 'a@example.com' }, 'a change of email cannot be simulated'],
  ])('%j is refused', async (changes: Record<string, string | null>, message) => {
    await asOwner(async (sql) => {
      const { id } = await createUser(sql, base);
      await expect(
        sql.savepoint((inner) => simulate(inner, ...range, { user: id, changes })),
      ).rejects.toMatchObject({ code: 'GW040', message, hint: expect.any(String) });
    });
  });
});

describe('the question', () => {
  test.each([
    ['2027-01-02', '2027-01-01'],
    ['2027-01-01', '2027-01-01'],
    ['2027-01-01', '2028-02-06'],
    ['infinity', 'infinity'],
    ['1000-01-01', '1000-01-02'],
  ])('from %s to %s is refused', async (from, to) => {
    await asOwner(async (sql) => {
      await expectRefusal(
        sql,
        'GW040',
        (inner) => inner`
        select from ops.simulate_messages(${from}::text::timestamptz, ${to}::text::timestamptz)`,
      );
    });
  });

  test('needs a user who exists, and one for changes', async () => {
    await asOwner(async (sql) => {
      await expectRefusal(
        sql,
        'GW040',
        (inner) => inner`
        select from ops.simulate_messages('2027-01-01', '2027-01-02', ${randomUUID()})`,
      );
      await expectRefusal(
        sql,
        'GW040',
        (inner) => inner`
        select from ops.simulate_messages('2027-01-01', '2027-01-02', null, '{"send_time": "1:00"}')`,
      );
    });
  });

  test('may be asked by the owner alone', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      for (const role of ['app_user', 'gw_monitor', 'gw_worker', 'gw_readonly']) {
        await sql.unsafe(`set local role ${role}`);
        await expectRefusal(
          sql,
          '42501',
          (inner) => inner`
          select from ops.simulate_messages('2027-01-01', '2027-01-02')`,
        );
      }
    });
  });
});

describe('what a change of tzdata moves', () => {
  const moved = (sql: Transaction, zone: string | null = null) => sql`
    select user_id, timezone, status,
      extract(epoch from rule_time - stored_time)::integer as seconds
    from ops.find_moved_messages(p_timezone => ${zone})
    order by status desc, user_id`;
  const shift = (sql: Transaction, table: string, user: string, by: string) => sql`
    update ${sql(table)} set scheduled_send_time = scheduled_send_time + ${by}::text::interval
    where user_id = ${user}`;

  test('is found in the schedule and in what waits, and replanned', async () => {
    await asOwner(async (sql) => {
      const scheduled = await createUser(sql, {
        timezone: 'Europe/Paris',
        birthday_date: '1990-01-01',
      });
      const waiting = await planned(sql, 600);
      expect(await moved(sql)).toEqual([]);

      await shift(sql, 'app_private.message_schedule', scheduled.id, '1 hour');
      await shift(sql, 'app_public.message_logs', waiting.id, '-30 minutes');
      expect(await moved(sql)).toEqual([
        {
          user_id: scheduled.id,
          timezone: 'Europe/Paris',
          status: 'not planned yet',
          seconds: -3600,
        },
        { user_id: waiting.id, timezone: 'UTC', status: 'SCHEDULED', seconds: 1800 },
      ]);
      expect(await moved(sql, 'Europe/Paris')).toHaveLength(1);

      const [done] = await sql`select users, changed from ops.replan_users()`;
      expect(done?.users).toBeGreaterThanOrEqual(2);
      expect(done?.changed).toBe(2);
      expect(await moved(sql)).toEqual([]);
      const [entry] = await sql`
        select details ->> 'changed' as changed from ops.audit_log
        where action = 'messages.replanned' order by id desc limit 1`;
      expect(entry).toEqual({ changed: '2' });
    });
  });

  test('is also the second of two instants with the same local time', async () => {
    await asOwner(async (sql) => {
      const user = await createUser(sql, {
        timezone: 'America/New_York',
        send_time: '01:30',
        birthday_date: '1990-11-07',
      });
      // The schedule holds 2027-11-07, the night in which clocks go back.
      await sql`
        update app_private.message_schedule
        set delivery_date = '2027-11-07', scheduled_send_time = '2027-11-07 05:30Z'
        where user_id = ${user.id}`;
      expect(await moved(sql)).toEqual([]);
      await shift(sql, 'app_private.message_schedule', user.id, '1 hour');
      expect(await moved(sql)).toMatchObject([{ user_id: user.id, seconds: -3600 }]);
    });
  });

  test('is replanned some users at a time, to the end', async () => {
    await asOwner(async (sql) => {
      const ids: string[] = [];
      for (let n = 0; n < 3; n += 1) {
        ids.push((await createUser(sql, { timezone: 'Asia/Tokyo' })).id);
      }
      ids.sort();
      const chunk = async (after: string | null) => {
        const [row] = await sql`
          select last_id, users from ops.replan_users(${after}, 2, 'Asia/Tokyo')`;
        return row;
      };
      expect(await chunk(null)).toEqual({ last_id: ids[1], users: 2 });
      expect(await chunk(ids[1] ?? '')).toEqual({ last_id: ids[2], users: 1 });
      expect(await chunk(ids[2] ?? '')).toEqual({ last_id: null, users: 0 });
    });
  });
});
