--! Previous: sha1:f30a01c5de4c04867985d7d7eebe3511ddf5e7e4
--! Hash: sha1:19d686d0e0596c5fc74e14b63a699577db0493ff
--! Message: alerts
--! Baseline: topics/37-alerts.sql

/*
 * Health checks, the alerts that they raise, and the notices that announce alerts.
 */

-- One row for each problem, from its detection to its end. A check has at most one open
-- alert for each object.
create table ops.alerts (
  id bigint generated always as identity,
  check_name text not null,
  object text not null default '',
  level text not null,
  detail text not null,
  remediation text not null default '',
  raised_at timestamptz not null default now(),
  changed_at timestamptz not null default now(),
  resolved_at timestamptz,
  constraint alerts_pkey primary key (id),
  constraint alerts_level_check check (level in ('warning', 'critical')),
  constraint alerts_check_name_check check (check_name ~ '^[a-z][a-z0-9-]{1,62}$'),
  constraint alerts_resolved_at_check check (resolved_at >= raised_at)
);

create unique index alerts_check_name_object_key_where_open
  on ops.alerts (check_name, object) where resolved_at is null;

create index alerts_raised_at_idx on ops.alerts (raised_at);

alter table ops.alerts enable row level security;

create policy everything on ops.alerts
  for select to gw_monitor
  using (true);

-- Monitoring only reads: raise_alert() and resolve_alert() write.
grant select on ops.alerts to gw_monitor;

comment on table ops.alerts is
  'Problems that health checks found. A check has at most one open alert for each object.';
comment on column ops.alerts.check_name is 'The check that found the problem.';
comment on column ops.alerts.object is 'The object with the problem; empty for a check of the whole database.';
comment on column ops.alerts.level is 'warning (a problem soon) or critical (a problem now).';
comment on column ops.alerts.detail is 'The latest finding, with figures.';
comment on column ops.alerts.remediation is 'What to do.';
comment on column ops.alerts.changed_at is 'When the level last changed.';
comment on column ops.alerts.resolved_at is 'When the problem was over; null while it is open.';

-- The files sql/checks/health-*.sql as they were when gw migrate last ran.
create table ops.health_checks (
  name text not null,
  query text not null,
  needs text[] not null default '{}',
  every interval not null default interval '1 minute',
  ran_at timestamptz,
  constraint health_checks_pkey primary key (name),
  constraint health_checks_name_check check (name ~ '^[a-z][a-z0-9-]{1,50}$'),
  constraint health_checks_every_check check (every > interval '0')
);

grant select on ops.health_checks to gw_monitor;

comment on table ops.health_checks is
  'The checks that ops.check_health() runs. Copies of sql/checks/health-*.sql, made by gw migrate: change the files.';
comment on column ops.health_checks.query is
  'A select of level, object, detail and remediation, a row for each finding.';
comment on column ops.health_checks.needs is
  'Relations, functions or roles that the check needs; without them it does not run.';
comment on column ops.health_checks.every is 'Time between two runs.';
comment on column ops.health_checks.ran_at is 'When the check last ran; null before the first run.';

-- Earlier notices decide whether an alert is flapping.
create table ops.alert_notices (
  id bigint generated always as identity,
  alert_id bigint not null,
  check_name text not null,
  object text not null,
  state text not null,
  created_at timestamptz not null default now(),
  constraint alert_notices_pkey primary key (id),
  constraint alert_notices_alert_id_fkey
    foreign key (alert_id) references ops.alerts on delete cascade,
  constraint alert_notices_state_check
    check (state in ('opened', 'changed', 'resolved', 'flapping', 'settled'))
);

create index alert_notices_check_name_object_id_idx
  on ops.alert_notices (check_name, object, id);

create index alert_notices_alert_id_idx on ops.alert_notices (alert_id);

create index alert_notices_check_name_object_idx_where_flapping
  on ops.alert_notices (check_name, object) where state = 'flapping';

grant select on ops.alert_notices to gw_monitor;

comment on table ops.alert_notices is
  'Notices about alerts; a job of the queue alert-notify sends each. ops.retention_policies says how long they are kept.';
comment on column ops.alert_notices.state is
  'opened, changed (its level), resolved; flapping: changes are not announced until an hour passed without one; settled: that hour passed.';

-- Counters that only grow say nothing of now: these are what they were.
create table ops.statistics_samples (
  taken_at timestamptz not null,
  name text not null,
  value numeric not null,
  constraint statistics_samples_pkey primary key (name, taken_at)
);

grant select on ops.statistics_samples to gw_monitor;

comment on table ops.statistics_samples is
  'What ops.current_statistics() said, every ten minutes; for ops.recent_statistics().';

--! Included functions/ops/current_statistics.sql
-- Dynamic SQL, because PostgreSQL 17 counts checkpoints in another view, and not every database has
-- pg_stat_statements.
create or replace function ops.current_statistics()
returns table (name text, value numeric)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  extension_schema text;
begin
  return query
    select counted.name, counted.value
    from pg_catalog.pg_stat_database as database
    cross join lateral (
      values ('deadlocks', database.deadlocks::numeric),
        ('temp_bytes', database.temp_bytes::numeric),
        ('blocks_hit', database.blks_hit::numeric),
        ('blocks_read', database.blks_read::numeric)
    ) as counted (name, value)
    where database.datname = current_database();
  return query execute case
    when current_setting('server_version_num')::integer >= 170000 then
      $checkpoints$ select 'checkpoints_requested', num_requested::numeric
        from pg_catalog.pg_stat_checkpointer $checkpoints$
    else
      $checkpoints$ select 'checkpoints_requested', checkpoints_req::numeric
        from pg_catalog.pg_stat_bgwriter $checkpoints$
  end;
  select pg_namespace.nspname into extension_schema
  from pg_catalog.pg_extension
  inner join pg_catalog.pg_namespace on pg_namespace.oid = pg_extension.extnamespace
  where pg_extension.extname = 'pg_stat_statements'
    and current_setting('shared_preload_libraries') ~ 'pg_stat_statements';
  if found then
    return query execute format(
      'select ''statements_evicted'', dealloc::numeric from %I.pg_stat_statements_info',
      extension_schema);
  end if;
end
$$;

grant execute on function ops.current_statistics() to gw_monitor;

comment on function ops.current_statistics() is
  'Counters of the server and of this database that only grow: deadlocks, bytes of temporary files, blocks found in memory and read, checkpoints that were requested, statements that pg_stat_statements has forgotten.';
--! EndIncluded functions/ops/current_statistics.sql
--! Included functions/ops/sample_statistics.sql
create or replace function ops.sample_statistics() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  sampled integer;
begin
  if pg_is_in_recovery() then
    return 0;
  end if;
  insert into ops.statistics_samples (taken_at, name, value)
  select now(), current.name, current.value from ops.current_statistics() as current
  on conflict do nothing;
  get diagnostics sampled = row_count;
  return sampled;
end
$$;

comment on function ops.sample_statistics() is
  'Notes what ops.current_statistics() says, for ops.recent_statistics(). Returns how many counters.';
--! EndIncluded functions/ops/sample_statistics.sql
--! Included functions/ops/recent_statistics.sql
create or replace function ops.recent_statistics(p_span interval)
returns table (name text, growth numeric, since timestamptz)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select current.name,
    -- A counter that is smaller than it was has been reset since.
    case when current.value >= before.value then current.value - before.value
      else current.value end,
    before.taken_at
  from ops.current_statistics() as current
  cross join lateral (
    select statistics_samples.value, statistics_samples.taken_at
    from ops.statistics_samples
    where statistics_samples.name = current.name
      and statistics_samples.taken_at between now() - p_span and now()
    order by statistics_samples.taken_at
    limit 1
  ) as before
  order by current.name
$$;

grant execute on function ops.recent_statistics(interval) to gw_monitor;

comment on function ops.recent_statistics(interval) is
  'How much each counter of ops.current_statistics() has grown since the first sample of a span.';
--! EndIncluded functions/ops/recent_statistics.sql
--! Included functions/ops/raise_alert.sql
-- Definer: a role that finds a fault may raise an alert without the right to write
-- ops.alerts.
create or replace function ops.raise_alert(
  p_check_name text, p_object text, p_level text, p_detail text, p_remediation text default ''
) returns boolean
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  level_before text;
begin
  -- A copy would tell people of what the original does.
  if ops.is_fenced() then
    return false;
  end if;

  select level
  into level_before
  from ops.alerts
  where check_name = p_check_name
    and object = coalesce(p_object, '')
    and resolved_at is null
  for update;

  insert into ops.alerts (check_name, object, level, detail, remediation)
  values (p_check_name, coalesce(p_object, ''), p_level, p_detail, coalesce(p_remediation, ''))
  on conflict (check_name, object) where resolved_at is null
  do update
  set level = excluded.level,
    detail = excluded.detail,
    remediation = excluded.remediation,
    changed_at = case when alerts.level = excluded.level
      then alerts.changed_at else excluded.changed_at end
  where (alerts.level, alerts.detail, alerts.remediation)
    is distinct from (excluded.level, excluded.detail, excluded.remediation);

  return level_before is distinct from p_level;
end
$$;

grant execute on function ops.raise_alert(text, text, text, text, text)
  to gw_worker, gw_cdc;
comment on function ops.raise_alert(text, text, text, text, text) is
  'Opens an alert, or updates the open alert of this check and object. Returns true when it is new or its level changed. Does nothing in a copy that nobody has adopted.';
--! EndIncluded functions/ops/raise_alert.sql
--! Included functions/ops/resolve_alert.sql
-- Definer: see raise_alert().
create or replace function ops.resolve_alert(p_check_name text, p_object text default '')
returns boolean
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with resolved as (
    update ops.alerts
    set resolved_at = now()
    where check_name = p_check_name
      and object = p_object
      and resolved_at is null
    returning 1
  )
  select exists (select from resolved)
$$;

grant execute on function ops.resolve_alert(text, text) to gw_worker, gw_cdc;
comment on function ops.resolve_alert(text, text) is
  'Closes the open alert of this check and object. Returns false when there is none.';
--! EndIncluded functions/ops/resolve_alert.sql
--! Included functions/ops/notify_alert.sql
-- The alert's change, the notice and its job are one transaction.
create or replace function ops.notify_alert(p_alert ops.alerts, p_state text)
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with notice as (
    insert into ops.alert_notices (alert_id, check_name, object, state)
    select p_alert.id, p_alert.check_name, p_alert.object, p_state
    where not ops.is_fenced()
    returning alert_notices.id, alert_notices.created_at
  ),
  queued as (
    insert into pgboss.job (name, data, keep_until, retry_limit, retry_delay,
      retry_backoff, retry_delay_max, expire_seconds, deletion_seconds, heartbeat_seconds, policy,
      dead_letter)
    select queue.name,
      jsonb_build_object(
        'key', concat_ws(':', p_alert.id, p_state, notice.id),
        'state', p_state,
        'check', p_alert.check_name,
        'object', p_alert.object,
        'level', p_alert.level,
        'detail', p_alert.detail,
        'remediation', p_alert.remediation,
        'raisedAt', p_alert.raised_at,
        'resolvedAt', p_alert.resolved_at,
        'at', notice.created_at),
      now() + queue.retention_seconds * interval '1 second',
      queue.retry_limit, queue.retry_delay, queue.retry_backoff, queue.retry_delay_max,
      queue.expire_seconds, queue.deletion_seconds, queue.heartbeat_seconds, queue.policy,
      queue.dead_letter
    from notice
    inner join pgboss.queue on queue.name = 'alert-notify'
  )
  select notice.id from notice
$$;

comment on function ops.notify_alert(ops.alerts, text) is
  'Records a notice of an alert and queues its delivery. Returns the id of the notice; null in a copy that nobody has adopted.';
--! EndIncluded functions/ops/notify_alert.sql
--! Included functions/app_private/tg_alerts__notify.sql
create or replace function app_private.tg_alerts__notify() returns trigger
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  told record;
begin
  -- What is wrong with the way by which notices go would go by that way, and fail, and be
  -- wrong again. It shows in ops.alerts and `gw check`.
  if new.object in ('alert-notify', 'alert-notify-dead') then
    return null;
  end if;

  select
    (array_agg(alert_notices.state order by alert_notices.id desc))[1] as latest,
    count(*) filter (where alert_notices.created_at > now() - interval '1 hour') as recent
  into told
  from ops.alert_notices
  where alert_notices.check_name = new.check_name
    and alert_notices.object = new.object;

  if told.latest = 'flapping' then
    return null;
  end if;
  perform ops.notify_alert(new, case
    -- Opened and closed three times.
    when told.recent >= 6 then 'flapping'
    when tg_op = 'INSERT' then 'opened'
    when new.resolved_at is not null then 'resolved'
    else 'changed'
  end);
  return null;
end
$$;

comment on function app_private.tg_alerts__notify() is
  'Announces that an alert opened, changed its level or was resolved, unless it does so all the time.';
--! EndIncluded functions/app_private/tg_alerts__notify.sql
--! Included functions/ops/settle_alerts.sql
create or replace function ops.settle_alerts() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with newest as (
    select distinct on (alert_notices.check_name, alert_notices.object)
      alert_notices.check_name, alert_notices.object, alert_notices.state
    from ops.alert_notices
    where exists (
      select from ops.alert_notices as held
      where held.state = 'flapping'
        and held.check_name = alert_notices.check_name
        and held.object = alert_notices.object
    )
    order by alert_notices.check_name, alert_notices.object, alert_notices.id desc
  )
  select count(ops.notify_alert(latest.alert, 'settled'))::integer
  from newest
  cross join lateral (
    select alerts as alert
    from ops.alerts
    where alerts.check_name = newest.check_name
      and alerts.object = newest.object
    order by alerts.id desc
    limit 1
  ) as latest
  where newest.state = 'flapping'
    and greatest((latest.alert).changed_at, (latest.alert).resolved_at)
      < now() - interval '1 hour'
$$;

comment on function ops.settle_alerts() is
  'Announces the state of flapping alerts that have not changed for an hour. Returns how many.';
--! EndIncluded functions/ops/settle_alerts.sql
--! Included functions/ops/sync_health_checks.sql
-- Not definer, and granted to nobody: the stored queries run as the owner. `gw migrate`,
-- which is the owner already, passes the files of sql/checks.
create or replace function ops.sync_health_checks(p_checks jsonb) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  changed integer;
  gone text;
begin
  insert into ops.health_checks (name, query, needs, every)
  select wanted.name, wanted.query, wanted.needs, wanted.every
  from jsonb_to_recordset(p_checks)
    as wanted (name text, query text, needs text[], every interval)
  on conflict (name) do update
  set query = excluded.query,
    needs = excluded.needs,
    every = excluded.every,
    ran_at = null
  where (health_checks.query, health_checks.needs, health_checks.every)
    is distinct from (excluded.query, excluded.needs, excluded.every);
  get diagnostics changed = row_count;

  for gone in
    delete from ops.health_checks
    where not exists (
      select from jsonb_to_recordset(p_checks) as wanted (name text)
      where wanted.name = health_checks.name
    )
    returning health_checks.name
  loop
    changed := changed + 1;
    -- No check would resolve them any more.
    perform ops.resolve_alert(alerts.check_name, alerts.object)
    from ops.alerts
    where alerts.resolved_at is null
      and (alerts.check_name = 'health-' || gone
        or alerts.check_name = 'health-check-failed' and alerts.object = gone);
  end loop;
  return changed;
end
$$;

comment on function ops.sync_health_checks(jsonb) is
  'Makes ops.health_checks equal to an array of {name, query, needs, every}. Returns how many changed.';
--! EndIncluded functions/ops/sync_health_checks.sql
--! Included functions/ops/check_health.sql
-- Each check runs in its own read-only subtransaction. A check that fails raises an alert
-- and does not stop the others.
create or replace function ops.check_health() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- A check must not wait for locks.
set lock_timeout = '5s'
as $$
declare
  due record;
  need text;
  missing text;
  is_missing boolean;
  findings jsonb;
  failure text;
  changed integer := 0;
begin
  -- A run that takes longer than a minute does not hold up the next one.
  if pg_is_in_recovery()
    or ops.is_fenced()
    or not pg_try_advisory_xact_lock(hashtextextended('ops.check_health', 0))
  then
    return 0;
  end if;

  for due in
    update ops.health_checks
    set ran_at = now()
    where health_checks.ran_at is null
      -- A minute's job starts some milliseconds early or late.
      or health_checks.ran_at <= now() - health_checks.every + interval '10 seconds'
    returning health_checks.name, health_checks.query, health_checks.needs
  loop
    findings := '[]';
    failure := null;
    missing := null;
    begin
      -- Until this block ends.
      perform set_config('transaction_read_only', 'on', true);
      foreach need in array due.needs loop
        is_missing := case
          when need like 'role %' then not pg_has_role(substr(need, 6), 'usage')
          when need like 'function %' then not exists (
            select from pg_proc
            where pronamespace::regnamespace || '.' || proname = substr(need, 10))
          else to_regclass(need) is null
        end;
        if is_missing then
          missing := need;
          -- An absent object needs no check; an object that we may not see does.
          if need like 'role %' then
            failure := 'cannot see: needs the ' || need;
          end if;
        end if;
      end loop;
      if missing is null then
        execute format(
          'select coalesce(jsonb_agg(to_jsonb(finding)), ''[]'') from (%s) as finding',
          due.query || chr(10)) into findings;
      end if;
    exception when others then
      failure := sqlstate || ': ' || sqlerrm;
    end;

    if failure is not null then
      changed := changed + ops.raise_alert('health-check-failed', due.name, 'warning',
        failure,
        'Correct sql/checks/health-' || due.name || '.sql, or grant what it needs.'
      )::integer;
      continue;
    end if;
    changed := changed + ops.resolve_alert('health-check-failed', due.name)::integer;

    select changed + count(*) filter (where ops.raise_alert('health-' || due.name,
      finding.object, finding.level, finding.detail, finding.remediation))
    into changed
    from jsonb_to_recordset(findings)
      as finding (level text, object text, detail text, remediation text);

    select changed + count(*)
      filter (where ops.resolve_alert(over.check_name, over.object))
    into changed
    from (
      select alerts.check_name, alerts.object
      from ops.alerts
      where alerts.check_name = 'health-' || due.name
        and alerts.resolved_at is null
        and not exists (
          select from jsonb_to_recordset(findings) as finding (object text)
          where coalesce(finding.object, '') = alerts.object
        )
      -- Open alerts are listed before any is resolved.
      offset 0
    ) as over;
  end loop;

  return changed + ops.settle_alerts();
end
$$;

comment on function ops.check_health() is
  'Runs the health checks that are due, raises an alert for each finding, and resolves alerts whose problem is over. Returns how many alerts opened, changed their level or were resolved.';
--! EndIncluded functions/ops/check_health.sql
--! Included functions/ops/message_status.sql
-- Definer: monitoring counts messages and must not read who gets them or what they say.
-- Only gw_monitor may execute it: analytics reads the rows themselves.
create or replace function ops.message_status(p_from date, p_to date)
returns table (
  day date, message_type text, status text, messages bigint, retries bigint
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select (message_logs.scheduled_send_time at time zone 'UTC')::date,
    message_logs.message_type, message_logs.status, count(*), sum(message_logs.retry_count)
  from app_public.message_logs
  where message_logs.scheduled_send_time >= p_from::timestamp at time zone 'UTC'
    and message_logs.scheduled_send_time < (p_to + 1)::timestamp at time zone 'UTC'
  group by 1, 2, 3
$$;

grant execute on function ops.message_status(date, date) to gw_monitor;
comment on function ops.message_status(date, date) is
  'Number of messages due on each day of a range (UTC, inclusive), by type and status.';
--! EndIncluded functions/ops/message_status.sql
--! Included functions/ops/overdue_messages.sql
-- Definer: see message_status(). The partial index on unsent messages serves it. A
-- message that a person or quiet hours hold is not overdue.
create or replace function ops.overdue_messages(p_after interval)
returns table (message_type text, status text, messages bigint, oldest timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select message_logs.message_type, message_logs.status, count(*),
    min(message_logs.scheduled_send_time)
  from app_public.message_logs
  where message_logs.scheduled_send_time < now() - p_after
    and message_logs.stage = 'open'
    and (message_logs.status <> 'QUEUED'
      or message_logs.error_message is null
      or message_logs.error_message not like 'held %')
  group by 1, 2
$$;

grant execute on function ops.overdue_messages(interval) to gw_monitor;
comment on function ops.overdue_messages(interval) is
  'Messages that were due longer ago than an interval and are neither sent nor given up, by type and status.';
--! EndIncluded functions/ops/overdue_messages.sql
--! Included functions/ops/set_aside_users.sql
-- Definer: gw_monitor may not read users. It tells zones and numbers only.
create or replace function ops.set_aside_users()
returns table (reason text, users bigint, detail text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  -- A loose index scan: one step for each zone in use.
  with recursive zones as (
    (select users.timezone from app_public.users order by 1 limit 1)
    union all
    select (
      select users.timezone
      from app_public.users
      where users.timezone > zones.timezone
      order by 1
      limit 1
    )
    from zones
    where zones.timezone is not null
  ),
  unknown as (
    select zones.timezone, (
      select count(*) from app_public.users where users.timezone = zones.timezone
    ) as users
    from zones
    where app_hidden.known_zone(zones.timezone) is null
      and zones.timezone is not null
    union all
    -- The server knows these zones again; some of their users are not planned yet.
    select unknown_timezones.name, (
      select count(*)
      from app_public.users
      where users.timezone = unknown_timezones.name
        and users.id > unknown_timezones.taken_up_to
    )
    from app_private.unknown_timezones
    where app_hidden.known_zone(unknown_timezones.name) is not null
      and unknown_timezones.since < now() - interval '15 minutes'
  )
  select 'time zones', sum(unknown.users)::bigint,
    string_agg(unknown.timezone, ', ' order by unknown.timezone)
  from unknown
  where unknown.users > 0
  having count(*) > 0
  union all
  select 'messages', count(*), (
    select set_aside_users.error
    from app_private.set_aside_users
    order by set_aside_users.failed_at desc, set_aside_users.user_id
    limit 1
  )
  from app_private.set_aside_users
  having count(*) > 0
$$;

grant execute on function ops.set_aside_users() to gw_monitor;
comment on function ops.set_aside_users() is
  'Users for whom nothing is planned: how many have a time zone that the server does not know, and which zones; how many could not be planned, and the latest error.';
--! EndIncluded functions/ops/set_aside_users.sql
--! Included functions/ops/missing_configuration.sql
-- Definer: see set_aside_users().
create or replace function ops.missing_configuration()
returns table (object text, detail text, remediation text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select 'app_private.message_settings', 'has no row: nothing is planned or sent',
    'insert into app_private.message_settings default values'
  where not exists (select from app_private.message_settings)
  union all
  select wanted.queue, 'the queue does not exist: ' || wanted.effect,
    format('select pgboss.create_queue(%L, ''{"policy": "standard"}'')', wanted.queue)
  from (
    values ('message-send', 'nothing is planned or sent'),
      ('alert-notify', 'nobody is told of alerts')
  ) as wanted (queue, effect)
  where not exists (select from pgboss.queue where queue.name = wanted.queue)
  union all
  select message_types.type, 'has no template in English: no such message is planned',
    'Insert it into app_private.message_templates.'
  from app_private.message_types
  where not exists (
    select from app_private.message_templates
    where message_templates.message_type = message_types.type
      and message_templates.locale = 'en'
  )
$$;

grant execute on function ops.missing_configuration() to gw_monitor;
comment on function ops.missing_configuration() is
  'Missing rows that planning or sending needs: what is missing, what stops without it, and how to restore it.';
--! EndIncluded functions/ops/missing_configuration.sql
--! Included functions/ops/broken_plans.sql
-- Definer: see set_aside_users(). A person whose date lies ahead has no occasion yet.
create or replace function ops.broken_plans()
returns table (object text, users bigint, example uuid)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select 'message_ledger', count(*), (array_agg(message_ledger.user_id))[1]
  from app_private.message_ledger
  where message_ledger.planned_at > now() - interval '3 days'
    and not exists (
      select from app_public.message_logs
      where message_logs.user_id = message_ledger.user_id
        and message_logs.id = message_ledger.message_id
        and message_logs.scheduled_send_time = message_ledger.scheduled_send_time
    )
  having count(*) > 0
  union all
  select 'message_schedule', count(*), (array_agg(message_rules.user_id))[1]
  from app_private.message_rules
  where message_rules.base_date < now()::date - 1
    and not exists (
      select from app_private.message_schedule
      where message_schedule.user_id = message_rules.user_id
        and message_schedule.message_type = message_rules.message_type
    )
    -- set_aside_users() reports those.
    and not exists (
      select from app_private.set_aside_users
      where set_aside_users.user_id = message_rules.user_id
    )
    and not exists (
      select from app_private.unknown_timezones
      where unknown_timezones.name = message_rules.timezone
    )
    and not exists (
      select from app_private.message_types where message_types.replan_after is not null
    )
  having count(*) > 0
$$;

grant execute on function ops.broken_plans() to gw_monitor;
comment on function ops.broken_plans() is
  'Incomplete plans: ledger rows of the last three days without their message, and wishes without a row of the schedule. Returns how many, and one user.';
--! EndIncluded functions/ops/broken_plans.sql
--! Included functions/ops/column_widths.sql
-- Definer: pg_stats shows a column only to a role that may read the column. Mean width
-- and share of nulls tell nothing about a row. The sampled values of pg_stats are not
-- returned.
create or replace function ops.column_widths()
returns table (relation oid, attribute name, null_frac real, avg_width integer)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select pg_class.oid, pg_stats.attname, pg_stats.null_frac, pg_stats.avg_width
  from pg_stats
  inner join pg_namespace on pg_namespace.nspname = pg_stats.schemaname
  inner join pg_class on pg_class.relnamespace = pg_namespace.oid
    and pg_class.relname = pg_stats.tablename
  where not pg_stats.inherited
    and pg_stats.schemaname !~ '^(pg_|information_schema$)'
$$;

grant execute on function ops.column_widths() to gw_monitor;
comment on function ops.column_widths() is
  'Mean width in bytes and share of nulls of each analyzed column of the owner''s tables.';
--! EndIncluded functions/ops/column_widths.sql

create trigger _900_notify after insert on ops.alerts
  for each row execute function app_private.tg_alerts__notify();

-- A change of the detail alone is not announced.
create trigger _900_notify_change after update of level, resolved_at on ops.alerts
  for each row
  when (old.level is distinct from new.level
    or old.resolved_at is distinct from new.resolved_at)
  execute function app_private.tg_alerts__notify();
