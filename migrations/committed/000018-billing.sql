--! Previous: sha1:6489bbb5674d367d37f2c6353bdd0a47d58a4413
--! Hash: sha1:2fec0c2fb7688989255ad2431f9b78d76d9d33a6
--! Message: billing
--! Baseline: topics/18-billing.sql

/*
 * Billing: subscriptions, the limits of tiers, and the events of Stripe.
 */

-- The units that a tier may use in a period. A table, not a CASE in a function, so that a
-- limit can change without a release. No policies and no grants: only functions of the
-- owner use the table.
create table app_private.tier_limits (
  tier text not null,
  monthly_limit integer not null,
  constraint tier_limits_pkey primary key (tier),
  constraint tier_limits_monthly_limit_check check (monthly_limit >= 0)
);

alter table app_private.tier_limits enable row level security;

comment on table app_private.tier_limits is
  'Units that each tier may use in a period. A change takes effect with the next use.';

-- Subscriptions, one row for each user, created with the user, so that the usage of a
-- free user is counted like any other. These are not columns of users: usage_count
-- changes often, and every request reads users.
--
-- Without Stripe, a period is a month, counted from the creation of the account. With
-- Stripe, the events of Stripe set the period.
create table app_public.subscriptions (
  user_id uuid not null default app_hidden.current_app_user_id(),
  tier text not null default 'free',
  status text not null default 'active',
  stripe_customer_id text,
  stripe_subscription_id text,
  current_period_start timestamptz not null default now(),
  current_period_end timestamptz not null default now() + interval '1 month',
  trial_ends_at timestamptz generated always as (
    case when status = 'trialing' then current_period_end end) stored,
  usage_count integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint subscriptions_pkey primary key (user_id),
  constraint subscriptions_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint subscriptions_tier_fkey
    foreign key (tier) references app_private.tier_limits (tier),
  constraint subscriptions_tier_check check (tier in ('free', 'pro', 'team')),
  constraint subscriptions_status_check
    check (status in ('active', 'canceled', 'past_due', 'trialing', 'incomplete',
      'incomplete_expired', 'unpaid', 'paused')),
  constraint subscriptions_stripe_customer_id_check
    check (stripe_customer_id ~ '^cus_[A-Za-z0-9]{1,250}$'),
  constraint subscriptions_stripe_subscription_id_check
    check (stripe_subscription_id ~ '^sub_[A-Za-z0-9]{1,250}$'),
  constraint subscriptions_stripe_ids_check
    check (stripe_subscription_id is null or stripe_customer_id is not null),
  constraint subscriptions_current_period_check
    check (current_period_start < current_period_end),
  constraint subscriptions_usage_count_check check (usage_count >= 0)
);

-- Unique indexes, not constraints: the API would add a query for each constraint.
create unique index subscriptions_stripe_customer_id_key
  on app_public.subscriptions (stripe_customer_id);

create unique index subscriptions_stripe_subscription_id_key
  on app_public.subscriptions (stripe_subscription_id);

-- For reports by tier and status, and for the foreign key to tier_limits.
create index subscriptions_tier_status_idx on app_public.subscriptions (tier, status);

alter table app_public.subscriptions enable row level security;

create policy own on app_public.subscriptions
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.subscriptions
  for select to gw_readonly
  using (true);

-- No insert, update or delete: a trigger creates the row; consume_usage() and the events
-- of Stripe change it.
grant select on app_public.subscriptions to app_user, gw_readonly;

create trigger _100_timestamps before insert or update on app_public.subscriptions
  for each row execute function app_private.tg__timestamps();

-- UserSubscription in GraphQL, where Subscription is the root type.
comment on table app_public.subscriptions is
  E'@name user_subscriptions\n@behavior -insert -update -delete\n'
  'The tier of a user and the usage in the current period.';
comment on column app_public.subscriptions.user_id is
  'The user who has the subscription.';
comment on column app_public.subscriptions.tier is
  'Tier of the subscription: free (the default), pro or team.';
comment on column app_public.subscriptions.status is
  'Status at Stripe: active (the default), trialing, past_due, incomplete, '
  'incomplete_expired, unpaid, paused or canceled. active, trialing and past_due give '
  'the limit of the tier; the others give the limit of free.';
comment on column app_public.subscriptions.stripe_customer_id is
  'Id of the customer at Stripe; null until Stripe has one.';
comment on column app_public.subscriptions.stripe_subscription_id is
  'Id of the latest subscription at Stripe; null until Stripe has one.';
comment on column app_public.subscriptions.current_period_start is
  'When the current period began, with usageCount 0.';
comment on column app_public.subscriptions.current_period_end is
  'When the current period ends. The first use after it starts a new period, in which '
  'usageCount begins at 0 again.';
comment on column app_public.subscriptions.trial_ends_at is
  'When the trial ends; null when the subscription is no trial.';
comment on column app_public.subscriptions.usage_count is
  'Number of units used from currentPeriodStart to currentPeriodEnd, counted by '
  'consumeUsage.';
comment on column app_public.subscriptions.created_at is
  'When the subscription was created.';
comment on column app_public.subscriptions.updated_at is
  'When the subscription or its usage last changed.';
comment on constraint subscriptions_tier_check on app_public.subscriptions is
  E'@enum SubscriptionTier\n'
  '@value free Without payment.\n'
  '@value pro For one person.\n'
  '@value team For several.\n'
  'a tier is free, pro or team';
comment on constraint subscriptions_status_check on app_public.subscriptions is
  E'@enum SubscriptionStatus\n'
  '@value active Paid, or free.\n'
  '@value canceled Ended.\n'
  '@value past_due The last payment failed, and is tried again.\n'
  '@value trialing On trial.\n'
  '@value incomplete The first payment is awaited.\n'
  '@value incomplete_expired The first payment never came.\n'
  '@value unpaid Payments failed, and are no longer tried.\n'
  '@value paused On hold: a trial ended without a way to pay.\n'
  'a status is one of Stripe''s';

-- Events of Stripe about subscriptions. The key makes a second delivery harmless, and
-- occurred_at shows that an event arrived after a newer one. No user_id: an event of an
-- unknown customer is stored too, so that it can be applied later. No policies and no
-- grants: only functions of the owner use the table.
create table app_private.stripe_events (
  event_id text not null,
  type text not null,
  stripe_subscription_id text not null,
  occurred_at timestamptz not null,
  received_at timestamptz not null default now(),
  payload jsonb not null,
  applied boolean not null default false,
  reason text,
  constraint stripe_events_pkey primary key (event_id),
  constraint stripe_events_event_id_check check (event_id ~ '^evt_[A-Za-z0-9_]{1,250}$'),
  constraint stripe_events_payload_check check (jsonb_typeof(payload) = 'object'),
  constraint stripe_events_reason_check check (applied = (reason is null))
);

-- For each event: has a newer one of the same subscription been applied?
create index stripe_events_stripe_subscription_id_idx_where_applied
  on app_private.stripe_events (stripe_subscription_id, occurred_at)
  where applied;

create index stripe_events_received_at_idx on app_private.stripe_events (received_at);

alter table app_private.stripe_events enable row level security;

comment on table app_private.stripe_events is
  'Events about subscriptions, as Stripe sent them. reason says why an event was not '
  'applied.';
comment on column app_private.stripe_events.occurred_at is
  'Stripe''s "created", in whole seconds.';

-- What read_subscription_event() finds in an event of Stripe.
create type app_private.subscription_event as (
  id text,
  type text,
  occurred_at timestamptz,
  subscription_id text,
  customer_id text,
  user_id uuid,
  tier text,
  status text,
  period_start timestamptz,
  period_end timestamptz
);

--! Included functions/app_private/tg_users__subscribe.sql
create or replace function app_private.tg_users__subscribe() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into app_public.subscriptions (user_id) values (new.id) on conflict do nothing;
  return null;
end
$$;

comment on function app_private.tg_users__subscribe() is
  'Creates the subscription of a new user, in the tier free.';
--! EndIncluded functions/app_private/tg_users__subscribe.sql
--! Included functions/app_private/monthly_limit.sql
create or replace function app_private.monthly_limit(p_tier text, p_status text)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select tier_limits.monthly_limit
  from app_private.tier_limits
  -- past_due keeps its limit, because Stripe still retries the payment.
  where tier_limits.tier = case
    when p_status in ('active', 'trialing', 'past_due') then p_tier
    else 'free'
  end
$$;

comment on function app_private.monthly_limit(text, text) is
  'Units that a subscription of this tier and status may use in a period.';
--! EndIncluded functions/app_private/monthly_limit.sql
--! Included functions/app_private/latest_period_start.sql
-- In UTC, so that the length of a month does not depend on the session. The series has
-- one month more than age() counts: from January 30 to February 28, age() counts no
-- month, but January 30 plus one month is February 28.
create or replace function app_private.latest_period_start(
  p_period_end timestamptz, p_now timestamptz
) returns timestamptz
language sql stable strict
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select max(p_period_end + make_interval(months => months))
  from generate_series(0, 1 + (
    extract(year from age(p_now, p_period_end)) * 12
    + extract(month from age(p_now, p_period_end)))::integer) as months
  where p_period_end + make_interval(months => months) <= p_now
$$;

comment on function app_private.latest_period_start(timestamptz, timestamptz) is
  'The start of the monthly period that contains p_now, counted in months from '
  'p_period_end.';
--! EndIncluded functions/app_private/latest_period_start.sql
--! Included functions/app_public/subscriptions_monthly_limit.sql
-- Definer: reads tier_limits. No caller check: the table holds no data of users.
create or replace function app_public.subscriptions_monthly_limit(
  subscription app_public.subscriptions
) returns integer
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select app_private.monthly_limit(subscription.tier, subscription.status)
$$;

grant execute on function app_public.subscriptions_monthly_limit(app_public.subscriptions)
  to app_user;
comment on function app_public.subscriptions_monthly_limit(app_public.subscriptions) is
  'Number of units that may be used in a period; depends on tier and status.';
--! EndIncluded functions/app_public/subscriptions_monthly_limit.sql
--! Included functions/app_public/consume_usage.sql
-- Definer: a user may not write subscriptions. It changes only the row of the caller.
create or replace function app_public.consume_usage(n integer default 1)
returns app_public.subscriptions
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  caller uuid := app_hidden.current_app_user_id();
  subscription app_public.subscriptions;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  if n is null or n < 1 then
    raise exception 'n must be at least 1' using errcode = 'GW002', column = 'n';
  end if;

  -- One statement, so that a call that waits for the row sees the usage of the others, in
  -- SET and in WHERE. The usage of a period that is over counts as 0. If Stripe renews
  -- the period, its event has the same start, and may arrive later than this call.
  update app_public.subscriptions
  set usage_count = n + case when current_period_end > now() then usage_count else 0 end,
    current_period_start = case
      when current_period_end > now() then current_period_start
      else app_private.latest_period_start(current_period_end, now())
    end,
    current_period_end = case
      when current_period_end > now() then current_period_end
      else app_private.latest_period_start(current_period_end, now()) + interval '1 month'
    end
  where subscriptions.user_id = caller
    -- bigint: n may be as large as an integer can be.
    and n::bigint + case when current_period_end > now() then usage_count else 0 end
      <= app_private.monthly_limit(tier, status)
  returning subscriptions.* into subscription;
  if found then
    return subscription;
  end if;

  select subscriptions.* into subscription
  from app_public.subscriptions
  where subscriptions.user_id = caller;
  if not found then
    raise exception 'user % has no subscription', caller;
  end if;
  raise exception 'the limit of % in a period would be passed',
      app_private.monthly_limit(subscription.tier, subscription.status)
    using errcode = 'GW020',
      hint = pg_catalog.format('%s are used; the count begins again at %s.',
        case when subscription.current_period_end > now()
          then subscription.usage_count else 0 end,
        greatest(subscription.current_period_end, now()));
end
$$;

grant execute on function app_public.consume_usage(integer) to app_user;
comment on function app_public.consume_usage(integer) is
  E'@notNull\n'
  'Counts n units (1 by default) as used by the signed-in user; counts nothing when they '
  'would exceed the limit of the period. Errors: USAGE_LIMIT_REACHED, VALIDATION_FAILED '
  '(n).';
--! EndIncluded functions/app_public/consume_usage.sql
--! Included functions/app_private/subscription_event_place.sql
-- Stripe's times are in whole seconds; the type orders two events of one second. Without a
-- search_path of its own, so that it is inlined.
create or replace function app_private.subscription_event_place(p_type text)
returns integer
language sql immutable parallel safe
as $$
  select pg_catalog.array_position(array['customer.subscription.created',
    'customer.subscription.updated', 'customer.subscription.deleted'], p_type)
$$;

comment on function app_private.subscription_event_place(text) is
  'The place of an event in the life of a subscription, 1 to 3; null for other events.';
--! EndIncluded functions/app_private/subscription_event_place.sql
--! Included functions/app_private/read_subscription_event.sql
create or replace function app_private.read_subscription_event(p_event jsonb)
returns app_private.subscription_event
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  object jsonb := p_event #> '{data,object}';
  item jsonb := object #> '{items,data,0}';
  given app_private.subscription_event;
begin
  if jsonb_typeof(p_event) is distinct from 'object'
    or p_event ->> 'id' is null
    or p_event ->> 'type' is null
  then
    raise exception 'this is not an event of Stripe' using errcode = 'GW022';
  end if;
  if app_private.subscription_event_place(p_event ->> 'type') is null then
    return null;
  end if;

  given.id := p_event ->> 'id';
  given.type := p_event ->> 'type';
  given.subscription_id := object ->> 'id';
  -- The customer is an id, or an object if the endpoint expands it.
  given.customer_id := case jsonb_typeof(object -> 'customer')
    when 'object' then object #>> '{customer,id}'
    else object ->> 'customer'
  end;
  if given.id !~ '^evt_[A-Za-z0-9_]{1,250}$'
    or jsonb_typeof(p_event -> 'created') is distinct from 'number'
    or given.subscription_id ~ '^sub_[A-Za-z0-9]{1,250}$' is not true
    or given.customer_id ~ '^cus_[A-Za-z0-9]{1,250}$' is not true
  then
    raise exception 'this is not an event about a subscription' using errcode = 'GW022';
  end if;

  given.user_id := case
    when object #>> '{metadata,user_id}' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
      then (object #>> '{metadata,user_id}')::uuid
  end;
  given.occurred_at := to_timestamp((p_event ->> 'created')::double precision);
  -- Since Stripe's API of 2025-03-31 a period belongs to an item, before to the
  -- subscription.
  given.period_start := to_timestamp(coalesce(item ->> 'current_period_start',
    object ->> 'current_period_start')::double precision);
  given.period_end := to_timestamp(coalesce(item ->> 'current_period_end',
    object ->> 'current_period_end')::double precision);
  if given.type = 'customer.subscription.deleted' then
    given.status := 'canceled';
    given.tier := 'free';
    return given;
  end if;

  given.status := object ->> 'status';
  -- The price comes first: a change of plan changes the price, not the metadata.
  given.tier := (
    select tier_limits.tier
    from unnest(array[
      item #>> '{price,metadata,tier}',
      split_part(item #>> '{price,lookup_key}', '_', 1),
      object #>> '{metadata,tier}'
    ]) with ordinality as candidate (tier, place)
    inner join app_private.tier_limits on tier_limits.tier = candidate.tier
    order by candidate.place
    limit 1
  );
  return given;
end
$$;

comment on function app_private.read_subscription_event(jsonb) is
  'The parts of an event of Stripe; null when the event is not about a subscription.';
--! EndIncluded functions/app_private/read_subscription_event.sql
--! Included functions/app_private/refuse_subscription_event.sql
create or replace function app_private.refuse_subscription_event(
  p_given app_private.subscription_event, p_current app_public.subscriptions
) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when p_current.user_id is null
      or p_current.stripe_customer_id <> p_given.customer_id
      then 'unknown customer ' || p_given.customer_id
    when exists (
      select
      from app_private.stripe_events as other
      where other.applied
        and (
          other.stripe_subscription_id = p_given.subscription_id
            and (other.occurred_at, app_private.subscription_event_place(other.type))
              > (p_given.occurred_at, app_private.subscription_event_place(p_given.type))
          or other.stripe_subscription_id = p_current.stripe_subscription_id
            and other.occurred_at > p_given.occurred_at
        )
    ) then 'stale'
    -- An event of a former subscription, or of one that was never paid, does not change
    -- the subscription that is in use.
    when p_current.stripe_subscription_id <> p_given.subscription_id
      and p_current.status not in ('canceled', 'incomplete_expired')
      and (p_given.type = 'customer.subscription.deleted'
        or p_given.status not in ('active', 'trialing'))
      then 'another subscription is in use: ' || p_current.stripe_subscription_id
    when p_given.tier is null then 'unknown tier'
    when p_given.status in ('active', 'canceled', 'past_due', 'trialing', 'incomplete',
      'incomplete_expired', 'unpaid', 'paused') is not true
      then 'unknown status ' || coalesce(p_given.status, '(none)')
  end
$$;

comment on function app_private.refuse_subscription_event(
  app_private.subscription_event, app_public.subscriptions) is
  'Why an event does not change a subscription; null when it does.';
--! EndIncluded functions/app_private/refuse_subscription_event.sql
--! Included functions/app_private/apply_subscription_event.sql
-- Definer: the API's login role cannot read or write the tables. No caller check: the API
-- has verified Stripe's signature.
--
-- A customer is found by stripe_customer_id. The first event of a customer is matched by
-- the user_id in the metadata of the subscription, which the server that opened the
-- checkout wrote there.
create or replace function app_private.apply_subscription_event(p_event jsonb)
returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- A waiting call holds a connection of the API. After an error Stripe delivers again.
set lock_timeout = '5s'
as $$
declare
  given app_private.subscription_event;
  is_given_period boolean;
  current_row app_public.subscriptions;
  refusal text;
begin
  given := app_private.read_subscription_event(p_event);
  -- Other events are not stored: they may hold personal data, and nothing needs them.
  if given.id is null then
    return 'ignored';
  end if;

  -- A second delivery waits here for the first. If its customer, tier or status was
  -- unknown the first time, it is tried again.
  insert into app_private.stripe_events
    (event_id, type, stripe_subscription_id, occurred_at, payload, reason)
  values
    (given.id, given.type, given.subscription_id, given.occurred_at, p_event,
      'not tried yet')
  on conflict (event_id) do update
  set reason = 'not tried yet'
  where not stripe_events.applied
    and stripe_events.reason like 'unknown %';
  if not found then
    return 'duplicate';
  end if;

  -- Locked, so that two events of one customer are compared one after the other. The
  -- first two events of a customer find the row by user_id and wait for each other too.
  select subscriptions.* into current_row
  from app_public.subscriptions
  where subscriptions.stripe_customer_id = given.customer_id
    or subscriptions.user_id = given.user_id
  order by subscriptions.stripe_customer_id = given.customer_id desc nulls last
  limit 1
  for no key update;

  refusal := app_private.refuse_subscription_event(given, current_row);
  if refusal is not null then
    update app_private.stripe_events
    set reason = refusal
    where stripe_events.event_id = given.id;
    return case refusal when 'stale' then 'stale' else 'ignored' end;
  end if;

  -- A period counts when it is paid for; otherwise an unpaid checkout would set usage to
  -- 0. An event with an earlier start was sent before consume_usage() began the current
  -- period.
  is_given_period := given.status in ('active', 'trialing', 'past_due')
    and given.period_start >= current_row.current_period_start
    and given.period_start < given.period_end;
  update app_public.subscriptions
  set tier = given.tier,
    status = given.status,
    stripe_customer_id = given.customer_id,
    stripe_subscription_id = given.subscription_id,
    usage_count = case
      -- A period with the same start is the one that consume_usage() already began.
      when is_given_period and given.period_start > current_row.current_period_start
        then 0
      else subscriptions.usage_count
    end,
    current_period_start = case
      when is_given_period then given.period_start
      else subscriptions.current_period_start
    end,
    current_period_end = case
      when is_given_period then given.period_end
      -- After the end of a yearly subscription, the free tier has monthly periods again.
      when given.type = 'customer.subscription.deleted'
        then least(subscriptions.current_period_end, interval '1 month'
          + greatest(given.occurred_at, subscriptions.current_period_start))
      else subscriptions.current_period_end
    end
  where subscriptions.user_id = current_row.user_id;
  update app_private.stripe_events
  set applied = true, reason = null
  where stripe_events.event_id = given.id;
  return 'applied';
end
$$;

grant execute on function app_private.apply_subscription_event(jsonb) to gw_authenticator;
comment on function app_private.apply_subscription_event(jsonb) is
  'Applies an event of Stripe once. Returns applied, duplicate, stale or ignored. To '
  'apply the events that waited for their customer: select '
  'app_private.apply_subscription_event(payload) from app_private.stripe_events where '
  'not applied order by occurred_at.';
--! EndIncluded functions/app_private/apply_subscription_event.sql

create trigger _500_subscribe after insert on app_public.users
  for each row execute function app_private.tg_users__subscribe();

insert into app_private.tier_limits (tier, monthly_limit) values
  ('free', 50),
  ('pro', 2000),
  ('team', 20000);
