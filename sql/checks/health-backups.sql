-- backups: the newest backup is too old, was not tried, failed its trial, or does not exist
-- Params:
--   backups_warning interval = 26 hours: since the newest complete one began
--   backups_critical interval = 3 days: the same
--   backups_verified interval = 8 days: since the newest that was tried began; critical at twice as much
-- Needs: ops.backups
-- Columns: level, object (empty: the newest; verification; failure), detail, remediation.
-- Read: When the disk is lost, so is what was written since that backup. Backups of single
--   tables do not count. One whose trial restore failed is none.
-- Cost: Milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.backups_warning', true), ''),
      '26 hours')::interval as warning,
    coalesce(nullif(current_setting('health.backups_critical', true), ''),
      '3 days')::interval as critical,
    coalesce(nullif(current_setting('health.backups_verified', true), ''),
      '8 days')::interval as verified
),
newest as (
  select
    max(started_at) filter (where finished_at is not null and failure is null) as made,
    max(started_at) filter (where verified_at is not null) as verified
  from ops.backups
  where tables is null
)
select
  case when newest.made < now() - critical then 'critical' else 'warning' end as level,
  '' as object,
  case when newest.made is null then 'no backup was ever made'
    else format('the newest backup is of %s',
      to_char(newest.made at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) end as detail,
  'Make one, and see why the schedule did not: gw backup create' as remediation
from newest
cross join limits
where newest.made is null
  or newest.made < now() - warning
union all
select
  case when newest.verified < now() - 2 * limits.verified then 'critical' else 'warning' end,
  'verification',
  case when newest.verified is null then 'no backup was ever restored for a trial'
    else format('the newest backup that was restored for a trial is of %s',
      to_char(newest.verified at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) end,
  'Restore the newest one into a scratch server: gw backup verify'
from newest
cross join limits
where newest.made is not null
  and (newest.verified is null or newest.verified < now() - limits.verified)
union all
-- Only what nothing newer has shown to be well.
select
  'critical',
  'failure',
  format('the trial restore of the backup of %s failed: %s',
    to_char(backups.started_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), backups.failure),
  'Make another one now, verify it, and find out what damaged this one.'
from (
  select started_at, failure
  from ops.backups
  where tables is null and failure is not null
  order by started_at desc
  limit 1
) as backups
cross join newest
where newest.verified is null
  or newest.verified < backups.started_at
order by object;
