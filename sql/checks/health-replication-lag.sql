-- replication-lag: a standby is behind
-- Params:
--   replication_lag_warning numeric = 60: seconds
--   replication_lag_critical numeric = 600: seconds
-- Needs: role pg_read_all_stats
-- Columns: level, object (the standby's application name; empty on a standby), detail,
--   remediation.
-- Read: A failover now would lose or wait for so much. Who is not connected at all holds
--   its slot back: see slot-wal. Logical consumers are looked at there too.
-- Cost: Reads shared memory; milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.replication_lag_warning', true), ''),
      '60')::numeric as warning,
    coalesce(nullif(current_setting('health.replication_lag_critical', true), ''),
      '600')::numeric as critical
),
lags as (
  select application_name as object, max(extract(epoch from replay_lag)) as seconds
  from pg_catalog.pg_stat_replication
  left join pg_catalog.pg_replication_slots on active_pid = pid
  where slot_type is distinct from 'logical'
  group by application_name
  union all
  -- On a standby: nothing to replay is not a lag.
  select '', extract(epoch from now() - pg_last_xact_replay_timestamp())
  where pg_is_in_recovery()
    and pg_last_wal_receive_lsn() is distinct from pg_last_wal_replay_lsn()
)
select
  case when seconds >= critical then 'critical' else 'warning' end as level,
  object,
  format('%s seconds behind', round(seconds)) as detail,
  'See: gw report replication-lag; look at the standby''s disk, network and conflicts.'
    as remediation
from lags
cross join limits
where seconds >= warning
order by object;
