-- alerts: open alerts, and alerts that were resolved lately
-- Params:
--   days integer = 7: also resolved alerts of this many days
-- Needs: ops.alerts
-- Columns: state (open or resolved), level, check_name, object, detail, remediation,
--   raised_at, open_seconds.
-- Read: Open and critical first. One that comes back again and again has a threshold that
--   is too low, or a cause that nobody has removed.
-- Cost: Reads the alerts of those days by an index.
select
  case when resolved_at is null then 'open' else 'resolved' end as state,
  level,
  check_name,
  object,
  detail,
  remediation,
  raised_at,
  extract(epoch from coalesce(resolved_at, now()) - raised_at)::float8 as open_seconds
from ops.alerts
where resolved_at is null
  or resolved_at > now() - interval '1 day'
    * coalesce(nullif(current_setting('report.days', true), ''), '7')::integer
order by state, level, raised_at desc, id;
