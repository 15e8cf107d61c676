-- backups: the newest backup is too old, was not tried, or does not exist
-- Params:
--   backups_warning interval = 26 hours: since the newest complete one began
--   backups_critical interval = 3 days: the same
--   backups_verified interval = 8 days: since the newest that was tried began
-- Needs: ops.backups
-- Columns: level, object (empty: the newest; verification), detail, remediation.
-- Read: When the disk is lost, so is what was written since that backup. Backups of single
--   tables do not count.
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
    max(started_at) filter (where finished_at is not null) as made,
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
  'Make one, and see why the schedule did not.' as remediation
from newest
cross join limits
where newest.made is null
  or newest.made < now() - warning
union all
select
  'warning',
  'verification',
  case when newest.verified is null then 'no backup was ever restored for a trial'
    else format('the newest backup that was restored for a trial is of %s',
      to_char(newest.verified at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) end,
  'Restore the newest one into a scratch server.'
from newest
cross join limits
where newest.made is not null
  and (newest.verified is null or newest.verified < now() - limits.verified)
order by object;
