--! Previous: sha1:320bd4b9137e9061ed3d590b4bd44ecdda1a3fa6
--! Hash: sha1:5c1cd35b67885efdd9b71edc2d220105a720b84a
--! Message: message-delivery
--! Baseline: topics/30-message-delivery.sql

/*
 * Delivery: the worker claims messages, sends them, and records the outcomes.
 *
 * A batch is claimed and recorded in one statement each. A message is marked before its
 * call begins, so a crash leaves an attempt whose outcome is unknown, never a silent repeat.
 */

--! Included functions/app_private/begin_send_worker.sql
-- Definer: only these functions write send_workers. The lock is the session's: it is there
-- for as long as the worker is connected, whatever the worker does, or does not do.
create or replace function app_private.begin_send_worker(
  p_channel text default null, p_public_key text default null
) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  worker integer;
begin
  perform ops.refuse_when_fenced();
  if p_channel is not null then
    perform app_private.delivery_channel(p_channel);
  end if;
  -- Browsers subscribe for this key.
  update app_private.delivery_channels
  set public_key = p_public_key
  where name = p_channel
    and public_key is distinct from p_public_key;
  insert into app_private.send_workers (channel) values (p_channel) returning key into worker;
  perform pg_advisory_lock(26488, worker);
  return worker;
end
$$;

grant execute on function app_private.begin_send_worker(text, text) to gw_worker;
comment on function app_private.begin_send_worker(text, text) is
  'Makes this session that of a new worker, and returns its key. Takes the channel by which it sends, and for push the public key by which browsers know the sender. Raises GW013 when there is no such channel.';
--! EndIncluded functions/app_private/begin_send_worker.sql
--! Included functions/app_private/take_send_jobs.sql
-- As pg-boss fetches jobs, and says whose they are: an active job of message-send has its
-- worker's key as its tier, which pg-boss reads for groups only. No index has it: those of a
-- worker are looked for when something went wrong. A job's priority is the lane of the
-- channel to which it is routed, below 0; the index of pg-boss serves each lane apart.
create or replace function app_private.take_send_jobs(
  p_limit integer, p_worker integer, p_lanes integer[] default '{0}'
) returns table (id uuid, data jsonb)
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  -- Materialized: a join could look for the next ones again, and lock more than the limit.
  with next as materialized (
    select due.id
    from unnest(p_lanes) with ordinality as wanted (lane, place)
    cross join lateral (
      select job.id
      from pgboss.job
      where job.name = 'message-send'
        and job.state < 'active'
        and not job.blocked
        and job.priority = -wanted.lane
        and job.start_after <= now()
        and not ops.is_fenced()
      -- The index has this order: of a million that wait, only these are read.
      order by job.created_on
      limit p_limit
      for update skip locked
    ) as due
    limit p_limit
  )
  update pgboss.job
  set state = 'active',
    started_on = now(),
    group_tier = p_worker::text,
    retry_count = case when job.started_on is null
      then job.retry_count else job.retry_count + 1 end
  from next
  where job.name = 'message-send'
    and job.id = next.id
  returning job.id, job.data
$$;

grant execute on function app_private.take_send_jobs(integer, integer, integer[]) to gw_worker;
comment on function app_private.take_send_jobs(integer, integer, integer[]) is
  'Gives a worker, by its key, up to so many jobs of messages that are due, those of the first lane first. Lane 0 has messages without a route.';
--! EndIncluded functions/app_private/take_send_jobs.sql
--! Included functions/app_private/give_away_jobs.sql
-- Definer: see begin_send_worker(). A worker is dead when its session has been gone for as
-- long as message_settings says: it may be connecting again. A worker that is slow, or
-- stands still, has its session.
create or replace function app_private.give_away_jobs() returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  dead text[];
  given integer;
begin
  -- One at a time: the others would find nothing else.
  if not pg_try_advisory_xact_lock(26488, 0) then
    return 0;
  end if;

  update app_private.send_workers as worker
  set missing_since = case when seen.is_here then null else clock_timestamp() end
  from (
    select send_workers.key, exists (
      select from pg_locks
      inner join pg_stat_activity on pg_stat_activity.pid = pg_locks.pid
      where pg_locks.locktype = 'advisory'
        and pg_locks.database = pg_stat_activity.datid
        and pg_stat_activity.datname = current_database()
        -- Anybody may take such a lock, and would keep a dead worker alive.
        and pg_stat_activity.usename = 'gw_worker'
        and (pg_locks.classid, pg_locks.objid, pg_locks.objsubid)
          = (26488::oid, send_workers.key::oid, 2)
        and pg_locks.granted
    ) as is_here
    from app_private.send_workers
  ) as seen
  where worker.key = seen.key
    and seen.is_here = (worker.missing_since is not null);

  with gone as (
    delete from app_private.send_workers
    using app_private.message_settings
    where send_workers.missing_since
      < clock_timestamp() - message_settings.worker_grace
    returning send_workers.key
  )
  select array_agg(gone.key::text) into dead from gone;
  if dead is null then
    return 0;
  end if;
  update pgboss.job
  set state = 'retry', start_after = now(), group_tier = null
  where job.name = 'message-send'
    and job.state = 'active'
    and job.group_tier = any (dead);
  get diagnostics given = row_count;
  return given;
end
$$;

grant execute on function app_private.give_away_jobs() to gw_worker;
comment on function app_private.give_away_jobs() is
  'Lets others have the jobs of workers that are dead. Returns how many jobs those were.';
--! EndIncluded functions/app_private/give_away_jobs.sql
--! Included functions/app_private/return_forgotten_jobs.sql
-- A worker that lives may not know of jobs that it has: the answer was lost, or a batch
-- failed. Their messages that were claimed are SENDING, so who claims them next takes the
-- attempt for uncertain.
create or replace function app_private.return_forgotten_jobs(p_worker integer, p_held uuid[])
returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  returned integer;
begin
  update pgboss.job
  set state = 'retry', start_after = now(), group_tier = null
  where job.name = 'message-send'
    and job.state = 'active'
    and job.group_tier = p_worker::text
    -- What was taken just now may be on its way.
    and job.started_on < now() - interval '10 seconds'
    and not exists (select from unnest(p_held) as held (id) where held.id = job.id);
  get diagnostics returned = row_count;
  return returned;
end
$$;

grant execute on function app_private.return_forgotten_jobs(integer, uuid[]) to gw_worker;
comment on function app_private.return_forgotten_jobs(integer, uuid[]) is
  'Lets others have the jobs of a worker, by its key, that are not those which it holds.';
--! EndIncluded functions/app_private/return_forgotten_jobs.sql
--! Included functions/app_private/take_send_permits.sql
-- Definer: the worker must not write its own limit. Without a limit and with the circuit
-- closed nothing is written, so that workers do not wait for each other.
create or replace function app_private.take_send_permits(
  p_channel text, p_wanted integer, p_lanes integer[] default '{0}'
) returns table (permits integer, wait_ms integer, is_metered boolean)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  channel app_private.delivery_channels := app_private.delivery_channel(p_channel);
  instant timestamptz;
  today date;
  available double precision;
  room bigint;
  waiting bigint;
  taken integer;
begin
  if channel.circuit = 'closed' and channel.messages_per_second is null
    and channel.warm_up_from is null
  then
    return query select p_wanted, 0, false;
    return;
  end if;

  if channel.messages_per_second = 0 then
    return query select 0, 1000, false;
    return;
  end if;

  select * into channel from app_private.delivery_channels where name = p_channel for update;
  -- The lock may have taken time.
  instant := clock_timestamp();
  if channel.circuit <> 'closed' then
    if channel.probe_after > instant then
      return query select 0, least(ceil(extract(epoch from channel.probe_after - instant) * 1000),
        60000)::integer, false;
      return;
    end if;
    -- A probe needs a message. While there is none, the next message is not made to wait.
    if not exists (
      select from pgboss.job
      where job.name = 'message-send'
        and job.state < 'active'
        and not job.blocked
        and job.priority = any (select -lane from unnest(p_lanes) as lane)
        and job.start_after <= instant
    ) then
      return query select 0, 1000, false;
      return;
    end if;
    -- One message tests whether the receiver is back. Its worker may die; then the next
    -- message does, a minute later.
    update app_private.delivery_channels
    set circuit = 'half-open', probe_after = instant + interval '1 minute'
    where name = p_channel;
    return query select 1, 0, false;
    return;
  end if;

  today := (instant at time zone 'UTC')::date;
  room := app_private.warm_up_room(channel, today);
  if room <= 0 then
    return query select 0, 60000, false;
    return;
  end if;
  if room is not null then
    -- What is taken and not used is missing for others meanwhile.
    select count(*)
    into waiting
    from (
      select from pgboss.job
      where job.name = 'message-send'
        and job.state < 'active'
        and not job.blocked
        and job.priority = any (select -lane from unnest(p_lanes) as lane)
        and job.start_after <= instant
      limit p_wanted
    ) as due;
    if waiting = 0 then
      return query select 0, 100, false;
      return;
    end if;
    room := least(room, waiting);
  end if;
  -- A bucket that holds one second's permits and fills evenly.
  available := case when channel.messages_per_second is null then p_wanted
    else least(greatest(channel.messages_per_second, 1), channel.permits
      + channel.messages_per_second * extract(epoch from instant - channel.permits_at)) end;
  if available < 1 then
    return query select 0, ceil((1 - available) / channel.messages_per_second * 1000)::integer,
      false;
    return;
  end if;
  taken := least(p_wanted, floor(available), room)::integer;
  update app_private.delivery_channels
  set permits = available - taken, permits_at = instant,
    counted_on = case when room is not null then today end,
    counted = case when room is null then 0
      when channel.counted_on = today then channel.counted + taken else taken end
  where name = p_channel;
  return query select taken, 0, true;
end
$$;

grant execute on function app_private.take_send_permits(text, integer, integer[]) to gw_worker;
comment on function app_private.take_send_permits(text, integer, integer[]) is
  'How many messages may be sent now, up to the number wanted; if none, how many milliseconds to wait. Those of a metered channel that are not used are to be given back: return_send_permits().';
--! EndIncluded functions/app_private/take_send_permits.sql
--! Included functions/app_private/return_send_permits.sql
-- Definer: see take_send_permits(). A queue that has less than was asked for would use the
-- limit up without sending.
create or replace function app_private.return_send_permits(p_channel text, p_unused integer)
returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  update app_private.delivery_channels
  set permits = permits + greatest(p_unused, 0),
    counted = greatest(0, counted - greatest(p_unused, 0))
  where name = p_channel
$$;

grant execute on function app_private.return_send_permits(text, integer) to gw_worker;
comment on function app_private.return_send_permits(text, integer) is
  'Gives back permits of take_send_permits() that no message used.';
--! EndIncluded functions/app_private/return_send_permits.sql
--! Included functions/app_private/describe_circuit.sql
create or replace function app_private.describe_circuit(
  p_channel text, out detail text, out remediation text
)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select
    case delivery_channels.opened_because
      when 'refusals' then format('%s of the latest 50 messages were refused for good; '
        'messages wait', greatest(delivery_channels.refusals_to_open,
          length(replace(delivery_channels.recent_outcomes, '0', ''))))
      when 'sender' then 'the receiver refuses the sender; messages wait'
      else 'the receiver does not answer; messages wait'
    end || coalesce(': "' || delivery_channels.refusal || '"', ''),
    case delivery_channels.opened_because
      when 'unanswered' then 'Sending goes on by itself when a probe, every 5 minutes at most, '
        'is answered.'
      else 'Mend what the answer says: key, quota, sender''s address, reputation. Then sending '
        'goes on by itself, with a probe every 5 minutes at most. '
        'If the answer is about messages, not about the sender: gw report answer-rules'
    end
  from app_private.delivery_channels
  where delivery_channels.name = p_channel
$$;

comment on function app_private.describe_circuit(text) is
  'Why a channel''s circuit is open, and what to do.';
--! EndIncluded functions/app_private/describe_circuit.sql
--! Included functions/app_private/note_channel_health.sql
-- Nothing is written in the normal case (messages sent, circuit closed), nor when no call
-- was made.
--
-- A receiver that is there again is believed at once. One that refused messages for good has
-- to take several in a row, since it may refuse every other one.
create or replace function app_private.note_channel_health(
  p_channel text, p_sent integer, p_answered integer, p_failed integer, p_held integer,
  p_refusal text
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  channel app_private.delivery_channels;
  is_well boolean;
  cause text;
begin
  if p_sent = 0 and p_answered = 0 and p_failed = 0 and p_held = 0 then
    return;
  end if;
  select * into channel from app_private.delivery_channels where name = p_channel;
  if p_failed = 0 and p_held = 0 and channel.circuit = 'closed' and channel.failures = 0 then
    return;
  end if;
  select * into channel from app_private.delivery_channels where name = p_channel for update;

  is_well := p_held = 0 and case channel.opened_because when 'refusals' then p_sent > 0
    else p_sent > 0 or p_answered > 0 end;
  if is_well then
    if channel.opened_because = 'refusals' and channel.circuit = 'half-open'
      and channel.probes_sent + p_sent < channel.probes_to_close
    then
      -- The next probe at once.
      update app_private.delivery_channels
      set circuit = 'open', probes_sent = channel.probes_sent + p_sent,
        probe_after = clock_timestamp()
      where name = p_channel;
      return;
    end if;
    -- Calls that had begun when the circuit opened say nothing new.
    if channel.opened_because = 'refusals' and channel.circuit = 'open' then
      return;
    end if;
    if channel.circuit <> 'closed' or channel.failures > 0 then
      update app_private.delivery_channels
      set circuit = 'closed', failures = 0, pause = default, probe_after = null,
        opened_at = null, opened_because = null, refusal = null, probes_sent = 0,
        recent_outcomes = ''
      where name = p_channel;
    end if;
    if channel.circuit <> 'closed' then
      perform ops.resolve_alert('message-channel', p_channel);
    end if;
    return;
  end if;

  if p_held = 0 and channel.circuit = 'closed'
    and channel.failures + p_failed < channel.failures_to_open
  then
    update app_private.delivery_channels
    set failures = channel.failures + p_failed
    where name = p_channel;
    return;
  end if;
  if channel.circuit = 'open' then
    return;
  end if;
  cause := case when p_held > 0 or channel.opened_because = 'refusals' then 'refusals' when p_refusal is not null then 'sender'
    else coalesce(channel.opened_because, 'unanswered') end;
  update app_private.delivery_channels
  set circuit = 'open', failures = channel.failures + p_failed,
    pause = case channel.circuit
      when 'half-open' then least(channel.pause * 2, interval '5 minutes')
      else channel.pause end,
    opened_at = coalesce(channel.opened_at, clock_timestamp()),
    opened_because = cause,
    refusal = coalesce(p_refusal, channel.refusal),
    probes_sent = 0,
    probe_after = clock_timestamp() + case channel.circuit
      when 'half-open' then least(channel.pause * 2, interval '5 minutes')
      else channel.pause end
  where name = p_channel;
  perform ops.raise_alert('message-channel', p_channel, 'critical',
    told.detail, told.remediation)
  from app_private.describe_circuit(p_channel) as told;
end
$$;

comment on function app_private.note_channel_health(
  text, integer, integer, integer, integer, text) is
  'Opens or closes a channel''s circuit after some calls: so many messages were sent, refused while the receiver takes others, not taken, and held, since too many were refused. The text is what the receiver said of the sender.';
--! EndIncluded functions/app_private/note_channel_health.sql
--! Included functions/app_private/message_decision.sql
-- The one place that decides whether a message may go out: claim_messages() asks for now,
-- explain_planned() for now and for the end of the late window, find_occasions() for the
-- instant at which it is due. What a caller does not know, it leaves out.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.message_decision(
  p_at timestamptz, p_refusal text, p_timezone text, p_quiet_from time,
  p_quiet_until time, p_send_until timestamptz default 'infinity',
  p_uncertain_since timestamptz default null, p_key_lifetime interval default null,
  p_retry_count integer default 0, p_max_attempts integer default null,
  p_suppression text default null, p_hold app_private.message_holds default null
) returns table (status text, reason text, held_until timestamptz)
language sql stable
as $$
  select decided.status,
    case decided.status
      when 'CANCELED' then p_refusal
      when 'SUPPRESSED' then p_suppression
      when 'UNKNOWN' then 'an attempt of '
        || pg_catalog.to_char(p_uncertain_since, 'YYYY-MM-DD HH24:MI "UTC"')
        || ' may have been delivered, and it is too late to repeat it'
      when 'EXPIRED' then 'not sent until '
        || pg_catalog.to_char(p_send_until, 'YYYY-MM-DD HH24:MI "UTC"')
        || ', the end of its late window'
      when 'QUEUED' then case when (p_hold).id is not null
        then 'held by hold ' || (p_hold).id || coalesce(' until '
          || pg_catalog.to_char((p_hold).held_until, 'YYYY-MM-DD HH24:MI "UTC"'), '')
          || ': ' || (p_hold).reason
        else 'held until ' || pg_catalog.to_char(decided.held_until, 'YYYY-MM-DD HH24:MI "UTC"')
        || case when p_timezone is null
          then ': the server does not know the user''s time zone'
          else ': these are the user''s quiet hours' end
      end
    end,
    decided.held_until
  from (
    select case
        when p_refusal is not null then 'CANCELED'
        when p_suppression is not null and p_uncertain_since is null then 'SUPPRESSED'
        -- The receiver has forgotten the key: a repeat would be a second message.
        when p_uncertain_since < p_at - p_key_lifetime then 'UNKNOWN'
        when p_retry_count >= p_max_attempts then 'UNKNOWN'
        when p_suppression is not null then 'UNKNOWN'
        when (p_hold).id is not null then 'QUEUED'
        when p_at > p_send_until
        then case when p_uncertain_since is null then 'EXPIRED' else 'UNKNOWN' end
        when quiet.until is not null then 'QUEUED'
        else 'SENDING'
      end as status,
      -- Not infinity, which few programs that read jobs can show.
      case when (p_hold).id is not null then coalesce(
          (p_hold).held_until, timestamptz '9999-12-31 00:00 UTC')
        else quiet.until end as held_until
    from (
      -- Without a zone nobody can tell the quiet hours, nor a digest's week.
      select case when p_timezone is null then p_at + interval '15 minutes'
        else app_hidden.quiet_until(p_at, p_timezone, p_quiet_from, p_quiet_until) end
      offset 0
    ) as quiet (until)
    offset 0
  ) as decided
$$;

comment on function app_private.message_decision(
  timestamptz, text, text, time, time, timestamptz, timestamptz, interval, integer, integer,
  text, app_private.message_holds)
  is 'What becomes of a message that is to be sent at an instant: SENDING, QUEUED (held by a person, by quiet hours, or because the server does not know the time zone), CANCELED, SUPPRESSED, EXPIRED or UNKNOWN, and why. Takes message_refusal() and the user''s quiet hours; the end of its late window; since when it may have been delivered and for how long receivers remember its key; how many attempts of how many it had; suppression() of its address, and held_by().';
--! EndIncluded functions/app_private/message_decision.sql
--! Included functions/app_private/find_claims.sql
-- Each job says where its message is, so that one partition is read. When the message has
-- moved since then, or has another job, this job has nothing to do.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.find_claims(p_jobs jsonb) returns table (
  user_id uuid,
  id uuid,
  scheduled_send_time timestamptz,
  status text,
  job_id uuid,
  retry_count integer,
  error_message text,
  attempted_at timestamptz,
  message_type text,
  delivery_date date,
  hold_id integer,
  recipient_email text,
  recipient_name text,
  payload jsonb,
  turn_at timestamptz,
  route_step integer,
  is_bound boolean,
  uncertain_since timestamptz,
  send_until timestamptz
)
language sql stable
as $$
  select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
    message_logs.status, message_logs.job_id, message_logs.retry_count,
    message_logs.error_message,
    message_logs.attempted_at, message_logs.message_type, message_logs.delivery_date,
    message_logs.hold_id, message_logs.recipient_email, message_logs.recipient_name,
    message_logs.payload, message_logs.turn_at, message_logs.route_step,
    message_logs.recipient_name is not null,
    -- A worker died during the call, so the outcome is not known.
    case when message_logs.status = 'SENDING'
      then least(message_logs.uncertain_since, message_logs.attempted_at)
      else message_logs.uncertain_since end,
    -- A hold that ended by itself makes nothing late.
    greatest(
      coalesce(message_logs.send_until,
        message_logs.scheduled_send_time + (select app_private.late_window())),
      (
        select message_holds.held_until + (select app_private.late_window())
        from app_private.message_holds
        where message_holds.id = message_logs.hold_id
      ))
  from pg_catalog.jsonb_to_recordset(p_jobs) as given (
    job_id uuid, user_id uuid, message_id uuid, scheduled_send_time timestamptz)
  inner join app_public.message_logs
    on message_logs.user_id = given.user_id
    and message_logs.id = given.message_id
    and message_logs.scheduled_send_time = given.scheduled_send_time
    and message_logs.job_id = given.job_id
  where message_logs.status in ('QUEUED', 'SENDING', 'RETRYING')
  -- Alone, so that no other join is before it: each message is found by its whole key.
  offset 0
$$;

comment on function app_private.find_claims(jsonb) is
  'The messages of these jobs that may be sent: whether they are bound to the receiver of an earlier attempt, since when they may have been delivered, and until when they are sent.';
--! EndIncluded functions/app_private/find_claims.sql
--! Included functions/app_private/take_turns.sql
-- Who waits has a turn, one after the other at the pace of the limit; who comes later gets
-- a later one. At its turn a message finds a permit, since these come at the same pace, and
-- those of five seconds are kept for turns that are late.
create or replace function app_private.take_turns(p_jobs jsonb, p_channel text) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  turns jsonb;
begin
  if not exists (select from app_private.domain_limits where channel = p_channel) then
    return jsonb '{}';
  end if;

  -- The lock keeps the permits until the end of the transaction.
  perform from app_private.domain_limits where channel = p_channel
  order by domain for update;
  with asking as (
    select claims.id, limits.domain, limits.messages_per_second as rate,
      claims.turn_at is not null as has_turn,
      least(greatest(5 * limits.messages_per_second, 1), limits.permits
        + limits.messages_per_second
          * extract(epoch from clock_timestamp() - limits.permits_at)) as available,
      greatest(limits.next_turn_at, clock_timestamp()) as next_turn_at,
      limits.next_turn_at > clock_timestamp() as is_queue,
      row_number() over (
        partition by limits.domain
        order by claims.turn_at nulls last, claims.scheduled_send_time, claims.id) as place
    from app_private.find_claims(p_jobs) as claims
    inner join app_public.users on users.id = claims.user_id
    inner join app_private.domain_limits as limits
      on limits.channel = p_channel
      and limits.domain = lower(split_part(
        coalesce(claims.recipient_email, users.email), '@', -1))
  ),
  answered as (
    select asking.*,
      asking.place <= floor(asking.available)
        and (asking.has_turn or not asking.is_queue) as goes
    from asking
  ),
  placed as (
    select answered.*,
      case
        when answered.goes then null
        when answered.has_turn then clock_timestamp() + interval '1 second'
          / answered.rate * (answered.place - floor(answered.available))
        else answered.next_turn_at + interval '1 second' / answered.rate * row_number() over (
          partition by answered.domain, answered.goes, answered.has_turn
          order by answered.place)
      end as turn_at
    from answered
  ),
  counted as (
    update app_private.domain_limits
    set permits = totals.available - totals.going,
      permits_at = clock_timestamp(),
      next_turn_at = coalesce(totals.last_turn, domain_limits.next_turn_at)
    from (
      select placed.domain, min(placed.available) as available,
        count(*) filter (where placed.goes) as going,
        max(placed.turn_at) filter (where not placed.has_turn) as last_turn
      from placed
      group by placed.domain
    ) as totals
    where domain_limits.channel = p_channel
      and domain_limits.domain = totals.domain
  )
  select jsonb_object_agg(placed.id, placed.turn_at) filter (where not placed.goes)
  into turns
  from placed;
  return coalesce(turns, '{}');
end
$$;

comment on function app_private.take_turns(jsonb, text) is
  'Which messages of these jobs wait, since the domain of their address takes so many: {id: when its turn is}.';
--! EndIncluded functions/app_private/take_turns.sql
--! Included functions/app_private/decide_claims.sql
-- Without SET, so that it becomes part of claim_messages().
create or replace function app_private.decide_claims(
  p_jobs jsonb, p_channel text, p_needless jsonb, p_turns jsonb
) returns table (
  user_id uuid,
  id uuid,
  scheduled_send_time timestamptz,
  job_id uuid,
  status text,
  lost_attempt jsonb,
  uncertain_since timestamptz,
  next_status text,
  reason text,
  held_until timestamptz,
  hold_id integer,
  send_until timestamptz,
  recipient_email text,
  recipient_name text,
  is_optional boolean,
  endpoints jsonb,
  turn_at timestamptz,
  route_step integer,
  lane integer
)
language sql stable
as $$
  select found.user_id, found.id, found.scheduled_send_time, found.job_id, found.status,
    case when found.status = 'SENDING' then pg_catalog.jsonb_build_object(
      'started_at', found.attempted_at, 'error', 'the worker died in the call') end,
    found.uncertain_since, outcome.status,
    case
      when outcome.status = 'SENDING' then found.error_message
      when outcome.status = 'UNKNOWN'
        then pg_catalog.concat_ws('; ', found.error_message, decision.reason)
      when outcome.status = decision.status then decision.reason
      when onward.lane is not null then 'goes by the next channel of its route: ' || decision.reason
      else 'waits for its turn: the domain of the address takes only so many messages'
    end,
    case
      when outcome.status = decision.status then decision.held_until
      when onward.lane is not null then pg_catalog.now()
      else turn.turn_at
    end,
    case when decision.status = 'QUEUED' then (stopped.hold).id end,
    case when found.hold_id is not null then found.send_until end,
    -- What may have reached somebody goes to nobody else.
    case when outcome.status = 'SENDING' and not found.is_bound
      then stopped.email else found.recipient_email end,
    case when outcome.status = 'SENDING' and not found.is_bound
      then pg_catalog.btrim(rules.first_name || ' ' || rules.last_name)
      else found.recipient_name end,
    rules.is_optional, stopped.endpoints, coalesce(turn.turn_at, found.turn_at),
    coalesce(onward.step, found.route_step), onward.lane
  from app_private.find_claims(p_jobs) as found
  cross join app_private.delivery_channel(p_channel) as channel
  -- The planner's rules, applied again at the last moment.
  inner join app_private.user_messages as rules
    on rules.user_id = found.user_id
    and rules.message_type = found.message_type
  cross join lateral (
    select case when (select app_private.knows_addresses())
        then app_private.suppression(rules.email, found.message_type, rules.is_optional,
          channel.address_kind = 'email') end as suppression,
      case when (select exists (
          select from app_private.message_holds where message_holds.released_at is null))
        then app_private.held_by(found.message_type, p_channel, rules.timezone) end as hold,
      case channel.address_kind when 'email' then rules.email end as email,
      case when channel.address_kind <> 'email' then app_private.endpoints_of(
        found.user_id, channel.address_kind, channel.public_key) end as endpoints,
      app_private.message_refusal(rules.deleted_at, rules.is_wanted, true, rules.repeats,
        rules.base_date, rules.leap_day_policy, found.delivery_date) as refusal
    offset 0
  ) as stopped
  cross join lateral (
    select case when coalesce(stopped.email, stopped.endpoints::text) is null
      then 'the user has no ' || case channel.address_kind when 'email' then 'e-mail address'
        else 'address of the kind ' || channel.address_kind end end
  ) as lacking (address)
  cross join lateral app_private.message_decision(
    pg_catalog.now(),
    coalesce(stopped.refusal,
      case channel.address_kind when 'email' then lacking.address end,
      p_needless ->> found.id::text),
    rules.timezone, rules.quiet_from, rules.quiet_until,
    case rules.late_policy when 'day' then least(found.send_until, app_hidden.local_to_instant(
        (found.delivery_date + 1)::timestamp, rules.timezone))
      else found.send_until end,
    found.uncertain_since, channel.key_lifetime, found.retry_count, channel.max_attempts,
    -- Not canceled: it would be planned again.
    coalesce(stopped.suppression,
      case when channel.address_kind <> 'email' then lacking.address end),
    stopped.hold) as decision
  left join lateral (
    select route.step, route.lane
    from app_private.next_route(
      found.user_id, found.id, found.scheduled_send_time, p_channel) as route
    where decision.status in ('CANCELED', 'SUPPRESSED')
      and stopped.refusal is null
      and (lacking.address is not null or decision.status = 'SUPPRESSED')
      and app_private.suppression(rules.email, found.message_type, rules.is_optional, false)
        is null
  ) as onward on true
  left join lateral (
    select (p_turns ->> found.id::text)::timestamptz
  ) as turn (turn_at) on decision.status = 'SENDING'
  cross join lateral (
    select case when coalesce(onward.step::text, turn.turn_at::text) is not null
      then 'QUEUED' else decision.status end
  ) as outcome (status)
  -- Every function that changes many of these rows locks them in this order.
  order by found.user_id, found.id
$$;

comment on function app_private.decide_claims(jsonb, text, jsonb, jsonb) is
  'What becomes of each job''s message now, and why.';
--! EndIncluded functions/app_private/decide_claims.sql
--! Included functions/app_private/compose_due_digests.sql
create or replace function app_private.compose_due_digests(p_jobs jsonb, p_channel text)
returns uuid[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set plan_cache_mode = force_generic_plan
as $$
begin
  return coalesce((
    select app_private.compose_digests(array_agg(job.user_id), array_agg(job.message_id),
      array_agg(job.scheduled_send_time))
    from jsonb_to_recordset(p_jobs) as job (
      user_id uuid, message_id uuid, scheduled_send_time timestamptz, message_type text)
    -- compose_digests() leaves out messages that are no digests.
    where job.message_type is null
      or job.message_type in (
        select type from app_private.message_types where repeats = 'weekly')
    having count(*) > 0
  ), array[]::uuid[]);
exception when others then
  return app_private.compose_digests_singly(p_jobs, p_channel);
end
$$;

comment on function app_private.compose_due_digests(jsonb, text) is
  'Composes the weekly messages among these jobs. Returns the ids of those whose week is empty.';
--! EndIncluded functions/app_private/compose_due_digests.sql
--! Included functions/app_private/rivals_of.sql
-- Of equal priority the first name counts, so that of two messages that are claimed at the
-- same time, one is sent.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.rivals_of(
  p_user_id uuid, p_message_type text, p_delivery_date date
) returns table (message_type text, is_higher boolean, status text, error_message text)
language sql stable
as $$
  select rival.type, (rival.priority, own.type) > (own.priority, rival.type),
    message_logs.status, message_logs.error_message
  from app_private.message_types as own
  inner join app_private.message_types as rival
    on rival.day_group = own.day_group
    and rival.type <> own.type
  inner join app_public.message_logs
    on message_logs.user_id = p_user_id
    and message_logs.message_type = rival.type
    and message_logs.delivery_date = p_delivery_date
    -- No zone is further from UTC, and no quiet hours last longer than a day.
    and message_logs.scheduled_send_time between p_delivery_date - 3 and p_delivery_date + 4
  where own.type = p_message_type
$$;

comment on function app_private.rivals_of(uuid, text, date) is
  'The messages of a user that are of the same group and day as one of a type, and whether each goes before it.';
--! EndIncluded functions/app_private/rivals_of.sql
--! Included functions/app_private/compose_variants.sql
-- At the last moment, since only then it is known whether a message is late, by which channel
-- it goes, and which others there are of its day. What may have reached somebody stays.
create or replace function app_private.compose_variants(p_jobs jsonb, p_channel text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  needless jsonb;
begin
  if not exists (
      select from app_private.message_types
      where coalesce(belated_as, day_group) is not null)
    and not exists (select from app_private.message_routes where text_as is not null)
  then
    return jsonb '{}';
  end if;

  with found as materialized (
    select claims.*, types.belated_as, types.combined_as, routes.text_as,
      now() >= app_hidden.local_to_instant(
        (claims.delivery_date + 1)::timestamp, rules.timezone) as is_belated,
      rules.base_date, rules.first_name, rules.last_name, rules.locale,
      (
        select min(rivals.message_type)
        from app_private.rivals_of(claims.user_id, claims.message_type, claims.delivery_date)
          as rivals
        where rivals.is_higher
          and rivals.status not in ('CANCELED', 'FAILED', 'EXPIRED', 'SUPPRESSED')
      ) as instead,
      exists (
        select from app_private.rivals_of(
          claims.user_id, claims.message_type, claims.delivery_date) as rivals
        where not rivals.is_higher
          and (rivals.status in ('SCHEDULED', 'QUEUED', 'RETRYING')
            or rivals.error_message like 'the message % of that day%')
      ) as is_combined
    from app_private.find_claims(p_jobs) as claims
    inner join app_private.message_types as types on types.type = claims.message_type
    inner join app_private.user_messages as rules
      on rules.user_id = claims.user_id
      and rules.message_type = claims.message_type
    left join lateral (
      select min(message_routes.text_as) as text_as
      from app_private.message_routes
      where message_routes.message_type = claims.message_type
        and message_routes.channel = p_channel
        and message_routes.step >= coalesce(claims.route_step, 1)
    ) as routes on true
    where types.repeats <> 'weekly'
      and not claims.is_bound
      and claims.uncertain_since is null
  ),
  chosen as (
    select found.*, case
        when found.is_belated and found.belated_as is not null then found.belated_as
        when found.is_combined and found.combined_as is not null then found.combined_as
        else found.text_as
      end as text_type
    from found
  ),
  written as (
    update app_public.message_logs
    set message_subject = text.subject, message_content = text.body,
      message_html = text.html, template_version = text.version,
      template_locale = text.locale, text_type = chosen.text_type
    from chosen
    cross join lateral app_private.compose_message(
      coalesce(chosen.text_type, chosen.message_type), chosen.delivery_date,
      chosen.base_date, chosen.first_name, chosen.last_name, chosen.locale,
      chosen.payload, chosen.user_id) as text
    where message_logs.user_id = chosen.user_id
      and message_logs.id = chosen.id
      and message_logs.scheduled_send_time = chosen.scheduled_send_time
      and message_logs.text_type is distinct from chosen.text_type
      and message_logs.status in ('QUEUED', 'RETRYING')
  )
  select jsonb_object_agg(found.id,
    format('the message %s of that day is sent instead', found.instead))
  into needless
  from found
  where found.instead is not null;
  return coalesce(needless, '{}');
end
$$;

comment on function app_private.compose_variants(jsonb, text) is
  'Writes what a message says when it is belated, stands for others of its day, or goes by a channel with texts of its own. Returns the messages of these jobs that another one of their day stands for: {id: why}.';
--! EndIncluded functions/app_private/compose_variants.sql
--! Included functions/app_private/needless_messages.sql
create or replace function app_private.needless_messages(p_jobs jsonb, p_channel text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  return app_private.compose_variants(p_jobs, p_channel) || (
    select coalesce(jsonb_object_agg(empty.id, 'nothing happened in that week'), '{}')
    from unnest(app_private.compose_due_digests(p_jobs, p_channel)) as empty (id)
  );
end
$$;

comment on function app_private.needless_messages(jsonb, text) is
  'Composes what is composed only when it is sent: weekly messages, and texts that depend on the moment. Returns the messages of these jobs that need not be sent: {id: why}.';
--! EndIncluded functions/app_private/needless_messages.sql
--! Included functions/app_private/alert_of_unknown_messages.sql
create or replace function app_private.alert_of_unknown_messages(p_jobs jsonb)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
begin
  if exists (
    select
    from jsonb_to_recordset(p_jobs)
      as given (user_id uuid, message_id uuid, scheduled_send_time timestamptz)
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
    where message_logs.stage = 'ended'
      and message_logs.status = 'UNKNOWN'
  ) then
    -- The health check of that name says more, and resolves the alert.
    perform ops.raise_alert('health-unknown-deliveries', 'message-send', 'warning',
      'messages may or may not have been delivered',
      'gw messages list --status UNKNOWN; then gw messages resolve or redrive');
  end if;
end
$$;

comment on function app_private.alert_of_unknown_messages(jsonb) is
  'Raises an alert when one of these jobs'' messages has become UNKNOWN.';
--! EndIncluded functions/app_private/alert_of_unknown_messages.sql
--! Included functions/app_private/own_jobs.sql
-- A worker that was taken for dead has some of its jobs no more. Nearly always they are all
-- its own, and then nothing is made anew.
create or replace function app_private.own_jobs(p_worker integer, p_jobs jsonb)
returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  own uuid[];
begin
  if p_worker is null then
    return p_jobs;
  end if;
  -- Not a join: planned while the queue is short, it would read all of it when it is long.
  select array_agg(given.job_id)
  into own
  from jsonb_to_recordset(p_jobs) as given (job_id uuid)
  where p_worker::text = (
    select job.group_tier
    from pgboss.job
    where job.name = 'message-send'
      and job.id = given.job_id
      and job.state = 'active'
  );
  if cardinality(own) = jsonb_array_length(p_jobs) then
    return p_jobs;
  end if;
  return coalesce((
    select jsonb_agg(given.job)
    from jsonb_array_elements(p_jobs) as given (job)
    where (given.job ->> 'job_id')::uuid = any (own)
  ), '[]');
end
$$;

comment on function app_private.own_jobs(integer, jsonb) is
  'Those of these jobs that are a worker''s, by its key; all of them when that is null.';
--! EndIncluded functions/app_private/own_jobs.sql
--! Included functions/app_private/layout_of.sql
create or replace function app_private.layout_of(p_message app_public.message_logs)
returns integer
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select template_versions.layout_id
  from app_private.template_versions
  where template_versions.message_type = coalesce(p_message.text_type, p_message.message_type)
    and template_versions.locale = p_message.template_locale
    and template_versions.version = p_message.template_version
$$;

comment on function app_private.layout_of(app_public.message_logs) is
  'The layout around the HTML of a message; null when it has none.';
--! EndIncluded functions/app_private/layout_of.sql
--! Included functions/app_private/claim_messages.sql
-- Definer: the worker has no rights on tenants' tables; it may claim and record.
create or replace function app_private.claim_messages(
  p_jobs jsonb, p_channel text, p_worker integer default null
) returns table (
  job_id uuid,
  message_id uuid,
  user_id uuid,
  scheduled_send_time text,
  message_type text,
  delivery_date date,
  email text,
  full_name text,
  message_subject text,
  message_content text,
  idempotency_key text,
  attempt integer,
  was_attempted boolean,
  is_optional boolean,
  locale text,
  message_html text,
  layout_id integer,
  endpoints jsonb
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- Planned once a session: planning for each batch anew costs a third of running it.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  jobs constant jsonb := app_private.own_jobs(p_worker, p_jobs);
  job_ids constant uuid[] := array(
    select (job ->> 'job_id')::uuid from jsonb_array_elements(jobs) as job);
  needless constant jsonb := app_private.needless_messages(jobs, p_channel);
  turns constant jsonb := app_private.take_turns(jobs, p_channel);
  returned integer;
begin
  perform ops.refuse_when_fenced();
  return query
  with decided as materialized (
    select * from app_private.decide_claims(jobs, p_channel, needless, turns)
  ),
  written as (
    update app_public.message_logs
    set status = decided.next_status,
      uncertain_since = decided.uncertain_since,
      hold_id = decided.hold_id,
      route_step = decided.route_step, turn_at = decided.turn_at,
      send_until = coalesce(decided.send_until, message_logs.send_until),
      attempted_at = case when decided.next_status = 'SENDING'
        then clock_timestamp() else message_logs.attempted_at end,
      -- The worker that made this attempt died, so it is recorded here.
      retry_count = message_logs.retry_count + (decided.status = 'SENDING')::integer,
      attempts = case when decided.lost_attempt is null then message_logs.attempts
        else coalesce(message_logs.attempts, '[]') || decided.lost_attempt end,
      channel = case decided.next_status
        when 'SENDING' then p_channel else message_logs.channel end,
      recipient_email = decided.recipient_email, recipient_name = decided.recipient_name,
      error_message = decided.reason
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      -- Evaluated again when another transaction has just changed the row.
      and message_logs.status = decided.status
      and message_logs.job_id = decided.job_id
    returning message_logs.*, decided.is_optional, decided.endpoints,
      case when message_logs.message_html is not null
        then app_private.layout_of(message_logs) end as layout_id
  ),
  finished as (
    delete from pgboss.job
    where job.name = 'message-send'
      and job.id = any (job_ids)
      and job.id not in (
        select decided.job_id from decided where next_status in ('SENDING', 'QUEUED'))
  ),
  held as (
    update pgboss.job
    set state = 'retry', start_after = decided.held_until, group_tier = null,
      priority = coalesce(-decided.lane, job.priority)
    from decided
    where job.name = 'message-send'
      and job.id = decided.job_id
      and decided.next_status = 'QUEUED'
  ),
  -- A canceled occasion can come back, see replan_messages(); what is needless cannot.
  released as (
    delete from app_private.message_ledger
    using written
    where (message_ledger.user_id, message_ledger.message_type, message_ledger.delivery_date)
        = (written.user_id, written.message_type, written.delivery_date)
      and written.status = 'CANCELED'
      and not needless ? written.id::text
  )
  select written.job_id, written.id, written.user_id,
    to_json(written.scheduled_send_time) #>> '{}', written.message_type,
    written.delivery_date, written.recipient_email, written.recipient_name,
    written.message_subject, written.message_content, written.idempotency_key,
    written.retry_count, written.uncertain_since is not null or written.attempts is not null,
    written.is_optional, written.template_locale, written.message_html, written.layout_id,
    written.endpoints
  from written where written.status = 'SENDING';

  get diagnostics returned = row_count;
  if returned < cardinality(job_ids) then
    perform app_private.alert_of_unknown_messages(jobs);
  end if;
end
$$;

grant execute on function app_private.claim_messages(jsonb, text, integer) to gw_worker;
comment on function app_private.claim_messages(jsonb, text, integer) is
  'Marks a batch SENDING and returns what to send now; composes the weekly messages among them. Takes an array of {job_id, user_id, message_id, scheduled_send_time, message_type}. Removes the jobs of messages that are not sent. With a worker''s key, only of those jobs that are still its own.';
--! EndIncluded functions/app_private/claim_messages.sql
--! Included functions/app_private/retry_wait.sql
-- Exponential backoff with full jitter: messages that failed together are not retried
-- together. A receiver may ask for more, up to a day.
--
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.retry_wait(
  p_base interval, p_cap interval, p_attempt integer, p_asked_seconds double precision
) returns interval
language sql volatile
as $$
  select greatest(
    pg_catalog.random() * least(p_cap, p_base * 2 ^ least(p_attempt, 20)),
    least(coalesce(p_asked_seconds, 0), 86400) * interval '1 second')
$$;

comment on function app_private.retry_wait(interval, interval, integer, double precision) is
  'How long to wait before a retry: p_attempt is the number of attempts before the failed one, p_asked_seconds the Retry-After of the receiver.';
--! EndIncluded functions/app_private/retry_wait.sql
--! Included functions/app_private/note_results.sql
create or replace function app_private.note_results(
  p_judged jsonb, p_channel text, p_given_up integer
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  sent integer;
  answered integer;
  failed integer;
  held integer;
  refusal text;
begin
  -- An answer about a message, or "too many requests", shows that the receiver takes
  -- messages. One that FAILED without a code, such as one to no address, was never sent and
  -- shows nothing.
  select count(*) filter (where result.status = 'SENT'),
    count(*) filter (where result.status <> 'SENT'
      and result.verdict is distinct from 'channel' and not coalesce(result.is_held, false)
      and (result.code < 500 or result.status = 'FAILED' and result.code is not null)),
    count(*) filter (where result.status = 'RETRYING' and not coalesce(result.is_held, false)
      and (result.code is null or result.code >= 500 or result.verdict = 'channel')),
    count(*) filter (where result.is_held),
    -- What it said, without addresses: it stands in an alert.
    (array_agg(app_private.without_addresses(
      coalesce(nullif(result.body, ''), result.error), 200))
      filter (where result.verdict = 'channel' or result.is_held))[1]
  into sent, answered, failed, held, refusal
  from jsonb_to_recordset(p_judged) as result (
    status text, code integer, verdict text, is_held boolean, body text, error text);
  perform app_private.note_channel_health(
    p_channel, sent, answered, failed, held, refusal);

  if p_judged @? '$[*].gone[*]' then
    perform app_private.forget_endpoints(p_judged);
  end if;
  if p_given_up > 0 then
    -- The health check of that name says more, and resolves the alert.
    perform ops.raise_alert('health-dead-letters', 'message-send-dead', 'warning',
      'messages were given up', 'gw messages list --status FAILED; then gw messages redrive');
  end if;
end
$$;

comment on function app_private.note_results(jsonb, text, integer) is
  'Opens or closes the channel''s circuit by a judged batch of results; raises an alert when messages had no attempts left.';
--! EndIncluded functions/app_private/note_results.sql
--! Included functions/app_private/decide_results.sql
-- Without SET, so that it becomes part of record_send_results().
create or replace function app_private.decide_results(p_judged jsonb, p_channel text)
returns table (
  job_id uuid,
  user_id uuid,
  message_id uuid,
  scheduled_send_time timestamptz,
  attempt integer,
  status text,
  code integer,
  body text,
  error text,
  is_uncertain boolean,
  provider_message_id text,
  next_status text,
  counted integer,
  retry_at timestamptz,
  details jsonb,
  route_step integer,
  lane integer
)
language sql volatile
as $$
  select result.job_id, result.user_id, result.message_id, result.scheduled_send_time,
    result.attempt, result.status, result.code, result.body, result.error,
    result.is_uncertain, result.provider_message_id,
    case when result.status = 'FAILED' and onward.lane is not null then 'QUEUED'
      when result.status = 'RETRYING' and result.is_held is not true
        and result.attempt + tries.counted >= channel.max_attempts
      then 'FAILED' else result.status end,
    tries.counted,
    pg_catalog.clock_timestamp() + case when result.status <> 'FAILED'
      then app_private.retry_wait(channel.retry_base, channel.retry_cap, result.attempt,
        result.retry_after_seconds) else interval '0' end,
    case when result.status <> 'SENT' then pg_catalog.jsonb_build_object(
      'code', result.code, 'stage', result.stage, 'verdict', result.verdict,
      'body', pg_catalog.left(result.body, 500), 'error', result.error) end,
    onward.step, onward.lane
  from pg_catalog.jsonb_to_recordset(p_judged) as result (
    job_id uuid, user_id uuid, message_id uuid, scheduled_send_time timestamptz,
    attempt integer, status text, stage text, code integer, body text, error text,
    retry_after_seconds double precision, is_uncertain boolean, verdict text,
    is_held boolean, provider_message_id text)
  cross join app_private.delivery_channel(p_channel) as channel
  -- A probe of a receiver that is down, or refuses the sender, does not count as an attempt
  -- of its message.
  cross join lateral (
    select (result.is_held is not true
      and (channel.circuit = 'closed'
        or coalesce(result.code, 500) < 500 and result.verdict is distinct from 'channel')
      )::integer
  ) as tries (counted)
  -- What the vendor, or the address, refuses for good may go another way. A vendor that
  -- refuses the sender, or is not there, loses the message to another one.
  left join lateral (
    select route.step, route.lane
    from app_private.next_route(
      result.user_id, result.message_id, result.scheduled_send_time, p_channel,
      p_is_beside => result.status = 'RETRYING') as route
    where result.is_uncertain is not true
      and (result.status = 'FAILED' or result.status = 'RETRYING'
        and (result.verdict = 'channel' or result.code is null))
  ) as onward on true
  -- Every function that changes many of these rows locks them in this order.
  order by result.user_id, result.message_id
$$;

comment on function app_private.decide_results(jsonb, text) is
  'What becomes of each message of a judged batch: its status, whether the attempt counts, and when the next one may be.';
--! EndIncluded functions/app_private/decide_results.sql
--! Included functions/app_private/record_send_results.sql
-- Definer: see claim_messages(). A delivered message is SENT, however late the result
-- arrives. Any other outcome counts only for the message's latest attempt.
create or replace function app_private.record_send_results(p_results jsonb, p_channel text)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- Planned once a session: planning for each batch anew costs a third of running it.
set plan_cache_mode = force_generic_plan
as $$
declare
  judged constant jsonb := app_private.judge_results(p_results, p_channel);
  recorded integer;
  given_up integer;
begin
  if judged @? '$[*] ? (@.verdict == "address")' then
    perform app_private.note_refused_addresses(judged, p_channel);
  end if;
  with decided as materialized (
    select * from app_private.decide_results(judged, p_channel)
  ),
  written as (
    update app_public.message_logs
    set status = decided.next_status,
      actual_send_time = case when decided.status = 'SENT' then clock_timestamp() end,
      retry_count = message_logs.retry_count
        + case when decided.next_status in ('RETRYING', 'QUEUED')
          then decided.counted else 0 end,
      last_retry_at = case when decided.next_status = 'RETRYING'
        then clock_timestamp() else message_logs.last_retry_at end,
      api_response_code = decided.code,
      api_response_body = decided.body,
      error_message = decided.error,
      attempts = case when decided.status = 'SENT' then message_logs.attempts
        else coalesce(message_logs.attempts, '[]') || jsonb_strip_nulls(
          decided.details || jsonb_build_object(
            'started_at', message_logs.attempted_at,
            'ended_at', clock_timestamp(),
            'retry_at', case when decided.next_status in ('RETRYING', 'QUEUED')
              then decided.retry_at end))
        end,
      uncertain_since = case
        when decided.status = 'SENT' then null
        when decided.is_uncertain
        then least(message_logs.uncertain_since, message_logs.attempted_at)
        else message_logs.uncertain_since
      end,
      provider_message_id = decided.provider_message_id,
      route_step = coalesce(decided.route_step, message_logs.route_step),
      -- Only an attempt that may have reached somebody binds the next one to its receiver
      -- and text. A message that failed keeps them: they say to whom it did.
      recipient_email = case when decided.next_status not in ('RETRYING', 'QUEUED')
        or decided.is_uncertain or message_logs.uncertain_since is not null
        then message_logs.recipient_email end,
      recipient_name = case when decided.next_status not in ('RETRYING', 'QUEUED')
        or decided.is_uncertain or message_logs.uncertain_since is not null
        then message_logs.recipient_name end
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.message_id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      and message_logs.status <> 'SENT'
      and (decided.status = 'SENT'
        or (message_logs.status = 'SENDING' and message_logs.retry_count = decided.attempt))
    returning message_logs.user_id, message_logs.id, message_logs.status,
      message_logs.job_id, message_logs.retry_count, message_logs.error_message,
      decided.retry_at, decided.lane, decided.details ->> 'verdict' = 'address' as is_to_nobody
  ),
  finished as (
    delete from pgboss.job
    using written
    where job.name = 'message-send'
      and job.id = written.job_id
      and written.status not in ('RETRYING', 'QUEUED')
    returning job.*, written.status as outcome, written.is_to_nobody,
      written.retry_count as tries,
      written.error_message as reason
  ),
  postponed as (
    update pgboss.job
    set state = 'retry', start_after = written.retry_at, group_tier = null,
      priority = coalesce(-written.lane, job.priority),
      output = jsonb_build_object('error', written.error_message)
    from written
    where job.name = 'message-send'
      and job.id = written.job_id
      and written.status in ('RETRYING', 'QUEUED')
  ),
  -- pg-boss does the same. Where there is no such address, a person can do nothing.
  dead as (
    insert into pgboss.job (name, data, retry_limit, retry_backoff, retry_delay, keep_until,
      deletion_seconds, expire_seconds, heartbeat_seconds, source_name, source_id,
      source_created_on, source_retry_count, source_output, source_root_id)
    select queue.name, finished.data, queue.retry_limit, queue.retry_backoff,
      queue.retry_delay, now() + queue.retention_seconds * interval '1 second',
      queue.deletion_seconds, queue.expire_seconds, queue.heartbeat_seconds, finished.name,
      finished.id, finished.created_on, finished.tries,
      jsonb_build_object('error', finished.reason), finished.id
    from finished
    inner join pgboss.queue on queue.name = finished.dead_letter
    where finished.outcome = 'FAILED'
      and finished.is_to_nobody is not true
  )
  select count(*), count(*) filter (where status = 'FAILED' and is_to_nobody is not true)
  into recorded, given_up
  from written;

  perform app_private.note_results(judged, p_channel, given_up);
  return recorded;
end
$$;

grant execute on function app_private.record_send_results(jsonb, text) to gw_worker;
comment on function app_private.record_send_results(jsonb, text) is
  'Records the outcomes of a batch of attempts, and finishes or postpones their jobs. Takes an array of {job_id, user_id, message_id, scheduled_send_time, attempt, status, stage, code, body, error, retry_after_seconds, is_uncertain, provider_message_id}, where status is SENT, FAILED, RETRYING, or REFUSED: then answer_rules says which of these it is. Returns how many counted.';
--! EndIncluded functions/app_private/record_send_results.sql
--! Included functions/app_private/give_back_messages.sql
-- Definer: see claim_messages(). A message that was claimed and not started is as it was
-- before. Its attempt, which tells this claim from a later one, is null for a job of which
-- nothing was claimed.
create or replace function app_private.give_back_messages(p_jobs jsonb) returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  returned integer;
begin
  with given as materialized (
    select job.*
    from jsonb_to_recordset(p_jobs) as job (
      job_id uuid, user_id uuid, message_id uuid, scheduled_send_time timestamptz,
      attempt integer)
    -- Every function that changes many of these rows locks them in this order.
    order by job.user_id, job.message_id
  ),
  written as (
    update app_public.message_logs
    set status = case when message_logs.attempts is null then 'QUEUED' else 'RETRYING' end,
      attempted_at = (
        select max((attempt.entry ->> 'started_at')::timestamptz)
        from jsonb_array_elements(message_logs.attempts) as attempt (entry)),
      -- Where nobody was reached yet, the next claim asks anew to whom it goes.
      recipient_email = case when message_logs.uncertain_since is not null
        then message_logs.recipient_email end,
      recipient_name = case when message_logs.uncertain_since is not null
        then message_logs.recipient_name end
    from given
    where message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
      and message_logs.job_id = given.job_id
      and message_logs.status = 'SENDING'
      and message_logs.retry_count = given.attempt
    returning message_logs.job_id
  )
  update pgboss.job
  set state = 'retry', start_after = now(), group_tier = null
  from given
  where job.name = 'message-send'
    and job.id = given.job_id
    and job.state = 'active'
    and (given.attempt is null or job.id in (select written.job_id from written));
  get diagnostics returned = row_count;
  return returned;
end
$$;

grant execute on function app_private.give_back_messages(jsonb) to gw_worker;
comment on function app_private.give_back_messages(jsonb) is
  'Lets another worker have jobs of which nothing was started. Takes an array of {job_id, user_id, message_id, scheduled_send_time, attempt}. Returns how many were given back.';
--! EndIncluded functions/app_private/give_back_messages.sql
--! Included functions/ops/unknown_deliveries.sql
-- Definer: see message_status(). After 90 days nobody waits for an answer.
create or replace function ops.unknown_deliveries()
returns table (message_type text, messages bigint, oldest timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select message_logs.message_type, count(*), min(message_logs.scheduled_send_time)
  from app_public.message_logs
  where message_logs.scheduled_send_time between now() - interval '90 days' and now()
    and message_logs.stage = 'ended'
    and message_logs.status = 'UNKNOWN'
  group by 1
$$;

grant execute on function ops.unknown_deliveries() to gw_monitor;
comment on function ops.unknown_deliveries() is
  'Number of messages of the last 90 days, by type, whose delivery is uncertain.';
--! EndIncluded functions/ops/unknown_deliveries.sql
