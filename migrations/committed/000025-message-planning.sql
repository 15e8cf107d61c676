--! Previous: sha1:cc4da30c336125753988fcd0ee60199217c1da62
--! Hash: sha1:c612abf4aaff29710c5091957d49832634f41b36
--! Message: message-planning
--! Baseline: topics/25-message-planning.sql

/*
 * Planning: which message is due when.
 *
 * message_schedule holds the next occasion of each user and type, so that a tick with
 * nothing due reads a few index pages, whatever the number of users. Triggers on users and
 * user_settings keep it, and move or cancel what has not gone out.
 */

-- The next occasion of each user and type that is not in the ledger.
create table app_private.message_schedule (
  user_id uuid not null,
  message_type text not null,
  delivery_date date not null,
  scheduled_send_time timestamptz not null,
  constraint message_schedule_pkey primary key (user_id, message_type),
  constraint message_schedule_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint message_schedule_message_type_fkey
    foreign key (message_type) references app_private.message_types on delete cascade
);

create index message_schedule_scheduled_send_time_idx
  on app_private.message_schedule (scheduled_send_time);

alter table app_private.message_schedule enable row level security;

comment on table app_private.message_schedule is
  'The next message to plan for each user and type. Triggers keep it in step with the users'' rules.';

-- The rules: open accounts with an address, what they want, the date that it needs, and a
-- time zone that the server knows.
create view app_private.message_rules with (security_invoker = true) as
select user_messages.user_id, user_messages.message_type, user_messages.repeats,
  user_messages.base_date, user_messages.send_time, user_messages.timezone,
  user_messages.leap_day_policy, user_messages.first_name, user_messages.last_name,
  user_messages.locale, user_messages.quiet_from, user_messages.quiet_until,
  user_messages.email, user_messages.is_optional, user_messages.late_policy,
  user_messages.cap_days
from app_private.user_messages
where user_messages.deleted_at is null
  and user_messages.is_wanted
  and user_messages.email is not null
  and user_messages.base_date is not null
  and user_messages.timezone is not null;

comment on view app_private.message_rules is
  'One row for each user and message type that is to be sent: its date, time and zone, and what else decides it.';

-- A person looks here when an alert says that a zone is not known.
create table app_private.unknown_timezones (
  name text not null,
  since timestamptz not null default now(),
  taken_up_to uuid not null default '00000000-0000-0000-0000-000000000000',
  constraint unknown_timezones_pkey primary key (name)
);

alter table app_private.unknown_timezones enable row level security;

comment on table app_private.unknown_timezones is
  'Time zones that the server does not know: nothing is planned for users there. A row goes when the server knows the zone again and all its users were planned.';
comment on column app_private.unknown_timezones.since is
  'When a user was first left out because of it.';
comment on column app_private.unknown_timezones.taken_up_to is
  'The zone is known again, and users up to this id were planned.';

-- One user whose rows cannot be planned, for whatever reason, does not keep the others
-- waiting.
create table app_private.set_aside_users (
  user_id uuid not null,
  task text not null,
  error text not null,
  failed_at timestamptz not null,
  constraint set_aside_users_pkey primary key (user_id),
  constraint set_aside_users_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint set_aside_users_task_check check (task in ('plan', 'schedule', 'replan'))
);

create index set_aside_users_failed_at_idx on app_private.set_aside_users (failed_at);

alter table app_private.set_aside_users enable row level security;

comment on table app_private.set_aside_users is
  'Users whose messages could not be planned. The planner tries them again 15 minutes later; the row goes when that succeeds.';
comment on column app_private.set_aside_users.task is 'What failed: plan, schedule or replan.';
comment on column app_private.set_aside_users.error is 'SQLSTATE and message, without addresses.';

--! Included functions/app_private/next_occasions.sql
-- Cheap bounds on the date come first: an instant costs far more to compute.
--
-- An occasion in the schedule stays the next one as long as the rules have it. A change
-- of rules may move its instant into the past: then it is due now, and not missed. An
-- occasion that was missed before the change stays too, because the planner has not
-- recorded it yet.
create or replace function app_private.next_occasions(p_user_ids uuid[], p_now timestamptz)
returns table (
  user_id uuid,
  message_type text,
  delivery_date date,
  scheduled_send_time timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select rules.user_id, rules.message_type, next.delivery_date, next.instant
  from app_private.message_rules as rules
  left join app_private.message_schedule
    on message_schedule.user_id = rules.user_id
    and message_schedule.message_type = rules.message_type
  cross join (
    select late_window, (p_now - late_window)::date - 2 as first_day,
      (p_now + interval '3 days')::date as last_planned_day
    from app_private.late_window()
  ) as settings
  cross join lateral (
    select candidate.delivery_date,
      case
        when message_schedule.delivery_date = candidate.delivery_date
          and message_schedule.scheduled_send_time > p_now
        then greatest(moment.instant, p_now)
        else moment.instant
      end as instant
    from (
      select app_hidden.occurrence_in_year(
        rules.base_date, year, rules.leap_day_policy) as delivery_date
      from generate_series(
        extract(year from least(message_schedule.delivery_date, settings.first_day))::integer,
        -- February 29 can be eight years away for those who skip it.
        -- A message of January 1 is planned in the year before.
        extract(year from settings.last_planned_day)::integer + case rules.leap_day_policy
          when 'skip' then 9 else 1 end) as year
      where rules.repeats = 'yearly'
      union all
      -- On Sunday the next one is tomorrow; when that is planned, a week later. The
      -- planner records one that was missed weeks ago.
      select monday::date
      from generate_series(
        least(date_trunc('week', p_now at time zone 'UTC') - interval '7 days',
          message_schedule.delivery_date),
        date_trunc('week', p_now at time zone 'UTC') + interval '14 days',
        interval '7 days') as monday
      where rules.repeats = 'weekly'
      union all
      select rules.base_date
      where rules.repeats = 'once'
    ) as candidate
    cross join lateral (
      select app_hidden.local_to_instant(
        candidate.delivery_date + rules.send_time, rules.timezone)
      offset 0
    ) as moment (instant)
    where candidate.delivery_date >= least(message_schedule.delivery_date, settings.first_day)
      and (candidate.delivery_date > rules.base_date or rules.repeats = 'once')
      and (moment.instant > p_now - settings.late_window
        or message_schedule.delivery_date = candidate.delivery_date)
      -- A user who moves the date by some days after the message does not get it twice.
      and (candidate.delivery_date > settings.last_planned_day + rules.cap_days
        or not exists (
          select from app_private.message_ledger
          where message_ledger.user_id = rules.user_id
            and message_ledger.message_type = rules.message_type
            and message_ledger.delivery_date
              between candidate.delivery_date - rules.cap_days
                and candidate.delivery_date + rules.cap_days
        ))
    order by candidate.delivery_date
    limit 1
  ) as next
  where rules.user_id = any (p_user_ids)
$$;

comment on function app_private.next_occasions(uuid[], timestamptz) is
  'For each of the users and message types the next occasion that is not in the ledger; none for a user whose time zone the server does not know.';
--! EndIncluded functions/app_private/next_occasions.sql
--! Included functions/app_private/schedule_messages.sql
-- A user whose time zone the server does not know leaves the schedule. The zone is
-- written down, so that take_up_timezones() brings the user back.
create or replace function app_private.schedule_messages(
  p_user_ids uuid[], p_now timestamptz default now()
) returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with next as materialized (
    select * from app_private.next_occasions(p_user_ids, p_now)
  ),
  removed as (
    delete from app_private.message_schedule
    where message_schedule.user_id = any (p_user_ids)
      and not exists (
        select from next
        where next.user_id = message_schedule.user_id
          and next.message_type = message_schedule.message_type
      )
    returning 1
  ),
  written as (
    insert into app_private.message_schedule
      (user_id, message_type, delivery_date, scheduled_send_time)
    select user_id, message_type, delivery_date, scheduled_send_time
    from next
    order by user_id, message_type
    on conflict (user_id, message_type) do update
    set delivery_date = excluded.delivery_date,
      scheduled_send_time = excluded.scheduled_send_time
    where (message_schedule.delivery_date, message_schedule.scheduled_send_time)
      is distinct from (excluded.delivery_date, excluded.scheduled_send_time)
    returning 1
  ),
  unknown as (
    insert into app_private.unknown_timezones as unknown (name)
    select distinct users.timezone
    from app_public.users
    where users.id = any (p_user_ids)
      and not exists (
        select from app_hidden.known_timezones
        where known_timezones.name = users.timezone
      )
    on conflict (name) do update
    -- Those who were taken up may be set aside again.
    set taken_up_to = excluded.taken_up_to
    where unknown.taken_up_to <> excluded.taken_up_to
  )
  select (select count(*) from removed)::integer + (select count(*) from written)::integer
$$;

comment on function app_private.schedule_messages(uuid[], timestamptz) is
  'Brings the schedule of these users up to date. Returns how many rows changed.';
--! EndIncluded functions/app_private/schedule_messages.sql
--! Included functions/app_private/message_queue.sql
create or replace function app_private.message_queue() returns pgboss.queue
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found_queue pgboss.queue;
begin
  select * into found_queue from pgboss.queue where name = 'message-send';
  if not found then
    raise exception 'the queue message-send does not exist'
      using errcode = 'GW011', hint = 'A migration makes it with pgboss.create_queue().';
  end if;
  return found_queue;
end
$$;

comment on function app_private.message_queue() is
  'The queue of messages. Raises GW011 when it does not exist.';
--! EndIncluded functions/app_private/message_queue.sql
--! Included functions/app_private/enqueue_messages.sql
-- Gives each message a new job, and makes it the only one that may send it. A message that
-- may have been delivered goes by the channel that knows its key.
create or replace function app_private.enqueue_messages(
  p_user_ids uuid[], p_message_ids uuid[], p_times timestamptz[], p_not_before timestamptz
) returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select ops.refuse_when_fenced();

  with queued as (
    update app_public.message_logs
    set status = case message_logs.status
        when 'SENDING' then 'SENDING' when 'RETRYING' then 'RETRYING' else 'QUEUED' end,
      job_id = gen_random_uuid()
    from unnest(p_user_ids, p_message_ids, p_times)
      as wanted (user_id, id, scheduled_send_time)
    where message_logs.user_id = wanted.user_id
      and message_logs.id = wanted.id
      and message_logs.scheduled_send_time = wanted.scheduled_send_time
    returning message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.message_type, message_logs.job_id, message_logs.route_step,
      case when message_logs.uncertain_since is not null then message_logs.channel end
        as bound_to
  ),
  jobs as (
    insert into pgboss.job (id, name, data, priority, start_after, created_on, keep_until,
      retry_limit, retry_delay, retry_backoff, retry_delay_max, expire_seconds,
      deletion_seconds, heartbeat_seconds, policy, dead_letter)
    select queued.job_id, queue.name,
      jsonb_strip_nulls(jsonb_build_object(
        'user_id', queued.user_id,
        'message_id', queued.id,
        'message_type', queued.message_type,
        'scheduled_send_time', queued.scheduled_send_time,
        'traceparent', app_hidden.current_traceparent())),
      case when (select exists (select from app_private.message_routes))
        then -app_private.lane_for(queued.user_id, queued.message_type, queued.route_step,
          queued.bound_to) else 0 end,
      greatest(queued.scheduled_send_time, p_not_before),
      -- pg-boss serves the oldest job first: let that be what is due first.
      least(queued.scheduled_send_time, now()),
      greatest(queued.scheduled_send_time, now())
        + queue.retention_seconds * interval '1 second',
      queue.retry_limit, queue.retry_delay, queue.retry_backoff, queue.retry_delay_max,
      queue.expire_seconds, queue.deletion_seconds, queue.heartbeat_seconds, queue.policy,
      queue.dead_letter
    from queued
    cross join app_private.message_queue() as queue
    returning 1
  )
  select count(*)::integer from jobs
$$;

comment on function app_private.enqueue_messages(uuid[], uuid[], timestamptz[], timestamptz) is
  'Gives messages jobs that run when they are due, and not before the instant given.';
--! EndIncluded functions/app_private/enqueue_messages.sql
--! Included functions/app_private/queue_due_messages.sql
-- A job exists only for what is due: the queue stays short, and a message that is moved
-- or canceled before then has no job to look for.
create or replace function app_private.queue_due_messages(p_now timestamptz default now())
returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with due as (
    select user_id, id, scheduled_send_time
    from app_public.message_logs
    where stage = 'open'
      and status = 'SCHEDULED'
      -- A bound that lets PostgreSQL skip partitions.
      and scheduled_send_time > p_now - interval '1 year'
      -- One tick is a minute; the rest is a reserve for a late one.
      and scheduled_send_time <= p_now + interval '90 seconds'
    order by user_id, id
    for update skip locked
  )
  select coalesce(app_private.enqueue_messages(array_agg(due.user_id), array_agg(due.id),
    array_agg(due.scheduled_send_time), '-infinity'), 0)
  from due
  having count(*) > 0
$$;

comment on function app_private.queue_due_messages(timestamptz) is
  'Queues messages that are planned and due by the next tick. Returns how many.';
--! EndIncluded functions/app_private/queue_due_messages.sql
--! Included functions/app_private/message_refusal.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.message_refusal(
  p_deleted_at timestamptz, p_is_wanted boolean, p_has_address boolean, p_repeats text,
  p_base_date date, p_leap_day_policy text, p_delivery_date date
) returns text
language sql immutable
as $$
  select case
    when p_deleted_at is not null then 'the account was closed'
    when not p_is_wanted or p_base_date is null and p_repeats <> 'event'
    then 'the user does not want this message any more'
    when not p_has_address then 'the user has no e-mail address'
    when p_repeats = 'once' and p_delivery_date <> p_base_date then 'the date was changed'
    when p_repeats = 'yearly'
      and (p_delivery_date <= p_base_date
        or p_delivery_date is distinct from app_hidden.occurrence_in_year(p_base_date,
          pg_catalog.date_part('year', p_delivery_date)::integer, p_leap_day_policy))
    then 'the date was changed'
  end
$$;

comment on function app_private.message_refusal(
  timestamptz, boolean, boolean, text, date, text, date) is
  'The reason why a user''s rules, a row of user_messages, do not want the message of a date any more; null when they want it.';
--! EndIncluded functions/app_private/message_refusal.sql
--! Included functions/app_private/replan_messages.sql
-- Messages that were not sent follow the user's new rules, in the transaction that
-- changes them. SENDING is left alone: the call is being made. A canceled occasion leaves
-- the ledger, so that it is planned again when the user undoes the change.
create or replace function app_private.replan_messages(
  p_user_ids uuid[], p_now timestamptz default now()
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  changed integer;
begin
  -- One change of a user at a time, and none while the planner has the user's rows.
  perform from app_public.users
  where id = any (p_user_ids)
  order by id
  for no key update;
  perform from app_private.message_schedule
  where user_id = any (p_user_ids)
  order by user_id, message_type
  for update;

  with unsent as materialized (
    select *
    from app_public.message_logs
    where user_id = any (p_user_ids)
      and status in ('SCHEDULED', 'QUEUED', 'RETRYING')
      and scheduled_send_time > p_now - interval '1 year'
    order by user_id, id
    for update
  ),
  decided as (
    select unsent.*,
      app_private.message_refusal(rules.deleted_at, rules.is_wanted,
        rules.email is not null, rules.repeats,
        rules.base_date, rules.leap_day_policy, unsent.delivery_date) as reason,
      -- A message that moves into the past is due now, and not missed. While the server
      -- does not know the zone, the instant stays.
      case when rules.timezone is null
          or rules.repeats = 'event' and unsent.local_time is null
        then unsent.scheduled_send_time
        else greatest(
          app_hidden.local_to_instant(
            unsent.delivery_date + coalesce(unsent.local_time, rules.send_time),
            rules.timezone),
          least(p_now, unsent.scheduled_send_time)) end as instant,
      text.subject, text.body, text.html, text.version, text.locale
    from unsent
    inner join app_private.user_messages as rules
      on rules.user_id = unsent.user_id
      and rules.message_type = unsent.message_type
    -- What may have reached somebody is repeated as it was.
    left join lateral app_private.compose_message(unsent.message_type, unsent.delivery_date,
      rules.base_date, rules.first_name, rules.last_name, rules.locale, unsent.payload,
      unsent.user_id) as text
      on unsent.recipient_name is null
      and rules.repeats <> 'weekly'
      and (rules.base_date is not null or rules.repeats = 'event')
  ),
  written as (
    update app_public.message_logs
    set status = case
        when decided.reason is not null then 'CANCELED'
        when decided.instant <> decided.scheduled_send_time then 'SCHEDULED'
        else message_logs.status
      end,
      error_message = coalesce(decided.reason, message_logs.error_message),
      scheduled_send_time = case when decided.reason is null
        then decided.instant else message_logs.scheduled_send_time end,
      -- The old job finds nothing to do.
      job_id = case when decided.reason is null
        and decided.instant = decided.scheduled_send_time then message_logs.job_id end,
      message_subject = coalesce(decided.subject, message_logs.message_subject),
      message_content = coalesce(decided.body, message_logs.message_content),
      message_html = case when decided.version is null
        then message_logs.message_html else decided.html end,
      template_version = coalesce(decided.version, message_logs.template_version),
      template_locale = coalesce(decided.locale, message_logs.template_locale),
      text_type = case when decided.version is null then message_logs.text_type end
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      and (decided.reason is not null
        or decided.instant <> decided.scheduled_send_time
        or coalesce(decided.body, decided.message_content) <> decided.message_content
        or coalesce(decided.subject, decided.message_subject) <> decided.message_subject)
    returning message_logs.user_id, message_logs.message_type, message_logs.delivery_date,
      message_logs.status, message_logs.scheduled_send_time
  ),
  released as (
    delete from app_private.message_ledger
    using written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status = 'CANCELED'
  ),
  moved as (
    update app_private.message_ledger
    set scheduled_send_time = written.scheduled_send_time
    from written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status <> 'CANCELED'
      and message_ledger.scheduled_send_time <> written.scheduled_send_time
  )
  select count(*) into changed from written;

  return changed + app_private.schedule_messages(p_user_ids, p_now);
end
$$;

comment on function app_private.replan_messages(uuid[], timestamptz) is
  'Moves, rewrites or cancels messages that were not sent, by the users'' present rules. Returns how many rows changed.';
--! EndIncluded functions/app_private/replan_messages.sql
--! Included functions/app_private/replan_message_types.sql
-- The planner calls this first: these locks are taken in the order of
-- replan_messages(), users first. "gw messages replan" reaches everybody at once.
create or replace function app_private.replan_message_types(
  p_now timestamptz default now(), p_limit integer default 5000
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  changed_type app_private.message_types;
  ids uuid[];
begin
  select *
  into changed_type
  from app_private.message_types
  where replan_after is not null
  order by replan_after, type
  limit 1
  for no key update skip locked;
  if not found then
    return 0;
  end if;

  ids := array(
    select id
    from app_public.users
    where id > changed_type.replan_after
    order by id
    limit p_limit);
  perform app_private.try_users('replan', ids, p_now);
  -- Users who joined since then have the new rules anyway.
  update app_private.message_types
  set replan_after = case when cardinality(ids) = p_limit then ids[p_limit] end
  where type = changed_type.type;
  return cardinality(ids);
end
$$;

comment on function app_private.replan_message_types(timestamptz, integer) is
  'Applies a message type that was added or changed to the next so many users. Returns how many.';
--! EndIncluded functions/app_private/replan_message_types.sql
--! Included functions/app_private/rerender_messages.sql
-- What may have reached somebody keeps its text. Locks are taken in the order of
-- replan_messages().
create or replace function app_private.rerender_messages(
  p_message_type text, p_after uuid, p_limit integer, out last_id uuid, out changed integer
)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  ids uuid[];
begin
  ids := array(
    select distinct message_logs.user_id
    from app_public.message_logs
    where message_logs.stage = 'open'
      and message_logs.status in ('SCHEDULED', 'QUEUED', 'RETRYING')
      and message_logs.message_type = p_message_type
      and message_logs.recipient_name is null
      and message_logs.user_id > p_after
      and message_logs.scheduled_send_time > now() - interval '1 year'
    order by message_logs.user_id
    limit p_limit);
  last_id := case when cardinality(ids) = p_limit then ids[p_limit] end;
  perform from app_public.users where id = any (ids) order by id for no key update;

  with composed as (
    select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      text.subject, text.body, text.html, text.version, text.locale
    from app_public.message_logs
    inner join app_private.user_messages as rules
      on rules.user_id = message_logs.user_id
      and rules.message_type = message_logs.message_type
    cross join lateral app_private.compose_message(message_logs.message_type,
      message_logs.delivery_date, rules.base_date, rules.first_name, rules.last_name,
      rules.locale, message_logs.payload, message_logs.user_id) as text
    where message_logs.user_id = any (ids)
      and message_logs.status in ('SCHEDULED', 'QUEUED', 'RETRYING')
      and message_logs.message_type = p_message_type
      and message_logs.recipient_name is null
      and message_logs.scheduled_send_time > now() - interval '1 year'
      and rules.repeats <> 'weekly'
    order by message_logs.user_id, message_logs.id
    for update of message_logs
  ),
  written as (
    update app_public.message_logs
    set message_subject = composed.subject, message_content = composed.body,
      message_html = composed.html, template_version = composed.version,
      template_locale = composed.locale, text_type = null
    from composed
    where message_logs.user_id = composed.user_id
      and message_logs.id = composed.id
      and message_logs.scheduled_send_time = composed.scheduled_send_time
      and (message_logs.message_subject, message_logs.message_content,
          message_logs.template_version)
        is distinct from (composed.subject, composed.body, composed.version)
    returning 1
  )
  select count(*) into changed from written;
end
$$;

comment on function app_private.rerender_messages(text, uuid, integer) is
  'Writes the texts in force into the planned messages of a type, for the next so many users after an id. Returns the last of these (null at the end) and how many messages changed.';
--! EndIncluded functions/app_private/rerender_messages.sql
--! Included functions/app_private/rerender_message_types.sql
-- Beside the planner of a tick: a changed text reaches 20,000 users a minute.
create or replace function app_private.rerender_message_types(p_limit integer default 20000)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  stale app_private.message_types;
  done record;
begin
  select *
  into stale
  from app_private.message_types
  where rerender_after is not null
  order by rerender_after, type
  limit 1
  for no key update skip locked;
  if not found then
    return 0;
  end if;
  select * into done
  from app_private.rerender_messages(stale.type, stale.rerender_after, p_limit);
  update app_private.message_types
  set rerender_after = done.last_id
  where type = stale.type;
  return done.changed;
end
$$;

comment on function app_private.rerender_message_types(integer) is
  'Writes changed texts into planned messages, for the next so many users of one type. Returns how many messages changed.';
--! EndIncluded functions/app_private/rerender_message_types.sql
--! Included functions/app_private/plan_messages.sql
-- One statement plans: the ledger's row, the log's row and the schedule change together
-- or not at all. A ledger row without the other two would mean that the message is never
-- sent.
create or replace function app_private.plan_messages(
  p_user_ids uuid[], p_now timestamptz
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  late_window constant interval := app_private.late_window();
  types constant text[] := array(
    select message_type from app_private.message_templates where locale = 'en');
  planned integer;
begin
  with due as materialized (
    select message_schedule.*
    from unnest(p_user_ids) as wanted (user_id)
    inner join app_private.message_schedule using (user_id)
    where message_schedule.scheduled_send_time <= p_now + interval '24 hours'
      and message_schedule.message_type = any (types)
    for update of message_schedule skip locked
  ),
  -- The order is what keeps two planners from waiting for each other.
  claimed as (
    insert into app_private.message_ledger
      (user_id, message_type, delivery_date, message_id, scheduled_send_time)
    select due.user_id, due.message_type, due.delivery_date, gen_random_uuid(),
      due.scheduled_send_time
    from due
    inner join app_private.message_rules
      on message_rules.user_id = due.user_id
      and message_rules.message_type = due.message_type
    order by due.user_id, due.message_type
    on conflict do nothing
    returning *
  ),
  logged as (
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      message_subject, message_content, scheduled_send_time, idempotency_key, status,
      error_message, template_version, template_locale, message_html)
    select claimed.user_id, claimed.message_id, claimed.message_type,
      claimed.delivery_date, coalesce(text.subject, ''), coalesce(text.body, ''),
      claimed.scheduled_send_time,
      concat_ws(':', claimed.user_id, claimed.message_type, claimed.delivery_date),
      case when is_late then 'EXPIRED' when stopped.suppression is not null
        then 'SUPPRESSED' else 'SCHEDULED' end,
      case when is_late then 'planned ' || to_char(p_now, 'YYYY-MM-DD HH24:MI "UTC"')
        || ', after the late window of ' || late_window || ' had passed'
        else stopped.suppression end,
      text.version, text.locale, text.html
    from claimed
    inner join app_private.message_rules as rules
      on rules.user_id = claimed.user_id
      and rules.message_type = claimed.message_type
    cross join lateral (
      select claimed.scheduled_send_time <= p_now - late_window
    ) as lateness (is_late)
    cross join lateral (
      select app_private.suppression(rules.email, rules.message_type, rules.is_optional,
        app_private.is_by_mail_alone(rules.message_type)) offset 0
    ) as stopped (suppression)
    -- A weekly message is composed when it is sent: then its week is over.
    left join lateral app_private.compose_message(rules.message_type, claimed.delivery_date,
      rules.base_date, rules.first_name, rules.last_name, rules.locale, null,
      rules.user_id) as text
      on rules.repeats <> 'weekly'
    returning 1
  )
  select count(*) into planned from logged;

  perform app_private.schedule_messages(p_user_ids, p_now);
  return planned;
end
$$;

comment on function app_private.plan_messages(uuid[], timestamptz) is
  'Plans the messages of these users that are due within 24 hours. Returns how many.';
--! EndIncluded functions/app_private/plan_messages.sql
--! Included functions/app_private/try_users.sql
-- When a batch fails, each half is tried by itself, down to the user whose rows are at
-- fault: that user is set aside, and the others are done. The work is about twice that of
-- a batch without a fault.
--
-- An error that passes by itself (a lock, a full disk), a missing row of configuration
-- and an error of the program are raised: setting aside one user would not help the next.
create or replace function app_private.try_users(
  p_task text, p_user_ids uuid[], p_now timestamptz default now()
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  users constant integer := cardinality(p_user_ids);
  most constant integer := 1000;
begin
  if coalesce(users, 0) = 0 then
    return 0;
  end if;
  begin
    delete from app_private.set_aside_users where user_id = any (p_user_ids);
    return case p_task
      when 'plan' then app_private.plan_messages(p_user_ids, p_now)
      when 'schedule' then app_private.schedule_messages(p_user_ids, p_now)
      when 'replan' then app_private.replan_messages(p_user_ids, p_now)
    end;
  exception when others then
    if sqlstate ~ '^(25|40|42|53|55|57|58|GW)' then
      raise;
    end if;
    if users = 1 then
      insert into app_private.set_aside_users as aside (user_id, task, error, failed_at)
      select id, p_task, app_private.without_addresses(sqlstate || ': ' || sqlerrm, 300),
        p_now
      from app_public.users
      where id = p_user_ids[1]
      on conflict (user_id) do update
      set task = excluded.task, error = excluded.error, failed_at = excluded.failed_at;
      if (select count(*) > most from app_private.set_aside_users where failed_at >= p_now)
      then
        raise exception 'the messages of more than % users could not be planned', most
          using errcode = 'GW015', detail = sqlstate || ': ' || sqlerrm,
            hint = 'Such a number has one cause: mend that.';
      end if;
      return 0;
    end if;
  end;
  return app_private.try_users(p_task, p_user_ids[:users / 2], p_now)
    + app_private.try_users(p_task, p_user_ids[users / 2 + 1:], p_now);
end
$$;

comment on function app_private.try_users(text, uuid[], timestamptz) is
  'Plans, schedules or replans these users; a user for whom this fails is set aside. Returns the sum of what the task returns.';
--! EndIncluded functions/app_private/try_users.sql
--! Included functions/app_private/take_up_timezones.sql
-- As in replan_message_types(): the planner calls this first, and takes the next users.
create or replace function app_private.take_up_timezones(
  p_now timestamptz default now(), p_limit integer default 5000
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  zone app_private.unknown_timezones;
  ids uuid[];
begin
  select *
  into zone
  from app_private.unknown_timezones
  where exists (
    select from app_hidden.known_timezones
    where known_timezones.name = unknown_timezones.name
  )
  order by name
  limit 1
  for no key update skip locked;
  if not found then
    return 0;
  end if;

  ids := array(
    select id
    from app_public.users
    where timezone = zone.name
      and id > zone.taken_up_to
    order by id
    limit p_limit);
  perform app_private.try_users('replan', ids, p_now);
  if cardinality(ids) < p_limit then
    delete from app_private.unknown_timezones where name = zone.name;
  else
    update app_private.unknown_timezones
    set taken_up_to = ids[p_limit]
    where name = zone.name;
  end if;
  return cardinality(ids);
end
$$;

comment on function app_private.take_up_timezones(timestamptz, integer) is
  'Replans the next users of a time zone that the server knows again. Returns how many.';
--! EndIncluded functions/app_private/take_up_timezones.sql
--! Included functions/app_private/retry_set_aside_users.sql
create or replace function app_private.retry_set_aside_users(
  p_now timestamptz default now(), p_limit integer default 1000
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  ids constant uuid[] := array(
    select user_id
    from app_private.set_aside_users
    where failed_at <= p_now - interval '15 minutes'
    order by failed_at, user_id
    limit p_limit
    for update skip locked);
begin
  return app_private.try_users('replan', ids, p_now);
end
$$;

comment on function app_private.retry_set_aside_users(timestamptz, integer) is
  'Replans users who were set aside 15 minutes ago or earlier. Returns how many rows changed.';
--! EndIncluded functions/app_private/retry_set_aside_users.sql
--! Included functions/app_private/prepare_planning.sql
-- What is the same for all messages is looked for first: without it, messages would be
-- lost. A type without a template in English is left until it has one.
create or replace function app_private.prepare_planning(p_now timestamptz) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  perform ops.note_promotion();
  perform ops.refuse_when_fenced();
  perform app_private.message_queue();
  perform app_private.late_window();
  perform app_private.publish_due_templates(p_now);
  perform app_private.replan_message_types(p_now);
  perform app_private.rerender_message_types();
  perform app_private.take_up_timezones(p_now);
  perform app_private.retry_set_aside_users(p_now);
end
$$;

comment on function app_private.prepare_planning(timestamptz) is
  'Looks for what all messages need, and takes up what was changed for all of them. Raises GW011 when configuration is missing, GW070 in a copy that nobody has adopted.';
--! EndIncluded functions/app_private/prepare_planning.sql
--! Included functions/app_private/plan_batch.sql
create or replace function app_private.plan_batch(p_now timestamptz, p_limit integer)
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  types text[];
  aside uuid[];
  due_users uuid[];
begin
  perform ops.refuse_when_fenced();
  types := array(
    select message_type from app_private.message_templates where locale = 'en');
  aside := array(select user_id from app_private.set_aside_users);
  -- A transaction that changes a user waits for these rows, and then sees what was
  -- planned. Rows that are being changed now are left for the next tick.
  with due as materialized (
    select message_schedule.user_id
    from app_private.message_schedule
    where message_schedule.scheduled_send_time <= p_now + interval '24 hours'
      and message_schedule.message_type = any (types)
      and message_schedule.user_id <> all (aside)
    order by message_schedule.scheduled_send_time
    limit p_limit
    for update of message_schedule skip locked
  )
  select array_agg(distinct due.user_id) into due_users from due;

  return app_private.try_users('plan', due_users, p_now);
end
$$;

comment on function app_private.plan_batch(timestamptz, integer) is
  'Plans the messages of the next 24 hours, the earliest first, up to a limit. Returns how many were planned.';
--! EndIncluded functions/app_private/plan_batch.sql
--! Included functions/app_private/plan_due_messages.sql
create or replace function app_private.plan_due_messages(
  p_now timestamptz default now(), p_limit integer default 100000
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  planned integer;
begin
  perform app_private.prepare_planning(p_now);
  planned := app_private.plan_batch(p_now, p_limit);
  perform app_private.queue_due_messages(p_now);
  perform app_private.move_waiting_jobs();
  return planned;
end
$$;

comment on function app_private.plan_due_messages(timestamptz, integer) is
  'Plans the messages of the next 24 hours in one transaction, the earliest first, up to a limit; then queues those that are due. Returns how many were planned. Raises GW011 when configuration is missing, GW070 in a copy that nobody has adopted.';
--! EndIncluded functions/app_private/plan_due_messages.sql
--! Included functions/app_private/run_planner.sql
-- A procedure, because each batch is a transaction of its own: whoever changes a user that is
-- being planned waits for a batch, and so does whoever needs a lock on the tables. Batches are as
-- large as fits into that time. It can set no search_path for that reason, so it names every
-- schema.
create or replace procedure app_private.run_planner(
  p_patience interval default '45 seconds', p_batch interval default '150 milliseconds'
)
language plpgsql
as $$
declare
  began constant timestamptz := pg_catalog.clock_timestamp();
  most constant integer := 5000;
  size integer := 250;
  batch_began timestamptz;
  queued_at timestamptz := began;
  planned integer;
begin
  perform app_private.prepare_planning(pg_catalog.now());
  commit;
  loop
    batch_began := pg_catalog.clock_timestamp();
    planned := app_private.plan_batch(pg_catalog.now(), size);
    commit;
    size := least(most, greatest(50, size * extract(epoch from p_batch)
      / greatest(extract(epoch from pg_catalog.clock_timestamp() - batch_began), 0.001)
      ))::integer;
    exit when planned = 0 or pg_catalog.clock_timestamp() - began > p_patience;
    -- What is due does not wait until everything is planned.
    if pg_catalog.clock_timestamp() - queued_at > interval '5 seconds' then
      perform app_private.queue_due_messages(pg_catalog.now());
      commit;
      queued_at := pg_catalog.clock_timestamp();
    end if;
  end loop;
  perform app_private.queue_due_messages(pg_catalog.now());
  perform app_private.move_waiting_jobs();
end
$$;

comment on procedure app_private.run_planner(interval, interval) is
  'Plans the messages of the next 24 hours, the earliest first, in batches that take about p_batch and commit each, for no longer than p_patience; queues those that are due. The next run goes on. Raises GW011 when configuration is missing, GW070 in a copy that nobody has adopted.';
--! EndIncluded functions/app_private/run_planner.sql
--! Included functions/app_private/tg_users__replan.sql
-- Definer: a user may change the profile, and has no right to plan. Only columns that the
-- rules read count as a change; message_types says which dates these are.
create or replace function app_private.tg_users__replan() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed uuid[];
  dates text;
begin
  if tg_op = 'INSERT' then
    select array_agg(new_rows.id) into changed from new_rows;
    if changed is not null then
      perform app_private.try_users('schedule', changed);
    end if;
    return null;
  end if;

  select string_agg(distinct format(', %%1$s.%s', split_part(base.name, '.', 2)), '')
  into dates
  from app_private.message_types
  cross join lateral app_private.base_date_column(message_types.base_column) as base
  where base.name like 'users.%';
  execute format($sql$
    select array_agg(new_rows.id)
    from new_rows
    inner join old_rows on old_rows.id = new_rows.id
    where (new_rows.timezone, new_rows.send_time, new_rows.leap_day_policy,
        new_rows.deleted_at is null, new_rows.email is null, new_rows.first_name,
        new_rows.last_name %s)
      is distinct from (old_rows.timezone, old_rows.send_time, old_rows.leap_day_policy,
        old_rows.deleted_at is null, old_rows.email is null, old_rows.first_name,
        old_rows.last_name %s)
    $sql$, format(dates, 'new_rows'), format(dates, 'old_rows'))
  into changed;
  if changed is not null then
    perform app_private.try_users('replan', changed);
  end if;
  return null;
end
$$;

comment on function app_private.tg_users__replan() is
  'Replans a user''s messages that were not sent, after a change of the profile.';
--! EndIncluded functions/app_private/tg_users__replan.sql
--! Included functions/app_private/tg_user_settings__replan.sql
-- Definer: see tg_users__replan(). The message types say which columns are wishes.
create or replace function app_private.tg_user_settings__replan() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed uuid[];
  wishes text;
begin
  select coalesce(string_agg(distinct format(', %%1$s.%I', opt_out_column), ''), '')
  into wishes
  from app_private.message_types
  where opt_out_column is not null;

  if tg_op = 'INSERT' then
    -- A user without settings wants all messages, in English.
    execute format($sql$
      select array_agg(new_rows.user_id)
      from new_rows
      where new_rows.locale <> 'en'
        or false in (true %s)
      $sql$, format(wishes, 'new_rows'))
    into changed;
  else
    execute format($sql$
      select array_agg(new_rows.user_id)
      from new_rows
      inner join old_rows on old_rows.user_id = new_rows.user_id
      where (new_rows.locale %s) is distinct from (old_rows.locale %s)
      $sql$, format(wishes, 'new_rows'), format(wishes, 'old_rows'))
    into changed;
  end if;
  if changed is not null then
    perform app_private.try_users('replan', changed);
  end if;
  return null;
end
$$;

comment on function app_private.tg_user_settings__replan() is
  'Replans a user''s messages that were not sent, after a change of the settings.';
--! EndIncluded functions/app_private/tg_user_settings__replan.sql
--! Included functions/app_private/tg_subscriptions__replan.sql
-- Definer: see tg_users__replan(). Usage changes often, a date seldom.
create or replace function app_private.tg_subscriptions__replan() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select from app_private.message_types
    where message_types.base_column like 'subscriptions.%'
  ) then
    perform app_private.try_users('replan', array[new.user_id]);
  end if;
  return null;
end
$$;

comment on function app_private.tg_subscriptions__replan() is
  'Replans a user''s messages after a change of the dates of the subscription.';
--! EndIncluded functions/app_private/tg_subscriptions__replan.sql
--! Included functions/app_private/make_event_message.sql
create or replace function app_private.make_event_message(
  p_message_id uuid, p_rules app_private.user_messages, p_key text, p_payload jsonb,
  p_due timestamptz, p_local_time timestamp
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  day constant date := coalesce(p_local_time,
    p_due at time zone coalesce(p_rules.timezone, 'UTC'))::date;
  refusal constant text := app_private.message_refusal(p_rules.deleted_at,
    p_rules.is_wanted, p_rules.email is not null, p_rules.repeats, null,
    p_rules.leap_day_policy, day);
  suppression constant text :=
    app_private.suppression(p_rules.email, p_rules.message_type, p_rules.is_optional,
      app_private.is_by_mail_alone(p_rules.message_type));
  text record;
begin
  select composed.*
  into text
  from app_private.compose_message(p_rules.message_type, day, null, p_rules.first_name,
    p_rules.last_name, p_rules.locale, p_payload, p_rules.user_id) as composed;
  insert into app_public.message_logs (user_id, id, message_type, delivery_date,
    message_subject, message_content, scheduled_send_time, idempotency_key, status,
    error_message, payload, local_time, template_version,
    template_locale, message_html)
  values (p_rules.user_id, p_message_id, p_rules.message_type, day, text.subject, text.body,
    p_due, concat_ws(':', p_rules.user_id, p_rules.message_type, p_key),
    case when refusal is not null then 'CANCELED' when suppression is not null
      then 'SUPPRESSED' else 'SCHEDULED' end,
    coalesce(refusal, suppression), p_payload, p_local_time::time,
    text.version, text.locale, text.html);
  -- The planner would queue it with its next tick, a minute later.
  if refusal is null and suppression is null and p_due <= now() + interval '90 seconds' then
    perform app_private.enqueue_messages(array[p_rules.user_id], array[p_message_id],
      array[p_due], '-infinity');
  end if;
end
$$;

comment on function app_private.make_event_message(
  uuid, app_private.user_messages, text, jsonb, timestamptz, timestamp) is
  'Writes a message that the application sends, and queues it when it is due.';
--! EndIncluded functions/app_private/make_event_message.sql
--! Included functions/app_private/requeue_lost_messages.sql
-- A job can be lost: deleted by hand, or expired because no worker ran for a week. Its
-- message would wait for ever. claim_messages() decides whether it may still be sent.
create or replace function app_private.requeue_lost_messages() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with lost as (
    select user_id, id, scheduled_send_time
    from app_public.message_logs
    where stage = 'open'
      and status in ('QUEUED', 'SENDING', 'RETRYING')
      and scheduled_send_time > now() - interval '1 year'
      and updated_at < now() - interval '15 minutes'
      and not exists (
        select from pgboss.job
        where job.name = 'message-send'
          and job.id = message_logs.job_id
          and job.state in ('created', 'retry', 'active')
      )
    order by user_id, id
    for update skip locked
  )
  select coalesce(app_private.enqueue_messages(array_agg(lost.user_id), array_agg(lost.id),
    array_agg(lost.scheduled_send_time), now()), 0)
  from lost
$$;

comment on function app_private.requeue_lost_messages() is
  'Gives a new job to each message whose job is gone. Returns how many.';
--! EndIncluded functions/app_private/requeue_lost_messages.sql

create trigger _600_replan_insert after insert on app_public.users
  referencing new table as new_rows
  for each statement execute function app_private.tg_users__replan();

create trigger _600_replan_update after update on app_public.users
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_users__replan();

create trigger _600_replan_insert after insert on app_public.user_settings
  referencing new table as new_rows
  for each statement execute function app_private.tg_user_settings__replan();

create trigger _600_replan_update after update on app_public.user_settings
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_user_settings__replan();

create trigger _600_replan after insert or update of status, current_period_end
  on app_public.subscriptions
  for each row execute function app_private.tg_subscriptions__replan();
