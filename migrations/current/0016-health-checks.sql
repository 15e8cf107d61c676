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

--!include functions/ops/notify_alert.sql
comment on function ops.notify_alert(ops.alerts, text) is
  'Records a notice of an alert and queues its delivery. Returns its number.';

--!include functions/app_private/tg_alerts__notify.sql
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

--!include functions/ops/settle_alerts.sql
comment on function ops.settle_alerts() is
  'Announces how alerts stand that changed too often and have not for an hour. Returns how many.';

--!include functions/ops/delete_old_alert_notices.sql
comment on function ops.delete_old_alert_notices() is
  'Deletes notices of more than 90 days ago. Returns how many.';

--!include functions/ops/sync_health_checks.sql
comment on function ops.sync_health_checks(jsonb) is
  'Makes ops.health_checks equal to an array of {name, query, needs, every}. Returns how many changed.';

--!include functions/ops/check_health.sql
comment on function ops.check_health() is
  'Runs the health checks that are due, raises alerts for what they find and resolves those of what they find no more. Returns how many alerts opened, changed their level or were resolved.';

--!include functions/ops/message_status.sql
grant execute on function ops.message_status(date, date) to gw_monitor, gw_readonly;
comment on function ops.message_status(date, date) is
  'How many messages are due on each day of a range (UTC, inclusive), by type and status.';

--!include functions/ops/overdue_messages.sql
grant execute on function ops.overdue_messages(interval) to gw_monitor;
comment on function ops.overdue_messages(interval) is
  'Messages that were due so long ago and are neither sent nor given up, by type and status.';

--!include functions/ops/column_widths.sql
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
