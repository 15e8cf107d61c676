--! Previous: sha1:b60c84fd774c8a5f3f1f5139dab7f1866daeef3f
--! Hash: sha1:cc4da30c336125753988fcd0ee60199217c1da62
--! Message: message-channels
--! Baseline: topics/24-message-channels.sql

/*
 * Channels and routes: by which vendor a message leaves, and to which address.
 *
 * Without routes every message goes to the user's e-mail address, by the channel that a
 * worker has. A route names other channels for a type: in order, and by weight among vendors
 * of one step.
 */

--! Included functions/app_private/tg_delivery_channels__release.sql
-- Messages that wait for a channel that is deleted would wait for ever.
create or replace function app_private.tg_delivery_channels__release() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update pgboss.job
  set priority = 0
  where job.name = 'message-send'
    and job.state < 'active'
    and not job.blocked
    and job.priority = -old.lane;
  return null;
end
$$;

comment on function app_private.tg_delivery_channels__release() is
  'Has messages that wait for a deleted channel go as they would without a route.';
--! EndIncluded functions/app_private/tg_delivery_channels__release.sql

-- One row for each channel: its limits, and whether anybody answers there.
create table app_private.delivery_channels (
  name text not null,
  lane integer generated always as identity,
  protocol text,
  address_kind text not null default 'email',
  public_key text,
  messages_per_second double precision,
  max_attempts integer not null default 20,
  retry_base interval not null default '30 seconds',
  retry_cap interval not null default '30 minutes',
  key_lifetime interval not null default '24 hours',
  failures_to_open integer not null default 50,
  refusals_to_open integer not null default 20,
  probes_to_close integer not null default 10,
  circuit text not null default 'closed',
  failures integer not null default 0,
  opened_at timestamptz,
  opened_because text,
  refusal text,
  recent_outcomes text not null default '',
  probes_sent integer not null default 0,
  pause interval not null default '15 seconds',
  probe_after timestamptz,
  permits double precision not null default 0,
  permits_at timestamptz not null default now(),
  warm_up_from date,
  warm_up_messages integer,
  warm_up_growth double precision not null default 1.5,
  counted_on date,
  counted bigint not null default 0,
  constraint delivery_channels_pkey primary key (name),
  constraint delivery_channels_lane_key unique (lane),
  constraint delivery_channels_protocol_fkey
    foreign key (protocol) references app_private.delivery_channels,
  constraint delivery_channels_name_check check (name ~ '^[a-z][a-z0-9_-]{0,39}$'),
  constraint delivery_channels_protocol_check check (protocol <> name),
  constraint delivery_channels_address_kind_check
    check (address_kind ~ '^[a-z][a-z0-9_-]{0,39}$'),
  constraint delivery_channels_public_key_check
    check (public_key ~ '^[A-Za-z0-9_-]{87}$'),
  constraint delivery_channels_warm_up_check
    check ((warm_up_from is null) = (warm_up_messages is null)
      and coalesce(warm_up_messages, 1) >= 1 and warm_up_growth between 1 and 10),
  constraint delivery_channels_messages_per_second_check
    check (messages_per_second = 0 or messages_per_second between 0.01 and 1000000),
  constraint delivery_channels_max_attempts_check check (max_attempts between 1 and 1000),
  constraint delivery_channels_retry_check
    check (retry_base > interval '0' and retry_cap >= retry_base),
  constraint delivery_channels_failures_to_open_check check (failures_to_open > 0),
  constraint delivery_channels_refusals_to_open_check
    check (refusals_to_open between 1 and 50),
  constraint delivery_channels_probes_to_close_check
    check (probes_to_close between 1 and 100),
  constraint delivery_channels_circuit_check
    check (circuit in ('closed', 'open', 'half-open')),
  constraint delivery_channels_opened_because_check
    check (opened_because in ('unanswered', 'sender', 'refusals')),
  constraint delivery_channels_recent_outcomes_check
    check (recent_outcomes ~ '^[01]{0,50}$'),
  constraint delivery_channels_probe_after_check
    check ((circuit = 'closed') = (probe_after is null))
) with (fillfactor = 70);

create index delivery_channels_protocol_idx on app_private.delivery_channels (protocol);

alter table app_private.delivery_channels enable row level security;

comment on table app_private.delivery_channels is
  'The limits of each channel, for all workers together, and the state of its circuit breaker.';
comment on column app_private.delivery_channels.name is
  'http, smtp or file, which the scheme of GW_DELIVERY_URL chooses; push; or a vendor of GW_DELIVERY_VENDORS.';
comment on column app_private.delivery_channels.lane is
  'Jobs of messages that are routed to it have this priority, below 0. Those without a route have 0.';
comment on column app_private.delivery_channels.protocol is
  'For a vendor: the channel whose protocol it speaks, and whose answer_rules hold for it too.';
comment on column app_private.delivery_channels.address_kind is
  'Where it delivers: email (the user''s), or a kind of app_public.user_endpoints.';
comment on column app_private.delivery_channels.public_key is
  'For push: the key (VAPID) by which browsers know the sender; the worker writes it.';
comment on column app_private.delivery_channels.warm_up_from is
  'The first day, in UTC, of a warm-up: a domain or address that begins to send has to send little. Null: there is none.';
comment on column app_private.delivery_channels.warm_up_messages is
  'How many messages it sends on the first day.';
comment on column app_private.delivery_channels.warm_up_growth is
  'How many times as many on each next day.';
comment on column app_private.delivery_channels.counted_on is
  'The day, in UTC, of counted; kept while a warm-up is set.';
comment on column app_private.delivery_channels.counted is 'How many messages it may have sent on that day.';
comment on column app_private.delivery_channels.messages_per_second is
  'How many messages are sent in a second; null means no limit, 0 that none is.';
comment on column app_private.delivery_channels.max_attempts is
  'After so many attempts a message is FAILED.';
comment on column app_private.delivery_channels.retry_base is
  'The wait before the first retry is random, up to this; the limit doubles with each retry.';
comment on column app_private.delivery_channels.retry_cap is
  'No wait is longer, unless the receiver asks for it with Retry-After.';
comment on column app_private.delivery_channels.key_lifetime is
  'How long the receiver remembers an idempotency key. An uncertain attempt that is older is not repeated.';
comment on column app_private.delivery_channels.failures_to_open is
  'After so many failed calls in a row the circuit opens: only probes are sent.';
comment on column app_private.delivery_channels.refusals_to_open is
  'When so many of the latest 50 messages were refused for good, the circuit opens.';
comment on column app_private.delivery_channels.probes_to_close is
  'After refusals, so many probes in a row have to be sent before the circuit closes.';
comment on column app_private.delivery_channels.circuit is
  'closed (messages are sent), open (none is) or half-open (a probe is on its way).';
comment on column app_private.delivery_channels.failures is
  'Calls in a row without a response, with 5xx, or with a verdict about the channel.';
comment on column app_private.delivery_channels.opened_at is
  'Since when the circuit is not closed; null while it is.';
comment on column app_private.delivery_channels.opened_because is
  'unanswered (nobody answers, or with 5xx), sender (the answers refuse the sender) or refusals (too many messages were refused for good); null while it is closed.';
comment on column app_private.delivery_channels.refusal is
  'What the receiver said, without addresses; null when it said nothing.';
comment on column app_private.delivery_channels.recent_outcomes is
  'The latest 50 messages, the newest last: 1 for each that was refused for good. Empty when all went well.';
comment on column app_private.delivery_channels.probes_sent is
  'Probes in a row that were sent since refusals opened the circuit.';
comment on column app_private.delivery_channels.pause is
  'How long the next probe waits; it doubles with each that fails, up to 5 minutes.';
comment on column app_private.delivery_channels.probe_after is
  'When the next probe, one message, is sent; null while the circuit is closed.';
comment on column app_private.delivery_channels.permits is
  'How many messages the limit allowed at permits_at.';
comment on column app_private.delivery_channels.permits_at is
  'When permits were last taken.';

create trigger _500_release after delete on app_private.delivery_channels
  for each row execute function app_private.tg_delivery_channels__release();

--! Included functions/app_private/delivery_channel.sql
create or replace function app_private.delivery_channel(p_name text)
returns app_private.delivery_channels
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  channel app_private.delivery_channels;
begin
  select * into channel from app_private.delivery_channels where name = p_name;
  if not found then
    raise exception 'there is no channel %', p_name
      using errcode = 'GW013', hint = 'app_private.delivery_channels lists them.';
  end if;
  return channel;
end
$$;

comment on function app_private.delivery_channel(text) is
  'The limits and the state of a channel. Raises GW013 when there is none of that name.';
--! EndIncluded functions/app_private/delivery_channel.sql
--! Included functions/app_private/channel_lane.sql
-- Definer: the worker reads no limits of channels.
create or replace function app_private.channel_lane(p_channel text) returns integer
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select (app_private.delivery_channel(p_channel)).lane
$$;

grant execute on function app_private.channel_lane(text) to gw_worker;
comment on function app_private.channel_lane(text) is
  'The lane in which messages wait that are routed to a channel. Raises GW013 when there is no such channel.';
--! EndIncluded functions/app_private/channel_lane.sql

insert into app_private.delivery_channels (name, address_kind) values
  ('http', 'email'), ('smtp', 'email'), ('file', 'email'), ('push', 'push');

create table app_private.send_workers (
  key integer generated always as identity,
  channel text,
  began_at timestamptz not null default now(),
  missing_since timestamptz,
  constraint send_workers_pkey primary key (key),
  constraint send_workers_channel_fkey
    foreign key (channel) references app_private.delivery_channels on delete cascade
);

create index send_workers_channel_idx on app_private.send_workers (channel);

alter table app_private.send_workers enable row level security;

create policy everyone on app_private.send_workers
  for select to gw_worker
  using (true);

grant select on app_private.send_workers to gw_worker;

comment on table app_private.send_workers is
  'Workers that may have jobs. Each holds the advisory lock (26488, key) while it lives.';
comment on column app_private.send_workers.channel is 'By which channel it sends.';
comment on column app_private.send_workers.missing_since is
  'When nobody was found to hold its lock; null while somebody does.';

-- Where a type has rows here, they say how its messages leave.
create table app_private.message_routes (
  message_type text not null,
  step integer not null,
  channel text not null,
  weight integer not null default 100,
  text_as text,
  constraint message_routes_pkey primary key (message_type, step, channel),
  constraint message_routes_message_type_fkey
    foreign key (message_type) references app_private.message_types on delete cascade,
  constraint message_routes_channel_fkey
    foreign key (channel) references app_private.delivery_channels,
  constraint message_routes_text_as_fkey
    foreign key (text_as) references app_private.message_types,
  constraint message_routes_step_check check (step between 1 and 9),
  constraint message_routes_weight_check check (weight between 1 and 1000)
);

create index message_routes_channel_idx on app_private.message_routes (channel);

create index message_routes_text_as_idx on app_private.message_routes (text_as);

alter table app_private.message_routes enable row level security;

create policy everyone on app_private.message_routes
  for select to gw_monitor
  using (true);

grant select on app_private.message_routes to gw_monitor;

create trigger _900_audit after insert or update or delete on app_private.message_routes
  for each row execute function app_private.tg__audit('messages.route');

comment on table app_private.message_routes is
  'By which channels the messages of a type leave. A type without rows leaves by the channel of GW_DELIVERY_URL.';
comment on column app_private.message_routes.step is
  'The lowest step is tried first; the next one when the user has no address for it, or the address or the message is refused.';
comment on column app_private.message_routes.weight is
  'The share of the channel among those of its step. A user stays with one, while it can send.';
comment on column app_private.message_routes.text_as is
  'By this channel it says what the templates of this type say, such as a short text; null: its own. A weekly type says its own.';

-- A receiver such as a large mail provider takes so many messages of one sender, and no more.
create table app_private.domain_limits (
  channel text not null,
  domain text not null,
  messages_per_second double precision not null,
  permits double precision not null default 0,
  permits_at timestamptz not null default now(),
  next_turn_at timestamptz not null default now(),
  constraint domain_limits_pkey primary key (channel, domain),
  constraint domain_limits_channel_fkey
    foreign key (channel) references app_private.delivery_channels on delete cascade,
  constraint domain_limits_domain_check
    check (domain ~ '^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$'),
  constraint domain_limits_messages_per_second_check
    check (messages_per_second between 0.01 and 1000000)
) with (fillfactor = 70);

alter table app_private.domain_limits enable row level security;

create policy everyone on app_private.domain_limits
  for select to gw_monitor
  using (true);

grant select on app_private.domain_limits to gw_monitor;

comment on table app_private.domain_limits is
  'How many messages a channel sends to the addresses of a domain. A message beyond that waits for its turn.';
comment on column app_private.domain_limits.domain is
  'What stands behind the @ of the address, in lower case.';
comment on column app_private.domain_limits.messages_per_second is 'Of all workers together.';
comment on column app_private.domain_limits.permits is
  'How many messages the limit allowed at permits_at.';
comment on column app_private.domain_limits.permits_at is 'When permits were last taken.';
comment on column app_private.domain_limits.next_turn_at is
  'The turn of the message that waits longest; the next one that comes gets a later one.';

-- Who may be posted to: an address of push is a URL that a user names.
create table app_private.push_services (
  origin text not null,
  note text not null,
  constraint push_services_pkey primary key (origin),
  constraint push_services_origin_check
    check (origin ~ '^https?://([*][.])?[a-z0-9.-]+(:[0-9]{1,5})?$'),
  constraint push_services_note_check check (length(note) between 1 and 200)
);

alter table app_private.push_services enable row level security;

create trigger _900_audit after insert or update or delete on app_private.push_services
  for each row execute function app_private.tg__audit('messages.push_service');

comment on table app_private.push_services is
  'The push services of browsers. A user may register addresses of these, and of no others: the worker posts to them.';
comment on column app_private.push_services.origin is
  'Scheme, host and port; *. stands for one or more labels.';

insert into app_private.push_services (origin, note) values
  ('https://fcm.googleapis.com', 'Chrome, Edge on Android, Opera, Samsung Internet'),
  ('https://jmt17.google.com', 'Chrome'),
  ('https://updates.push.services.mozilla.com', 'Firefox'),
  ('https://*.push.apple.com', 'Safari'),
  ('https://*.notify.windows.com', 'Edge');

-- A browser that may show notifications, a telephone: one row each.
create table app_public.user_endpoints (
  user_id uuid not null default app_hidden.current_app_user_id(),
  id uuid not null default gen_random_uuid(),
  kind text not null,
  address text not null,
  keys jsonb,
  label text not null default '',
  verified_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint user_endpoints_pkey primary key (user_id, id),
  constraint user_endpoints_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint user_endpoints_kind_address_key unique (kind, address),
  constraint user_endpoints_kind_check
    check (kind ~ '^[a-z][a-z0-9_-]{0,39}$' and kind <> 'email'),
  constraint user_endpoints_address_check check (length(address) between 1 and 1000),
  constraint user_endpoints_keys_check
    check (jsonb_typeof(keys) = 'object' and octet_length(keys::text) <= 1000),
  constraint user_endpoints_label_check check (length(label) <= 100)
);

create index user_endpoints_user_id_created_at_idx
  on app_public.user_endpoints (user_id, created_at);

alter table app_public.user_endpoints enable row level security;

create policy own on app_public.user_endpoints
  for all to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.user_endpoints
  for select to gw_readonly
  using (true);

-- Whoever has an address of push and its keys can send there.
grant select (user_id, id, kind, label, verified_at, created_at, updated_at), delete,
  update (label)
  on app_public.user_endpoints to app_user;

grant select (user_id, id, kind, label, verified_at, created_at, updated_at)
  on app_public.user_endpoints to gw_readonly;

create trigger _100_timestamps before insert or update on app_public.user_endpoints
  for each row execute function app_private.tg__timestamps();

comment on table app_public.user_endpoints is
  E'@defaultOrder created_at\n'
  'Where else than by e-mail a user gets messages: a browser that shows notifications (push), '
  'or an address that the application has verified.';
comment on column app_public.user_endpoints.user_id is 'Whose it is.';
comment on column app_public.user_endpoints.id is 'Unique among the user''s endpoints.';
comment on column app_public.user_endpoints.kind is
  'push, or another kind that the application has, such as sms.';
comment on column app_public.user_endpoints.address is
  'The address. For push, the URL of the browser''s push service. It has one owner: whoever registers it last.';
comment on column app_public.user_endpoints.keys is
  'For push: p256dh and auth of the browser, and the application_key that it trusts.';
comment on column app_public.user_endpoints.label is
  'What the user calls it, such as work laptop: at most 100 characters.';
comment on column app_public.user_endpoints.verified_at is
  'Since when it is known to be the user''s; null: nothing is sent there.';
comment on column app_public.user_endpoints.created_at is 'When it was registered.';
comment on column app_public.user_endpoints.updated_at is 'When it last changed.';
comment on constraint user_endpoints_label_check on app_public.user_endpoints is
  'a label has at most 100 characters';

--! Included functions/app_private/endpoints_of.sql
-- A browser takes what is signed with the key for which it was asked, and no other: with a
-- new key it has to register again.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.endpoints_of(
  p_user_id uuid, p_kind text, p_public_key text
) returns jsonb
language sql stable
as $$
  select pg_catalog.jsonb_agg(
    pg_catalog.jsonb_build_object('id', user_endpoints.id, 'address', user_endpoints.address,
      'keys', user_endpoints.keys)
    order by user_endpoints.created_at, user_endpoints.id)
  from app_public.user_endpoints
  where user_endpoints.user_id = p_user_id
    and user_endpoints.kind = p_kind
    and user_endpoints.verified_at is not null
    and (p_public_key is null or user_endpoints.keys ->> 'application_key' = p_public_key)
$$;

comment on function app_private.endpoints_of(uuid, text, text) is
  'The addresses of a kind at which a user gets messages, as [{id, address, keys}]; null when there are none. With a public key, only those that trust it.';
--! EndIncluded functions/app_private/endpoints_of.sql
--! Included functions/app_private/forget_endpoints.sql
-- A browser's address goes when its user takes the permission back, or the browser away.
create or replace function app_private.forget_endpoints(p_results jsonb) returns void
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  delete from app_public.user_endpoints
  using jsonb_to_recordset(p_results) as result (user_id uuid, gone uuid[])
  where user_endpoints.user_id = result.user_id
    and user_endpoints.id = any (result.gone)
$$;

comment on function app_private.forget_endpoints(jsonb) is
  'Deletes the endpoints of which a receiver says that they are gone: those of {user_id, gone} in a batch of results.';
--! EndIncluded functions/app_private/forget_endpoints.sql
--! Included functions/app_hidden/put_endpoint.sql
-- Definer: the application writes what it has verified, and reads no table. An address has
-- one owner: a telephone that changes hands does not show the former owner's messages.
create or replace function app_hidden.put_endpoint(
  p_user_id uuid, p_kind text, p_address text, p_label text default ''
) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  endpoint_id uuid;
begin
  if p_kind in ('email', 'push') or p_kind !~ '^[a-z][a-z0-9_-]{0,39}$' or p_kind is null then
    raise exception 'an endpoint of the application is of a kind such as sms'
      using errcode = 'GW043',
        hint = 'E-mail goes to the address of the account; browsers register for push.';
  end if;
  if coalesce(length(p_address), 0) not between 1 and 1000 or p_address ~ '[[:cntrl:]]'
    or length(coalesce(p_label, '')) > 100
  then
    raise exception 'an address has 1 to 1000 characters, a label at most 100'
      using errcode = 'GW043';
  end if;
  if not exists (select from app_public.users where id = p_user_id) then
    raise exception 'there is no user with this id' using errcode = 'GW043';
  end if;

  insert into app_public.user_endpoints (user_id, kind, address, label, verified_at)
  values (p_user_id, p_kind, p_address, coalesce(p_label, ''), now())
  on conflict (kind, address) do update
  set user_id = excluded.user_id, label = excluded.label, verified_at = excluded.verified_at
  returning id into endpoint_id;
  return endpoint_id;
end
$$;

grant execute on function app_hidden.put_endpoint(uuid, text, text, text) to gw_sender;
comment on function app_hidden.put_endpoint(uuid, text, text, text) is
  'Notes an address of a user that the application has verified, such as a telephone number of the kind sms. From another user it is taken away. Returns its id. Raises GW043 for a wrong kind, address or user.';
--! EndIncluded functions/app_hidden/put_endpoint.sql
--! Included functions/app_hidden/remove_endpoint.sql
-- Definer: see put_endpoint().
create or replace function app_hidden.remove_endpoint(
  p_user_id uuid, p_kind text, p_address text
) returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with removed as (
    delete from app_public.user_endpoints
    where user_id = p_user_id
      and kind = p_kind
      and kind <> 'push'
      and address = p_address
    returning 1
  )
  select exists (select from removed)
$$;

grant execute on function app_hidden.remove_endpoint(uuid, text, text) to gw_sender;
comment on function app_hidden.remove_endpoint(uuid, text, text) is
  'Takes an address of a user back that put_endpoint() noted. Returns whether there was one.';
--! EndIncluded functions/app_hidden/remove_endpoint.sql
--! Included functions/app_public/push_public_key.sql
-- Definer: the key is for everybody, the rest of the row is not.
create or replace function app_public.push_public_key() returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select public_key from app_private.delivery_channels where name = 'push'
$$;

grant execute on function app_public.push_public_key() to app_user, app_anonymous;
comment on function app_public.push_public_key() is
  'The applicationServerKey with which a browser subscribes to notifications (VAPID, RFC 8292), '
  'in base64url; null until a worker had such a key.';
--! EndIncluded functions/app_public/push_public_key.sql
--! Included functions/app_public/register_push_endpoint.sql
-- Definer: users write no addresses, since the worker posts there. A browser has one owner:
-- who signs in at another's browser takes its notifications over.
create or replace function app_public.register_push_endpoint(
  address text, public_key text, auth text
) returns app_public.user_endpoints
language plpgsql volatile strict security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  caller constant uuid := app_hidden.current_app_user_id();
  most constant integer := 10;
  host constant text[] := regexp_match(register_push_endpoint.address,
    '^(https?://)([a-z0-9.-]+(?::[0-9]{1,5})?)/[!-~]*$');
  endpoint app_public.user_endpoints;
begin
  if caller is null then
    raise exception 'sign in first' using errcode = 'GW001';
  end if;
  if length(register_push_endpoint.address) > 1000 or host is null
    or not exists (
      select from app_private.push_services
      where host[1] || host[2] = origin
        or origin like '%://*.%'
          and starts_with(origin, host[1])
          and right(host[2], length(split_part(origin, '*', 2))) = split_part(origin, '*', 2)
    )
  then
    raise exception 'the address is of no push service that is known here'
      using errcode = 'GW002', column = 'address';
  end if;
  -- A point of P-256, uncompressed, and 16 bytes, in base64url.
  if register_push_endpoint.public_key !~ '^B[A-Za-z0-9_-]{86}$' then
    raise exception 'the public key is p256dh of the subscription, 65 bytes in base64url'
      using errcode = 'GW002', column = 'public_key';
  end if;
  if register_push_endpoint.auth !~ '^[A-Za-z0-9_-]{22}$' then
    raise exception 'auth is the secret of the subscription, 16 bytes in base64url'
      using errcode = 'GW002', column = 'auth';
  end if;

  insert into app_public.user_endpoints (user_id, kind, address, keys, verified_at)
  values (caller, 'push', register_push_endpoint.address, jsonb_build_object(
      'p256dh', register_push_endpoint.public_key, 'auth', register_push_endpoint.auth,
      'application_key', app_public.push_public_key()), now())
  on conflict (kind, address) do update
  set user_id = excluded.user_id, keys = excluded.keys,
    verified_at = excluded.verified_at,
    label = case when user_endpoints.user_id = excluded.user_id
      then user_endpoints.label else '' end
  returning * into endpoint;

  -- A message goes to all of them.
  delete from app_public.user_endpoints
  where user_id = caller
    and kind = 'push'
    and id not in (
      select id
      from app_public.user_endpoints
      where user_id = caller
        and kind = 'push'
      order by id = endpoint.id desc, verified_at desc, id
      limit most
    );
  return endpoint;
end
$$;

grant execute on function app_public.register_push_endpoint(text, text, text)
  to app_user;
comment on function app_public.register_push_endpoint(text, text, text) is
  'Registers this browser for notifications, with what PushSubscription.toJSON() gives. A '
  'browser has one owner, whoever registered it last, and a user at most 10: the oldest '
  'goes. Raises VALIDATION_FAILED for an address of no known push service, or wrong keys.';
--! EndIncluded functions/app_public/register_push_endpoint.sql
--! Included functions/app_private/warm_up_limit.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.warm_up_limit(
  p_channel app_private.delivery_channels, p_day date
) returns bigint
language sql immutable
as $$
  select case
    when p_channel.warm_up_from is null then null
    when p_day < p_channel.warm_up_from then 0
    else least(1e15, pg_catalog.floor(p_channel.warm_up_messages
      * p_channel.warm_up_growth ^ least(p_day - p_channel.warm_up_from, 1000)))::bigint
  end
$$;

comment on function app_private.warm_up_limit(app_private.delivery_channels, date) is
  'How many messages a channel may send on a day, in UTC, of its warm-up; null when it has none.';
--! EndIncluded functions/app_private/warm_up_limit.sql
--! Included functions/app_private/warm_up_room.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.warm_up_room(
  p_channel app_private.delivery_channels, p_day date
) returns bigint
language sql immutable
as $$
  select app_private.warm_up_limit(p_channel, p_day)
    - case when p_channel.counted_on = p_day then p_channel.counted else 0 end
$$;

comment on function app_private.warm_up_room(app_private.delivery_channels, date) is
  'How many messages more a channel may send on a day, in UTC, of its warm-up; null when it has none.';
--! EndIncluded functions/app_private/warm_up_room.sql
--! Included functions/app_private/why_not_sending.sql
-- A probe that is due needs a message. While no worker runs at all, nobody can tell who
-- will.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.why_not_sending(
  p_channel app_private.delivery_channels
) returns text
language sql stable
as $$
  select case
    when p_channel.circuit <> 'closed' and p_channel.probe_after > pg_catalog.now()
      then 'the circuit is ' || p_channel.circuit
    when p_channel.messages_per_second = 0 then 'it is stopped'
    when app_private.warm_up_room(p_channel, (pg_catalog.now() at time zone 'UTC')::date) <= 0
      then 'it has sent what its warm-up allows today'
    when exists (select from app_private.send_workers)
      and not exists (
        select from app_private.send_workers where send_workers.channel = p_channel.name)
      then 'no worker has it'
  end
$$;

comment on function app_private.why_not_sending(app_private.delivery_channels) is
  'Why a channel does not send now: its circuit is open, it is stopped, its warm-up has no room today, or no worker has it. Null when it sends.';
--! EndIncluded functions/app_private/why_not_sending.sql
--! Included functions/app_private/route_of.sql
-- The lowest step at which the user has an address. Of its channels those that can send now
-- come first, and then each user has an order of his own: a channel with twice the weight is
-- the first one of twice as many (a race of exponential clocks), and when one fails, only
-- its users move.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.route_of(
  p_user_id uuid, p_message_type text, p_step integer, p_except text default null
) returns table (step integer, channel text, lane integer)
language sql stable
as $$
  select message_routes.step, message_routes.channel, delivery_channels.lane
  from app_private.message_routes
  inner join app_private.delivery_channels
    on delivery_channels.name = message_routes.channel
  where message_routes.message_type = p_message_type
    and message_routes.step >= p_step
    and message_routes.channel is distinct from p_except
    and case delivery_channels.address_kind
      when 'email' then exists (
        select from app_public.users
        where users.id = p_user_id
          and users.email is not null)
      else app_private.endpoints_of(p_user_id, delivery_channels.address_kind,
        delivery_channels.public_key) is not null
    end
  order by message_routes.step, app_private.why_not_sending(delivery_channels) is not null,
    -pg_catalog.ln((1 + (pg_catalog.hashtextextended(
        p_user_id || message_routes.channel, 0) & 4294967295)) / 4294967297.0)
      / message_routes.weight
  limit 1
$$;

comment on function app_private.route_of(uuid, text, integer, text) is
  'The channel by which a message of a type goes to a user, at a step or the first later one at which the user has an address; never by the last one. No row when the type has no such route.';
--! EndIncluded functions/app_private/route_of.sql
--! Included functions/app_private/lane_for.sql
-- Who has no address for any step gets it by no other way: the last step claims it, and says
-- so.
create or replace function app_private.lane_for(
  p_user_id uuid, p_message_type text, p_step integer, p_bound_to text
) returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    (
      select delivery_channels.lane
      from app_private.message_routes
      inner join app_private.delivery_channels
        on delivery_channels.name = message_routes.channel
      where message_routes.message_type = p_message_type
        and message_routes.channel = p_bound_to
      limit 1
    ),
    (
      select route.lane
      from app_private.route_of(p_user_id, p_message_type, coalesce(p_step, 1)) as route
    ),
    (
      select delivery_channels.lane
      from app_private.message_routes
      inner join app_private.delivery_channels
        on delivery_channels.name = message_routes.channel
      where message_routes.message_type = p_message_type
      order by message_routes.step desc, message_routes.channel
      limit 1
    ),
    0)
$$;

comment on function app_private.lane_for(uuid, text, integer, text) is
  'The lane in which a message waits: of the channel to which it is bound, since that may have delivered it; of its route from a step on; 0 when its type has no route.';
--! EndIncluded functions/app_private/lane_for.sql
--! Included functions/app_private/next_route.sql
-- Without SET, so that it becomes part of the query around it. Where no type has routes, no
-- message is looked for.
create or replace function app_private.next_route(
  p_user_id uuid, p_message_id uuid, p_scheduled_send_time timestamptz, p_channel text,
  p_is_beside boolean default false
) returns table (step integer, channel text, lane integer)
language sql stable
as $$
  select onward.*
  from app_public.message_logs
  cross join lateral (
    select min(message_routes.step) as step
    from app_private.message_routes
    where message_routes.message_type = message_logs.message_type
      and message_routes.channel = p_channel
      and message_routes.step >= coalesce(message_logs.route_step, 1)
  ) as present
  cross join lateral app_private.route_of(
    message_logs.user_id, message_logs.message_type,
    present.step + (not p_is_beside)::integer, p_channel) as onward
  where (select exists (select from app_private.message_routes))
    and message_logs.user_id = p_user_id
    and message_logs.id = p_message_id
    and message_logs.scheduled_send_time = p_scheduled_send_time
    -- What may have reached somebody is sent by nobody else.
    and message_logs.uncertain_since is null
    and (not p_is_beside or onward.step = present.step and (
      select app_private.why_not_sending(delivery_channels) is null
      from app_private.delivery_channels
      where delivery_channels.name = onward.channel
    ))
$$;

comment on function app_private.next_route(uuid, uuid, timestamptz, text, boolean) is
  'Where a message goes that a channel could not deliver: by the next step of its route, or by another channel beside it in the same step. No row when there is none, or it may have been delivered.';
--! EndIncluded functions/app_private/next_route.sql
--! Included functions/app_private/is_by_mail_alone.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.is_by_mail_alone(p_message_type text) returns boolean
language sql stable
as $$
  select not exists (
    select from app_private.message_routes
    inner join app_private.delivery_channels
      on delivery_channels.name = message_routes.channel
    where message_routes.message_type = p_message_type
      and delivery_channels.address_kind <> 'email'
  )
$$;

comment on function app_private.is_by_mail_alone(text) is
  'Whether messages of a type go to e-mail addresses only, whatever their routes.';
--! EndIncluded functions/app_private/is_by_mail_alone.sql
--! Included functions/app_private/move_waiting_jobs.sql
-- A vendor that is down keeps no message that another of its step can send. What waits for
-- a retry goes at once. What may have been delivered stays: the other vendor does not know
-- its key. A type that has lost its routes goes as it would without.
create or replace function app_private.move_waiting_jobs(p_limit integer default 10000)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  moved integer;
begin
  if not exists (
    select from pgboss.job
    where job.name = 'message-send'
      and job.state < 'active'
      and not job.blocked
      and job.priority < 0
  ) then
    return 0;
  end if;
  with waiting as materialized (
    select job.id, job.priority, job.data
    from app_private.delivery_channels as channel
    cross join lateral (
      select job.id, job.priority, job.data
      from pgboss.job
      where job.name = 'message-send'
        and job.state < 'active'
        and not job.blocked
        and job.priority = -channel.lane
        -- Not what a person holds.
        and job.start_after < now() + interval '1 day'
      order by job.created_on
      limit p_limit
      for update skip locked
    ) as job
    where app_private.why_not_sending(channel) is not null
  ),
  chosen as (
    select waiting.id, destination.lane
    from waiting
    inner join app_public.message_logs
      on message_logs.user_id = (waiting.data ->> 'user_id')::uuid
      and message_logs.id = (waiting.data ->> 'message_id')::uuid
      and message_logs.scheduled_send_time
        = (waiting.data ->> 'scheduled_send_time')::timestamptz
      and message_logs.job_id = waiting.id
    left join lateral app_private.route_of(message_logs.user_id, message_logs.message_type,
      coalesce(message_logs.route_step, 1)) as route on true
    cross join lateral (
      select case when route.lane is not null then route.lane
        when not exists (
          select from app_private.message_routes
          where message_routes.message_type = message_logs.message_type
        ) then 0 end
    ) as destination (lane)
    where message_logs.status in ('QUEUED', 'RETRYING')
      and message_logs.uncertain_since is null
      and message_logs.hold_id is null
      and destination.lane <> -waiting.priority
  ),
  written as (
    update pgboss.job
    set priority = -chosen.lane, start_after = least(job.start_after, now())
    from chosen
    where job.name = 'message-send'
      and job.id = chosen.id
    returning 1
  )
  select count(*) into moved from written;
  return moved;
end
$$;

comment on function app_private.move_waiting_jobs(integer) is
  'Gives messages that wait for a channel that cannot send to another channel of their step. Returns how many.';
--! EndIncluded functions/app_private/move_waiting_jobs.sql
--! Included functions/ops/route_status.sql
create or replace function ops.route_status()
returns table (
  message_type text,
  step integer,
  channel text,
  weight integer,
  address_kind text,
  problem text,
  workers bigint,
  waiting bigint,
  sent_today bigint,
  warm_up_limit bigint
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select message_routes.message_type, message_routes.step, message_routes.channel,
    message_routes.weight, delivery_channels.address_kind,
    app_private.why_not_sending(delivery_channels),
    (
      select count(*)
      from app_private.send_workers
      where send_workers.channel = message_routes.channel
    ),
    (
      select count(*)
      from pgboss.job
      where job.name = 'message-send'
        and job.state < 'active'
        and not job.blocked
        and job.priority = -delivery_channels.lane
    ),
    case when delivery_channels.warm_up_from is not null
      then case when delivery_channels.counted_on = (now() at time zone 'UTC')::date
        then delivery_channels.counted else 0 end end,
    app_private.warm_up_limit(delivery_channels, (now() at time zone 'UTC')::date)
  from app_private.message_routes
  inner join app_private.delivery_channels
    on delivery_channels.name = message_routes.channel
  order by message_routes.message_type, message_routes.step, message_routes.weight desc,
    message_routes.channel
$$;

grant execute on function ops.route_status() to gw_monitor;
comment on function ops.route_status() is
  'The routes of messages: why each channel does not send now (null when it does), how many workers have it, how many messages wait for it, and how far today''s warm-up is.';
--! EndIncluded functions/ops/route_status.sql
