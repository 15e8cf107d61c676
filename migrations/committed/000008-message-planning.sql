--! Previous: sha1:585b862cb6362706265b914912f5f265c6f14909
--! Hash: sha1:42af5e457670bb3872ec872e609d19156b4533bd
--! Message: message-planning

--! split: 0001-x.sql
/*
 * The life of a message. pg_cron plans it (app_private.plan_due_messages), pg-boss wakes a
 * worker when it is due, and the worker moves it on with the three functions below, each of
 * them one statement for a whole batch.
 *
 *   SCHEDULED → QUEUED → SENDING → SENT
 *                 ↑         ↓
 *                 └──── RETRYING      FAILED (from any of them)
 *
 * Locks: none on existing tables.
 */

--! Included functions/app_private/plan_due_messages.sql
-- One statement plans: ledger row, log row and job appear together or not at all. What they
-- all need is looked for first, because a ledger row without the others would keep the
-- message from ever being sent.
create or replace function app_private.plan_due_messages(p_now timestamptz default now())
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  planned integer;
begin
  if not exists (select from pgboss.queue where name = 'message-send') then
    raise exception 'the queue message-send does not exist'
      using errcode = 'GW011', hint = 'A migration makes it with pgboss.create_queue().';
  end if;
  if (select count(*) from app_private.message_templates where locale = 'en'
    and message_type in ('BIRTHDAY', 'ANNIVERSARY')) < 2
  then
    raise exception 'a message type has no template in English'
      using errcode = 'GW011', hint = 'Insert it into app_private.message_templates.';
  end if;

  -- Local dates that some zone on Earth can have inside the window.
  with days as (
    select day::date as delivery_date,
      extract(day from make_date(extract(year from day)::integer, 3, 1) - 1) = 29
        as is_leap_year
    from generate_series(
      date_trunc('day', p_now - interval '12 hours') - interval '1 day',
      date_trunc('day', p_now + interval '24 hours') + interval '1 day',
      interval '1 day') as day
  ),
  -- Which month and day is celebrated on each, and by whose leap-day policy.
  celebrated as (
    select delivery_date, app_hidden.month_day(delivery_date) as month_day,
      null::text as leap_day_policy
    from days
    union all
    select days.delivery_date, 229, moved.leap_day_policy
    from days
    inner join (values (228, 'feb28'), (301, 'mar1')) as moved (month_day, leap_day_policy)
      on app_hidden.month_day(days.delivery_date) = moved.month_day
    where not days.is_leap_year
  ),
  occasions as (
    select users.*, 'BIRTHDAY' as message_type, celebrated.delivery_date
    from celebrated
    inner join app_public.users
      on app_hidden.month_day(users.birthday_date) = celebrated.month_day
    where users.deleted_at is null
      and users.birthday_date is not null
      and users.birthday_date < celebrated.delivery_date
      and (celebrated.leap_day_policy is null
        or celebrated.leap_day_policy = users.leap_day_policy)
    union all
    select users.*, 'ANNIVERSARY', celebrated.delivery_date
    from celebrated
    inner join app_public.users
      on app_hidden.month_day(users.anniversary_date) = celebrated.month_day
    where users.deleted_at is null
      and users.anniversary_date is not null
      and users.anniversary_date < celebrated.delivery_date
      and (celebrated.leap_day_policy is null
        or celebrated.leap_day_policy = users.leap_day_policy)
  ),
  due as (
    select occasions.*, moment.scheduled_send_time
    from occasions
    cross join lateral (
      select app_hidden.local_to_instant(
        occasions.delivery_date + occasions.send_time, occasions.timezone)
      -- Kept apart, so that the instant is computed once a row.
      offset 0
    ) as moment (scheduled_send_time)
    where moment.scheduled_send_time > p_now - interval '12 hours'
      and moment.scheduled_send_time <= p_now + interval '24 hours'
      and not exists (
        select from app_private.message_ledger
        where message_ledger.user_id = occasions.id
          and message_ledger.message_type = occasions.message_type
          and message_ledger.delivery_date = occasions.delivery_date
      )
  ),
  -- Of two planners, the second waits for the first and then inserts nothing. The order is
  -- what keeps them from waiting for each other.
  claimed as (
    insert into app_private.message_ledger
      (user_id, message_type, delivery_date, message_id, scheduled_send_time)
    select id, message_type, delivery_date, gen_random_uuid(), scheduled_send_time
    from due
    order by id, message_type, delivery_date
    on conflict do nothing
    returning *
  ),
  logged as (
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      message_content, scheduled_send_time, idempotency_key)
    select claimed.user_id, claimed.message_id, claimed.message_type, claimed.delivery_date,
      app_hidden.render_template(message_templates.body, jsonb_build_object(
        'first_name', due.first_name,
        'last_name', due.last_name,
        'full_name', btrim(due.first_name || ' ' || due.last_name))),
      claimed.scheduled_send_time,
      concat_ws(':', claimed.user_id, claimed.message_type, claimed.delivery_date)
    from claimed
    inner join due on due.id = claimed.user_id
      and due.message_type = claimed.message_type
      and due.delivery_date = claimed.delivery_date
    inner join app_private.message_templates
      on message_templates.message_type = claimed.message_type
      and message_templates.locale = 'en'
    returning 1
  ),
  queued as (
    insert into pgboss.job (id, name, data, start_after, keep_until, retry_limit,
      retry_delay, retry_backoff, retry_delay_max, expire_seconds, deletion_seconds,
      heartbeat_seconds, policy, dead_letter)
    select claimed.message_id, queue.name,
      jsonb_build_object(
        'user_id', claimed.user_id,
        'message_id', claimed.message_id,
        'scheduled_send_time', claimed.scheduled_send_time),
      claimed.scheduled_send_time,
      greatest(claimed.scheduled_send_time, now())
        + queue.retention_seconds * interval '1 second',
      queue.retry_limit, queue.retry_delay, queue.retry_backoff, queue.retry_delay_max,
      queue.expire_seconds, queue.deletion_seconds, queue.heartbeat_seconds, queue.policy,
      queue.dead_letter
    from claimed
    inner join pgboss.queue on queue.name = 'message-send'
    returning 1
  )
  select count(*)::integer into planned from claimed;
  return planned;
end
$$;
--! EndIncluded functions/app_private/plan_due_messages.sql
comment on function app_private.plan_due_messages(timestamptz) is
  'Plans every message due between 12 hours ago and 24 hours ahead that is not in the ledger. Returns how many. Safe to repeat and to run twice at once.';

--! Included functions/app_private/claim_messages.sql
-- Definer: the worker has no right to tenants' tables, only to move messages on. It passes
-- scheduled_send_time so that one partition is touched.
create or replace function app_private.claim_messages(p_jobs jsonb)
returns table (
  message_id uuid,
  user_id uuid,
  scheduled_send_time timestamptz,
  message_type text,
  delivery_date date,
  email text,
  full_name text,
  message_content text,
  idempotency_key text,
  was_attempted boolean
)
language sql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  with job as (
    select *
    from jsonb_to_recordset(p_jobs)
      as job (user_id uuid, message_id uuid, scheduled_send_time timestamptz)
  ),
  found as (
    select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.status, users.email, users.deleted_at,
      btrim(users.first_name || ' ' || users.last_name) as full_name
    from job
    inner join app_public.message_logs
      on message_logs.user_id = job.user_id
      and message_logs.id = job.message_id
      and message_logs.scheduled_send_time = job.scheduled_send_time
    inner join app_public.users on users.id = message_logs.user_id
    where message_logs.status not in ('SENT', 'FAILED')
    for update of message_logs
  ),
  claimed as (
    update app_public.message_logs
    set status = case when found.deleted_at is null then 'QUEUED' else 'FAILED' end,
      error_message = case when found.deleted_at is not null
        then 'the account was closed before the message was due' end
    from found
    where message_logs.user_id = found.user_id
      and message_logs.id = found.id
      and message_logs.scheduled_send_time = found.scheduled_send_time
    returning message_logs.id, message_logs.user_id, message_logs.scheduled_send_time,
      message_logs.message_type, message_logs.delivery_date, found.email, found.full_name,
      message_logs.message_content, message_logs.idempotency_key,
      -- Whether a call may have been made already: RETRYING, or a worker died SENDING.
      found.status in ('SENDING', 'RETRYING') as was_attempted,
      message_logs.status
  )
  select claimed.id, claimed.user_id, claimed.scheduled_send_time, claimed.message_type,
    claimed.delivery_date, claimed.email, claimed.full_name, claimed.message_content,
    claimed.idempotency_key, claimed.was_attempted
  from claimed
  where claimed.status = 'QUEUED'
$$;
--! EndIncluded functions/app_private/claim_messages.sql
grant execute on function app_private.claim_messages(jsonb) to gw_worker;
comment on function app_private.claim_messages(jsonb) is
  'Marks a batch QUEUED and returns what to send. Takes an array of job payloads. A message that is SENT, FAILED or gone is not returned: its job is done.';

--! Included functions/app_private/begin_sending.sql
-- Definer: see claim_messages().
create or replace function app_private.begin_sending(p_jobs jsonb) returns integer
language sql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  with begun as (
    update app_public.message_logs
    set status = 'SENDING'
    from jsonb_to_recordset(p_jobs)
      as job (user_id uuid, message_id uuid, scheduled_send_time timestamptz)
    where message_logs.user_id = job.user_id
      and message_logs.id = job.message_id
      and message_logs.scheduled_send_time = job.scheduled_send_time
      and message_logs.status = 'QUEUED'
    returning 1
  )
  select count(*)::integer from begun
$$;
--! EndIncluded functions/app_private/begin_sending.sql
grant execute on function app_private.begin_sending(jsonb) to gw_worker;
comment on function app_private.begin_sending(jsonb) is
  'Marks a batch SENDING, just before the calls are made. Returns how many.';

--! Included functions/app_private/record_send_results.sql
-- Definer: see claim_messages(). A message that is SENT stays SENT.
create or replace function app_private.record_send_results(p_results jsonb) returns integer
language sql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  with recorded as (
    update app_public.message_logs
    set status = result.status,
      actual_send_time = case when result.status = 'SENT' then clock_timestamp() end,
      retry_count = message_logs.retry_count + (result.status = 'RETRYING')::integer,
      last_retry_at = case when result.status = 'RETRYING'
        then clock_timestamp() else message_logs.last_retry_at end,
      api_response_code = result.code,
      api_response_body = result.body,
      error_message = result.error
    from jsonb_to_recordset(p_results) as result (
      user_id uuid, message_id uuid, scheduled_send_time timestamptz,
      status text, code integer, body text, error text)
    where message_logs.user_id = result.user_id
      and message_logs.id = result.message_id
      and message_logs.scheduled_send_time = result.scheduled_send_time
      and message_logs.status <> 'SENT'
    returning 1
  )
  select count(*)::integer from recorded
$$;
--! EndIncluded functions/app_private/record_send_results.sql
grant execute on function app_private.record_send_results(jsonb) to gw_worker;
comment on function app_private.record_send_results(jsonb) is
  'Records what became of a batch of attempts: an array of {user_id, message_id, scheduled_send_time, status, code, body, error}. Returns how many.';

--! Included functions/app_private/fail_abandoned_messages.sql
-- pg-boss gives up a job whose worker died on the last attempt, or that nobody fetched for a
-- week, without telling the message.
create or replace function app_private.fail_abandoned_messages() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with failed as (
    update app_public.message_logs
    set status = 'FAILED',
      error_message = concat_ws('; ', error_message,
        'given up while ' || status || ': no job is left that would send it')
    where status not in ('SENT', 'FAILED')
      and scheduled_send_time < now() - interval '15 minutes'
      and not exists (
        select from pgboss.job
        where job.name = 'message-send'
          and job.id = message_logs.id
          and job.state in ('created', 'retry', 'active')
      )
    returning 1
  )
  select count(*)::integer from failed
$$;
--! EndIncluded functions/app_private/fail_abandoned_messages.sql
comment on function app_private.fail_abandoned_messages() is
  'Marks FAILED what is due for 15 minutes and has no job left that would send it. Returns how many.';

insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('fail-abandoned-messages', '*/5 * * * *', 'select app_private.fail_abandoned_messages()',
    'A worker that dies on the last attempt cannot say that it was the last.'),
  ('plan-due-messages', '* * * * *', 'select app_private.plan_due_messages()',
    'Finds birthdays and anniversaries of the next 24 hours and queues their messages.');
