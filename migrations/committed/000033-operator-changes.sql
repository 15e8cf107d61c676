--! Previous: sha1:574697ec80f47c38c3ee1e8b2f19ff184fd57f50
--! Hash: sha1:f5d4ca76102c3859e2414d90e5db7c95e9df17c0
--! Message: operator-changes
--! Baseline: topics/33-operator-changes.sql

/*
 * Changes that a person on call may make: redrive, cancel, resolve, replan, limit a
 * channel, adopt a copy.
 *
 * Each one is in the audit log, and those that select messages by filters have a dry run.
 */

--! Included functions/ops/find_moved_messages.sql
-- Messages that app_private.replan_messages() would move. Reading the local time of an
-- instant is cheap, computing an instant is not. So instants are computed only where the
-- local time reads wrong, or may be the later one of an overlap.
create or replace function ops.find_moved_messages(
  p_user_id uuid default null, p_timezone text default null,
  p_now timestamptz default now()
) returns table (
  user_id uuid,
  message_type text,
  delivery_date date,
  timezone text,
  status text,
  stored_time timestamptz,
  rule_time timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  with stored as (
    select message_schedule.user_id, message_schedule.message_type,
      message_schedule.delivery_date, 'not planned yet' as status,
      message_schedule.scheduled_send_time as stored_time
    from app_private.message_schedule
    where p_user_id is null or message_schedule.user_id = p_user_id
    union all
    select message_logs.user_id, message_logs.message_type, message_logs.delivery_date,
      message_logs.status, message_logs.scheduled_send_time
    from app_public.message_logs
    where message_logs.status in ('SCHEDULED', 'QUEUED', 'RETRYING')
      and message_logs.scheduled_send_time > p_now - interval '1 year'
      and (p_user_id is null or message_logs.user_id = p_user_id)
  ),
  doubtful as (
    select stored.*, rules.timezone, local.due
    from stored
    inner join app_private.message_rules as rules
      on rules.user_id = stored.user_id
      and rules.message_type = stored.message_type
    cross join lateral (select stored.delivery_date + rules.send_time) as local (due)
    where (p_timezone is null or rules.timezone = p_timezone)
      and (stored.stored_time at time zone rules.timezone <> local.due
        or (stored.stored_time - interval '3 hours') at time zone rules.timezone
          <> local.due - interval '3 hours')
  ),
  compared as (
    select doubtful.*,
      -- As in next_occasions() and replan_messages(): a message that moves into the
      -- past is due now, and not missed.
      case
        when doubtful.stored_time > p_now then greatest(moment.instant, p_now)
        when doubtful.status = 'not planned yet' then moment.instant
        else greatest(moment.instant, doubtful.stored_time)
      end as rule_time
    from doubtful
    cross join lateral (
      select app_hidden.local_to_instant(doubtful.due, doubtful.timezone) offset 0
    ) as moment (instant)
  )
  select compared.user_id, compared.message_type, compared.delivery_date,
    compared.timezone, compared.status, compared.stored_time, compared.rule_time
  from compared
  where compared.rule_time <> compared.stored_time
  order by compared.stored_time, compared.user_id, compared.message_type
$$;

comment on function ops.find_moved_messages(uuid, text, timestamptz) is
  'Planned and scheduled messages whose instant changed because the rules of a time zone changed.';
--! EndIncluded functions/ops/find_moved_messages.sql
--! Included functions/ops/replan_users.sql
-- A chunk of users is locked for about a second.
create or replace function ops.replan_users(
  p_after uuid default null, p_limit integer default 2000,
  p_timezone text default null, p_user_id uuid default null
) returns table (last_id uuid, users integer, changed integer)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  ids uuid[];
begin
  select array_agg(chunk.id order by chunk.id)
  into ids
  from (
    select users.id
    from app_public.users
    where users.deleted_at is null
      and (p_after is null or users.id > p_after)
      and (p_timezone is null or users.timezone = p_timezone)
      and (p_user_id is null or users.id = p_user_id)
    order by users.id
    limit p_limit
  ) as chunk;
  last_id := ids[cardinality(ids)];
  users := coalesce(cardinality(ids), 0);
  changed := 0;
  if users > 0 then
    changed := app_private.try_users('replan', ids);
    perform ops.audit('messages.replanned', jsonb_strip_nulls(jsonb_build_object(
      'first_id', ids[1],
      'last_id', last_id,
      'users', users,
      'changed', changed,
      'timezone', p_timezone)));
  end if;
  return next;
end
$$;

comment on function ops.replan_users(uuid, integer, text, uuid) is
  'Replans the messages of the next users in order of id, after a given id. Returns the last id (null at the end), the number of users and of changes.';
--! EndIncluded functions/ops/replan_users.sql
--! Included functions/app_private/find_messages.sql
-- Without SET, so that it becomes part of the query around it and partitions are pruned.
-- A filter that is null does not filter.
create or replace function app_private.find_messages(
  p_statuses text[], p_message_type text, p_date date, p_user_id uuid,
  p_since timestamptz, p_message_id uuid
) returns setof app_public.message_logs
language sql stable
as $$
  select message_logs.*
  from app_public.message_logs
  where (p_statuses is null or message_logs.status = any (p_statuses))
    -- Says the same of the stage, which the index holds.
    and (p_statuses is null or 'SENT' = any (p_statuses) or message_logs.stage <> 'sent')
    and (p_message_type is null or message_logs.message_type = p_message_type)
    -- No zone is further from UTC.
    and (p_date is null or message_logs.delivery_date = p_date
      and message_logs.scheduled_send_time >= (p_date - 3)::timestamp at time zone 'UTC'
      and message_logs.scheduled_send_time < (p_date + 4)::timestamp at time zone 'UTC')
    and (p_user_id is null or message_logs.user_id = p_user_id)
    and (p_since is null or message_logs.scheduled_send_time >= p_since)
    and (p_message_id is null or message_logs.id = p_message_id)
$$;

comment on function app_private.find_messages(
  text[], text, date, uuid, timestamptz, uuid) is
  'Messages by filters; a filter that is null matches all.';
--! EndIncluded functions/app_private/find_messages.sql
--! Included functions/app_private/redrive_refusals.sql
-- The rules are those of claim_messages(): a message that it would cancel is refused
-- here.
create or replace function app_private.redrive_refusals(
  p_statuses text[], p_message_type text, p_date date, p_user_id uuid,
  p_since timestamptz, p_message_id uuid, p_even_unknown boolean
) returns table (
  user_id uuid,
  message_id uuid,
  scheduled_send_time timestamptz,
  message_type text,
  delivery_date date,
  status text,
  refusal text
)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select found.user_id, found.id, found.scheduled_send_time, found.message_type,
    found.delivery_date, found.status,
    case
      when refused.reason is not null then refused.reason
      when refused.suppression is not null then refused.suppression
      when other.message_id is not null
        then 'another message has this occasion: ' || other.message_id
      when row_number() over (
        partition by found.user_id, found.message_type, found.delivery_date
        order by ledger.message_id is not null desc, found.created_at desc, found.id) > 1
        then 'a later message has this occasion'
      -- The channel is not known here, so the shortest memory of all channels counts.
      when not p_even_unknown and (found.status = 'UNKNOWN'
        or found.uncertain_since < now() - (select min(key_lifetime)
          from app_private.delivery_channels))
        then 'it may have been delivered already: --even-unknown sends it again'
    end
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found
  inner join app_private.user_messages as rules
    on rules.user_id = found.user_id
    and rules.message_type = found.message_type
  cross join lateral (
    select app_private.message_refusal(rules.deleted_at, rules.is_wanted,
        rules.email is not null, rules.repeats,
      rules.base_date, rules.leap_day_policy, found.delivery_date),
      app_private.suppression(rules.email, rules.message_type, rules.is_optional,
        app_private.is_by_mail_alone(rules.message_type))
  ) as refused (reason, suppression)
  left join app_private.message_ledger as ledger
    on ledger.user_id = found.user_id
    and ledger.message_type = found.message_type
    and ledger.delivery_date = found.delivery_date
    and ledger.message_id = found.id
  -- A user who moves the date by some days after the message does not get it twice.
  left join lateral (
    select message_ledger.message_id
    from app_private.message_ledger
    where message_ledger.user_id = found.user_id
      and message_ledger.message_type = found.message_type
      and message_ledger.delivery_date
        between found.delivery_date - rules.cap_days and found.delivery_date + rules.cap_days
      and message_ledger.message_id <> found.id
    order by message_ledger.delivery_date
    limit 1
  ) as other on ledger.message_id is null
  where found.status in ('FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELED', 'SUPPRESSED')
$$;

comment on function app_private.redrive_refusals(
  text[], text, date, uuid, timestamptz, uuid, boolean) is
  'Messages by filters that were not sent, and why each may not be sent again; null when it may.';
--! EndIncluded functions/app_private/redrive_refusals.sql
--! Included functions/app_private/lock_messages.sql
-- Locks are taken in the order of replan_messages(), so nothing is planned for these
-- users until the end of the transaction.
create or replace function app_private.lock_messages(
  p_statuses text[], p_message_type text, p_date date, p_user_id uuid,
  p_since timestamptz, p_message_id uuid
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  user_ids uuid[];
begin
  select array_agg(distinct found.user_id)
  into user_ids
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found;
  perform from app_public.users
  where id = any (user_ids)
  order by id
  for no key update;
  perform from app_private.message_schedule
  where user_id = any (user_ids)
  order by user_id, message_type
  for update;
  perform from app_public.message_logs
  where (user_id, id, scheduled_send_time) in (
    select found.user_id, found.id, found.scheduled_send_time
    from app_private.find_messages(
      p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found)
  order by user_id, id
  for update;
end
$$;

comment on function app_private.lock_messages(
  text[], text, date, uuid, timestamptz, uuid) is
  'Locks messages by filters, their users and their users'' schedules, until the transaction ends.';
--! EndIncluded functions/app_private/lock_messages.sql
--! Included functions/app_private/revive_messages.sql
-- A message that is planned for later becomes SCHEDULED; a message that is due gets a
-- job.
create or replace function app_private.revive_messages(
  p_messages jsonb, p_even_unknown boolean
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  user_ids uuid[];
  ids uuid[];
begin
  select array_agg(distinct given.user_id), array_agg(given.message_id)
  into user_ids, ids
  from jsonb_to_recordset(p_messages) as given (user_id uuid, message_id uuid);

  insert into app_private.message_ledger
    (user_id, message_type, delivery_date, message_id, scheduled_send_time)
  select given.user_id, given.message_type, given.delivery_date, given.message_id,
    given.scheduled_send_time
  from jsonb_to_recordset(p_messages) as given (user_id uuid, message_id uuid,
    scheduled_send_time timestamptz, message_type text, delivery_date date)
  -- An event's key is in message_keys.
  where given.message_type not in (
    select type from app_private.message_types where repeats = 'event')
  order by given.user_id, given.message_type
  on conflict do nothing;

  update app_public.message_logs
  set status = 'SCHEDULED',
    job_id = null,
    retry_count = 0,
    route_step = null,
    turn_at = null,
    send_until = case when given.scheduled_send_time <= now()
      then now() + (select app_private.late_window()) end,
    error_message = null,
    attempts = coalesce(message_logs.attempts, '[]') || jsonb_build_array(
      jsonb_strip_nulls(jsonb_build_object(
        'change', 'sent again',
        'changed_at', now(),
        'changed_by', session_user,
        'status', message_logs.status,
        'error', message_logs.error_message))),
    uncertain_since = case when not p_even_unknown then message_logs.uncertain_since end,
    -- A message that was certainly not delivered is sent to the present address. One that
    -- may have been delivered keeps its receiver, because its key stays the same.
    recipient_email = case when message_logs.uncertain_since is not null
      or message_logs.status = 'UNKNOWN' then message_logs.recipient_email end,
    recipient_name = case when message_logs.uncertain_since is not null
      or message_logs.status = 'UNKNOWN' then message_logs.recipient_name end,
    attempted_at = case when message_logs.uncertain_since is not null
      or message_logs.status = 'UNKNOWN' then message_logs.attempted_at end
  from jsonb_to_recordset(p_messages)
    as given (user_id uuid, message_id uuid, scheduled_send_time timestamptz)
  where message_logs.user_id = given.user_id
    and message_logs.id = given.message_id
    and message_logs.scheduled_send_time = given.scheduled_send_time;
  perform app_private.replan_messages(user_ids);
  perform app_private.enqueue_messages(array_agg(due.user_id), array_agg(due.id),
    array_agg(due.scheduled_send_time), now())
  from app_public.message_logs as due
  where due.user_id = any (user_ids)
    and due.id = any (ids)
    and due.status = 'SCHEDULED'
    and due.scheduled_send_time <= now();

  delete from pgboss.job
  where job.name = 'message-send-dead'
    and (job.data ->> 'message_id')::uuid = any (ids);
  if not exists (select from pgboss.job where job.name = 'message-send-dead') then
    perform ops.resolve_alert('health-dead-letters', 'message-send-dead');
  end if;
end
$$;

comment on function app_private.revive_messages(jsonb, boolean) is
  'Puts messages back to be sent: an array of {user_id, message_id, scheduled_send_time, message_type, delivery_date}. A message that may have been delivered keeps its receiver and text.';
--! EndIncluded functions/app_private/revive_messages.sql
--! Included functions/ops/redrive_messages.sql
-- Nothing is sent here: a message gets a new job, and claim_messages() decides as usual.
create or replace function ops.redrive_messages(
  p_statuses text[] default array['FAILED', 'EXPIRED'],
  p_message_type text default null,
  p_date date default null,
  p_user_id uuid default null,
  p_since timestamptz default null,
  p_message_id uuid default null,
  p_even_unknown boolean default false
) returns table (
  user_id uuid,
  message_id uuid,
  message_type text,
  delivery_date date,
  status text,
  refusal text
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  asked constant jsonb := jsonb_strip_nulls(jsonb_build_object(
    'statuses', p_statuses,
    'type', p_message_type,
    'date', p_date,
    'user_id', p_user_id,
    'since', p_since,
    'message_id', p_message_id,
    'even_unknown', p_even_unknown));
  judged jsonb;
  wanted jsonb;
begin
  if not p_statuses <@ array['FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELED', 'SUPPRESSED']
  then
    raise exception
      'only FAILED, EXPIRED, UNKNOWN, CANCELED and SUPPRESSED messages can be sent again'
      using errcode = 'GW041',
        hint = 'Waiting messages are sent by themselves; sent ones stay sent.';
  end if;
  if p_message_type is not null then
    perform app_private.check_message_type(p_message_type);
  end if;
  perform app_private.lock_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id);

  select coalesce(jsonb_agg(to_jsonb(found)
      order by found.scheduled_send_time, found.user_id, found.message_id), '[]'),
    jsonb_agg(to_jsonb(found)) filter (where found.refusal is null)
  into judged, wanted
  from app_private.redrive_refusals(p_statuses, p_message_type, p_date, p_user_id,
    p_since, p_message_id, p_even_unknown) as found;
  return query
  select found.user_id, found.message_id, found.message_type, found.delivery_date,
    found.status, found.refusal
  from jsonb_to_recordset(judged) as found (user_id uuid, message_id uuid,
    message_type text, delivery_date date, status text, refusal text);
  if wanted is null then
    return;
  end if;

  perform app_private.revive_messages(wanted, p_even_unknown);
  perform ops.audit('messages.redriven', asked || jsonb_strip_nulls(jsonb_build_object(
    'messages', jsonb_array_length(wanted),
    'approval', ops.require_approval('messages.redriven', asked,
      jsonb_array_length(wanted), app_private.approval_above()))));
end
$$;

comment on function ops.redrive_messages(
  text[], text, date, uuid, timestamptz, uuid, boolean) is
  'Queues again messages that failed, expired, were canceled, or have an unknown outcome. Returns every message that the filters match; a refused one has a reason.';
--! EndIncluded functions/ops/redrive_messages.sql
--! Included functions/ops/cancel_messages.sql
-- The ledger keeps the message, so it is not planned again.
create or replace function ops.cancel_messages(
  p_reason text,
  p_statuses text[] default null,
  p_message_type text default null,
  p_date date default null,
  p_user_id uuid default null,
  p_since timestamptz default null,
  p_message_id uuid default null
) returns table (
  user_id uuid,
  message_id uuid,
  message_type text,
  delivery_date date,
  status text,
  refusal text
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  statuses constant text[] := coalesce(p_statuses,
    array['SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING']);
  asked constant jsonb := jsonb_strip_nulls(jsonb_build_object(
    'reason', btrim(p_reason),
    'statuses', statuses,
    'type', p_message_type,
    'date', p_date,
    'user_id', p_user_id,
    'since', p_since,
    'message_id', p_message_id));
  judged jsonb;
  canceled integer;
begin
  if not statuses <@ array['SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING'] then
    raise exception 'only SCHEDULED, QUEUED and RETRYING messages can be canceled'
      using errcode = 'GW041', hint = 'Messages with other statuses are not sent anyway.';
  end if;
  if coalesce(btrim(p_reason), '') = '' or length(p_reason) > 200 then
    raise exception 'a reason of 1 to 200 characters is needed'
      using errcode = 'GW041', hint = 'gw messages explain shows it.';
  end if;

  if p_message_type is not null then
    perform app_private.check_message_type(p_message_type);
  end if;

  perform from app_public.message_logs
  where (user_id, id, scheduled_send_time) in (
    select found.user_id, found.id, found.scheduled_send_time
    from app_private.find_messages(
      statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found)
  order by user_id, id
  for update;
  select coalesce(jsonb_agg(jsonb_build_object('user_id', found.user_id,
    'message_id', found.id, 'scheduled_send_time', found.scheduled_send_time,
    'message_type', found.message_type, 'delivery_date', found.delivery_date,
    'status', found.status, 'job_id', found.job_id)
    order by found.scheduled_send_time, found.user_id, found.id), '[]')
  into judged
  from app_private.find_messages(
    statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found;

  return query
  select found.user_id, found.message_id, found.message_type, found.delivery_date,
    found.status, case when found.status = 'SENDING' then 'the call is being made' end
  from jsonb_to_recordset(judged) as found (user_id uuid, message_id uuid,
    message_type text, delivery_date date, status text);

  with changed as (
    update app_public.message_logs
    set status = 'CANCELED', job_id = null,
      error_message = 'canceled by a person: ' || btrim(p_reason),
      attempts = case when found.status = 'SCHEDULED' and message_logs.attempts is null
        then null
        else coalesce(message_logs.attempts, '[]') || jsonb_build_array(
          jsonb_strip_nulls(jsonb_build_object(
            'change', 'canceled',
            'changed_at', now(),
            'changed_by', session_user,
            'status', found.status,
            'error', message_logs.error_message))) end
    from jsonb_to_recordset(judged) as found (
      user_id uuid, message_id uuid, scheduled_send_time timestamptz, status text)
    where found.status <> 'SENDING'
      and message_logs.user_id = found.user_id
      and message_logs.id = found.message_id
      and message_logs.scheduled_send_time = found.scheduled_send_time
    returning 1
  ),
  finished as (
    delete from pgboss.job
    using jsonb_to_recordset(judged) as found (status text, job_id uuid)
    where found.status <> 'SENDING'
      and job.name = 'message-send'
      and job.id = found.job_id
  )
  select count(*) into canceled from changed;
  if canceled > 0 then
    perform ops.audit('messages.canceled', asked || jsonb_strip_nulls(jsonb_build_object(
      'messages', canceled,
      'approval', ops.require_approval(
        'messages.canceled', asked, canceled, app_private.approval_above()))));
  end if;
end
$$;

comment on function ops.cancel_messages(
  text, text[], text, date, uuid, timestamptz, uuid) is
  'Cancels unsent messages for good: they are not planned again. Returns every message that the filters match; a refused one has a reason.';
--! EndIncluded functions/ops/cancel_messages.sql
--! Included functions/ops/resolve_message.sql
create or replace function ops.resolve_message(p_message_id uuid, p_status text)
returns table (user_id uuid, message_type text, delivery_date date)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  message app_public.message_logs;
begin
  if p_status is null or p_status not in ('SENT', 'FAILED') then
    raise exception 'an UNKNOWN message can be resolved as SENT or FAILED, not as %',
      p_status
      using errcode = 'GW041', hint = 'Ask the receiver by the idempotency key.';
  end if;
  select * into message
  from app_public.message_logs
  where id = p_message_id
    and status <> 'SENT'
  for update;
  if message.id is null or message.status <> 'UNKNOWN' then
    raise exception 'message % is not UNKNOWN%', p_message_id,
      coalesce(', but ' || message.status, '')
      using errcode = 'GW041', hint = 'See: gw messages list --status UNKNOWN';
  end if;

  update app_public.message_logs
  set status = p_status,
    actual_send_time = case p_status when 'SENT'
      then coalesce(message.uncertain_since, message.attempted_at, now()) end,
    uncertain_since = null,
    error_message = case p_status when 'FAILED'
      then 'not delivered, as the receiver says' end,
    attempts = coalesce(message.attempts, '[]') || jsonb_build_array(
      jsonb_strip_nulls(jsonb_build_object(
        'change', 'resolved as ' || p_status,
        'changed_at', now(),
        'changed_by', session_user,
        'status', message.status,
        'error', message.error_message)))
  where user_id = message.user_id
    and id = message.id
    and scheduled_send_time = message.scheduled_send_time;
  perform ops.audit('messages.resolved', jsonb_build_object(
    'message_id', message.id, 'user_id', message.user_id, 'status', p_status));
  return query select message.user_id, message.message_type, message.delivery_date;
end
$$;

comment on function ops.resolve_message(uuid, text) is
  'Records the outcome of an UNKNOWN message, as the receiver reports it: SENT or FAILED.';
--! EndIncluded functions/ops/resolve_message.sql
--! Included functions/ops/limit_channel.sql
create or replace function ops.limit_channel(
  p_channel text, p_messages_per_second double precision, p_domain text default null
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_messages_per_second <> 0
    and p_messages_per_second not between 0.01 and 1000000
  then
    raise exception 'a limit of % messages a second is not between 0.01 and 1000000',
      p_messages_per_second
      using errcode = 'GW041', hint = 'Null means no limit, 0 stops the channel.';
  end if;
  perform app_private.delivery_channel(p_channel);
  if p_domain is not null then
    if p_messages_per_second = 0 then
      raise exception 'a domain cannot be stopped'
        using errcode = 'GW041', hint = 'A limit is 0.01 messages a second or more.';
    end if;
    if lower(p_domain) !~ '^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$' then
      raise exception '"%" is no domain', p_domain
        using errcode = 'GW041', hint = 'It is what stands behind the @: example.com';
    end if;
  end if;

  if p_domain is null then
    update app_private.delivery_channels
    set messages_per_second = p_messages_per_second, permits = 0, permits_at = now()
    where name = p_channel;
  elsif p_messages_per_second is null then
    delete from app_private.domain_limits
    where channel = p_channel
      and domain = lower(p_domain);
  else
    insert into app_private.domain_limits (channel, domain, messages_per_second)
    values (p_channel, lower(p_domain), p_messages_per_second)
    on conflict (channel, domain) do update
    set messages_per_second = excluded.messages_per_second, permits = 0, permits_at = now(),
      next_turn_at = now();
  end if;
  perform ops.audit('messages.limited', jsonb_build_object('channel', p_channel,
      'messages_per_second', p_messages_per_second)
    || jsonb_strip_nulls(jsonb_build_object('domain', p_domain)));
end
$$;

comment on function ops.limit_channel(text, double precision, text) is
  'Limits a channel to a number of messages a second, for all workers together; null means no limit, 0 stops it. With a domain, only messages to its addresses.';
--! EndIncluded functions/ops/limit_channel.sql
--! Included functions/ops/messages_in_doubt.sql
create or replace function ops.messages_in_doubt(p_until timestamptz default now())
returns table (
  user_id uuid, message_id uuid, scheduled_send_time timestamptz, message_type text,
  delivery_date date, status text, idempotency_key text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select user_id, id, scheduled_send_time, message_type, delivery_date, status,
    idempotency_key
  from app_public.message_logs
  where stage = 'open'
    and scheduled_send_time <= p_until
    -- A bound that lets PostgreSQL skip partitions.
    and scheduled_send_time > p_until - interval '1 year'
  order by scheduled_send_time, user_id, id
$$;

comment on function ops.messages_in_doubt(timestamptz) is
  'Messages that were due until an instant and, as far as this copy knows, not sent. The original may have sent them since the copy was made.';
--! EndIncluded functions/ops/messages_in_doubt.sql
--! Included functions/ops/settle_messages.sql
-- Only what a copy does not know for itself. The job goes too: nobody is to send it.
create or replace function ops.settle_messages(
  p_keys text[], p_status text, p_reason text, p_until timestamptz default now()
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  settled integer;
begin
  if p_status is null or p_status not in ('SENT', 'UNKNOWN', 'CANCELED') then
    raise exception 'a message in doubt can become SENT, UNKNOWN or CANCELED, not %', p_status
      using errcode = 'GW041';
  end if;
  with doubtful as materialized (
    select doubt.*
    from ops.messages_in_doubt(p_until) as doubt
    where doubt.idempotency_key = any (p_keys)
  ),
  changed as (
    update app_public.message_logs
    set status = p_status,
      actual_send_time = case p_status
        when 'SENT' then coalesce(message_logs.attempted_at, doubtful.scheduled_send_time) end,
      uncertain_since = case p_status
        when 'UNKNOWN' then coalesce(message_logs.uncertain_since,
          message_logs.attempted_at, doubtful.scheduled_send_time) end,
      error_message = case when p_status <> 'SENT' then p_reason end,
      attempts = coalesce(message_logs.attempts, '[]') || jsonb_build_array(
        jsonb_build_object(
          'change', 'adopted as ' || p_status,
          'changed_at', now(),
          'changed_by', session_user,
          'status', message_logs.status,
          'error', p_reason))
    from doubtful
    where message_logs.user_id = doubtful.user_id
      and message_logs.id = doubtful.message_id
      and message_logs.scheduled_send_time = doubtful.scheduled_send_time
    returning message_logs.job_id
  ),
  removed as (
    delete from pgboss.job
    using changed
    where job.name = 'message-send'
      and job.id = changed.job_id
  )
  select count(*) into settled from changed;
  return settled;
end
$$;

comment on function ops.settle_messages(text[], text, text, timestamptz) is
  'Records what became of messages in doubt, by their idempotency keys: SENT, UNKNOWN or CANCELED, and why. Returns how many. For "gw adopt".';
--! EndIncluded functions/ops/settle_messages.sql
--! Included functions/ops/publish_template.sql
create or replace function ops.publish_template(
  p_message_type text, p_locale text, p_version integer, p_percent integer default 100,
  p_at timestamptz default null
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  asked constant jsonb := jsonb_strip_nulls(jsonb_build_object('type', p_message_type,
    'locale', p_locale, 'version', p_version, 'percent', p_percent, 'at', p_at));
begin
  -- All of the type: which of them get this text is known when they are written anew.
  perform ops.require_approval('messages.published', asked, (
    select count(*)
    from app_public.message_logs
    where message_logs.message_type = p_message_type
      and message_logs.stage = 'open'
      and message_logs.status = 'SCHEDULED'
  ), app_private.approval_above());
  if p_at > now() then
    insert into app_private.template_releases
      (message_type, locale, version, percent, starts_at)
    values (p_message_type, p_locale, p_version, p_percent, p_at);
  else
    perform app_private.put_template_into_force(
      p_message_type, p_locale, p_version, p_percent);
  end if;
end
$$;

comment on function ops.publish_template(text, text, integer, integer, timestamptz) is
  'Puts a version of a template into force, now or at an instant: for all, or as a trial for a percentage of the users, always the same ones. Publishing an earlier version is how one goes back.';
--! EndIncluded functions/ops/publish_template.sql
--! Included functions/ops/template_status.sql
create or replace function ops.template_status()
returns table (
  message_type text, locale text, version integer, trial text, latest integer, next text,
  users bigint
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with known as (
    select template_versions.message_type, template_versions.locale,
      max(template_versions.version) as latest
    from app_private.template_versions
    group by 1, 2
  ),
  locales as (
    select coalesce(user_settings.locale, 'en') as locale, count(*) as users
    from app_public.users
    left join app_public.user_settings on user_settings.user_id = users.id
    where users.deleted_at is null
    group by 1
  ),
  taken as (
    select types.type as message_type, locales.locale, locales.users, chosen.locale as text
    from app_private.message_types as types
    cross join locales
    left join lateral app_private.choose_template(types.type, locales.locale, null)
      as chosen on true
  )
  select known.message_type, known.locale, message_templates.version,
    (
      select string_agg(
        format('version %s for %s %%', template_trials.version, template_trials.percent),
        ', ' order by template_trials.version)
      from app_private.template_trials
      where template_trials.message_type = known.message_type
        and template_trials.locale = known.locale
    ),
    known.latest,
    (
      select 'version ' || template_releases.version || ' at '
        || to_char(template_releases.starts_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
      from app_private.template_releases
      where template_releases.message_type = known.message_type
        and template_releases.locale = known.locale
        and template_releases.done_at is null
      order by template_releases.starts_at
      limit 1
    ),
    coalesce((
      select sum(taken.users)::bigint
      from taken
      where taken.message_type = known.message_type
        and taken.text = known.locale
    ), 0)
  from known
  left join app_private.message_templates
    on message_templates.message_type = known.message_type
    and message_templates.locale = known.locale
  union all
  -- A language that people have, and that falls back to English.
  select taken.message_type, taken.locale, null, null, 0, 'no text: they get English',
    taken.users
  from taken
  where taken.text = 'en'
    and taken.locale not like 'en%'
    and not exists (
      select from known
      where known.message_type = taken.message_type
        and known.locale = taken.locale
    )
$$;

comment on function ops.template_status() is
  'Each template with its version in force, its trials, its next release and how many users get it; and each locale that users have and no text.';
--! EndIncluded functions/ops/template_status.sql
--! Included functions/ops/untranslated_locales.sql
-- Definer: see message_status(). From one locale to the next by the index, and no further
-- than the minimum in each, so a million users cost a few pages.
create or replace function ops.untranslated_locales(p_minimum integer)
returns table (locale text, message_types text[])
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with recursive locales as (
    (
      select user_settings.locale
      from app_public.user_settings
      where user_settings.locale <> 'en'
      order by user_settings.locale
      limit 1
    )
    union all
    select (
      select user_settings.locale
      from app_public.user_settings
      where user_settings.locale <> 'en'
        and user_settings.locale > locales.locale
      order by user_settings.locale
      limit 1
    )
    from locales
    where locales.locale is not null
  )
  select locales.locale, array_agg(message_types.type order by message_types.type)
  from locales
  cross join app_private.message_types
  cross join lateral app_private.choose_template(
    message_types.type, locales.locale, null) as chosen
  where locales.locale not like 'en-%'
    and chosen.locale = 'en'
    and (
      select count(*)
      from (
        select
        from app_public.user_settings
        inner join app_public.users on users.id = user_settings.user_id
        where user_settings.locale = locales.locale
          and user_settings.locale <> 'en'
          and users.deleted_at is null
        limit p_minimum
      ) as some_users
    ) >= p_minimum
  group by locales.locale
  order by locales.locale
$$;

grant execute on function ops.untranslated_locales(integer) to gw_monitor;
comment on function ops.untranslated_locales(integer) is
  'Locales that at least so many users have, and types of messages without a text for them: they get English.';
--! EndIncluded functions/ops/untranslated_locales.sql
--! Included functions/ops/preview_template.sql
-- What a digest says is counted when it is sent: its names stand for themselves here.
create or replace function ops.preview_template(
  p_message_type text, p_user_id uuid, p_payload jsonb default '{}'
) returns table (
  subject text, body text, html text, locale text, version integer, layout_id integer
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  rules app_private.user_messages;
  chosen record;
begin
  perform app_private.check_message_type(p_message_type);
  select user_messages.*
  into rules
  from app_private.user_messages
  where user_messages.user_id = p_user_id
    and user_messages.message_type = p_message_type;
  if not found then
    raise exception 'there is no user with this id' using errcode = 'GW044';
  end if;
  select * into chosen
  from app_private.choose_template(p_message_type, rules.locale, p_user_id);
  locale := chosen.locale;
  version := chosen.version;
  if rules.repeats = 'weekly' then
    select app_hidden.render_template(chosen.subject, given.names),
      app_hidden.render_template(chosen.body, given.names),
      app_hidden.render_template(chosen.html, app_hidden.html_values(given.names))
    into subject, body, html
    from (
      select jsonb_object_agg(name, '«' || name || '»') as names
      from unnest(app_hidden.template_names(chosen.subject)
        || app_hidden.template_names(chosen.body)
        || app_hidden.template_names(chosen.html)) as name
    ) as given;
  else
    select composed.subject, composed.body, composed.html
    into subject, body, html
    from app_private.compose_message(p_message_type,
      case rules.repeats
        when 'yearly' then app_hidden.occurrence_in_year(rules.base_date,
          date_part('year', now() + interval '1 year')::integer, rules.leap_day_policy)
        else rules.base_date end,
      rules.base_date, rules.first_name, rules.last_name, rules.locale, p_payload,
      p_user_id) as composed;
  end if;
  layout_id := (
    select template_versions.layout_id
    from app_private.template_versions
    where (template_versions.message_type, template_versions.locale,
      template_versions.version)
      = (p_message_type, preview_template.locale, preview_template.version));
  return next;
end
$$;

comment on function ops.preview_template(text, uuid, jsonb) is
  'What a user would read now of a message type, in which locale and version. Takes the payload of an event.';
--! EndIncluded functions/ops/preview_template.sql
--! Included functions/ops/resend_message.sql
-- Definer: gw_support may resend, and reads no message. The copy has a key of its own: the
-- receiver takes it for another message.
create or replace function ops.resend_message(
  p_user_id uuid, p_message_id uuid, p_reason text
) returns uuid
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  message app_public.message_logs;
  copy uuid := gen_random_uuid();
begin
  perform ops.refuse_when_fenced();
  if coalesce(btrim(p_reason), '') = '' or length(p_reason) > 200 then
    raise exception 'a reason of 1 to 200 characters is needed'
      using errcode = 'GW041', hint = 'The audit log keeps it.';
  end if;
  select message_logs.*
  into message
  from app_public.message_logs
  where message_logs.user_id = p_user_id
    and message_logs.id = p_message_id;
  if not found or message.status <> 'SENT' then
    raise exception 'message % %', p_message_id,
      coalesce('is not SENT, but ' || message.status, 'is not there')
      using errcode = 'GW041', hint = 'One that was not sent: gw messages redrive.';
  end if;

  insert into app_public.message_logs (user_id, id, message_type, delivery_date,
    message_subject, message_content, scheduled_send_time, idempotency_key, status,
    template_version, template_locale, payload, message_html)
  values (message.user_id, copy, message.message_type, message.delivery_date,
    message.message_subject, message.message_content, now(),
    message.idempotency_key || ':copy:' || left(copy::text, 8), 'SCHEDULED',
    message.template_version, message.template_locale, message.payload,
    message.message_html);
  perform app_private.enqueue_messages(array[message.user_id], array[copy], array[now()],
    '-infinity');
  perform ops.audit('messages.resent', jsonb_build_object('message_id', message.id,
    'user_id', message.user_id, 'copy', copy, 'reason', btrim(p_reason)));
  return copy;
end
$$;

grant execute on function ops.resend_message(uuid, uuid, text) to gw_support;
comment on function ops.resend_message(uuid, uuid, text) is
  'Sends a copy of a message that was sent to the user''s present address, with a new key. Returns its id.';
--! EndIncluded functions/ops/resend_message.sql
--! Included functions/ops/message_funnel.sql
-- Definer: see message_status(). A report names its message by either id.
create or replace function ops.message_funnel(p_from date, p_to date)
returns table (
  day date, message_type text, channel text, vendor text, template_version integer,
  planned bigint, sent bigint, delivered bigint, bounced bigint, complained bigint,
  unsubscribed bigint, suppressed bigint, failed bigint, expired bigint, unknown bigint,
  late_p50_seconds double precision, late_p99_seconds double precision
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  with told as (
    select message_logs.user_id, message_logs.id, min(delivery_events.vendor) as vendor,
      bool_or(delivery_events.kind = 'delivered') as delivered,
      bool_or(delivery_events.kind in ('bounced', 'soft_bounced', 'refused')) as bounced,
      bool_or(delivery_events.kind = 'complained') as complained,
      bool_or(delivery_events.kind = 'unsubscribed') as unsubscribed
    from (
      select events.*
      from app_private.delivery_events as events
      where events.occurred_at >= p_from::timestamp at time zone 'UTC' - interval '1 day'
    ) as delivery_events
    inner join app_public.message_logs
      on message_logs.provider_message_id = delivery_events.provider_message_id
      or message_logs.id = delivery_events.message_id
    where message_logs.scheduled_send_time >= p_from::timestamp at time zone 'UTC'
      and message_logs.scheduled_send_time < (p_to + 1)::timestamp at time zone 'UTC'
    group by 1, 2
  )
  select (message_logs.scheduled_send_time at time zone 'UTC')::date,
    message_logs.message_type, message_logs.channel, told.vendor,
    message_logs.template_version, count(*),
    count(*) filter (where message_logs.status = 'SENT'),
    count(*) filter (where told.delivered),
    count(*) filter (where told.bounced),
    count(*) filter (where told.complained),
    count(*) filter (where told.unsubscribed),
    count(*) filter (where message_logs.status = 'SUPPRESSED'),
    count(*) filter (where message_logs.status = 'FAILED'),
    count(*) filter (where message_logs.status = 'EXPIRED'),
    count(*) filter (where message_logs.status = 'UNKNOWN'),
    percentile_cont(0.5) within group (order by extract(epoch from
      message_logs.actual_send_time - message_logs.scheduled_send_time)),
    percentile_cont(0.99) within group (order by extract(epoch from
      message_logs.actual_send_time - message_logs.scheduled_send_time))
  from app_public.message_logs
  left join told on told.user_id = message_logs.user_id and told.id = message_logs.id
  where message_logs.scheduled_send_time >= p_from::timestamp at time zone 'UTC'
    and message_logs.scheduled_send_time < (p_to + 1)::timestamp at time zone 'UTC'
    and message_logs.status <> 'CANCELED'
  group by 1, 2, 3, 4, 5
$$;

grant execute on function ops.message_funnel(date, date) to gw_monitor;
comment on function ops.message_funnel(date, date) is
  'What became of the messages due on each day of a range (UTC, inclusive), by type, channel, vendor and version of the template: planned, sent, and what vendors reported.';
--! EndIncluded functions/ops/message_funnel.sql
