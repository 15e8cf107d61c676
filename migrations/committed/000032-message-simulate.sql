--! Previous: sha1:d8192b027e453c49aedfe1bff8a4ffc6e20105ac
--! Hash: sha1:574697ec80f47c38c3ee1e8b2f19ff184fd57f50
--! Message: message-simulate
--! Baseline: topics/32-message-simulate.sql

/*
 * "gw messages simulate": what is sent in a range of time, by the rules as they are, or
 * as they would be after a change of one user.
 */

--! Included functions/app_private/occasion_dates.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.occasion_dates(
  p_repeats text, p_base_date date, p_leap_day_policy text, p_first date, p_last date
) returns table (delivery_date date)
language sql stable
as $$
  select candidate.delivery_date
  from (
    select app_hidden.occurrence_in_year(p_base_date, year, p_leap_day_policy)
    from pg_catalog.generate_series(pg_catalog.date_part('year', p_first)::integer,
      pg_catalog.date_part('year', p_last)::integer) as year
    where p_repeats = 'yearly'
    union all
    select monday::date
    from pg_catalog.generate_series(
      pg_catalog.date_trunc('week', p_first::timestamp), p_last::timestamp,
      interval '1 week') as monday
    where p_repeats = 'weekly'
    union all
    select p_base_date
    where p_repeats = 'once'
  ) as candidate (delivery_date)
  where candidate.delivery_date between p_first and p_last
    and (candidate.delivery_date > p_base_date or p_repeats = 'once')
$$;

comment on function app_private.occasion_dates(text, date, text, date, date) is
  'The local dates in a range on which a user''s rule has a message.';
--! EndIncluded functions/app_private/occasion_dates.sql
--! Included functions/app_private/find_occasions.sql
-- Users with the same rule are counted first, because instants are expensive to compute.
-- Then the same occasions are looked up in message_logs. Rows are by hour, or for one
-- user by instant.
create or replace function app_private.find_occasions(
  p_from timestamptz, p_to timestamptz, p_user_id uuid
) returns table (
  at timestamptz,
  timezone text,
  message_type text,
  delivery_date date,
  messages bigint,
  suppressed bigint,
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
    select message_rules.user_id, message_rules.message_type, message_rules.repeats,
      message_rules.base_date, message_rules.leap_day_policy, message_rules.timezone,
      message_rules.send_time, message_rules.quiet_from, message_rules.quiet_until,
      app_private.suppression(message_rules.email, message_rules.message_type,
        message_rules.is_optional, app_private.is_by_mail_alone(message_rules.message_type)) is not null
        as is_suppressed
    from app_private.message_rules
    where p_user_id is null or message_rules.user_id = p_user_id
  ),
  -- No zone is further from UTC, and no quiet hours last longer than a day.
  days as (
    select p_from::date - 3 as first, p_to::date + 2 as last
  ),
  occasions as (
    select rules.message_type, candidate.delivery_date, rules.timezone, rules.send_time,
      rules.quiet_from, rules.quiet_until, sum(rules.users) as users, sum(rules.suppressed) as suppressed
    from (
      select message_type, repeats, base_date, leap_day_policy, timezone, send_time,
        quiet_from, quiet_until, count(*) as users,
        count(*) filter (where is_suppressed) as suppressed
      from rules
      group by message_type, repeats, base_date, leap_day_policy, timezone, send_time,
        quiet_from, quiet_until
    ) as rules
    cross join days
    cross join lateral app_private.occasion_dates(rules.repeats, rules.base_date,
      rules.leap_day_policy, days.first, days.last) as candidate
    group by rules.message_type, candidate.delivery_date, rules.timezone, rules.send_time,
      rules.quiet_from, rules.quiet_until
  ),
  timed as materialized (
    select occasions.*, moment.due, decision.held_until
    from occasions
    cross join lateral (
      select app_hidden.local_to_instant(
        occasions.delivery_date + occasions.send_time, occasions.timezone)
      offset 0
    ) as moment (due)
    cross join lateral app_private.message_decision(moment.due, null,
      occasions.timezone, occasions.quiet_from, occasions.quiet_until) as decision
  ),
  logged as (
    select rules.message_type, message_logs.delivery_date, rules.timezone,
      rules.send_time, rules.quiet_from, rules.quiet_until,
      count(*) filter (where message_logs.status
        in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING')) as planned,
      count(*) filter (where message_logs.status = 'SENT') as sent,
      count(*) filter (where message_logs.status
        in ('FAILED', 'CANCELED', 'EXPIRED', 'UNKNOWN', 'SUPPRESSED')) as stopped
    from app_public.message_logs
    -- A message that was canceled by a change of rules is not in the ledger any more.
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
      and app_private.message_refusal(null, true, true, rules.repeats, rules.base_date,
        rules.leap_day_policy, message_logs.delivery_date) is null
    group by rules.message_type, message_logs.delivery_date, rules.timezone,
      rules.send_time, rules.quiet_from, rules.quiet_until
  )
  select goes_out.at, timed.timezone, timed.message_type, timed.delivery_date,
    sum(timed.users)::bigint, sum(timed.suppressed)::bigint,
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

comment on function app_private.find_occasions(timestamptz, timestamptz, uuid) is
  'Messages that the rules send in a range of time: how many, to how many suppressed addresses, how many quiet hours hold, and how many are planned, sent or stopped already.';
--! EndIncluded functions/app_private/find_occasions.sql
--! Included functions/app_private/check_simulated_changes.sql
-- A cast would say that a value is wrong, but not which one.
create or replace function app_private.check_simulated_changes(p_changes jsonb)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  name text;
  value text;
  rule text;
  dates constant text[] := array(
    select base_column
    from app_private.message_types
    inner join pg_attribute
      on attrelid = 'app_public.users'::regclass
      and attname = base_column
      and atttypid = 'date'::regtype
    order by 1);
  wishes constant text[] := array(
    select opt_out_column
    from app_private.message_types
    where opt_out_column is not null
    order by 1);
begin
  for name, value in select * from jsonb_each_text(p_changes) loop
    rule := case
      when name = 'timezone' then 'a time zone that this database knows'
      when name = any (dates) then 'a date, or empty'
      when name = 'send_time' then 'a time of day such as 09:00'
      when name = 'leap_day_policy' then 'feb28, mar1 or skip'
      when name = any (wishes) then 'true or false'
    end;
    if rule is null then
      raise exception 'a change of % cannot be simulated', name
        using errcode = 'GW040', hint = 'Only one of '
          || array_to_string(
            'timezone'::text || dates || array['send_time', 'leap_day_policy'] || wishes, ', ')
          || '.';
    end if;
    begin
      if (case
        when name = any (dates)
        then value is null or value::date between date '1604-01-01' and date '2200-01-01'
        when value is null then false
        when name = 'timezone'
        then exists (
          select from app_hidden.known_timezones
          where lower(known_timezones.name) = lower(value)
        )
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

comment on function app_private.check_simulated_changes(jsonb) is
  'Refuses changes of a user that ops.simulate_messages() cannot make.';
--! EndIncluded functions/app_private/check_simulated_changes.sql
--! Included functions/app_private/apply_simulated_changes.sql
-- check_simulated_changes() has checked the names: each is a column of one of the two
-- tables.
create or replace function app_private.apply_simulated_changes(
  p_user_id uuid, p_changes jsonb
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  changed record;
begin
  insert into app_public.user_settings (user_id) values (p_user_id)
  on conflict do nothing;
  for changed in
    select attribute.attrelid::regclass as relation,
      case attribute.attrelid when 'app_public.users'::regclass
        then 'id' else 'user_id' end as key,
      string_agg(format('%1$I = ($1 ->> %1$L)::%2$s', attribute.attname,
        format_type(attribute.atttypid, attribute.atttypmod)), ', ') as assignments
    from jsonb_object_keys(p_changes) as name
    inner join pg_attribute as attribute
      on attribute.attrelid
        in ('app_public.users'::regclass, 'app_public.user_settings'::regclass)
      and attribute.attname = name
    group by attribute.attrelid
  loop
    execute format('update %s set %s where %I = $2',
      changed.relation, changed.assignments, changed.key)
    using p_changes, p_user_id;
  end loop;
end
$$;

comment on function app_private.apply_simulated_changes(uuid, jsonb) is
  'Changes columns of a user, for ops.simulate_messages(), which rolls the change back.';
--! EndIncluded functions/app_private/apply_simulated_changes.sql
--! Included functions/ops/simulate_messages.sql
-- With changes, it returns the difference that they would make. The changes are made and
-- rolled back in a subtransaction, so the real rules are used, not a copy. Other
-- transactions do not see the changes; the user's rows are locked meanwhile.
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
  suppressed bigint,
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
    perform app_private.apply_simulated_changes(p_user_id, p_changes);
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
      delivery_date date, messages bigint, suppressed bigint, held bigint,
      planned bigint, sent bigint, stopped bigint)
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

comment on function ops.simulate_messages(timestamptz, timestamptz, uuid, jsonb) is
  'Messages by hour and zone in a range of time; suppressed: of these, those whose address takes none. With a user and changes: the messages that the changes would remove, and those that they would add.';
--! EndIncluded functions/ops/simulate_messages.sql
