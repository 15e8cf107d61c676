--! Previous: sha1:f6327c543d8d7f9f7082763bb265a42460f72db2
--! Hash: sha1:6bc8baa205a89f0f99fbcc1ba6eecba8b43d12d1
--! Message: health-checks

--! split: 0001-health-checks.sql
/*
 * Health checks that the database runs itself, and word of what they find.
 *
 * The files sql/checks/health-*.sql are the checks. `gw check` runs the files, on any
 * database; `gw migrate` copies their text into ops.health_checks, where a pg_cron job runs
 * it each minute. So there is one text of each, a changed threshold needs no migration, and
 * somebody still looks when every process of ours is dead.
 *
 * What a check finds is an alert until it finds it no more. That an alert opened, changed
 * its level or was resolved becomes a job of the queue alert-notify in the same
 * transaction; one that opens and closes again and again is announced once.
 *
 * Monitoring may count messages by status and read the widths of columns; it still reads no
 * tenant's row.
 *
 * Locks: ops.alerts gets triggers (SHARE ROW EXCLUSIVE, for an instant).
 */

-- ban-drop-table: makes the current migration repeatable; nothing has used them yet.
-- squawk-ignore-file ban-drop-table

drop trigger if exists _900_notify on ops.alerts;
drop trigger if exists _900_notify_change on ops.alerts;
drop function if exists ops.notify_alert(ops.alerts, text);
drop table if exists ops.alert_notices, ops.health_checks;

-- What sql/checks/health-*.sql said when the latest migration ran.
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
  'Relations, functions or roles without which it does not run.';
comment on column ops.health_checks.every is 'How long after a run the next one is due.';
comment on column ops.health_checks.ran_at is 'When it last ran; null when it has not.';

-- What was announced: by it the next notice knows whether there were too many.
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
  'What was announced of alerts, each by a job of the queue alert-notify. Kept 90 days.';
comment on column ops.alert_notices.state is
  'opened, changed (its level), resolved; flapping: changes are not announced until an hour passed without one; settled: that hour passed.';

-- Retries after 8 to 15 s, doubling with jitter up to 15 min, about two hours in all.
-- Deliveries of an hour's outage still arrive, in one notice.
select pgboss.create_queue('alert-notify-dead', '{
  "policy": "standard",
  "retentionSeconds": 2592000
}');
select pgboss.create_queue('alert-notify', '{
  "policy": "standard",
  "retryLimit": 14,
  "retryDelay": 15,
  "retryBackoff": true,
  "retryDelayMax": 900,
  "expireInSeconds": 300,
  "retentionSeconds": 604800,
  "deleteAfterSeconds": 86400,
  "deadLetter": "alert-notify-dead"
}');

--! Included functions/ops/notify_alert.sql
-- The notice and its job appear with the change that they tell of, or not at all.
create or replace function ops.notify_alert(p_alert ops.alerts, p_state text)
returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with notice as (
    insert into ops.alert_notices (alert_id, check_name, object, state)
    values (p_alert.id, p_alert.check_name, p_alert.object, p_state)
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
--! EndIncluded functions/ops/notify_alert.sql
comment on function ops.notify_alert(ops.alerts, text) is
  'Records a notice of an alert and queues its delivery. Returns its number.';

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
--! EndIncluded functions/app_private/tg_alerts__notify.sql
comment on function app_private.tg_alerts__notify() is
  'Announces that an alert opened, changed its level or was resolved, unless it does so all the time.';

create trigger _900_notify after insert on ops.alerts
  for each row execute function app_private.tg_alerts__notify();
-- Never when only its detail changed.
create trigger _900_notify_change after update of level, resolved_at on ops.alerts
  for each row
  when (old.level is distinct from new.level
    or old.resolved_at is distinct from new.resolved_at)
  execute function app_private.tg_alerts__notify();

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
--! EndIncluded functions/ops/settle_alerts.sql
comment on function ops.settle_alerts() is
  'Announces how alerts stand that changed too often and have not for an hour. Returns how many.';

--! Included functions/ops/delete_old_alert_notices.sql
create or replace function ops.delete_old_alert_notices() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with deleted as (
    delete from ops.alert_notices
    where alert_notices.created_at < now() - interval '90 days'
    returning 1
  )
  select count(*)::integer from deleted
$$;
--! EndIncluded functions/ops/delete_old_alert_notices.sql
comment on function ops.delete_old_alert_notices() is
  'Deletes notices of more than 90 days ago. Returns how many.';

--! Included functions/ops/sync_health_checks.sql
-- Not definer, and granted to nobody: what it stores is run as the owner. `gw migrate`,
-- which is the owner already, brings the files of sql/checks.
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
    -- Nobody would close them.
    perform ops.resolve_alert(alerts.check_name, alerts.object)
    from ops.alerts
    where alerts.resolved_at is null
      and (alerts.check_name = 'health-' || gone
        or alerts.check_name = 'health-check-failed' and alerts.object = gone);
  end loop;
  return changed;
end
$$;
--! EndIncluded functions/ops/sync_health_checks.sql
comment on function ops.sync_health_checks(jsonb) is
  'Makes ops.health_checks equal to an array of {name, query, needs, every}. Returns how many changed.';

--! Included functions/ops/check_health.sql
-- Each check runs in a subtransaction of its own that may not write: one that fails is an
-- alert itself and does not keep the others from running.
create or replace function ops.check_health() returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- A check that waits for a lock has nothing to say about it.
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
  -- The next minute's run does not wait for one that takes longer.
  if pg_is_in_recovery()
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
          -- What does not exist needs no check; what exists and is hidden does.
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
      -- Before any is resolved, not while.
      offset 0
    ) as over;
  end loop;

  return changed + ops.settle_alerts();
end
$$;
--! EndIncluded functions/ops/check_health.sql
comment on function ops.check_health() is
  'Runs the health checks that are due, raises alerts for what they find and resolves those of what they find no more. Returns how many alerts opened, changed their level or were resolved.';

--! Included functions/ops/message_status.sql
-- Definer: monitoring counts messages and must not read who gets them or what they say.
-- Only gw_monitor and gw_readonly may execute it.
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
--! EndIncluded functions/ops/message_status.sql
grant execute on function ops.message_status(date, date) to gw_monitor, gw_readonly;
comment on function ops.message_status(date, date) is
  'How many messages are due on each day of a range (UTC, inclusive), by type and status.';

--! Included functions/ops/overdue_messages.sql
-- Definer: as message_status(). The partial index on unsent messages serves it. What is held
-- by quiet hours is not overdue.
create or replace function ops.overdue_messages(p_after interval)
returns table (message_type text, status text, messages bigint, oldest timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select message_logs.message_type, message_logs.status, count(*),
    min(message_logs.scheduled_send_time)
  from app_public.message_logs
  where message_logs.scheduled_send_time < now() - p_after
    and message_logs.status in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING')
    and (message_logs.status <> 'QUEUED'
      or message_logs.error_message is null
      or message_logs.error_message not like 'held until %')
  group by 1, 2
$$;
--! EndIncluded functions/ops/overdue_messages.sql
grant execute on function ops.overdue_messages(interval) to gw_monitor;
comment on function ops.overdue_messages(interval) is
  'Messages that were due so long ago and are neither sent nor given up, by type and status.';

--! Included functions/ops/column_widths.sql
-- Definer: pg_stats shows a column only to who may read the column. Its mean width and its
-- share of nulls say nothing about any row; the values that pg_stats also has stay there.
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
--! EndIncluded functions/ops/column_widths.sql
grant execute on function ops.column_widths() to gw_monitor;
comment on function ops.column_widths() is
  'Mean width in bytes and share of nulls of each analyzed column of the owner''s tables.';

insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('check-health', '* * * * *', 'select ops.check_health()',
    'Runs the health checks that are due; alerts follow what they find.'),
  ('alert-notices-cleanup', '51 3 * * *', 'select ops.delete_old_alert_notices()',
    'Notices are kept 90 days.')
on conflict (job_name) do update
set schedule = excluded.schedule,
  command = excluded.command,
  description = excluded.description;
