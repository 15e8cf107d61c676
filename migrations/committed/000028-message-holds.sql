--! Previous: sha1:50b7c28d40c6618a2af87ac7b7391cdfa28f204e
--! Hash: sha1:2d442cb54f0bf181919651e31fac91f6b09be17e
--! Message: message-holds
--! Baseline: topics/28-message-holds.sql

/*
 * Holds: a person stops messages, and lets them go later.
 *
 * A held message keeps its place: whoever releases it says whether it is sent, left out, or
 * sent on the next morning. Nothing is late because of a hold.
 */

create table app_private.message_holds (
  id integer generated always as identity,
  message_type text,
  channel text,
  timezone text,
  held_until timestamptz,
  reason text not null,
  held_at timestamptz not null default now(),
  held_by text not null default session_user,
  released_at timestamptz,
  released_by text,
  constraint message_holds_pkey primary key (id),
  constraint message_holds_message_type_fkey
    foreign key (message_type) references app_private.message_types on delete cascade,
  constraint message_holds_channel_fkey
    foreign key (channel) references app_private.delivery_channels on delete cascade,
  constraint message_holds_reason_check check (length(reason) between 1 and 200),
  constraint message_holds_released_check
    check ((released_at is null) = (released_by is null))
);

create index message_holds_id_idx_where_in_force
  on app_private.message_holds (id) where released_at is null;

create index message_holds_message_type_idx on app_private.message_holds (message_type);

create index message_holds_channel_idx on app_private.message_holds (channel);

alter table app_private.message_holds enable row level security;

comment on table app_private.message_holds is
  'Which messages are not sent for now. A hold is in force until it is released, or until held_until.';
comment on column app_private.message_holds.message_type is
  'Only messages of this type; null means all.';
comment on column app_private.message_holds.channel is
  'Only messages that this channel would send; null means all.';
comment on column app_private.message_holds.timezone is
  'Only messages to users in this time zone; null means all.';
comment on column app_private.message_holds.held_until is
  'When it ends by itself; null means that a person has to release it.';
comment on column app_private.message_holds.reason is 'Why; gw messages explain shows it.';

--! Included functions/app_private/held_by.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.held_by(
  p_message_type text, p_channel text, p_timezone text
) returns app_private.message_holds
language sql stable
as $$
  select message_holds
  from app_private.message_holds
  where message_holds.released_at is null
    and (message_holds.held_until is null or message_holds.held_until > pg_catalog.now())
    and (message_holds.message_type is null or message_holds.message_type = p_message_type)
    and (message_holds.channel is null or message_holds.channel = p_channel)
    and (message_holds.timezone is null or message_holds.timezone = p_timezone)
  -- What a person has to release, then what lasts longest.
  order by message_holds.held_until desc nulls first, message_holds.id
  limit 1
$$;

comment on function app_private.held_by(text, text, text) is
  'The hold that keeps a message of a type, a channel and a time zone from being sent; null when there is none.';
--! EndIncluded functions/app_private/held_by.sql
--! Included functions/ops/hold_messages.sql
-- What is on its way to the receiver arrives; nothing else is sent once this has committed.
create or replace function ops.hold_messages(
  p_reason text, p_message_type text default null, p_channel text default null,
  p_timezone text default null, p_until timestamptz default null
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  hold app_private.message_holds;
begin
  if coalesce(btrim(p_reason), '') = '' or length(p_reason) > 200 then
    raise exception 'a reason of 1 to 200 characters is needed'
      using errcode = 'GW041', hint = 'gw messages explain shows it.';
  end if;
  if p_until <= now() then
    raise exception 'the hold would end at %, which is over', p_until
      using errcode = 'GW041';
  end if;
  if p_message_type is not null then
    perform app_private.check_message_type(p_message_type);
  end if;
  if p_channel is not null then
    perform app_private.delivery_channel(p_channel);
  end if;
  if p_timezone is not null and not exists (
    select from app_hidden.known_timezones where name = p_timezone)
  then
    raise exception 'the server does not know the time zone %', p_timezone
      using errcode = 'GW041', hint = 'Such as Europe/Paris.';
  end if;

  insert into app_private.message_holds
    (message_type, channel, timezone, held_until, reason)
  values (p_message_type, p_channel, p_timezone, p_until, btrim(p_reason))
  returning * into hold;
  perform ops.audit('messages.held', jsonb_strip_nulls(jsonb_build_object(
    'hold', hold.id, 'type', p_message_type, 'channel', p_channel,
    'timezone', p_timezone, 'until', p_until, 'reason', hold.reason)));
  return hold.id;
end
$$;

comment on function ops.hold_messages(text, text, text, text, timestamptz) is
  'Stops messages from being sent: of a type, a channel, a time zone, or all. Returns the number of the hold.';
--! EndIncluded functions/ops/hold_messages.sql
--! Included functions/ops/release_messages.sql
create or replace function ops.release_messages(p_hold integer, p_then text default 'send')
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  late_window constant interval := app_private.late_window();
  asked constant jsonb := jsonb_build_object('hold', p_hold, 'then', p_then);
  released integer;
begin
  if p_then is null or p_then not in ('send', 'skip', 'next-morning') then
    raise exception 'held messages can be: send, skip, next-morning'
      using errcode = 'GW041';
  end if;
  -- The hold's number stays with the messages of one that has ended by itself.
  update app_private.message_holds
  set released_at = now(), released_by = session_user
  where id = p_hold
    and released_at is null;
  if not found then
    raise exception 'there is no hold % in force', p_hold
      using errcode = 'GW041', hint = 'See: gw messages holds';
  end if;

  with held as materialized (
    select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.job_id,
      case when p_then = 'next-morning' then next.instant else now() end as instant
    from app_public.message_logs
    inner join app_private.user_messages as rules
      on rules.user_id = message_logs.user_id
      and rules.message_type = message_logs.message_type
    -- Today's time of day, if that is still to come.
    left join lateral (
      select min(morning.instant)
      from generate_series(0, 2) as ahead
      cross join lateral app_hidden.local_to_instant(
        (now() at time zone rules.timezone)::date + ahead + rules.send_time,
        rules.timezone) as morning (instant)
      where morning.instant > now()
    ) as next (instant) on p_then = 'next-morning'
    where message_logs.stage = 'open'
      and message_logs.status = 'QUEUED'
      and message_logs.hold_id = p_hold
    order by message_logs.user_id, message_logs.id
    for update of message_logs
  ),
  written as (
    update app_public.message_logs
    set status = case when p_then <> 'skip' then 'QUEUED'
        -- It may have arrived already: a person asks the receiver.
        when message_logs.uncertain_since is not null then 'UNKNOWN'
        else 'CANCELED' end,
      hold_id = null,
      send_until = case when p_then <> 'skip' then greatest(message_logs.send_until,
        coalesce(held.instant, now()) + late_window) end,
      error_message = case p_then
        when 'skip' then 'skipped by a person, when hold ' || p_hold || ' was released' end,
      job_id = case when p_then <> 'skip' then message_logs.job_id end
    from held
    where message_logs.user_id = held.user_id
      and message_logs.id = held.id
      and message_logs.scheduled_send_time = held.scheduled_send_time
    returning held.job_id, held.instant
  ),
  started as (
    update pgboss.job
    set start_after = coalesce(written.instant, now())
    from written
    where job.name = 'message-send'
      and job.id = written.job_id
      and job.state < 'active'
      and p_then <> 'skip'
  ),
  ended as (
    delete from pgboss.job
    using written
    where job.name = 'message-send'
      and job.id = written.job_id
      and p_then = 'skip'
  )
  select count(*) into released from written;
  perform ops.audit('messages.released', asked || jsonb_strip_nulls(jsonb_build_object(
    'messages', released,
    'approval', ops.require_approval(
      'messages.released', asked, released, app_private.approval_above()))));
  return released;
end
$$;

comment on function ops.release_messages(integer, text) is
  'Ends a hold. send: what it held is sent now. skip: it is canceled, and not planned again; what may have arrived is UNKNOWN. next-morning: it is sent at the next of the user''s send times. Returns how many messages it held.';
--! EndIncluded functions/ops/release_messages.sql
--! Included functions/ops/message_holds_status.sql
-- Definer: see message_status().
create or replace function ops.message_holds_status()
returns table (
  hold integer,
  message_type text,
  channel text,
  timezone text,
  held_at timestamptz,
  held_until timestamptz,
  held_by text,
  reason text,
  messages bigint
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select message_holds.id, message_holds.message_type, message_holds.channel,
    message_holds.timezone, message_holds.held_at, message_holds.held_until,
    message_holds.held_by, message_holds.reason, coalesce(held.messages, 0)
  from app_private.message_holds
  left join (
    select message_logs.hold_id, count(*) as messages
    from app_public.message_logs
    where message_logs.stage = 'open'
      and message_logs.hold_id is not null
      and message_logs.scheduled_send_time > now() - interval '1 year'
    group by message_logs.hold_id
  ) as held on held.hold_id = message_holds.id
  where message_holds.released_at is null
    and (message_holds.held_until is null or message_holds.held_until > now())
  order by message_holds.id
$$;

grant execute on function ops.message_holds_status() to gw_monitor;
comment on function ops.message_holds_status() is
  'Holds in force, and how many messages each has held up so far.';
--! EndIncluded functions/ops/message_holds_status.sql
