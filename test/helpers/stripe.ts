import { createHmac, randomUUID } from 'node:crypto';

/** An id as Stripe makes them. */
export const stripeId = (prefix: 'cus' | 'sub' | 'evt'): string =>
  `${prefix}_${randomUUID().replaceAll('-', '')}`;

export interface EventOptions {
  id?: string;
  kind?: 'created' | 'updated' | 'deleted';
  /** Seconds since 1970. */
  created?: number;
  customer: string;
  subscription: string;
  userId?: string;
  status?: string;
  tier?: string;
  /** Seconds since 1970. */
  periodStart?: number;
  periodEnd?: number;
}

/** An event about a subscription, as Stripe sends it. */
export function subscriptionEvent(options: EventOptions) {
  const { created = 1_800_000_000, tier = 'pro', userId } = options;
  const periodStart = options.periodStart ?? 1_800_000_000;
  return {
    id: options.id ?? stripeId('evt'),
    object: 'event',
    api_version: '2025-03-31.basil',
    created,
    type: `customer.subscription.${options.kind ?? 'updated'}`,
    data: {
      object: {
        id: options.subscription,
        object: 'subscription',
        customer: options.customer,
        status: options.status ?? 'active',
        metadata: userId === undefined ? {} : { user_id: userId },
        items: {
          data: [
            {
              current_period_start: periodStart,
              current_period_end: options.periodEnd ?? periodStart + 2_592_000,
              price: { lookup_key: `${tier}_monthly`, metadata: {} },
            },
          ],
        },
      },
    },
  };
}

/** The Stripe-Signature header for a body. */
export function sign(body: string, secret: string, time = Math.floor(Date.now() / 1000)): string {
  const v1 = createHmac('sha256', secret).update(`${time}.${body}`).digest('hex');
  return `t=${time},v1=${v1},v0=${'0'.repeat(64)}`;
}
