--! Previous: sha1:6380e1754962380fe19593f085cd379fc67665e7
--! Hash: sha1:d2f4413fabec2cc5b708d8b2fdded93e6c513b78
--! Message: message-answers

--! split: 0001-message-answers.sql
/*
 * Answers for whoever is on call: why a message was, will be or was not sent
 * (ops.explain_message), what goes out by the rules (ops.simulate_messages), and what a
 * change of tzdata moves (ops.find_moved_messages, ops.replan_users). And what people may
 * do to messages: send them again, cancel them, say what became of them, which enters the
 * audit log. gw messages calls all of these.
 *
 * gw_monitor may execute ops.explain_message alone: its answer has no address, no name
 * and no text. The others serve the owner.
 *
 * Locks: none on existing tables but what comments take (SHARE UPDATE EXCLUSIVE).
 */

drop function if exists ops.explain_message(uuid, text, date);
drop function if exists ops.simulate_messages(timestamptz, timestamptz, uuid, jsonb);
drop function if exists ops.find_moved_messages(uuid, text, timestamptz);
drop function if exists ops.replan_users(uuid, integer, text, uuid);
drop function if exists ops.redrive_messages(
  text[], text, date, uuid, timestamptz, uuid, boolean, boolean);
drop function if exists ops.cancel_messages(
  text, text[], text, date, uuid, timestamptz, uuid, boolean);
drop function if exists ops.resolve_message(uuid, text);
drop function if exists app_private.explain_planned(app_public.message_logs, timestamptz);
drop function if exists app_private.explain_attempts(app_public.message_logs);
drop function if exists app_private.redrive_refusals(
  text[], text, date, uuid, timestamptz, uuid, boolean);
drop function if exists app_private.find_occasions(timestamptz, timestamptz, uuid);

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
--! EndIncluded functions/app_private/without_addresses.sql
comment on function app_private.without_addresses(text, integer) is
  'A text on one line, e-mail addresses hidden, cut to a length in characters.';
--! Included functions/app_private/describe_instant.sql
-- The name that a zone's clocks have at an instant is only to be had by setting the zone;
-- the clause below puts the session's own back.
create or replace function app_private.describe_instant(p_local timestamp, p_zone text)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  instant timestamptz := app_hidden.local_to_instant(p_local, p_zone);
  -- In an overlap, AT TIME ZONE means the second.
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
--! EndIncluded functions/app_private/describe_instant.sql
comment on function app_private.describe_instant(timestamp, text) is
  'How a local time becomes an instant: ordinary, in a gap, or in an overlap.';
--! Included functions/app_private/describe_occasion.sql
-- Whether a day is an occasion, and why: its leap-day decision, or which day is one.
create or replace function app_private.describe_occasion(
  p_message_type text, p_base_date date, p_leap_day_policy text, p_date date,
  out is_occasion boolean, out detail text
)
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  what constant text := case p_message_type
    when 'BIRTHDAY' then 'birthday' else 'anniversary' end;
  year constant integer := extract(year from p_date)::integer;
  is_leap_day constant boolean := to_char(p_base_date, 'MM-DD') = '02-29';
  occasion date;
  leap_year integer := year;
begin
  is_occasion := false;
  if p_message_type = 'DIGEST' then
    is_occasion := extract(isodow from p_date) = 1;
    detail := case when is_occasion then 'digests are of Mondays, and this is one'
      else format('digests are of Mondays, this is a %s; that of its week is of %s',
        to_char(p_date, 'FMDay'), date_trunc('week', p_date)::date) end;
    return;
  end if;
  if p_base_date is null then
    detail := format('the user has set no %s', what);
    return;
  end if;
  if p_date <= p_base_date then
    detail := format('the date itself is %s: there is no %s before the next year',
      p_base_date, what);
    return;
  end if;

  occasion := app_hidden.occurrence_in_year(p_base_date, year, p_leap_day_policy);
  if is_leap_day and occasion is null then
    loop
      leap_year := leap_year + 1;
      exit when to_char(make_date(leap_year, 3, 1) - 1, 'DD') = '29';
    end loop;
    detail := format(
      'February 29 is skipped in %s: policy skip; the next %s is on %s-02-29',
      year, what, leap_year);
    return;
  end if;
  is_occasion := occasion = p_date;
  detail := concat_ws('; ',
    case
      when is_leap_day and to_char(occasion, 'MM-DD') = '02-29'
      then format('February 29 exists in %s: policy %s is not needed',
        year, p_leap_day_policy)
      when is_leap_day
      then format('February 29 is celebrated on %s in %s: policy %s',
        to_char(occasion, 'FMMonth FMDD'), year, p_leap_day_policy)
    end,
    case when is_occasion then format('this is the user''s %s of %s', what, year)
      else format('this is not the user''s %s: that of %s is on %s',
        what, year, occasion) end);
end
$$;
--! EndIncluded functions/app_private/describe_occasion.sql
comment on function app_private.describe_occasion(text, date, text, date) is
  'Whether a day is an occasion, and why.';
--! Included functions/app_private/explain_attempts.sql
-- The attempts of before are in the array, with what people did to the message; the one
-- that is running, or that delivered, is in the columns.
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
    -- A person may have said that an attempt of the array delivered.
    and not exists (
      select from jsonb_array_elements(p_message.attempts) as attempt (entry)
      where (attempt.entry ->> 'started_at')::timestamptz = p_message.attempted_at
    )
  order by 1
$$;
--! EndIncluded functions/app_private/explain_attempts.sql
comment on function app_private.explain_attempts(app_public.message_logs) is
  'Each attempt to send a message, and what people did to it, in the order of time.';
--! Included functions/app_private/explain_unplanned.sql
-- For an occasion of the user's rules that the ledger does not have.
create or replace function app_private.explain_unplanned(
  p_user_id uuid, p_message_type text, p_date date, p_instant timestamptz,
  out at timestamptz, out detail text
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  schedule app_private.message_schedule;
  neighbour date;
  late_window interval;
  joined_at timestamptz;
begin
  select message_schedule.*
  into schedule
  from app_private.message_schedule
  where message_schedule.user_id = p_user_id
    and message_schedule.message_type = p_message_type;
  if schedule.delivery_date = p_date then
    at := schedule.scheduled_send_time - interval '24 hours';
    detail := 'not planned yet: ' || case when at > now()
      then 'a message is planned 24 hours before its time'
      else 'the planner''s next tick does it; if it does not, pg_cron''s job '
        'plan-due-messages does not run' end;
    if schedule.scheduled_send_time <> (case when schedule.scheduled_send_time > now()
      then greatest(p_instant, now()) else p_instant end)
    then
      detail := detail || format('. The schedule says %s, the rules now say %s: '
        'gw messages replan --user %s',
        to_char(schedule.scheduled_send_time, 'YYYY-MM-DD HH24:MI:SS "UTC"'),
        to_char(p_instant, 'YYYY-MM-DD HH24:MI:SS "UTC"'), p_user_id);
    end if;
    return;
  end if;

  select message_ledger.delivery_date
  into neighbour
  from app_private.message_ledger
  where message_ledger.user_id = p_user_id
    and message_ledger.message_type = p_message_type
    and message_ledger.delivery_date between p_date - 2 and p_date + 2
  limit 1;
  if neighbour is not null then
    detail := format('not planned: the message of %s counts for this occasion',
      neighbour);
    return;
  end if;

  select message_settings.late_window into late_window from app_private.message_settings;
  if p_instant <= now() - late_window then
    at := p_instant;
    select users.created_at
    into joined_at
    from app_public.users
    where users.id = p_user_id;
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
      p_user_id)
  end;
end
$$;
--! EndIncluded functions/app_private/explain_unplanned.sql
comment on function app_private.explain_unplanned(uuid, text, date, timestamptz) is
  'Why there is no message for an occasion of the user''s rules.';
--! Included functions/app_private/explain_planned.sql
-- Of one message: when it was planned, whether it follows the rules, its job, its
-- attempts, and what comes next. p_instant is what the rules say now; null when they have
-- no such message.
create or replace function app_private.explain_planned(
  p_message app_public.message_logs, p_instant timestamptz
) returns table (at timestamptz, topic text, detail text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  stamp constant text := 'YYYY-MM-DD HH24:MI:SS "UTC"';
  status constant text := p_message.status;
  is_waiting constant boolean := status in ('SCHEDULED', 'QUEUED', 'RETRYING');
  is_taken boolean;
  send_until timestamptz;
  job pgboss.job;
begin
  select exists (
    select from app_private.message_ledger
    where message_ledger.user_id = p_message.user_id
      and message_ledger.message_type = p_message.message_type
      and message_ledger.delivery_date = p_message.delivery_date
      and message_ledger.message_id = p_message.id
  ) into is_taken;
  select coalesce(p_message.send_until,
    p_message.scheduled_send_time + message_settings.late_window)
  into send_until
  from app_private.message_settings;

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
    at := job.start_after;
    detail := case
      when job.id is not null then format('job %s is %s%s', job.id, job.state,
        case when job.retry_count > 0
          then format('; taken back %s times from workers that died', job.retry_count)
          else '' end)
      when status = 'SCHEDULED' then 'none yet: it gets one 90 seconds before it is due'
      else 'it is gone; pg_cron''s job requeue-lost-messages makes a new one soon'
    end;
    return next;
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
    when 'SENDING' then 'a worker makes the call; should it die, another gets its job'
    when 'RETRYING' then 'tried again until it is delivered, refused, or too late'
    when 'SENT' then 'the receiver has accepted it'
    when 'FAILED' then coalesce(p_message.error_message, 'refused, or given up')
      || '. To send it again: gw messages redrive --message ' || p_message.id
    when 'EXPIRED' then coalesce(p_message.error_message, 'it was too late')
      || '. To send it all the same: gw messages redrive --message ' || p_message.id
    when 'CANCELLED' then coalesce(p_message.error_message, 'not wanted any more')
      || case when is_taken then '. It is not planned again, but can be sent: '
        || 'gw messages redrive --message ' || p_message.id
        else '. It is planned again when the rules have it again in time' end
    when 'UNKNOWN' then coalesce(p_message.error_message, 'it may have been delivered')
      || '. A person asks the receiver, then: gw messages resolve --message '
      || p_message.id || ' --as sent|failed'
  end;
  detail := app_private.without_addresses(detail, 600);
  return next;
  if is_waiting then
    at := send_until;
    topic := 'expires';
    detail := case when p_message.uncertain_since is null
      then 'too late from then on: it becomes EXPIRED'
      else 'too late from then on: it becomes UNKNOWN: an attempt may have delivered it'
    end;
    return next;
  end if;
end
$$;
--! EndIncluded functions/app_private/explain_planned.sql
comment on function app_private.explain_planned(app_public.message_logs, timestamptz) is
  'What became of a message, and what comes next.';
--! Included functions/ops/explain_message.sql
-- Definer: who is on call may ask about one message, and need not be able to read users
-- and their messages for that. The answer has no address, no name and no text of it.
create or replace function ops.explain_message(
  p_user_id uuid, p_message_type text, p_date date
) returns table (step integer, at timestamptz, topic text, detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  person app_public.users;
  wishes app_public.user_settings;
  message app_public.message_logs;
  is_wanted boolean;
  is_occasion boolean;
  instant timestamptz;
  local_time timestamp;
  held_until timestamptz;
  planned_at timestamptz;
  is_over boolean := true;
  has_messages boolean := false;
begin
  if p_message_type is null
    or p_message_type not in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST')
  then
    raise exception 'there is no message type %', p_message_type
      using errcode = 'GW040', hint = 'One of BIRTHDAY, ANNIVERSARY, DIGEST.';
  end if;
  if p_date is null or p_date not between date '1604-01-01' and date '2300-01-01' then
    raise exception 'the date % is not between 1604 and 2300', p_date
      using errcode = 'GW040', hint = 'It is the local date of the occasion.';
  end if;

  step := 1;
  topic := 'user';
  select * into person from app_public.users where id = p_user_id;
  if not found then
    detail := 'there is no user with this id';
    return next;
    return;
  end if;
  select * into wishes from app_public.user_settings where user_id = p_user_id;
  at := coalesce(person.deleted_at, person.created_at);
  detail := format('the account %s; time zone %s, language %s',
    case when person.deleted_at is null then 'is open' else 'was closed' end,
    person.timezone, coalesce(wishes.locale, 'en'));
  return next;

  is_wanted := coalesce(case p_message_type
    when 'BIRTHDAY' then wishes.birthday_messages
    when 'ANNIVERSARY' then wishes.anniversary_messages
    else wishes.weekly_digest end, true);
  step := step + 1;
  at := null;
  topic := 'wish';
  detail := case when is_wanted then 'the user wants messages of this type'
    else 'the user has opted out of messages of this type' end;
  return next;

  step := step + 1;
  topic := 'occasion';
  select described.is_occasion, described.detail
  into is_occasion, detail
  from app_private.describe_occasion(p_message_type,
    case p_message_type when 'BIRTHDAY' then person.birthday_date
      when 'ANNIVERSARY' then person.anniversary_date end,
    person.leap_day_policy, p_date) as described;
  return next;

  if is_occasion then
    local_time := p_date + coalesce(
      (select message_rules.send_time from app_private.message_rules
        where message_rules.user_id = p_user_id
          and message_rules.message_type = p_message_type),
      case p_message_type when 'DIGEST' then time '08:00' else person.send_time end);
    instant := app_hidden.local_to_instant(local_time, person.timezone);
    step := step + 1;
    at := instant;
    topic := 'instant';
    detail := app_private.describe_instant(local_time, person.timezone);
    return next;

    step := step + 1;
    topic := 'quiet hours';
    held_until := app_hidden.quiet_until(
      instant, person.timezone, wishes.quiet_from, wishes.quiet_until);
    at := held_until;
    detail := case
      when wishes.quiet_from is null then 'none'
      else format('%s to %s, local time: it is %s', to_char(wishes.quiet_from, 'HH24:MI'),
        to_char(wishes.quiet_until, 'HH24:MI'),
        case when held_until is null then 'not in them' else 'held until they end' end)
    end;
    return next;
  end if;

  for message in
    select message_logs.*
    from app_public.message_logs
    where message_logs.user_id = p_user_id
      and message_logs.message_type = p_message_type
      and message_logs.delivery_date = p_date
      -- No zone is further from UTC.
      and message_logs.scheduled_send_time between p_date - 3 and p_date + 4
    order by message_logs.created_at, message_logs.id
  loop
    has_messages := true;
    is_over := message.status not in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING');
    for at, topic, detail in
      select * from app_private.explain_planned(message, case
        when is_occasion and is_wanted and person.deleted_at is null then instant end)
    loop
      step := step + 1;
      return next;
    end loop;
  end loop;

  if not has_messages then
    step := step + 1;
    topic := 'plan';
    select message_ledger.planned_at
    into planned_at
    from app_private.message_ledger
    where message_ledger.user_id = p_user_id
      and message_ledger.message_type = p_message_type
      and message_ledger.delivery_date = p_date;
    at := planned_at;
    if planned_at is not null then
      detail := 'it was planned then; what became of it has left the database';
    elsif person.deleted_at is not null then
      detail := 'no message: the account was closed';
    elsif not is_occasion then
      detail := 'no message: the day is not an occasion';
    elsif not is_wanted then
      detail := 'no message: the user does not want it';
    else
      is_over := false;
      select unplanned.at, unplanned.detail
      into at, detail
      from app_private.explain_unplanned(
        p_user_id, p_message_type, p_date, instant) as unplanned;
    end if;
    return next;
  end if;

  -- What may hold up whatever is still to go out.
  if not is_over then
    for at, detail in
      select delivery_channels.opened_at, delivery_channels.name || ': '
        || concat_ws('; ',
        case when delivery_channels.circuit <> 'closed' then format(
          'the circuit is %s, because the receiver does not answer; next probe %s',
          delivery_channels.circuit,
          to_char(delivery_channels.probe_after, 'YYYY-MM-DD HH24:MI:SS "UTC"')) end,
        'at most ' || delivery_channels.messages_per_second || ' messages a second')
      from app_private.delivery_channels
      where delivery_channels.circuit <> 'closed'
        or delivery_channels.messages_per_second is not null
      order by delivery_channels.name
    loop
      step := step + 1;
      topic := 'channel';
      return next;
    end loop;
  end if;
end
$$;
--! EndIncluded functions/ops/explain_message.sql
grant execute on function ops.explain_message(uuid, text, date) to gw_monitor;
comment on function ops.explain_message(uuid, text, date) is
  'Why a user''s message of a type and local date was, will be, or was not sent, step by step.';

--! Included functions/app_private/find_occasions.sql
-- Users with the same rule are counted together before the dear part, the instants. Looks
-- at rules alone, then at what message_logs has of the same occasions. By hour, or for one
-- user as it is.
create or replace function app_private.find_occasions(
  p_from timestamptz, p_to timestamptz, p_user_id uuid
) returns table (
  at timestamptz,
  timezone text,
  message_type text,
  delivery_date date,
  messages bigint,
  held bigint,
  planned bigint,
  sent bigint,
  stopped bigint
)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  with rules as materialized (
    select message_rules.user_id, message_rules.message_type, message_rules.base_date,
      message_rules.leap_day_policy, message_rules.timezone, message_rules.send_time,
      user_settings.quiet_from, user_settings.quiet_until
    from app_private.message_rules
    left join app_public.user_settings on user_settings.user_id = message_rules.user_id
    where p_user_id is null or message_rules.user_id = p_user_id
  ),
  -- No zone is further from UTC, and no quiet hours last longer than a day.
  days as (
    select p_from::date - 3 as first, p_to::date + 2 as last
  ),
  occasions as (
    select rules.message_type, candidate.delivery_date, rules.timezone, rules.send_time,
      rules.quiet_from, rules.quiet_until, sum(rules.users) as users
    from (
      select message_type, base_date, leap_day_policy, timezone, send_time, quiet_from,
        quiet_until, count(*) as users
      from rules
      group by message_type, base_date, leap_day_policy, timezone, send_time, quiet_from,
        quiet_until
    ) as rules
    cross join days
    cross join lateral (
      select app_hidden.occurrence_in_year(rules.base_date, year, rules.leap_day_policy)
      from generate_series(extract(year from days.first)::integer,
        extract(year from days.last)::integer) as year
      where rules.message_type <> 'DIGEST'
      union all
      select monday::date
      from generate_series(date_trunc('week', days.first), days.last, interval '1 week')
        as monday
      where rules.message_type = 'DIGEST'
    ) as candidate (delivery_date)
    where candidate.delivery_date between days.first and days.last
      and (rules.base_date is null or candidate.delivery_date > rules.base_date)
    group by rules.message_type, candidate.delivery_date, rules.timezone, rules.send_time,
      rules.quiet_from, rules.quiet_until
  ),
  timed as materialized (
    select occasions.*, moment.due, quiet.until as held_until
    from occasions
    cross join lateral (
      select app_hidden.local_to_instant(
        occasions.delivery_date + occasions.send_time, occasions.timezone)
      offset 0
    ) as moment (due)
    cross join lateral (
      select app_hidden.quiet_until(
        moment.due, occasions.timezone, occasions.quiet_from, occasions.quiet_until)
      offset 0
    ) as quiet (until)
  ),
  logged as (
    select rules.message_type, message_logs.delivery_date, rules.timezone,
      rules.send_time, rules.quiet_from, rules.quiet_until,
      count(*) filter (where message_logs.status
        in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING')) as planned,
      count(*) filter (where message_logs.status = 'SENT') as sent,
      count(*) filter (where message_logs.status
        in ('FAILED', 'CANCELLED', 'EXPIRED', 'UNKNOWN')) as stopped
    from app_public.message_logs
    -- A message that the rules took back is not in the ledger any more.
    inner join app_private.message_ledger
      on message_ledger.user_id = message_logs.user_id
      and message_ledger.message_type = message_logs.message_type
      and message_ledger.delivery_date = message_logs.delivery_date
      and message_ledger.message_id = message_logs.id
    inner join rules
      on rules.user_id = message_logs.user_id
      and rules.message_type = message_logs.message_type
    where message_logs.scheduled_send_time > p_from - interval '4 days'
      and message_logs.scheduled_send_time < p_to + interval '4 days'
      and (p_user_id is null or message_logs.user_id = p_user_id)
      and (rules.message_type = 'DIGEST'
        or message_logs.delivery_date = app_hidden.occurrence_in_year(rules.base_date,
          extract(year from message_logs.delivery_date)::integer, rules.leap_day_policy))
    group by rules.message_type, message_logs.delivery_date, rules.timezone,
      rules.send_time, rules.quiet_from, rules.quiet_until
  )
  select goes_out.at, timed.timezone, timed.message_type, timed.delivery_date,
    sum(timed.users)::bigint,
    coalesce(sum(timed.users) filter (where timed.held_until is not null), 0)::bigint,
    coalesce(sum(logged.planned), 0)::bigint, coalesce(sum(logged.sent), 0)::bigint,
    coalesce(sum(logged.stopped), 0)::bigint
  from timed
  cross join lateral (
    select date_trunc(case when p_user_id is null then 'hour' else 'microseconds' end,
      coalesce(timed.held_until, timed.due))
  ) as goes_out (at)
  left join logged
    on logged.message_type = timed.message_type
    and logged.delivery_date = timed.delivery_date
    and logged.timezone = timed.timezone
    and logged.send_time = timed.send_time
    and logged.quiet_from is not distinct from timed.quiet_from
    and logged.quiet_until is not distinct from timed.quiet_until
  where coalesce(timed.held_until, timed.due) >= p_from
    and coalesce(timed.held_until, timed.due) < p_to
  group by goes_out.at, timed.timezone, timed.message_type, timed.delivery_date
  order by goes_out.at, timed.timezone, timed.message_type, timed.delivery_date
$$;
--! EndIncluded functions/app_private/find_occasions.sql
comment on function app_private.find_occasions(timestamptz, timestamptz, uuid) is
  'What goes out in a range of time by the rules: how many, how many of them held by quiet hours, and how many are planned, sent or stopped already.';
--! Included functions/app_private/check_simulated_changes.sql
-- Says which value is wrong, where a cast would only say that one is.
create or replace function app_private.check_simulated_changes(p_changes jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  name text;
  value text;
  rule text;
begin
  for name, value in select * from jsonb_each_text(p_changes) loop
    rule := case
      when name = 'timezone' then 'a time zone that this database knows'
      when name in ('birthday_date', 'anniversary_date') then 'a date, or empty'
      when name = 'send_time' then 'a time of day such as 09:00'
      when name = 'leap_day_policy' then 'feb28, mar1 or skip'
      when name in ('birthday_messages', 'anniversary_messages', 'weekly_digest')
      then 'true or false'
    end;
    if rule is null then
      raise exception 'a change of % cannot be simulated', name
        using errcode = 'GW040', hint = 'Only one of timezone, birthday_date, '
          'anniversary_date, send_time, leap_day_policy, birthday_messages, '
          'anniversary_messages, weekly_digest.';
    end if;
    begin
      if (case
        when name in ('birthday_date', 'anniversary_date')
        then value is null or value::date between date '1604-01-01' and date '2200-01-01'
        when value is null then false
        when name = 'timezone'
        then exists (select from app_hidden.timezones where timezones.name = value)
        when name = 'send_time' then value::time < time '24:00'
        when name = 'leap_day_policy' then value in ('feb28', 'mar1', 'skip')
        else value::boolean is not null
      end) then
        continue;
      end if;
    exception when data_exception then
      null;
    end;
    raise exception '% cannot be %', name, coalesce('"' || value || '"', 'empty')
      using errcode = 'GW040', hint = 'It is ' || rule || '.';
  end loop;
end
$$;
--! EndIncluded functions/app_private/check_simulated_changes.sql
comment on function app_private.check_simulated_changes(jsonb) is
  'Refuses changes of a user that ops.simulate_messages() cannot make.';
--! Included functions/ops/simulate_messages.sql
-- With changes, the difference that they would make. They are made and taken back in a
-- subtransaction: so it is the rules themselves that answer, not a second copy of them.
-- Nobody else sees them; the user's rows are locked for that moment.
create or replace function ops.simulate_messages(
  p_from timestamptz, p_to timestamptz, p_user_id uuid default null,
  p_changes jsonb default '{}'
) returns table (
  difference text,
  at timestamptz,
  timezone text,
  message_type text,
  delivery_date date,
  messages bigint,
  held bigint,
  planned bigint,
  sent bigint,
  stopped bigint
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  before_change jsonb;
  after_change jsonb;
begin
  if p_from is null or p_to is null or not p_from < p_to
    or p_to - p_from > interval '400 days'
    or p_from < '1900-01-01' or p_to > '2300-01-01'
  then
    raise exception 'the range from % to % is not one of up to 400 days', p_from, p_to
      using errcode = 'GW040', hint = 'The end must lie after the start.';
  end if;
  if p_user_id is not null
    and not exists (select from app_public.users where id = p_user_id)
  then
    raise exception 'there is no user %', p_user_id using errcode = 'GW040';
  end if;
  if coalesce(p_changes, '{}') = '{}' then
    return query select null::text, found.*
    from app_private.find_occasions(p_from, p_to, p_user_id) as found;
    return;
  end if;
  if p_user_id is null then
    raise exception 'changes are those of one user, and none is named'
      using errcode = 'GW040', hint = 'Name a user, or leave out the changes.';
  end if;
  perform app_private.check_simulated_changes(p_changes);

  select coalesce(jsonb_agg(to_jsonb(found) || '{"difference": "before"}'), '[]')
  into before_change
  from app_private.find_occasions(p_from, p_to, p_user_id) as found;
  begin
    update app_public.users
    set timezone = coalesce(p_changes ->> 'timezone', timezone),
      birthday_date = case when p_changes ? 'birthday_date'
        then (p_changes ->> 'birthday_date')::date else birthday_date end,
      anniversary_date = case when p_changes ? 'anniversary_date'
        then (p_changes ->> 'anniversary_date')::date else anniversary_date end,
      send_time = coalesce((p_changes ->> 'send_time')::time, send_time),
      leap_day_policy = coalesce(p_changes ->> 'leap_day_policy', leap_day_policy)
    where id = p_user_id;
    insert into app_public.user_settings (user_id) values (p_user_id)
    on conflict do nothing;
    update app_public.user_settings
    set birthday_messages =
        coalesce((p_changes ->> 'birthday_messages')::boolean, birthday_messages),
      anniversary_messages =
        coalesce((p_changes ->> 'anniversary_messages')::boolean, anniversary_messages),
      weekly_digest = coalesce((p_changes ->> 'weekly_digest')::boolean, weekly_digest)
    where user_id = p_user_id;
    select coalesce(jsonb_agg(to_jsonb(found) || '{"difference": "after"}'), '[]')
    into after_change
    from app_private.find_occasions(p_from, p_to, p_user_id) as found;
    raise exception 'taken back' using errcode = 'GW000';
  exception when sqlstate 'GW000' then
    null;
  end;

  return query
  with sides as (
    select *
    from jsonb_to_recordset(before_change || after_change) as side (
      difference text, at timestamptz, timezone text, message_type text,
      delivery_date date, messages bigint, held bigint, planned bigint, sent bigint,
      stopped bigint)
  )
  select sides.*
  from sides
  where not exists (
    select from sides as other
    where other.difference <> sides.difference
      and other.at = sides.at
      and other.message_type = sides.message_type
      and other.delivery_date = sides.delivery_date
  )
  order by sides.at, sides.message_type, sides.difference desc;
end
$$;
--! EndIncluded functions/ops/simulate_messages.sql
comment on function ops.simulate_messages(timestamptz, timestamptz, uuid, jsonb) is
  'What goes out by hour and zone; for a user and changes, what only was so before them and what only after.';

--! Included functions/ops/find_moved_messages.sql
-- What app_private.replan_messages() would move. A local time is cheap to read from an
-- instant and dear to turn into one: that is done for what reads wrong, and for what may
-- be the second of an overlap's two.
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
      -- As next_occasions() and replan_messages() do it: what was still to come is not
      -- missed because it moves into the past.
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
--! EndIncluded functions/ops/find_moved_messages.sql
comment on function ops.find_moved_messages(uuid, text, timestamptz) is
  'Instants in the schedule and of waiting messages that the zones'' rules now make others.';
--! Included functions/ops/replan_users.sql
-- A chunk holds up whoever changes one of its users for about a second.
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
    changed := app_private.replan_messages(ids);
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
--! EndIncluded functions/ops/replan_users.sql
comment on function ops.replan_users(uuid, integer, text, uuid) is
  'Brings what has not gone out up to date for the next so many users by id, after an id. Returns the last id, null at the end, how many users and how many changes.';

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
    and (p_message_type is null or message_logs.message_type = p_message_type)
    -- No zone is further from UTC.
    and (p_date is null or message_logs.delivery_date = p_date
      and message_logs.scheduled_send_time >= (p_date - 3)::timestamp at time zone 'UTC'
      and message_logs.scheduled_send_time < (p_date + 4)::timestamp at time zone 'UTC')
    and (p_user_id is null or message_logs.user_id = p_user_id)
    and (p_since is null or message_logs.scheduled_send_time >= p_since)
    and (p_message_id is null or message_logs.id = p_message_id)
$$;
--! EndIncluded functions/app_private/find_messages.sql
comment on function app_private.find_messages(
  text[], text, date, uuid, timestamptz, uuid) is
  'Messages by filters; null does not filter.';
--! Included functions/app_private/redrive_refusals.sql
-- The rules of claim_messages(): what it would only cancel again is not worth a try.
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
      when users.deleted_at is not null then 'the account was closed'
      when rules.user_id is null then 'the user does not want this message any more'
      when rules.message_type <> 'DIGEST'
        and found.delivery_date is distinct from app_hidden.occurrence_in_year(
          rules.base_date, extract(year from found.delivery_date)::integer,
          rules.leap_day_policy)
        then 'the date was changed'
      when other.message_id is not null
        then 'another message has this occasion: ' || other.message_id
      when row_number() over (
        partition by found.user_id, found.message_type, found.delivery_date
        order by ledger.message_id is not null desc, found.created_at desc, found.id) > 1
        then 'a later message has this occasion'
      -- Which channel it goes out by is not known here.
      when not p_even_unknown and (found.status = 'UNKNOWN'
        or found.uncertain_since < now() - (select min(key_lifetime)
          from app_private.delivery_channels))
        then 'it may have been delivered already: --even-unknown sends it again'
    end
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found
  inner join app_public.users on users.id = found.user_id
  left join app_private.message_rules as rules
    on rules.user_id = found.user_id
    and rules.message_type = found.message_type
  left join app_private.message_ledger as ledger
    on ledger.user_id = found.user_id
    and ledger.message_type = found.message_type
    and ledger.delivery_date = found.delivery_date
    and ledger.message_id = found.id
  -- Whoever moves February 29 from one day to the next has been greeted already.
  left join lateral (
    select message_ledger.message_id
    from app_private.message_ledger
    where message_ledger.user_id = found.user_id
      and message_ledger.message_type = found.message_type
      and message_ledger.delivery_date
        between found.delivery_date - 2 and found.delivery_date + 2
      and message_ledger.message_id <> found.id
    order by message_ledger.delivery_date
    limit 1
  ) as other on ledger.message_id is null
  where found.status in ('FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELLED')
$$;
--! EndIncluded functions/app_private/redrive_refusals.sql
comment on function app_private.redrive_refusals(
  text[], text, date, uuid, timestamptz, uuid, boolean) is
  'Messages that did not go out, and why one may not be sent again; null when it may.';
--! Included functions/ops/redrive_messages.sql
-- Nothing is sent here: a message gets a job of its own again, and claim_messages()
-- decides as for any other. One that is planned for later only becomes SCHEDULED.
create or replace function ops.redrive_messages(
  p_statuses text[] default array['FAILED', 'EXPIRED'],
  p_message_type text default null,
  p_date date default null,
  p_user_id uuid default null,
  p_since timestamptz default null,
  p_message_id uuid default null,
  p_even_unknown boolean default false,
  p_dry_run boolean default false
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
  user_ids uuid[];
  judged jsonb;
  wanted uuid[];
begin
  if not p_statuses <@ array['FAILED', 'EXPIRED', 'UNKNOWN', 'CANCELLED'] then
    raise exception
      'only FAILED, EXPIRED, UNKNOWN and CANCELLED messages can be sent again'
      using errcode = 'GW041',
        hint = 'What waits is sent by itself; what was sent stays sent.';
  end if;

  if not p_dry_run then
    -- In the order of replan_messages(): nothing is planned for these users meanwhile.
    select array_agg(distinct found.user_id) into user_ids
    from app_private.find_messages(
      p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found;
    perform from app_public.users where id = any (user_ids) order by id for no key update;
    perform from app_private.message_schedule where user_id = any (user_ids)
    order by user_id, message_type for update;
    perform from app_public.message_logs
    where (user_id, id, scheduled_send_time) in (
      select found.user_id, found.id, found.scheduled_send_time
      from app_private.find_messages(
        p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found)
    order by user_id, id
    for update;
  end if;

  select coalesce(jsonb_agg(to_jsonb(found)
    order by found.scheduled_send_time, found.user_id, found.message_id), '[]')
  into judged
  from app_private.redrive_refusals(p_statuses, p_message_type, p_date, p_user_id,
    p_since, p_message_id, p_even_unknown) as found;
  return query
  select found.user_id, found.message_id, found.message_type, found.delivery_date,
    found.status, found.refusal
  from jsonb_to_recordset(judged) as found (user_id uuid, message_id uuid,
    message_type text, delivery_date date, status text, refusal text);
  select coalesce(array_agg(found.message_id), '{}')
  into wanted
  from jsonb_to_recordset(judged) as found (message_id uuid, refusal text)
  where found.refusal is null;
  if p_dry_run or wanted = '{}' then
    return;
  end if;

  insert into app_private.message_ledger
    (user_id, message_type, delivery_date, message_id, scheduled_send_time)
  select found.user_id, found.message_type, found.delivery_date, found.id,
    found.scheduled_send_time
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found
  where found.id = any (wanted)
    and not exists (
      select from app_private.message_ledger as ledger
      where ledger.user_id = found.user_id
        and ledger.message_type = found.message_type
        and ledger.delivery_date = found.delivery_date
    )
  order by found.user_id, found.message_type;

  update app_public.message_logs
  set status = 'SCHEDULED',
    job_id = null,
    retry_count = 0,
    send_until = case when found.scheduled_send_time <= now()
      then now() + settings.late_window end,
    error_message = null,
    attempts = coalesce(message_logs.attempts, '[]') || jsonb_build_array(
      jsonb_strip_nulls(jsonb_build_object(
        'change', 'sent again',
        'changed_at', now(),
        'changed_by', session_user,
        'status', message_logs.status,
        'error', message_logs.error_message))),
    uncertain_since = case when not p_even_unknown then message_logs.uncertain_since end,
    -- What certainly was not delivered may go to an address corrected since, and say what
    -- is true now. What may have been stays as it was under its key.
    recipient_email = case when is_uncertain then message_logs.recipient_email end,
    recipient_name = case when is_uncertain then message_logs.recipient_name end,
    attempted_at = case when is_uncertain then message_logs.attempted_at end
  from app_private.find_messages(
    p_statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found
  cross join lateral (
    select found.uncertain_since is not null or found.status = 'UNKNOWN'
  ) as doubt (is_uncertain)
  cross join app_private.message_settings as settings
  where found.id = any (wanted)
    and message_logs.user_id = found.user_id
    and message_logs.id = found.id
    and message_logs.scheduled_send_time = found.scheduled_send_time;
  perform app_private.replan_messages(user_ids);
  perform app_private.enqueue_messages(array_agg(due.user_id), array_agg(due.id),
    array_agg(due.scheduled_send_time), now())
  from app_private.find_messages(
    array['SCHEDULED'], p_message_type, p_date, p_user_id, null, p_message_id) as due
  where due.id = any (wanted)
    and due.scheduled_send_time <= now();

  delete from pgboss.job
  where job.name = 'message-send-dead'
    and (job.data ->> 'message_id')::uuid = any (wanted);
  if not exists (select from pgboss.job where job.name = 'message-send-dead') then
    perform ops.resolve_alert('health-dead-letters', 'message-send-dead');
  end if;
  perform ops.audit('messages.redriven', jsonb_strip_nulls(jsonb_build_object(
    'messages', cardinality(wanted),
    'statuses', p_statuses,
    'type', p_message_type,
    'date', p_date,
    'user_id', p_user_id,
    'since', p_since,
    'message_id', p_message_id,
    'even_unknown', p_even_unknown)));
end
$$;
--! EndIncluded functions/ops/redrive_messages.sql
comment on function ops.redrive_messages(
  text[], text, date, uuid, timestamptz, uuid, boolean, boolean) is
  'Sends messages again that failed, expired, were cancelled, or have an unknown outcome. Returns all that the filters match; what was refused has a reason.';
--! Included functions/ops/cancel_messages.sql
-- The ledger keeps a message that a person cancels: it is not planned again.
create or replace function ops.cancel_messages(
  p_reason text,
  p_statuses text[] default null,
  p_message_type text default null,
  p_date date default null,
  p_user_id uuid default null,
  p_since timestamptz default null,
  p_message_id uuid default null,
  p_dry_run boolean default false
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
  judged jsonb;
  cancelled integer;
begin
  if not statuses <@ array['SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING'] then
    raise exception 'only SCHEDULED, QUEUED and RETRYING messages can be cancelled'
      using errcode = 'GW041', hint = 'The others do not go out.';
  end if;
  if coalesce(btrim(p_reason), '') = '' or length(p_reason) > 200 then
    raise exception 'a reason of 1 to 200 characters is needed'
      using errcode = 'GW041', hint = 'The message shows it to whoever asks.';
  end if;

  if not p_dry_run then
    perform from app_public.message_logs
    where (user_id, id, scheduled_send_time) in (
      select found.user_id, found.id, found.scheduled_send_time
      from app_private.find_messages(
        statuses, p_message_type, p_date, p_user_id, p_since, p_message_id) as found)
    order by user_id, id
    for update;
  end if;
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
  if p_dry_run then
    return;
  end if;

  with changed as (
    update app_public.message_logs
    set status = 'CANCELLED', job_id = null,
      error_message = 'cancelled by a person: ' || btrim(p_reason),
      attempts = case when found.status = 'SCHEDULED' and message_logs.attempts is null
        then null
        else coalesce(message_logs.attempts, '[]') || jsonb_build_array(
          jsonb_strip_nulls(jsonb_build_object(
            'change', 'cancelled',
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
  select count(*) into cancelled from changed;
  if cancelled > 0 then
    perform ops.audit('messages.cancelled', jsonb_strip_nulls(jsonb_build_object(
      'messages', cancelled,
      'reason', btrim(p_reason),
      'statuses', statuses,
      'type', p_message_type,
      'date', p_date,
      'user_id', p_user_id,
      'since', p_since,
      'message_id', p_message_id)));
  end if;
end
$$;
--! EndIncluded functions/ops/cancel_messages.sql
comment on function ops.cancel_messages(
  text, text[], text, date, uuid, timestamptz, uuid, boolean) is
  'Cancels what has not gone out, so that it is not planned again. Returns all that the filters match; what was refused has a reason.';
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
    raise exception 'a message of unknown outcome was SENT or FAILED, not %', p_status
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
--! EndIncluded functions/ops/resolve_message.sql
comment on function ops.resolve_message(uuid, text) is
  'Says of an UNKNOWN message what the receiver says of it: SENT or FAILED.';
--! Included functions/ops/limit_channel.sql
create or replace function ops.limit_channel(
  p_channel text, p_messages_per_second double precision
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_messages_per_second is not null
    and p_messages_per_second not between 0.01 and 1000000
  then
    raise exception 'a limit of % messages a second is not between 0.01 and 1000000',
      p_messages_per_second
      using errcode = 'GW041', hint = 'Null means no limit.';
  end if;
  update app_private.delivery_channels
  set messages_per_second = p_messages_per_second, permits = 0, permits_at = now()
  where name = p_channel;
  if not found then
    raise exception 'there is no channel %', p_channel
      using errcode = 'GW013', hint = 'app_private.delivery_channels lists them.';
  end if;
  perform ops.audit('messages.limited', jsonb_build_object(
    'channel', p_channel, 'messages_per_second', p_messages_per_second));
end
$$;
--! EndIncluded functions/ops/limit_channel.sql
comment on function ops.limit_channel(text, double precision) is
  'Limits a channel to so many messages a second, of all workers together; null: no limit.';

comment on column app_public.message_logs.recipient_email is
  'The address of the first attempt; every attempt has the same, until it is sent again by hand.';
comment on column app_public.message_logs.recipient_name is
  'The name of the first attempt; every attempt has the same, until it is sent again by hand.';
comment on column app_public.message_logs.attempts is
  'The attempts that did not deliver (when, code, answer, error), and what people did to it (change).';
