import { describe, expect, test } from 'vitest';
import { connect, type Sql, type Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  rolledBack,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';

const db = useDatabase();
const { asNewUser } = transactionsOf(db);
type Subscription = Record<string, string | number | Date | null>;

/** Runs a statement as superuser, then is the user again. */
async function asSuperuser(sql: Transaction, userId: string, statement: string): Promise<void> {
  await sql`set local role none`;
  await sql.unsafe(statement);
  await become(sql, userId);
}

async function consume(sql: Transaction, n?: number): Promise<Subscription> {
  const [row] =
    n === undefined
      ? await sql<Subscription[]>`select * from app_public.consume_usage()`
      : await sql<Subscription[]>`select * from app_public.consume_usage(${n})`;
  return row as Subscription;
}

async function read(sql: Sql | Transaction, userId: string): Promise<Subscription> {
  const [row] = await sql<Subscription[]>`
    select *, extract(epoch from current_period_start)::float8 as start,
      extract(epoch from current_period_end)::float8 as end
    from app_public.subscriptions where user_id = ${userId}`;
  return row as Subscription;
}

describe('a subscription', () => {
  test('is made with its user, free, for a month', async () => {
    await asNewUser(async (sql, userId) => {
      const row = await read(sql, userId);
      expect(row).toMatchObject({ tier: 'free', status: 'active', usage_count: 0 });
      const days = (Number(row.end) - Number(row.start)) / 86_400;
      expect(days).toBeGreaterThanOrEqual(28);
      expect(days).toBeLessThanOrEqual(31);
    });
  });

  test.each([
    "update app_public.subscriptions set tier = 'team'",
    'update app_public.subscriptions set usage_count = 0',
    'delete from app_public.subscriptions',
    'insert into app_public.subscriptions default values',
  ])('is read by its user, who may not: %s', async (statement) => {
    await asNewUser(async (sql) => {
      expect(await sql`select from app_public.subscriptions`).toHaveLength(1);
      await expectRefusal(sql, '42501', (inner) => inner.unsafe(statement));
    });
  });

  test.each([
    "tier = 'gold'",
    "status = 'ended'",
    "stripe_customer_id = 'customer'",
    "stripe_customer_id = 'cus_1', stripe_subscription_id = 'cus_1'",
    "stripe_subscription_id = 'sub_1'",
    'usage_count = -1',
    'current_period_end = current_period_start',
  ])('cannot have %s', async (assignment) => {
    await rolledBack(db.as('owner'), async (sql) => {
      const { id } = await createUser(sql);
      await expectRefusal(sql, '23514', (inner) =>
        inner.unsafe(`update app_public.subscriptions set ${assignment} where user_id = '${id}'`),
      );
    });
  });

  test('is the only one with its customer', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const users = [await createUser(sql), await createUser(sql)];
      const set = (id: string) => (inner: Transaction) =>
        inner`update app_public.subscriptions set stripe_customer_id = 'cus_1' where user_id = ${id}`;
      await set(users[0]?.id as string)(sql);
      await expectRefusal(sql, '23505', set(users[1]?.id as string));
    });
  });
});

describe('consume_usage', () => {
  test('counts, one unless told', async () => {
    await asNewUser(async (sql) => {
      expect((await consume(sql)).usage_count).toBe(1);
      expect((await consume(sql, 4)).usage_count).toBe(5);
      const [row] = await sql`
        select app_public.subscriptions_monthly_limit(subscriptions) as "limit"
        from app_public.subscriptions`;
      expect(row?.limit).toBe(50);
    });
  });

  test('counts nothing for anybody else', async () => {
    await asNewUser(async (sql, userId) => {
      await sql`set local role none`;
      const other = await createUser(sql);
      await become(sql, userId);
      await consume(sql, 7);
      await sql`set local role none`;
      expect((await read(sql, userId)).usage_count).toBe(7);
      expect((await read(sql, other.id)).usage_count).toBe(0);
    });
  });

  test('reaches the limit and refuses to pass it, counting nothing', async () => {
    await asNewUser(async (sql, userId) => {
      await consume(sql, 49);
      await expectRefusal(sql, 'GW020', (inner) => inner`select app_public.consume_usage(2)`);
      expect((await consume(sql)).usage_count).toBe(50);
      await expectRefusal(sql, 'GW020', (inner) => inner`select app_public.consume_usage()`);
      await expectRefusal(
        sql,
        'GW020',
        (inner) => inner`select app_public.consume_usage(2147483647)`,
      );
      expect((await read(sql, userId)).usage_count).toBe(50);
    });
  });

  test('says in a hint when the count begins again', async () => {
    await asNewUser(async (sql) => {
      await consume(sql, 50);
      const error = await sql
        .savepoint((inner) => inner`select app_public.consume_usage()`)
        .catch((refused: { message: string; hint?: string }) => refused);
      expect(error).toMatchObject({
        message: 'the limit of 50 in a period would be passed',
        hint: expect.stringMatching(/^50 are used; the count begins again at \d{4}-.*\+00\.$/),
      });
    });
  });

  test.each([0, -1, null])('refuses to count %s, and names n', async (n) => {
    await asNewUser(async (sql) => {
      const error = await sql
        .savepoint((inner) => inner`select app_public.consume_usage(${n})`)
        .catch((refused: object) => refused);
      expect(error).toMatchObject({ code: 'GW002', column_name: 'n' });
    });
  });

  test('refuses nobody', async () => {
    await asNewUser(async (sql) => {
      await sql`select set_config('app.current_user_id', '', true)`;
      await expectRefusal(sql, 'GW001', (inner) => inner`select app_public.consume_usage()`);
      await become(sql, null);
      await expectRefusal(sql, '42501', (inner) => inner`select app_public.consume_usage()`);
    });
  });

  test.each([
    ['active', 2000],
    ['trialing', 2000],
    ['past_due', 2000],
    ['unpaid', 50],
    ['incomplete', 50],
    ['paused', 50],
    ['canceled', 50],
  ])('gives a pro subscription that is %s a limit of %i', async (status, limit) => {
    await asNewUser(async (sql, userId) => {
      await asSuperuser(
        sql,
        userId,
        `update app_public.subscriptions set tier = 'pro', status = '${status}'
          where user_id = '${userId}'`,
      );
      expect((await consume(sql, limit)).usage_count).toBe(limit);
      await expectRefusal(sql, 'GW020', (inner) => inner`select app_public.consume_usage()`);
    });
  });

  test.each([
    ['a moment ago', "now() - interval '1 second'"],
    ['at this moment', 'now()'],
    ['half a year ago', "now() - interval '190 days'"],
  ])('begins again at 0 when the period ended %s', async (_, end) => {
    await asNewUser(async (sql, userId) => {
      await asSuperuser(
        sql,
        userId,
        `update app_public.subscriptions set usage_count = 50, current_period_end = ${end},
          current_period_start = ${end} - interval '1 month' where user_id = '${userId}'`,
      );
      expect((await consume(sql, 3)).usage_count).toBe(3);
      const [row] = await sql`
        select current_period_start <= now() and now() < current_period_end as is_current,
          current_period_end > current_period_start + interval '27 days'
            and current_period_end <= current_period_start + interval '31 days' as is_month
        from app_public.subscriptions`;
      expect(row).toEqual({ is_current: true, is_month: true });
      expect((await consume(sql)).usage_count).toBe(4);
    });
  });

  test.each([
    ['2026-01-30', '2026-02-27T12:00Z', '2026-01-30'],
    ['2026-01-30', '2026-02-28T12:00Z', '2026-02-28'],
    ['2026-01-31', '2026-03-30T00:00Z', '2026-02-28'],
    ['2026-01-31', '2026-03-31T00:00Z', '2026-03-31'],
    ['2025-11-15', '2027-01-14T23:59Z', '2026-12-15'],
  ])('a period that ended on %s goes on: at %s the latest began on %s', async (end, now, start) => {
    await rolledBack(db.as('owner'), async (sql) => {
      await sql`set local timezone = 'Pacific/Apia'`;
      const [row] = await sql`
        select to_char(app_private.latest_period_start(${`${end}T00:00Z`}, ${now})
          at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as start`;
      expect(row?.start).toBe(`${start} 00:00`);
    });
  });

  test('never passes the limit under 20 connections at once', async () => {
    const user = await createUser(db.as('owner'));
    const [before] = await db.as('owner')`
      update app_public.subscriptions
      set usage_count = 50, current_period_end = now() - interval '1 hour',
        current_period_start = now() - interval '30 days'
      where user_id = ${user.id} returning current_period_end as "end"`;
    const connections = Array.from({ length: 20 }, () =>
      connect(db.url('authenticator'), { max: 1 }),
    );
    try {
      // Open first, so that all begin together.
      await Promise.all(connections.map((sql) => sql`select`));
      const outcomes = await Promise.all(
        connections.flatMap((sql) =>
          Array.from({ length: 5 }, () =>
            sql
              .begin(async (inner) => {
                await inner`select app_private.set_app_user(${user.id})`;
                await inner`set local role app_user`;
                return Number((await consume(inner)).usage_count);
              })
              .catch((error: { code?: string }) => error.code),
          ),
        ),
      );
      const counts = outcomes.filter((outcome) => typeof outcome === 'number');
      expect(counts.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
      expect(outcomes.filter((outcome) => outcome === 'GW020')).toHaveLength(50);
      expect(await read(db.as('owner'), user.id)).toMatchObject({
        usage_count: 50,
        current_period_start: before?.end,
      });
    } finally {
      await Promise.all(connections.map((sql) => sql.end({ timeout: 1 })));
    }
  });
});
