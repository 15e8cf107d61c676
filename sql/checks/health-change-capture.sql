-- change-capture: change data capture does not follow
-- Params:
--   change_capture_warning numeric = 60: seconds behind
--   change_capture_critical numeric = 600: the same
-- Needs: ops.change_capture_status
-- Columns: level, object (the slot), detail, remediation.
-- Read: Dashboards show old figures, and the slot holds back write-ahead log (slot-wal). Counted
--   anew twice in a day, somebody drops the slot, or max_slot_wal_keep_size is too small.
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
    'log is ' || wal_status,
    case when recounts >= 2 then 'counted anew ' || recounts || ' times in 24 hours' end,
    error) as detail,
  case when state = 'running' then 'Its log says why: gw cdc. See also: gw report replication-slots'
    else 'Start it with: gw cdc; its log says why it ended.' end as remediation
from ops.change_capture_status
cross join limits
where state in ('failed', 'stopped')
  or wal_status in ('unreserved', 'lost')
  or lag_seconds >= warning
  or recounts >= 2
order by object;
