-- change-capture: change data capture does not follow
-- Params:
--   change_capture_warning numeric = 60: seconds behind
--   change_capture_critical numeric = 600: the same
-- Needs: ops.change_capture_status
-- Columns: level, object (the slot), detail, remediation.
-- Read: Dashboards show old figures, and the slot holds back write-ahead log (slot-wal).
-- Cost: Milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.change_capture_warning', true), ''),
      '60')::numeric as warning,
    coalesce(nullif(current_setting('health.change_capture_critical', true), ''),
      '600')::numeric as critical
)
select
  case when state = 'failed' or wal_status = 'lost' or lag_seconds >= critical
    then 'critical' else 'warning' end as level,
  slot_name::text as object,
  concat_ws(', ', 'is ' || state, round(lag_seconds) || ' seconds behind',
    'log is ' || wal_status, error) as detail,
  'Start it with: gw cdc; its log says why it ended.' as remediation
from ops.change_capture_status
cross join limits
where state in ('failed', 'stopped')
  or wal_status in ('unreserved', 'lost')
  or lag_seconds >= warning
order by object;
