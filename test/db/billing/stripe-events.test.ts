import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  rolledBack,
  useDatabase,
} from '../../helpers/database.ts';
import { type EventOptions, stripeId, subscriptionEvent } from '../../helpers/stripe.ts';

const db = useDatabase();
type Subscription = Record<string, string | number | Date | null>;

async function read(sql: Sql | Transaction, userId: string): Promise<Subscription> {
  const [row] = await sql<Subscription[]>`
    select *, extract(epoch from current_period_start)::float8 as start,
      extract(epoch from current_period_end)::float8 as end
    from app_public.subscriptions where user_id = ${userId}`;
  return row as Subscription;
}

async function apply(sql: Sql | Transaction, event: unknown): Promise<string> {
  const [row] = await sql`
    select app_private.apply_subscription_event(${sql.json(event as never)}) as outcome`;
  return row?.outcome;
}

describe('apply_subscription_event', () => {
  const at = 1_800_000_000;
  const day = 86_400;

  /** As the API's login role, with a customer of whom a first event was applied. */
  const withCustomer = (
    work: (
      send: (
        options?: Partial<EventOptions>,
        change?: (event: ReturnType<typeof subscriptionEvent>) => void,
      ) => Promise<string>,
      state: () => Promise<Subscription>,
      sql: Transaction,
    ) => Promise<void>,
  ) =>
    rolledBack(db.as('superuser'), async (sql) => {
      const { id } = await createUser(sql);
      const ids = { customer: stripeId('cus'), subscription: stripeId('sub') };
      const send = async (
        options: Partial<EventOptions> = {},
        change?: (event: ReturnType<typeof subscriptionEvent>) => void,
      ) => {
        const event = subscriptionEvent({ created: at, ...ids, ...options });
        change?.(event);
        await sql`set local role gw_authenticator`;
        const outcome = await apply(sql, event);
        await sql`set local role none`;
        return outcome;
      };
      expect(await send({ kind: 'created', userId: id })).toBe('applied');
      await work(send, () => read(sql, id), sql);
    });

  test('finds the user of a new customer by metadata, then by the customer', async () => {
    await withCustomer(async (send, state) => {
      expect(await state()).toMatchObject({
        tier: 'pro',
        status: 'active',
        stripe_customer_id: expect.stringMatching(/^cus_/),
        stripe_subscription_id: expect.stringMatching(/^sub_/),
        start: at,
        end: at + 30 * day,
      });
      expect(await send({ created: at + 1, tier: 'team', status: 'past_due' })).toBe('applied');
      expect(await state()).toMatchObject({ tier: 'team', status: 'past_due' });
    });
  });

  test('applies an event once', async () => {
    await withCustomer(async (send, state, sql) => {
      const id = stripeId('evt');
      expect(await send({ id, created: at + 1, tier: 'team' })).toBe('applied');
      await sql`update app_public.subscriptions set usage_count = 7, tier = 'pro'
        where stripe_customer_id = ${(await state()).stripe_customer_id as string}`;
      expect(await send({ id, created: at + 1, tier: 'team' })).toBe('duplicate');
      expect(await state()).toMatchObject({ tier: 'pro', usage_count: 7 });
      expect(await sql`select from app_private.stripe_events where event_id = ${id}`).toHaveLength(
        1,
      );
    });
  });

  test('ignores what is older than what it knows, and keeps it', async () => {
    await withCustomer(async (send, state, sql) => {
      expect(await send({ created: at + 20, kind: 'deleted' })).toBe('applied');
      const id = stripeId('evt');
      expect(await send({ id, created: at + 10, tier: 'team' })).toBe('stale');
      expect(await state()).toMatchObject({ tier: 'free', status: 'canceled' });
      const [event] = await sql`
        select applied, reason, payload ->> 'id' as id from app_private.stripe_events
        where event_id = ${id}`;
      expect(event).toEqual({ applied: false, reason: 'stale', id });
      expect(await send({ id, created: at + 10, tier: 'team' })).toBe('duplicate');
    });
  });

  test('knows the order of kinds within one second', async () => {
    await withCustomer(async (send) => {
      expect(await send({ created: at + 5, kind: 'updated' })).toBe('applied');
      expect(await send({ created: at + 5, kind: 'created', status: 'incomplete' })).toBe('stale');
      expect(await send({ created: at + 5, kind: 'updated' })).toBe('applied');
      expect(await send({ created: at + 5, kind: 'deleted' })).toBe('applied');
      expect(await send({ created: at + 5, kind: 'updated' })).toBe('stale');
    });
  });

  test('a new period begins at 0; the same period, or one that is not paid, does not', async () => {
    await withCustomer(async (send, state, sql) => {
      const use = () => sql`update app_public.subscriptions set usage_count = 9
        where stripe_customer_id is not null`;
      await use();
      await send({ created: at + 1, tier: 'team' });
      expect(await state()).toMatchObject({ usage_count: 9, start: at });
      const next = { created: at + 30 * day, periodStart: at + 30 * day };
      await send({ ...next, status: 'unpaid' });
      expect(await state()).toMatchObject({ usage_count: 9, start: at });
      await send({ ...next, created: at + 30 * day + 1 });
      expect(await state()).toMatchObject({ usage_count: 0, start: at + 30 * day });
      await use();
      // Sent before the renewal, arrived after consume_usage() had begun the period.
      await send({ created: at + 31 * day, periodStart: at });
      expect(await state()).toMatchObject({ usage_count: 9, start: at + 30 * day });
    });
  });

  test('an unpaid checkout gives neither limit nor a new count', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const { id } = await createUser(sql);
      await sql`update app_public.subscriptions set usage_count = 50 where user_id = ${id}`;
      const event = subscriptionEvent({
        kind: 'created',
        customer: stripeId('cus'),
        subscription: stripeId('sub'),
        userId: id,
        status: 'incomplete',
        periodStart: Math.floor(Date.now() / 1000) + 60,
      });
      expect(await apply(sql, event)).toBe('applied');
      expect(await read(sql, id)).toMatchObject({ status: 'incomplete', usage_count: 50 });
      await become(sql, id);
      await expectRefusal(sql, 'GW020', (inner) => inner`select app_public.consume_usage()`);
    });
  });

  test('the end of a subscription ends a paid year, not the next subscription', async () => {
    await withCustomer(async (send, state) => {
      await send({ created: at + 1, periodEnd: at + 365 * day });
      const first = (await state()).stripe_subscription_id as string;
      const second = stripeId('sub');
      expect(await send({ created: at + 2, subscription: second, status: 'incomplete' })).toBe(
        'ignored',
      );
      expect(await send({ created: at + 3, subscription: second })).toBe('applied');
      expect(await send({ created: at + 4, kind: 'deleted', subscription: first })).toBe('ignored');
      expect(await send({ created: at + 2, subscription: first })).toBe('stale');
      expect(await state()).toMatchObject({ tier: 'pro', stripe_subscription_id: second });
      expect(await send({ created: at + 5, kind: 'deleted', subscription: second })).toBe(
        'applied',
      );
      const ended = await state();
      expect(ended).toMatchObject({ tier: 'free', status: 'canceled' });
      expect(Number(ended.end)).toBeLessThanOrEqual(at + 31 * day + 5);
      expect(await send({ created: at + 6, kind: 'created', subscription: stripeId('sub') })).toBe(
        'applied',
      );
    });
  });

  test('keeps the event of an unknown customer, and applies it when it is known', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const ids = { customer: stripeId('cus'), subscription: stripeId('sub') };
      const event = subscriptionEvent({ ...ids, userId: randomUUID() });
      expect(await apply(sql, event)).toBe('ignored');
      expect(
        await sql`
          select applied, reason from app_private.stripe_events where event_id = ${event.id}`,
      ).toEqual([{ applied: false, reason: `unknown customer ${ids.customer}` }]);
      const { id } = await createUser(sql);
      await sql`update app_public.subscriptions set stripe_customer_id = ${ids.customer}
        where user_id = ${id}`;
      const retried = await sql`
        select app_private.apply_subscription_event(payload) as outcome
        from app_private.stripe_events where not applied and event_id = ${event.id}`;
      expect(retried).toEqual([{ outcome: 'applied' }]);
      expect(await read(sql, id)).toMatchObject({ tier: 'pro' });
      expect(await apply(sql, event)).toBe('duplicate');
    });
  });

  test('does not take a user from the customer that they are', async () => {
    await withCustomer(async (send, state, sql) => {
      const before = await state();
      const [row] = await sql`select user_id from app_public.subscriptions
        where stripe_customer_id = ${before.stripe_customer_id as string}`;
      expect(await send({ customer: stripeId('cus'), userId: row?.user_id })).toBe('ignored');
      expect(await state()).toEqual(before);
    });
  });

  test.each([
    ['of the price, before all', 'team', { price: 'team', lookup: 'pro', subscription: 'free' }],
    ['in the price’s key', 'pro', { lookup: 'pro', subscription: 'team' }],
    ['of the subscription', 'team', { subscription: 'team' }],
    ['of the price, where its key is another thing', 'team', { lookup: 'x', price: 'team' }],
  ] as [string, string, Record<string, string>][])(
    'takes the tier from the metadata %s',
    async (_, tier, { price, lookup, subscription }) => {
      await withCustomer(async (send, state) => {
        const change = (event: ReturnType<typeof subscriptionEvent>): void => {
          const { object } = event.data;
          Object.assign(object.metadata, subscription === undefined ? {} : { tier: subscription });
          Object.assign(object.items.data[0]?.price as object, {
            lookup_key: lookup === undefined ? null : `${lookup}_monthly`,
            metadata: price === undefined ? {} : { tier: price },
          });
        };
        expect(await send({ created: at + 1 }, change)).toBe('applied');
        expect(await state()).toMatchObject({ tier });
      });
    },
  );

  test('understands a customer that the endpoint expands', async () => {
    await withCustomer(async (send, state) => {
      const expand = (event: ReturnType<typeof subscriptionEvent>): void => {
        const { object } = event.data;
        Object.assign(object, { customer: { id: object.customer, object: 'customer' } });
      };
      expect(await send({ created: at + 1, tier: 'team' }, expand)).toBe('applied');
      expect(await state()).toMatchObject({ tier: 'team' });
    });
  });

  test.each([
    [{ tier: 'gold' }, 'unknown tier'],
    [{ status: 'haunted' }, 'unknown status haunted'],
  ])('keeps what it does not understand: %o', async (options, reason) => {
    await withCustomer(async (send, state, sql) => {
      const before = await state();
      const id = stripeId('evt');
      expect(await send({ id, created: at + 1, ...options })).toBe('ignored');
      expect(await state()).toEqual(before);
      expect(
        await sql`select reason from app_private.stripe_events where event_id = ${id}`,
      ).toEqual([{ reason }]);
    });
  });

  test('does not keep events about other things, and refuses what is no event', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      expect(await apply(sql, { id: 'evt_1', type: 'invoice.paid', created: at })).toBe('ignored');
      expect(
        await sql`select from app_private.stripe_events where event_id = 'evt_1'`,
      ).toHaveLength(0);
      const broken = subscriptionEvent({ customer: 'nobody', subscription: stripeId('sub') });
      for (const event of [{}, [], 'x', { id: 'evt_1' }, broken]) {
        await expectRefusal(
          sql,
          'GW022',
          (inner) => inner`
            select app_private.apply_subscription_event(${inner.json(event as never)})`,
        );
      }
    });
  });

  test('the first two events of a customer may come at once, in any order', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { id: userId } = await createUser(db.as('owner'));
      const ids = { customer: stripeId('cus'), subscription: stripeId('sub'), userId };
      const created = subscriptionEvent({
        ...ids,
        kind: 'created',
        created: at,
        status: 'incomplete',
      });
      const updated = subscriptionEvent({ ...ids, created: at + 1 });
      const pool = db.as('authenticator', 6);
      const outcomes = await Promise.all(
        [created, updated, updated, created, updated, created].map((event) => apply(pool, event)),
      );
      expect(outcomes.filter((outcome) => outcome === 'duplicate')).toHaveLength(4);
      expect(outcomes).not.toContain('ignored');
      expect(await read(db.as('owner'), userId)).toMatchObject({ tier: 'pro', status: 'active' });
    }
  });

  test.each(['app_user', 'app_anonymous', 'gw_worker', 'gw_readonly'])(
    'is not for %s',
    async (role) => {
      await rolledBack(db.as('superuser'), async (sql) => {
        await sql.unsafe(`set local role ${role}`);
        await expectRefusal(
          sql,
          '42501',
          (inner) => inner`select app_private.apply_subscription_event('{}')`,
        );
      });
    },
  );

  test('its log is kept for a year', async () => {
    await rolledBack(db.as('owner'), async (sql) => {
      const insert = (age: string) => sql`
        insert into app_private.stripe_events
          (event_id, type, stripe_subscription_id, occurred_at, received_at, payload, applied)
        values (${stripeId('evt')}, 'x', 'sub_1', now(), now() - ${age}::interval, '{}', true)`;
      await insert('364 days');
      await insert('367 days');
      const [row] = await sql`select ops.delete_expired_rows()::int as deleted`;
      expect(row?.deleted).toBe(1);
    });
  });
});
