--! Previous: sha1:5c1cd35b67885efdd9b71edc2d220105a720b84a
--! Hash: sha1:d8192b027e453c49aedfe1bff8a4ffc6e20105ac
--! Message: message-explain
--! Baseline: topics/31-message-explain.sql

/*
 * "gw messages explain": why a message was sent, will be sent, or was not.
 *
 * The functions here ask message_refusal() and message_decision(), as the worker does, so
 * the explanation cannot differ from what happens.
 */

--! Included functions/app_private/without_addresses.sql
create or replace function app_private.without_addresses(p_text text, p_length integer)
returns text
language sql immutable strict parallel safe
as $$
  select case when pg_catalog.length(hidden.text) > p_length
    then pg_catalog.left(hidden.text, p_length) || '…' else hidden.text end
  from (
    select pg_catalog.regexp_replace(
      pg_catalog.regexp_replace(
        p_text, '[^\s<>"'',;:()]+@[^\s<>"'',;:()]+', '<address>', 'g'),
      '\s+', ' ', 'g')
  ) as hidden (text)
$$;

comment on function app_private.without_addresses(text, integer) is
  'A text on one line, e-mail addresses hidden, cut to a length in characters.';
--! EndIncluded functions/app_private/without_addresses.sql
--! Included functions/app_private/describe_instant.sql
-- PostgreSQL tells a zone's abbreviation at an instant only for the session's zone. So
-- the zone is set here, and the SET clause below restores the session's own.
create or replace function app_private.describe_instant(p_local timestamp, p_zone text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  instant timestamptz := app_hidden.local_to_instant(p_local, p_zone);
  -- In an overlap, AT TIME ZONE takes the later instant.
  later timestamptz := p_local at time zone p_zone;
  read_there timestamp := instant at time zone p_zone;
  hours constant text := case when extract(second from p_local) = 0
    then 'HH24:MI' else 'HH24:MI:SS' end;
  local_time constant text := to_char(p_local, hours);
  local_date constant text := to_char(p_local, 'YYYY-MM-DD');
  zone_name text;
  zone_offset text;
  name_before text;
  offset_before text;
  name_later text;
begin
  perform set_config('timezone', p_zone, true);
  zone_name := to_char(instant, 'TZ');
  zone_offset := to_char(instant, 'TZH:TZM');
  name_later := to_char(later, 'TZ');
  -- A gap may be a whole day long.
  name_before := to_char(instant - interval '25 hours', 'TZ');
  offset_before := to_char(instant - interval '25 hours', 'TZH:TZM');
  perform set_config('timezone', 'UTC', true);

  if read_there <> p_local then
    return format(
      '%s does not exist in %s on %s; the offset before, %s (%s), is used: %s %s, %s UTC',
      local_time, p_zone, local_date, name_before, offset_before,
      to_char(read_there, case when read_there::date = p_local::date
        then hours else 'YYYY-MM-DD ' || hours end),
      zone_name, to_char(instant, 'YYYY-MM-DD HH24:MI:SS'));
  end if;
  if later <> instant then
    return format(
      '%s occurs twice in %s on %s; the first is used, %s (%s) rather than %s: %s UTC',
      local_time, p_zone, local_date, zone_name, zone_offset, name_later,
      to_char(instant, 'YYYY-MM-DD HH24:MI:SS'));
  end if;
  return format('%s in %s on %s, an ordinary time there, %s (%s): %s UTC',
    local_time, p_zone, local_date, zone_name, zone_offset,
    to_char(instant, 'YYYY-MM-DD HH24:MI:SS'));
end
$$;

comment on function app_private.describe_instant(timestamp, text) is
  'How a local time becomes an instant: ordinary, in a gap, or in an overlap.';
--! EndIncluded functions/app_private/describe_instant.sql
--! Included functions/app_private/describe_occasion.sql
create or replace function app_private.describe_occasion(
  p_rules app_private.user_messages, p_label text, p_date date,
  out is_occasion boolean, out detail text
)
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  base_date constant date := p_rules.base_date;
  policy constant text := p_rules.leap_day_policy;
  year constant integer := extract(year from p_date)::integer;
  is_leap_day constant boolean := to_char(base_date, 'MM-DD') = '02-29';
  occasion date;
  leap_year integer := year;
begin
  is_occasion := false;
  if p_rules.repeats = 'weekly' then
    is_occasion := extract(isodow from p_date) = 1;
    detail := case when is_occasion then 'digests are of Mondays, and this is one'
      else format('digests are of Mondays, this is a %s; that of its week is of %s',
        to_char(p_date, 'FMDay'), date_trunc('week', p_date)::date) end;
    return;
  end if;
  if p_rules.repeats = 'event' then
    is_occasion := true;
    detail := p_label || ': sent when the application says so';
    return;
  end if;
  if base_date is null then
    detail := format('the user has set no %s', p_label);
    return;
  end if;
  if p_rules.repeats = 'once' then
    is_occasion := p_date = base_date;
    detail := format(case when is_occasion then 'this is the day of the user''s %s'
      else 'the user''s %s is on %s' end, p_label, base_date);
    return;
  end if;
  if p_date <= base_date then
    detail := format('the date itself is %s: there is no %s before the next year',
      base_date, p_label);
    return;
  end if;

  occasion := app_hidden.occurrence_in_year(base_date, year, policy);
  if is_leap_day and occasion is null then
    loop
      leap_year := leap_year + 1;
      exit when to_char(make_date(leap_year, 3, 1) - 1, 'DD') = '29';
    end loop;
    detail := format(
      'February 29 is skipped in %s: policy skip; the next %s is on %s-02-29',
      year, p_label, leap_year);
    return;
  end if;
  is_occasion := occasion = p_date;
  detail := concat_ws('; ',
    case
      when is_leap_day and to_char(occasion, 'MM-DD') = '02-29'
      then format('February 29 exists in %s: policy %s is not needed', year, policy)
      when is_leap_day
      then format('February 29 is celebrated on %s in %s: policy %s',
        to_char(occasion, 'FMMonth FMDD'), year, policy)
    end,
    case when is_occasion then format('this is the user''s %s of %s', p_label, year)
      else format('this is not the user''s %s: that of %s is on %s',
        p_label, year, occasion) end);
end
$$;

comment on function app_private.describe_occasion(app_private.user_messages, text, date) is
  'Whether a day is an occasion of a user''s message type, and why: the leap-day rule, or the day that is one.';
--! EndIncluded functions/app_private/describe_occasion.sql
--! Included functions/app_private/explain_rules.sql
create or replace function app_private.explain_rules(
  p_rules app_private.user_messages, p_date date
) returns table (at timestamptz, topic text, detail text, is_occasion boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  local_time constant timestamp := p_date + p_rules.send_time;
  instant constant timestamptz := app_hidden.local_to_instant(local_time, p_rules.timezone);
  decision record;
  zone text;
begin
  topic := 'user';
  select coalesce(p_rules.deleted_at, users.created_at), users.timezone
  into at, zone
  from app_public.users
  where users.id = p_rules.user_id;
  detail := format('the account %s; time zone %s%s, language %s',
    case when p_rules.deleted_at is null then 'is open' else 'was closed' end, zone,
    case when p_rules.timezone is null then ', which the server does not know' else '' end,
    p_rules.locale);
  return next;

  at := null;
  detail := case when p_rules.email is null
    then 'the user has no e-mail address, so nothing is planned'
    else app_private.suppression(p_rules.email, p_rules.message_type, p_rules.is_optional,
      app_private.is_by_mail_alone(p_rules.message_type)) end;
  if detail is not null then
    topic := 'address';
    return next;
  end if;

  topic := 'wish';
  detail := case when p_rules.is_wanted then 'the user wants messages of this type'
    else 'the user has opted out of messages of this type' end;
  return next;

  topic := 'occasion';
  select described.is_occasion, described.detail
  into is_occasion, detail
  from app_private.message_types
  cross join lateral app_private.describe_occasion(p_rules, message_types.label, p_date)
    as described
  where message_types.type = p_rules.message_type;
  return next;
  if not is_occasion or p_rules.timezone is null or p_rules.repeats = 'event' then
    return;
  end if;

  topic := 'instant';
  at := instant;
  detail := app_private.describe_instant(local_time, p_rules.timezone);
  return next;

  topic := 'quiet hours';
  select *
  into decision
  from app_private.message_decision(
    instant, null, p_rules.timezone, p_rules.quiet_from, p_rules.quiet_until);
  at := decision.held_until;
  detail := case
    when p_rules.quiet_from is null then 'none'
    else format('%s to %s, local time: it is %s', to_char(p_rules.quiet_from, 'HH24:MI'),
      to_char(p_rules.quiet_until, 'HH24:MI'),
      case when at is null then 'not in them' else 'held until they end' end)
  end;
  return next;
end
$$;

comment on function app_private.explain_rules(app_private.user_messages, date) is
  'The rules for a message on a date: the user, the wish, the occasion, its instant, quiet hours.';
--! EndIncluded functions/app_private/explain_rules.sql
--! Included functions/app_private/explain_channels.sql
create or replace function app_private.explain_channels()
returns table (at timestamptz, topic text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select delivery_channels.opened_at, 'channel', delivery_channels.name || ': '
    || concat_ws('; ',
      case when delivery_channels.circuit <> 'closed' then format(
        'the circuit is %s: %s; next probe %s', delivery_channels.circuit, circuit.detail,
        to_char(delivery_channels.probe_after, 'YYYY-MM-DD HH24:MI:SS "UTC"')) end,
      case when delivery_channels.messages_per_second = 0 then 'stopped by a limit of 0'
        else 'at most ' || delivery_channels.messages_per_second || ' messages a second' end)
  from app_private.delivery_channels
  cross join lateral app_private.describe_circuit(delivery_channels.name) as circuit
  where delivery_channels.circuit <> 'closed'
    or delivery_channels.messages_per_second is not null
  order by delivery_channels.name
$$;

comment on function app_private.explain_channels() is
  'The channels that hold up messages: by a limit, or because the receiver does not answer.';
--! EndIncluded functions/app_private/explain_channels.sql
--! Included functions/app_private/explain_attempts.sql
-- The array has earlier attempts, and changes that people made. The columns have the
-- attempt that runs, or that delivered the message.
create or replace function app_private.explain_attempts(p_message app_public.message_logs)
returns table (at timestamptz, topic text, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select (attempt.entry ->> 'started_at')::timestamptz, 'attempt',
    concat_ws('; ',
      count(attempt.entry ->> 'started_at') over (order by attempt.number) || ': '
        || coalesce('answer ' || (attempt.entry ->> 'code'), 'no answer')
        || coalesce(' after ' || round(extract(epoch from
          (attempt.entry ->> 'ended_at')::timestamptz
          - (attempt.entry ->> 'started_at')::timestamptz), 1) || ' s', ''),
      app_private.without_addresses(attempt.entry ->> 'error', 200),
      'it said "' || app_private.without_addresses(
        nullif(attempt.entry ->> 'body', ''), 200) || '"',
      case attempt.entry ->> 'verdict' when 'channel' then 'which is about the sender'
        when 'address' then 'which is about the address'
        when 'message' then 'which is about the message' end,
      'to be tried again at ' || to_char((attempt.entry ->> 'retry_at')::timestamptz,
        'YYYY-MM-DD HH24:MI:SS "UTC"'))
  from jsonb_array_elements(p_message.attempts)
    with ordinality as attempt (entry, number)
  where attempt.entry ? 'started_at'
  union all
  select (attempt.entry ->> 'changed_at')::timestamptz, 'by hand',
    concat_ws(': ',
      (attempt.entry ->> 'change') || ', was ' || (attempt.entry ->> 'status'),
      app_private.without_addresses(attempt.entry ->> 'error', 200))
  from jsonb_array_elements(p_message.attempts) as attempt (entry)
  where attempt.entry ? 'change'
  union all
  select p_message.attempted_at, 'attempt',
    case p_message.status
      when 'SENDING' then 'the latest: it is being made, or its worker died'
      else concat_ws('; ',
        'the latest: delivered'
          || coalesce(', answer ' || p_message.api_response_code, ''),
        'it said "' || app_private.without_addresses(
          nullif(p_message.api_response_body, ''), 200) || '"')
    end
  where p_message.attempted_at is not null
    and p_message.status in ('SENDING', 'SENT')
    -- A person may have resolved an attempt of the array as delivered.
    and not exists (
      select from jsonb_array_elements(p_message.attempts) as attempt (entry)
      where (attempt.entry ->> 'started_at')::timestamptz = p_message.attempted_at
    )
  order by 1
$$;

comment on function app_private.explain_attempts(app_public.message_logs) is
  'Each attempt to send a message, and each change that a person made, in the order of time.';
--! EndIncluded functions/app_private/explain_attempts.sql
--! Included functions/app_private/describe_planner.sql
create or replace function app_private.describe_planner() returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select case
        when ops.is_fenced() then 'It does nothing here: this database is a copy'
        when not planner.is_active then 'But pg_cron''s job plan-due-messages is not active'
        when planner.last_start is null then 'But it has not run yet'
        when planner.last_status = 'failed' then format('But it fails: %s',
          app_private.without_addresses(planner.last_message, 200))
        when planner.last_start < now() - interval '3 minutes'
        then 'But it does not run: the last time was '
          || to_char(planner.last_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
        else 'It runs each minute'
      end
    from ops.schedule_status(p_runs => 1) as planner
    where planner.job_name = 'plan-due-messages'
  ), 'But pg_cron has no job plan-due-messages');
end
$$;

comment on function app_private.describe_planner() is
  'Whether the planner runs, fails, or does not run.';
--! EndIncluded functions/app_private/describe_planner.sql
--! Included functions/app_private/explain_unplanned.sql
-- For a day without a message in message_logs.
create or replace function app_private.explain_unplanned(
  p_rules app_private.user_messages, p_date date, p_refusal text, p_is_occasion boolean,
  p_instant timestamptz,
  out at timestamptz, out detail text, out is_over boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  schedule app_private.message_schedule;
  neighbor date;
  late_window constant interval := app_private.late_window();
  aside app_private.set_aside_users;
  joined_at timestamptz;
begin
  select message_ledger.planned_at
  into at
  from app_private.message_ledger
  where message_ledger.user_id = p_rules.user_id
    and message_ledger.message_type = p_rules.message_type
    and message_ledger.delivery_date = p_date;
  is_over := at is not null or p_refusal is not null;
  if is_over then
    detail := case
      when at is not null
      then 'it was planned then; what became of it has left the database'
      when p_rules.deleted_at is not null then 'no message: the account was closed'
      when not p_is_occasion then 'no message: the day is not an occasion'
      when p_rules.is_wanted and p_rules.email is null
      then 'no message: the user has no e-mail address'
      else 'no message: the user does not want it'
    end;
    return;
  end if;

  if p_rules.repeats = 'event' then
    is_over := true;
    detail := 'the application has sent no such message for this day';
    return;
  end if;
  if p_rules.timezone is null then
    detail := 'not planned: the server does not know the user''s time zone. The planner '
      'takes the user up when it does';
    return;
  end if;
  select *
  into aside
  from app_private.set_aside_users
  where set_aside_users.user_id = p_rules.user_id;
  if found then
    at := aside.failed_at;
    detail := format('not planned: it failed then, and is tried again each 15 minutes. %s',
      aside.error);
    return;
  end if;

  select message_schedule.*
  into schedule
  from app_private.message_schedule
  where message_schedule.user_id = p_rules.user_id
    and message_schedule.message_type = p_rules.message_type;
  if schedule.delivery_date = p_date then
    at := schedule.scheduled_send_time - interval '24 hours';
    detail := 'not planned yet: ' || case when at > now()
      then 'a message is planned 24 hours before its time'
      else 'the planner''s next tick does it. ' || app_private.describe_planner() end;
    if schedule.scheduled_send_time <> (case when schedule.scheduled_send_time > now()
      then greatest(p_instant, now()) else p_instant end)
    then
      detail := detail || format('. The schedule says %s, the rules now say %s: '
        'gw messages replan --user %s',
        to_char(schedule.scheduled_send_time, 'YYYY-MM-DD HH24:MI:SS "UTC"'),
        to_char(p_instant, 'YYYY-MM-DD HH24:MI:SS "UTC"'), p_rules.user_id);
    end if;
    return;
  end if;

  select message_ledger.delivery_date
  into neighbor
  from app_private.message_ledger
  where message_ledger.user_id = p_rules.user_id
    and message_ledger.message_type = p_rules.message_type
    and message_ledger.delivery_date
      between p_date - p_rules.cap_days and p_date + p_rules.cap_days
  limit 1;
  if neighbor is not null then
    detail := format('not planned: the message of %s counts for this occasion',
      neighbor);
    return;
  end if;

  if p_instant <= now() - late_window then
    at := p_instant;
    select users.created_at
    into joined_at
    from app_public.users
    where users.id = p_rules.user_id;
    detail := case when joined_at > p_instant
      then 'not planned: the account was made after it'
      else 'not planned: it had passed when the user''s date, zone or wish became what '
        'it is now' end;
    return;
  end if;
  detail := case
    when schedule.delivery_date < p_date
    then format('not planned yet: the schedule comes to it after the occasion of %s',
      schedule.delivery_date)
    else format('not planned: the schedule lacks it; gw messages replan --user %s',
      p_rules.user_id)
  end;
end
$$;

comment on function app_private.explain_unplanned(
  app_private.user_messages, date, text, boolean, timestamptz) is
  'Why there is no message of a user''s type for a date, and whether one is still to come.';
--! EndIncluded functions/app_private/explain_unplanned.sql
--! Included functions/app_private/explain_state.sql
create or replace function app_private.explain_state(
  p_message app_public.message_logs, p_rules app_private.user_messages, p_refusal text
) returns table (at timestamptz, topic text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  status constant text := p_message.status;
  is_waiting constant boolean := status in ('SCHEDULED', 'QUEUED', 'RETRYING');
  is_taken boolean;
  send_until timestamptz;
  decision record;
begin
  select exists (
    select from app_private.message_ledger
    where message_ledger.user_id = p_message.user_id
      and message_ledger.message_type = p_message.message_type
      and message_ledger.delivery_date = p_message.delivery_date
      and message_ledger.message_id = p_message.id
  ) into is_taken;
  send_until := coalesce(p_message.send_until,
    p_message.scheduled_send_time + app_private.late_window());
  if p_rules.late_policy = 'day' then
    send_until := least(send_until, app_hidden.local_to_instant(
      (p_message.delivery_date + 1)::timestamp, p_rules.timezone));
  end if;

  topic := 'state';
  at := case status
    when 'SCHEDULED' then p_message.scheduled_send_time
    when 'SENT' then p_message.actual_send_time
    when 'SENDING' then p_message.attempted_at
    when 'UNKNOWN' then p_message.uncertain_since
    else p_message.updated_at end;
  detail := status || ': ' || case status
    when 'SCHEDULED' then 'waits for its time'
    when 'QUEUED' then coalesce(p_message.error_message, 'due, and waits for a worker')
      || coalesce('. Released by: gw messages release ' || p_message.hold_id, '')
    when 'SUPPRESSED' then coalesce(p_message.error_message, 'the address takes none')
      || '. It is no failure. '
      || case when p_message.error_message like 'the user has no address%'
        then 'Should the user have one: '
        else 'Should the address be well again: gw messages lift, then ' end
      || 'gw messages redrive --message ' || p_message.id
    when 'SENDING' then 'a worker makes the call; should it die, another gets its job'
    when 'RETRYING' then 'retried until it is delivered, refused, or too late'
    when 'SENT' then 'the receiver has accepted it'
    when 'FAILED' then coalesce(p_message.error_message, 'refused, or given up')
      || '. To send it again: gw messages redrive --message ' || p_message.id
    when 'EXPIRED' then coalesce(p_message.error_message, 'it was too late')
      || '. To send it all the same: gw messages redrive --message ' || p_message.id
    when 'CANCELED' then coalesce(p_message.error_message, 'not wanted any more')
      || case when p_rules.repeats = 'event' then ''
        when is_taken then '. It is not planned again, but can be sent: '
        || 'gw messages redrive --message ' || p_message.id
        else '. It is planned again when the rules have it again in time' end
    when 'UNKNOWN' then coalesce(p_message.error_message, 'it may have been delivered')
      || '. A person asks the receiver, then: gw messages resolve --message '
      || p_message.id || ' --as sent|failed'
  end;
  if is_waiting then
    select decided.*
    into decision
    from app_private.message_decision(
      greatest(now(), p_message.scheduled_send_time), p_refusal, p_rules.timezone,
      p_rules.quiet_from, p_rules.quiet_until, send_until, p_message.uncertain_since,
      p_suppression => app_private.suppression(p_rules.email, p_rules.message_type,
        p_rules.is_optional, app_private.is_by_mail_alone(p_rules.message_type)),
      p_hold => app_private.held_by(p_message.message_type, p_message.channel,
        p_rules.timezone)) as decided;
    if decision.status = 'QUEUED' and status <> 'QUEUED' then
      detail := detail || '. Then it is ' || decision.reason;
    elsif decision.status not in ('SENDING', 'QUEUED') then
      detail := detail || format('. The next worker makes it %s: %s',
        decision.status, decision.reason);
    end if;
  end if;
  detail := app_private.without_addresses(detail, 600);
  return next;

  if is_waiting then
    at := send_until;
    topic := 'expires';
    select decided.*
    into decision
    from app_private.message_decision(send_until + interval '1 second', null,
      p_rules.timezone, null, null, send_until, p_message.uncertain_since) as decided;
    detail := 'too late from then on: it becomes ' || decision.status
      || case decision.status
        when 'UNKNOWN' then ': an attempt may have delivered it' else '' end;
    return next;
  end if;
end
$$;

comment on function app_private.explain_state(
  app_public.message_logs, app_private.user_messages, text) is
  'The meaning of a message''s status, what the next worker does with it, and when it is too late.';
--! EndIncluded functions/app_private/explain_state.sql
--! Included functions/app_private/explain_planned.sql
-- One message: when it was planned, whether the rules still want it, its job, its
-- attempts, and what comes next. p_refusal is why the rules do not want it any more,
-- p_instant when they would have it sent now: one of the two is null.
create or replace function app_private.explain_planned(
  p_message app_public.message_logs, p_rules app_private.user_messages,
  p_refusal text, p_instant timestamptz
) returns table (at timestamptz, topic text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  stamp constant text := 'YYYY-MM-DD HH24:MI:SS "UTC"';
  status constant text := p_message.status;
  is_waiting constant boolean := status in ('SCHEDULED', 'QUEUED', 'RETRYING');
  job pgboss.job;
begin
  at := p_message.created_at;
  topic := 'plan';
  detail := format('planned as message %s, due at %s', p_message.id,
    to_char(p_message.scheduled_send_time, stamp));
  if p_instant is not null and p_instant <> p_message.scheduled_send_time then
    detail := detail || case
      when is_waiting and p_message.scheduled_send_time
        <> greatest(p_instant, least(now(), p_message.scheduled_send_time))
      then format('; the rules now say %s: gw messages replan --user %s',
        to_char(p_instant, stamp), p_message.user_id)
      when p_instant < p_message.scheduled_send_time
      then '; a change moved its time into the past, and made it due at once'
      else format('; the rules of then, those of now say %s', to_char(p_instant, stamp))
    end;
  end if;
  return next;

  if is_waiting or status = 'SENDING' then
    topic := 'job';
    select * into job from pgboss.job
    where name = 'message-send' and id = p_message.job_id;
    at := case when p_message.hold_id is null then job.start_after end;
    detail := case
      when job.id is not null then format('job %s is %s', job.id, job.state)
      when status = 'SCHEDULED' then 'none yet: it gets one 90 seconds before it is due'
      else 'it is gone; pg_cron''s job requeue-lost-messages makes a new one soon'
    end;
    return next;
    at := null;
    topic := 'route';
    select format('goes by %s', delivery_channels.name)
      || coalesce(', which does not send now: '
        || app_private.why_not_sending(delivery_channels), '')
    into detail
    from app_private.delivery_channels
    where delivery_channels.lane = -job.priority;
    if found then
      return next;
    end if;
  end if;

  return query select * from app_private.explain_attempts(p_message);

  select * into job from pgboss.job
  where name = 'message-send-dead' and data ->> 'message_id' = p_message.id::text
  order by created_on desc
  limit 1;
  if found then
    at := job.created_on;
    topic := 'dead letter';
    detail := format('kept in queue message-send-dead until %s',
      to_char(job.keep_until, stamp));
    return next;
  end if;

  return query
  select * from app_private.explain_state(p_message, p_rules, p_refusal);
end
$$;

comment on function app_private.explain_planned(
  app_public.message_logs, app_private.user_messages, text, timestamptz) is
  'What became of a message, and what comes next.';
--! EndIncluded functions/app_private/explain_planned.sql
--! Included functions/ops/explain_message.sql
-- Definer: a person on call may ask about one message without the right to read users and
-- their messages. The answer has no address, no name and no text of the message.
create or replace function ops.explain_message(
  p_user_id uuid, p_message_type text, p_date date
) returns table (step integer, at timestamptz, topic text, detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  rules app_private.user_messages;
  message app_public.message_logs;
  is_occasion boolean;
  refusal text;
  instant timestamptz;
  is_over boolean := true;
  has_messages boolean := false;
begin
  perform app_private.check_message_type(p_message_type);
  if p_date is null or p_date not between date '1604-01-01' and date '2300-01-01' then
    raise exception 'the date % is not between 1604 and 2300', p_date
      using errcode = 'GW040', hint = 'It is the local date of the occasion.';
  end if;

  step := 0;
  select user_messages.*
  into rules
  from app_private.user_messages
  where user_messages.user_id = p_user_id
    and user_messages.message_type = p_message_type;
  if not found then
    step := 1;
    topic := 'user';
    detail := 'there is no user with this id';
    return next;
    return;
  end if;
  for at, topic, detail, is_occasion in
    select * from app_private.explain_rules(rules, p_date)
  loop
    step := step + 1;
    return next;
  end loop;
  refusal := coalesce(
    app_private.message_refusal(rules.deleted_at, rules.is_wanted,
      rules.email is not null, rules.repeats,
      rules.base_date, rules.leap_day_policy, p_date),
    case when not is_occasion then 'the day is not an occasion' end);
  -- When an event is due, the application says.
  instant := case when rules.repeats <> 'event'
    then app_hidden.local_to_instant(p_date + rules.send_time, rules.timezone) end;

  for message in
    select message_logs.*
    from app_public.message_logs
    where message_logs.user_id = p_user_id
      and message_logs.message_type = p_message_type
      and message_logs.delivery_date = p_date
      -- No zone is further from UTC than this.
      and message_logs.scheduled_send_time between p_date - 3 and p_date + 4
    order by message_logs.created_at, message_logs.id
  loop
    has_messages := true;
    is_over := message.status not in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING');
    for at, topic, detail in
      select * from app_private.explain_planned(
        message, rules, refusal, case when refusal is null then instant end)
    loop
      step := step + 1;
      return next;
    end loop;
  end loop;

  if not has_messages then
    step := step + 1;
    topic := 'plan';
    select unplanned.at, unplanned.detail, unplanned.is_over
    into at, detail, is_over
    from app_private.explain_unplanned(rules, p_date, refusal, is_occasion, instant)
      as unplanned;
    return next;
  end if;

  if not is_over then
    for at, topic, detail in select * from app_private.explain_channels() loop
      step := step + 1;
      return next;
    end loop;
  end if;
end
$$;

grant execute on function ops.explain_message(uuid, text, date) to gw_monitor, gw_support;
comment on function ops.explain_message(uuid, text, date) is
  'Explains step by step why a user''s message of a type and local date was sent, will be sent, or was not sent.';
--! EndIncluded functions/ops/explain_message.sql
