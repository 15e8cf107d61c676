--! Previous: sha1:6f1e47ca4e0d89746c6acc7909f3b64584acf30b
--! Hash: sha1:50b7c28d40c6618a2af87ac7b7391cdfa28f204e
--! Message: message-feedback
--! Baseline: topics/27-message-feedback.sql

/*
 * Feedback: what vendors report after they accepted a message, and to which addresses
 * nothing more is sent.
 *
 * An address is known by a keyed hash alone, so what it did outlives the account, and says
 * nothing to anybody who has no account with that address.
 */

-- The key of the hashes. Whoever has it can test whether an address is among them.
create table app_private.address_key (
  only_row boolean not null default true,
  key bytea not null,
  constraint address_key_pkey primary key (only_row),
  constraint address_key_only_row_check check (only_row),
  constraint address_key_key_check check (octet_length(key) = 32)
);

alter table app_private.address_key enable row level security;

create trigger _200_append_only before update or delete or truncate
  on app_private.address_key
  for each statement execute function app_private.tg__append_only();

comment on table app_private.address_key is
  'One row, made when the first address is to be known: the key of address_hash(). With another one, nobody knows any more which addresses are suppressed.';

-- A row is made by an event, and stays when a person lifts it: what happened before then
-- does not count any more.
create table app_private.address_states (
  address_hash bytea not null,
  state text,
  reason text not null,
  changed_at timestamptz not null default now(),
  lifted_at timestamptz,
  constraint address_states_pkey primary key (address_hash),
  constraint address_states_address_hash_check check (octet_length(address_hash) = 32),
  constraint address_states_state_check
    check (state in ('unsubscribed', 'bounced', 'complained', 'blocked')),
  constraint address_states_reason_check check (length(reason) between 1 and 300),
  constraint address_states_lifted_at_check check (state is not null or lifted_at is not null)
);

alter table app_private.address_states enable row level security;

comment on table app_private.address_states is
  'Addresses of which something is known. The planner and the worker send nothing there: such messages are SUPPRESSED.';
comment on column app_private.address_states.address_hash is 'address_hash() of it.';
comment on column app_private.address_states.state is
  'unsubscribed: nothing that can be turned off is sent. bounced (it takes no mail), complained (somebody called a message spam), blocked (by a person): nothing is sent. Null: a person lifted it.';
comment on column app_private.address_states.reason is
  'What was reported, or why a person did it; without addresses.';
comment on column app_private.address_states.lifted_at is
  'Events before this instant do not count any more.';

-- Who turns messages off by the link of one of them says so of an address: whoever has it
-- later is not written to either.
create table app_private.address_optouts (
  address_hash bytea not null,
  message_type text not null,
  user_id uuid,
  unsubscribed_at timestamptz not null default now(),
  constraint address_optouts_pkey primary key (address_hash, message_type),
  constraint address_optouts_message_type_fkey
    foreign key (message_type) references app_private.message_types on delete cascade,
  constraint address_optouts_user_id_fkey
    foreign key (user_id) references app_public.users on delete set null,
  constraint address_optouts_address_hash_check check (octet_length(address_hash) = 32)
);

create index address_optouts_message_type_idx on app_private.address_optouts (message_type);

create index address_optouts_user_id_idx on app_private.address_optouts (user_id);

alter table app_private.address_optouts enable row level security;

comment on table app_private.address_optouts is
  'Types of messages that are not sent to an address, since they were turned off by a link: such messages are SUPPRESSED, for every account that has the address, until its owner turns them on in the settings, or a person lifts it.';
comment on column app_private.address_optouts.address_hash is 'address_hash() of it.';
comment on column app_private.address_optouts.user_id is
  'Whose message had the link; null when the user is gone.';

-- A vendor repeats what was not confirmed. Unique across the partitions of delivery_events.
create table app_private.delivery_event_ids (
  vendor text not null,
  event_id text not null,
  received_at timestamptz not null default now(),
  constraint delivery_event_ids_pkey primary key (vendor, event_id)
);

create index delivery_event_ids_received_at_idx
  on app_private.delivery_event_ids (received_at);

alter table app_private.delivery_event_ids enable row level security;

comment on table app_private.delivery_event_ids is
  'Events that were received: of two with the same id, only the first counts.';

create table app_private.delivery_events (
  occurred_at timestamptz not null,
  id uuid not null default gen_random_uuid(),
  vendor text not null,
  event_id text not null,
  kind text not null,
  provider_message_id text,
  user_id uuid,
  message_id uuid,
  address_hash bytea,
  detail text,
  received_at timestamptz not null default now(),
  constraint delivery_events_pkey primary key (id, occurred_at),
  constraint delivery_events_vendor_check check (vendor ~ '^[a-z][a-z0-9_-]{0,39}$'),
  constraint delivery_events_event_id_check check (length(event_id) between 1 and 250),
  constraint delivery_events_kind_check
    check (kind in ('delivered', 'deferred', 'soft_bounced', 'bounced', 'refused',
      'complained', 'unsubscribed')),
  constraint delivery_events_detail_check check (length(detail) <= 301)
) partition by range (occurred_at);

create table app_partitions.delivery_events_default
  partition of app_private.delivery_events default;

create index delivery_events_provider_message_id_idx
  on app_private.delivery_events (provider_message_id);

create index delivery_events_message_id_idx_where_known
  on app_private.delivery_events (message_id) where message_id is not null;

create index delivery_events_address_hash_occurred_at_idx
  on app_private.delivery_events (address_hash, occurred_at);

alter table app_private.delivery_events enable row level security;

create trigger _200_append_only before update or delete or truncate
  on app_private.delivery_events
  for each statement execute function app_private.tg__append_only();

comment on table app_private.delivery_events is
  'What vendors and mail servers reported about messages. Append-only. An event may come before the answer of the send, so its message is found by either id.';
comment on column app_private.delivery_events.occurred_at is
  'When it happened, as the vendor says.';
comment on column app_private.delivery_events.vendor is
  'Who reported it: the name in the path of the webhook, mail for returned mail, or the channel for an answer of a send.';
comment on column app_private.delivery_events.kind is
  'delivered. deferred (the vendor tries again). soft_bounced (not now, and given up). bounced (the address takes no mail). refused (because of the sender or the text). complained. unsubscribed.';
comment on column app_private.delivery_events.provider_message_id is
  'The name that the vendor has for the message, as in message_logs.';
comment on column app_private.delivery_events.message_id is
  'The message, where the vendor says which.';
comment on column app_private.delivery_events.detail is
  'What the mail server said, without addresses.';

--! Included functions/app_private/make_address_key.sql
-- Not in a migration: each database has a key of its own.
create or replace function app_private.make_address_key() returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  insert into app_private.address_key (key)
  select public.gen_random_bytes(32)
  where not exists (select from app_private.address_key)
  on conflict do nothing
$$;

comment on function app_private.make_address_key() is
  'Makes the key of address_hash(), once. Before that no address is known.';
--! EndIncluded functions/app_private/make_address_key.sql
--! Included functions/app_private/address_hash.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.address_hash(p_address text) returns bytea
language sql stable
as $$
  select public.hmac(
    pg_catalog.convert_to(pg_catalog.lower(pg_catalog.btrim(p_address)), 'UTF8'),
    (select address_key.key from app_private.address_key), 'sha256')
$$;

comment on function app_private.address_hash(text) is
  'The hash by which an e-mail address is known, in upper or lower case: HMAC-SHA256 with address_key.';
--! EndIncluded functions/app_private/address_hash.sql
--! Included functions/app_private/knows_addresses.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.knows_addresses() returns boolean
language sql stable
as $$
  select exists (select from app_private.address_states)
    or exists (select from app_private.address_optouts)
$$;

comment on function app_private.knows_addresses() is
  'Whether there is any address to which something is not sent.';
--! EndIncluded functions/app_private/knows_addresses.sql
--! Included functions/app_private/suppression.sql
-- Without SET, so that it becomes part of the query around it. No hash is computed while
-- nothing is known of any address.
create or replace function app_private.suppression(
  p_address text, p_message_type text, p_is_optional boolean, p_is_by_mail boolean
) returns text
language sql stable
as $$
  select case when app_private.knows_addresses() then (
    select coalesce(
      case address_states.state
        when 'bounced' then 'the address takes no mail: '
        when 'complained' then 'a message to the address was called spam: '
        when 'blocked' then 'a person has blocked the address: '
        when 'unsubscribed' then 'the address was unsubscribed: '
      end || address_states.reason,
      'the address was unsubscribed from these messages on '
        || pg_catalog.to_char(address_optouts.unsubscribed_at, 'YYYY-MM-DD'))
    from (select app_private.address_hash(p_address) offset 0) as known (hash)
    left join app_private.address_states
      on address_states.address_hash = known.hash
      and (address_states.state <> 'unsubscribed' or p_is_optional)
      and (address_states.state <> 'bounced' or p_is_by_mail)
    left join app_private.address_optouts
      on address_optouts.address_hash = known.hash
      and address_optouts.message_type = p_message_type
      and p_is_optional
  ) end
$$;

comment on function app_private.suppression(text, text, boolean, boolean) is
  'Why nothing of a type is sent to who has an e-mail address; null when it may be. p_is_optional: whether the message can be turned off. p_is_by_mail: whether it would go to the address; what takes no mail says nothing of other ways.';
--! EndIncluded functions/app_private/suppression.sql
--! Included functions/app_private/change_address_states.sql
-- The latest report counts, but a complaint is not taken back by a bounce, nor either by an
-- unsubscription.
create or replace function app_private.change_address_states(p_changes jsonb)
returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with changed as (
    insert into app_private.address_states as known (address_hash, state, reason)
    select distinct on (change.address_hash) change.address_hash::bytea, change.state,
      coalesce(nullif(left(change.reason, 300), ''), change.state)
    from jsonb_to_recordset(p_changes) as change (
      address_hash text, state text, reason text, occurred_at timestamptz)
    left join app_private.address_states as before
      on before.address_hash = change.address_hash::bytea
    -- What a person has lifted is not brought back by what was before.
    where before.lifted_at is null or change.occurred_at > before.lifted_at
    order by change.address_hash,
      array_position(array['blocked', 'complained', 'bounced', 'unsubscribed'], change.state)
    on conflict (address_hash) do update
    set state = excluded.state, reason = excluded.reason, changed_at = now()
    where known.state is null
      or array_position(array['blocked', 'complained', 'bounced', 'unsubscribed'],
          excluded.state)
        < array_position(array['blocked', 'complained', 'bounced', 'unsubscribed'],
          known.state)
    returning 1
  )
  select count(*)::integer from changed
$$;

comment on function app_private.change_address_states(jsonb) is
  'Suppresses addresses: an array of {address_hash (text of a bytea), state, reason, occurred_at}. Returns how many states changed.';
--! EndIncluded functions/app_private/change_address_states.sql
--! Included functions/app_private/store_delivery_events.sql
create or replace function app_private.store_delivery_events(p_vendor text, p_events jsonb)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  settings app_private.message_settings;
  fresh jsonb;
begin
  select * into settings from app_private.message_settings;

  with given as materialized (
    select distinct on (event.event_id) event.*
    from jsonb_to_recordset(p_events) as event (event_id text, kind text,
      occurred_at timestamptz, address_hash text, provider_message_id text, user_id uuid,
      message_id uuid, detail text)
    order by event.event_id, event.occurred_at
  ),
  counted as (
    insert into app_private.delivery_event_ids (vendor, event_id)
    select p_vendor, given.event_id
    from given
    order by given.event_id
    on conflict do nothing
    returning delivery_event_ids.event_id
  ),
  stored as (
    insert into app_private.delivery_events (vendor, event_id, kind, occurred_at,
      address_hash, provider_message_id, user_id, message_id, detail)
    select p_vendor, given.event_id, given.kind, given.occurred_at,
      given.address_hash::bytea, given.provider_message_id, given.user_id,
      given.message_id, app_private.without_addresses(given.detail, 300)
    from given
    inner join counted on counted.event_id = given.event_id
    returning *
  )
  select jsonb_agg(to_jsonb(stored)) into fresh from stored;
  if fresh is null then
    return 0;
  end if;

  perform app_private.change_address_states(jsonb_agg(to_jsonb(change)))
  from (
    select event.address_hash,
      case event.kind when 'soft_bounced' then 'bounced' else event.kind end as state,
      case when event.kind = 'soft_bounced' then format(
          '%s soft bounces within %s days', settings.soft_bounces,
          round(extract(epoch from settings.soft_bounce_window) / 86400, 1))
        else coalesce(event.detail, 'reported by ' || p_vendor) end as reason,
      event.occurred_at
    from jsonb_to_recordset(fresh) as event (
      kind text, occurred_at timestamptz, address_hash text, detail text)
    left join app_private.address_states
      on address_states.address_hash = event.address_hash::bytea
    where event.address_hash is not null
      and (event.kind in ('bounced', 'complained', 'unsubscribed')
        or event.kind = 'soft_bounced'
        and settings.soft_bounces <= (
          select count(*)
          from app_private.delivery_events as earlier
          where earlier.address_hash = event.address_hash::bytea
            and earlier.kind = 'soft_bounced'
            and earlier.occurred_at > greatest(address_states.lifted_at,
              event.occurred_at - settings.soft_bounce_window)
            and earlier.occurred_at <= event.occurred_at
        ))
  ) as change
  having count(*) > 0;
  return jsonb_array_length(fresh);
end
$$;

comment on function app_private.store_delivery_events(text, jsonb) is
  'Records events of a vendor that are new, and suppresses addresses by them: an array of {event_id, kind, occurred_at, address_hash, provider_message_id, user_id, message_id, detail}. Returns how many were new.';
--! EndIncluded functions/app_private/store_delivery_events.sql
--! Included functions/app_private/event_kind.sql
-- A vendor calls each final refusal a bounce, also one that means the sender. Then the
-- address is not what is wrong.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.event_kind(p_kind text, p_said text) returns text
language sql stable
as $$
  select case
    when p_kind in ('bounced', 'soft_bounced')
      and p_said ~ '^[45]\d\d'
      and app_private.refusal_verdict('smtp', 'RCPT TO',
        pg_catalog.left(p_said, 3)::integer, p_said) = 'channel'
    then 'refused'
    else p_kind
  end
$$;

comment on function app_private.event_kind(text, text) is
  'What a reported bounce is, by the answer of the mail server that it reports.';
--! EndIncluded functions/app_private/event_kind.sql
--! Included functions/app_private/to_instant.sql
-- Vendors say seconds since 1970, or ISO 8601. One that cannot be read, or lies far from
-- now, does not stop the other events.
create or replace function app_private.to_instant(p_value jsonb) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  said constant text := p_value #>> '{}';
  instant timestamptz;
begin
  instant := case
    when said ~ '^\d{1,11}(\.\d+)?$' then to_timestamp(said::double precision)
    when said ~ '^\d{4}-\d\d-\d\d[T ]\d\d:\d\d' then said::timestamptz
  end;
  return case when instant between now() - interval '1 year' and now() + interval '1 day'
    then instant end;
exception when data_exception then
  return null;
end
$$;

comment on function app_private.to_instant(jsonb) is
  'An instant that a vendor says; null when there is none, or it is more than a year ago or a day ahead.';
--! EndIncluded functions/app_private/to_instant.sql
--! Included functions/app_private/read_generic_events.sql
-- For whatever can post JSON: the format of docs/reference/delivery.md.
create or replace function app_private.read_generic_events(p_payload jsonb)
returns table (
  event_id text, kind text, occurred_at timestamptz, address text,
  provider_message_id text, idempotency_key text, detail text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select event ->> 'id',
    case event ->> 'event'
      when 'delivered' then 'delivered'
      when 'deferred' then 'deferred'
      when 'bounced' then app_private.event_kind(
        case when event -> 'permanent' = 'false' then 'soft_bounced' else 'bounced' end,
        event ->> 'reason')
      when 'complained' then 'complained'
      when 'unsubscribed' then 'unsubscribed'
    end,
    app_private.to_instant(event -> 'timestamp'),
    event ->> 'email', event ->> 'messageId', event ->> 'idempotencyKey', event ->> 'reason'
  from jsonb_array_elements(case jsonb_typeof(p_payload) when 'array' then p_payload
    else jsonb_build_array(p_payload) end) as event
$$;

comment on function app_private.read_generic_events(jsonb) is
  'The events of a body of the generic format.';
--! EndIncluded functions/app_private/read_generic_events.sql
--! Included functions/app_private/read_sendgrid_events.sql
-- https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event
create or replace function app_private.read_sendgrid_events(p_payload jsonb)
returns table (
  event_id text, kind text, occurred_at timestamptz, address text,
  provider_message_id text, idempotency_key text, detail text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select event ->> 'sg_event_id',
    case event ->> 'event'
      when 'delivered' then 'delivered'
      when 'deferred' then 'deferred'
      -- "blocked" is a refusal of today, not of the address.
      when 'bounce' then app_private.event_kind(
        case event ->> 'type' when 'blocked' then 'soft_bounced' else 'bounced' end,
        event ->> 'reason')
      when 'dropped' then case
        when event ->> 'reason' ~* 'bounced|invalid' then 'bounced'
        when event ->> 'reason' ~* 'spam report' then 'complained'
        when event ->> 'reason' ~* 'unsubscribed' then 'unsubscribed'
        else 'refused' end
      when 'spamreport' then 'complained'
      when 'unsubscribe' then 'unsubscribed'
      when 'group_unsubscribe' then 'unsubscribed'
    end,
    app_private.to_instant(event -> 'timestamp'),
    event ->> 'email',
    -- By SMTP the message keeps our Message-ID; by HTTP the answer said X-Message-Id, the
    -- first part of sg_message_id.
    coalesce(btrim(event ->> 'smtp-id', '<>'), split_part(event ->> 'sg_message_id', '.', 1)),
    event ->> 'idempotency_key',
    coalesce(event ->> 'reason', event ->> 'response')
  from jsonb_array_elements(case jsonb_typeof(p_payload) when 'array' then p_payload
    else '[]' end) as event
$$;

comment on function app_private.read_sendgrid_events(jsonb) is
  'The events of a body of SendGrid''s Event Webhook.';
--! EndIncluded functions/app_private/read_sendgrid_events.sql
--! Included functions/app_private/read_mailgun_events.sql
-- https://documentation.mailgun.com/docs/mailgun/user-manual/events/webhooks
create or replace function app_private.read_mailgun_events(p_payload jsonb)
returns table (
  event_id text, kind text, occurred_at timestamptz, address text,
  provider_message_id text, idempotency_key text, detail text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select event ->> 'id',
    case event ->> 'event'
      when 'delivered' then 'delivered'
      when 'failed' then case
        when event ->> 'severity' = 'temporary' then 'deferred'
        when event ->> 'reason' = 'suppress-complaint' then 'complained'
        when event ->> 'reason' = 'suppress-unsubscribe' then 'unsubscribed'
        when event ->> 'reason' = 'suppress-bounce' then 'bounced'
        else app_private.event_kind('bounced', said.answer) end
      when 'rejected' then 'refused'
      when 'complained' then 'complained'
      when 'unsubscribed' then 'unsubscribed'
    end,
    app_private.to_instant(event -> 'timestamp'),
    event ->> 'recipient',
    btrim(event #>> '{message,headers,message-id}', '<>'),
    event #>> '{user-variables,idempotency_key}',
    coalesce(nullif(said.answer, ''), event ->> 'reason')
  from (select p_payload -> 'event-data') as given (event)
  cross join lateral (
    select concat_ws(' ', event #>> '{delivery-status,code}',
      case when event #>> '{delivery-status,message}' !~ '^\d{3}'
        then event #>> '{delivery-status,enhanced-code}' end,
      regexp_replace(coalesce(nullif(event #>> '{delivery-status,message}', ''),
        event #>> '{delivery-status,description}'), '^\d{3}[ -]', ''))
  ) as said (answer)
  where jsonb_typeof(event) = 'object'
$$;

comment on function app_private.read_mailgun_events(jsonb) is
  'The event of a body of Mailgun''s webhooks.';
--! EndIncluded functions/app_private/read_mailgun_events.sql
--! Included functions/app_private/apply_delivery_events.sql
-- Definer: the API's login role and the worker may report events and read no table. There is
-- no caller to check: whoever calls has verified the vendor's signature.
create or replace function app_private.apply_delivery_events(
  p_vendor text, p_payload jsonb, out applied integer, out known integer,
  out ignored integer
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- An API connection does not wait longer.
set lock_timeout = '5s'
as $$
declare
  events jsonb;
  told integer;
begin
  -- A copy would suppress what the original still sends to, and the reverse.
  perform ops.refuse_when_fenced();
  perform app_private.make_address_key();
  select coalesce(jsonb_agg(to_jsonb(event)), '[]')
  into events
  from (
    select * from app_private.read_sendgrid_events(p_payload) where p_vendor = 'sendgrid'
    union all
    select * from app_private.read_mailgun_events(p_payload) where p_vendor = 'mailgun'
    union all
    select * from app_private.read_generic_events(p_payload)
    where p_vendor not in ('sendgrid', 'mailgun')
  ) as event;
  told := jsonb_array_length(events);

  select jsonb_agg(jsonb_build_object(
    'event_id', event.event_id, 'kind', event.kind, 'occurred_at', event.occurred_at,
    'address_hash', coalesce(app_private.address_hash(nullif(event.address, '')),
      app_private.address_hash(message.recipient_email)),
    'provider_message_id', left(event.provider_message_id, 250),
    'user_id', message.user_id, 'message_id', message.id, 'detail', event.detail))
  into events
  from jsonb_to_recordset(events) as event (event_id text, kind text,
    occurred_at timestamptz, address text, provider_message_id text, idempotency_key text,
    detail text)
  -- The key says whose message it is, so the index of the user's messages finds it.
  left join lateral (
    select message_logs.user_id, message_logs.id, message_logs.recipient_email
    from app_public.message_logs
    where message_logs.user_id = case
        when event.idempotency_key ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:'
        then split_part(event.idempotency_key, ':', 1)::uuid end
      and message_logs.scheduled_send_time > event.occurred_at - interval '60 days'
      and message_logs.scheduled_send_time < event.occurred_at + interval '3 days'
      and message_logs.idempotency_key = event.idempotency_key
    limit 1
  ) as message on true
  where length(event.event_id) between 1 and 250
    and event.kind is not null
    and event.occurred_at is not null
    and length(event.address) is distinct from 0;

  applied := app_private.store_delivery_events(p_vendor, coalesce(events, '[]'));
  known := coalesce(jsonb_array_length(events), 0) - applied;
  ignored := told - coalesce(jsonb_array_length(events), 0);
end
$$;

grant execute on function app_private.apply_delivery_events(text, jsonb)
  to gw_authenticator, gw_worker;
comment on function app_private.apply_delivery_events(text, jsonb) is
  'Records what a vendor reports: sendgrid, mailgun, or another name for the generic format. Returns how many events were new, known already, and of no use here.';
--! EndIncluded functions/app_private/apply_delivery_events.sql
--! Included functions/app_private/apply_returned_mail.sql
-- Definer: see apply_delivery_events(). There is no caller to check: the return path of the
-- mail was signed, and says which message it is about.
create or replace function app_private.apply_returned_mail(
  p_events jsonb, out applied integer, out known integer, out ignored integer
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  events jsonb;
begin
  select jsonb_agg(event.value || jsonb_build_object('idempotencyKey', (
    select message_logs.idempotency_key
    from app_public.message_logs
    where message_logs.user_id = (event.value #>> '{message,userId}')::uuid
      and message_logs.scheduled_send_time
        >= (event.value #>> '{message,day}')::date::timestamp at time zone 'UTC'
      and message_logs.scheduled_send_time
        < ((event.value #>> '{message,day}')::date + 1)::timestamp at time zone 'UTC'
      and left(app_private.sha256_hex(message_logs.idempotency_key), 16)
        = event.value #>> '{message,keyHash}'
    limit 1)))
  into events
  from jsonb_array_elements(p_events) as event (value);
  select told.applied, told.known, told.ignored
  into applied, known, ignored
  from app_private.apply_delivery_events('mail', coalesce(events, '[]')) as told;
end
$$;

grant execute on function app_private.apply_returned_mail(jsonb) to gw_worker;
comment on function app_private.apply_returned_mail(jsonb) is
  'Records what returned mail reports: an array of {id, event, permanent, timestamp, reason, message: {userId, keyHash, day}}. Returns how many events were new, known already, and of no use here.';
--! EndIncluded functions/app_private/apply_returned_mail.sql
--! Included functions/app_private/note_refused_addresses.sql
-- A receiver that says at once that there is no such address reports what a vendor reports
-- later. Called before the results are recorded: then a message may have no address any more.
create or replace function app_private.note_refused_addresses(
  p_judged jsonb, p_channel text
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  perform app_private.make_address_key();
  perform app_private.store_delivery_events(p_channel, jsonb_agg(jsonb_build_object(
    'event_id', concat_ws(':', result.job_id, result.attempt),
    'kind', 'bounced',
    'occurred_at', clock_timestamp(),
    'address_hash', app_private.address_hash(message_logs.recipient_email),
    'user_id', result.user_id,
    'message_id', result.message_id,
    'detail', coalesce(nullif(result.body, ''), result.error))))
  from jsonb_to_recordset(p_judged) as result (job_id uuid, user_id uuid, message_id uuid,
    scheduled_send_time timestamptz, attempt integer, status text, verdict text, body text,
    error text)
  inner join app_public.message_logs
    on message_logs.user_id = result.user_id
    and message_logs.id = result.message_id
    and message_logs.scheduled_send_time = result.scheduled_send_time
  where result.verdict = 'address'
    and result.status = 'FAILED'
    and message_logs.status = 'SENDING'
    and message_logs.retry_count = result.attempt
    and message_logs.recipient_email is not null
  having count(*) > 0;
end
$$;

comment on function app_private.note_refused_addresses(jsonb, text) is
  'Records the addresses that a judged batch of results calls wrong, so that nothing more is sent there.';
--! EndIncluded functions/app_private/note_refused_addresses.sql
--! Included functions/ops/suppress_address.sql
-- Definer: gw_support may do this, and reads no table.
create or replace function ops.suppress_address(p_address text, p_reason text)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  hash bytea;
begin
  if coalesce(p_address, '') !~ '^[^\s@]+@[^\s@]+$' then
    raise exception 'this is not an e-mail address' using errcode = 'GW041';
  end if;
  if coalesce(btrim(p_reason), '') = '' or length(p_reason) > 200 then
    raise exception 'a reason of 1 to 200 characters is needed'
      using errcode = 'GW041', hint = 'gw messages explain shows it.';
  end if;
  perform app_private.make_address_key();
  hash := app_private.address_hash(p_address);
  insert into app_private.address_states (address_hash, state, reason)
  values (hash, 'blocked', app_private.without_addresses(btrim(p_reason), 200))
  on conflict (address_hash) do update
  set state = 'blocked', reason = excluded.reason, changed_at = now();
  perform ops.audit('messages.suppressed', jsonb_build_object(
    'address_hash', encode(hash, 'hex'), 'reason', btrim(p_reason)));
end
$$;

grant execute on function ops.suppress_address(text, text) to gw_support;
comment on function ops.suppress_address(text, text) is
  'Sends nothing more to an e-mail address, for a reason that explain shows.';
--! EndIncluded functions/ops/suppress_address.sql
--! Included functions/ops/lift_suppression.sql
-- Definer: gw_support may do this, and reads no table. What a person turned off is not turned
-- on because the mailbox was mended, so a type is lifted by its name alone.
create or replace function ops.lift_suppression(
  p_address text, p_reason text, p_message_type text default null
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  hash constant bytea := app_private.address_hash(p_address);
  before record;
  types text;
begin
  if coalesce(btrim(p_reason), '') = '' or length(p_reason) > 200 then
    raise exception 'a reason of 1 to 200 characters is needed'
      using errcode = 'GW041', hint = 'The audit log keeps it.';
  end if;
  if p_message_type is not null then
    delete from app_private.address_optouts
    where address_hash = hash
      and message_type = p_message_type
    returning 'unsubscribed' as state, unsubscribed_at as since into before;
  else
    select state, changed_at as since
    into before
    from app_private.address_states
    where address_hash = hash
      and state is not null
    for update;
    update app_private.address_states
    set state = null, reason = app_private.without_addresses('lifted: ' || btrim(p_reason), 250),
      changed_at = now(), lifted_at = now()
    where address_hash = hash
      and state is not null;
  end if;
  if before.state is null then
    select string_agg(message_type, ', ' order by message_type)
    into types
    from app_private.address_optouts
    where address_hash = hash;
    raise exception 'the address is not suppressed%', coalesce(' for ' || p_message_type, '')
      using errcode = 'GW041', hint = 'It was unsubscribed from: ' || coalesce(types, 'nothing')
        || '. A type is lifted by its name: --type.';
  end if;
  perform ops.audit('messages.suppression_lifted', jsonb_build_object(
    'address_hash', encode(hash, 'hex'), 'state', before.state, 'since', before.since,
    'type', p_message_type, 'reason', btrim(p_reason)));
end
$$;

grant execute on function ops.lift_suppression(text, text, text) to gw_support;
comment on function ops.lift_suppression(text, text, text) is
  'Lets messages be sent again to an e-mail address. What was reported before does not count any more. With a type: those from which the address was unsubscribed.';
--! EndIncluded functions/ops/lift_suppression.sql
--! Included functions/app_private/unsubscribe.sql
-- Definer: the API's login role may call this and read no table. There is no caller to
-- check: the API has verified the token of a link, and this is all that the token allows.
-- A user without settings gets all messages, so a row is made. The link came by mail, so
-- it speaks for the address as well.
create or replace function app_private.unsubscribe(p_user_id uuid, p_message_type text)
returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
-- An API connection does not wait longer.
set lock_timeout = '5s'
as $$
declare
  names text[];
  columns text;
  values text;
  assignments text;
  wishes text;
begin
  select array_agg(opt_out.name), string_agg(format('%I', opt_out.name), ', '), string_agg('false', ', '),
    string_agg(format('%I = false', opt_out.name), ', '),
    string_agg(format('settings.%I', opt_out.name), ' or ')
  into names, columns, values, assignments, wishes
  from (
    select distinct opt_out_column as name
    from app_private.message_types
    where opt_out_column is not null
      and (p_message_type is null or type = p_message_type)
  ) as opt_out;
  if columns is null then
    return;
  end if;
  -- A switch that is off already is not written again.
  execute format('insert into app_public.user_settings as settings (user_id, %s)'
    ' select id, %s from app_public.users where id = $1'
    ' on conflict (user_id) do update set %s where %s',
    columns, values, assignments, wishes)
  using p_user_id;

  perform app_private.make_address_key();
  insert into app_private.address_optouts (address_hash, message_type, user_id)
  select app_private.address_hash(users.email), message_types.type, users.id
  from app_public.users
  cross join app_private.message_types
  where users.id = p_user_id
    and users.email is not null
    and message_types.opt_out_column = any (names)
  -- Two clicks at once lock the rows in the same order.
  order by message_types.type
  on conflict (address_hash, message_type) do update
  set user_id = excluded.user_id, unsubscribed_at = excluded.unsubscribed_at;
end
$$;

grant execute on function app_private.unsubscribe(uuid, text) to gw_authenticator;
comment on function app_private.unsubscribe(uuid, text) is
  'Turns one type of messages off for a user and the address that they have, or with null all that can be turned off. Does nothing when it is off, when nobody can turn it off, or when the user is gone.';
--! EndIncluded functions/app_private/unsubscribe.sql
--! Included functions/app_private/tg_user_settings__opt_in.sql
-- Definer: a user has no right to this table. Who unsubscribed may change their mind; so may
-- who has shown that the address is theirs. Another account that names the address may not.
create or replace function app_private.tg_user_settings__opt_in() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from app_private.address_optouts) then
    return null;
  end if;
  delete from app_private.address_optouts
  using new_rows
  inner join old_rows on old_rows.user_id = new_rows.user_id
  inner join app_public.users on users.id = new_rows.user_id
  cross join app_private.message_types
  where to_jsonb(old_rows) ->> message_types.opt_out_column = 'false'
    and to_jsonb(new_rows) ->> message_types.opt_out_column = 'true'
    and address_optouts.address_hash = app_private.address_hash(users.email)
    and address_optouts.message_type = message_types.type
    and (address_optouts.user_id = users.id or users.email_verified);
  return null;
end
$$;

comment on function app_private.tg_user_settings__opt_in() is
  'A type of messages that a user turns on is sent to the address again.';
--! EndIncluded functions/app_private/tg_user_settings__opt_in.sql

-- Before the messages are planned anew.
create trigger _500_opt_in after update on app_public.user_settings
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_user_settings__opt_in();

-- Here, since they look at what is suppressed.
--! Included functions/app_hidden/send_message.sql
-- Definer: the application may send, and reads no table. It runs in the caller's
-- transaction: when that is rolled back, nothing is sent.
create or replace function app_hidden.send_message(
  p_message_type text, p_user_id uuid, p_key text, p_payload jsonb default '{}',
  p_due_at timestamptz default null, p_local_time timestamp default null
) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  rules app_private.user_messages;
  schema jsonb;
  problem text;
  due timestamptz;
  message_id uuid;
begin
  perform ops.refuse_when_fenced();
  select message_types.payload_schema
  into schema
  from app_private.message_types
  where message_types.type = p_message_type
    and message_types.repeats = 'event';
  if not found then
    perform app_private.check_message_type(p_message_type);
    raise exception 'messages of the type % are not sent by the application', p_message_type
      using errcode = 'GW043', hint = 'The planner sends them. A type that repeats event is.';
  end if;
  if coalesce(length(p_key), 0) not between 1 and 200 or p_key ~ '[[:cntrl:]]' then
    raise exception 'a key of 1 to 200 characters is needed'
      using errcode = 'GW043', hint = 'It makes the message unique: appointment:4711.';
  end if;
  problem := case when jsonb_typeof(p_payload) is distinct from 'object'
    then 'payload is not an object'
    else app_private.payload_problem(coalesce(schema, '{}'), p_payload) end;
  if problem is null and octet_length(p_payload::text) > 20000 then
    problem := 'payload has more than 20000 bytes';
  end if;
  if problem is not null then
    raise exception '%', problem
      using errcode = 'GW043', hint = 'payload_schema of app_private.message_types says what it has.';
  end if;
  if p_due_at is not null and p_local_time is not null then
    raise exception 'a message is due at an instant or at a local time, not both'
      using errcode = 'GW043';
  end if;

  -- One change of a user at a time: see replan_messages().
  perform from app_public.users where id = p_user_id for no key update;
  select user_messages.*
  into rules
  from app_private.user_messages
  where user_messages.user_id = p_user_id
    and user_messages.message_type = p_message_type;
  if not found then
    raise exception 'there is no user with this id' using errcode = 'GW043';
  end if;
  due := coalesce(app_hidden.local_to_instant(p_local_time, rules.timezone), p_due_at, now());
  if due not between now() - interval '1 day' and now() + interval '366 days' then
    raise exception 'a message is due within a year, and not more than a day ago'
      using errcode = 'GW043';
  end if;

  insert into app_private.message_keys
    (user_id, message_type, key, message_id, scheduled_send_time)
  values (p_user_id, p_message_type, p_key, gen_random_uuid(), due)
  on conflict do nothing
  returning message_keys.message_id into message_id;
  if message_id is null then
    select message_keys.message_id
    into message_id
    from app_private.message_keys
    where (message_keys.user_id, message_keys.message_type, message_keys.key)
      = (p_user_id, p_message_type, p_key);
    return message_id;
  end if;
  perform app_private.make_event_message(message_id, rules, p_key, p_payload, due,
    p_local_time);
  return message_id;
end
$$;

grant execute on function app_hidden.send_message(
  text, uuid, text, jsonb, timestamptz, timestamp) to gw_sender;
comment on function app_hidden.send_message(
  text, uuid, text, jsonb, timestamptz, timestamp) is
  'Sends a message of a type that repeats event to a user, once for each key: at an instant, at a local time of the user, or now. Returns its id, also when the key was used before. Raises GW043 for a wrong type, key, payload or time, GW070 in a copy that nobody has adopted.';
--! EndIncluded functions/app_hidden/send_message.sql
--! Included functions/app_hidden/cancel_message.sql
-- Definer: see send_message(). The key can be used again: nothing was sent with it.
create or replace function app_hidden.cancel_message(
  p_message_type text, p_user_id uuid, p_key text
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  made app_private.message_keys;
  message app_public.message_logs;
begin
  perform ops.refuse_when_fenced();
  perform from app_public.users where id = p_user_id for no key update;
  select *
  into made
  from app_private.message_keys
  where (message_keys.user_id, message_keys.message_type, message_keys.key)
    = (p_user_id, p_message_type, p_key);
  select message_logs.*
  into message
  from app_public.message_logs
  where message_logs.user_id = p_user_id
    and message_logs.id = made.message_id
    -- A local time moves with the user's zone, by a day at most.
    and message_logs.scheduled_send_time between made.scheduled_send_time - interval '2 days'
      and made.scheduled_send_time + interval '2 days'
  for update;
  if message.id is null
    or message.status not in ('SCHEDULED', 'QUEUED', 'RETRYING')
    or message.uncertain_since is not null
  then
    return false;
  end if;

  update app_public.message_logs
  set status = 'CANCELED', job_id = null, hold_id = null,
    error_message = 'canceled by the application'
  where user_id = message.user_id
    and id = message.id
    and scheduled_send_time = message.scheduled_send_time;
  delete from pgboss.job
  where job.name = 'message-send'
    and job.id = message.job_id;
  delete from app_private.message_keys
  where (message_keys.user_id, message_keys.message_type, message_keys.key)
    = (p_user_id, p_message_type, p_key);
  return true;
end
$$;

grant execute on function app_hidden.cancel_message(text, uuid, text) to gw_sender;
comment on function app_hidden.cancel_message(text, uuid, text) is
  'Cancels a message of send_message() by its key. False when there is none, or it was sent or may have been.';
--! EndIncluded functions/app_hidden/cancel_message.sql
