-- replication-lag: a standby is behind
-- Params:
--   replication_lag_warning numeric = 60: seconds
--   replication_lag_critical numeric = 600: seconds
--   replication_lag_bytes bigint = 1073741824: bytes that it has not replayed
-- Needs: role pg_read_all_stats
-- Columns: level, object (the standby's application name; empty on a standby), detail,
--   remediation.
-- Read: A failover now would lose or wait for so much. A standby that is not connected
--   holds its slot back: see slot-wal, which looks at logical consumers too.
-- Cost: Reads shared memory; milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.replication_lag_warning', true), ''),
      '60')::numeric as warning,
    coalesce(nullif(current_setting('health.replication_lag_critical', true), ''),
      '600')::numeric as critical,
    coalesce(nullif(current_setting('health.replication_lag_bytes', true), ''),
      '1073741824')::bigint as most
),
lags as (
  select application_name as object, max(extract(epoch from replay_lag)) as seconds,
    max(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn()
      else pg_current_wal_lsn() end, coalesce(replay_lsn, flush_lsn, sent_lsn))) as bytes
  from pg_catalog.pg_stat_replication
  left join pg_catalog.pg_replication_slots on active_pid = pid
  where slot_type is distinct from 'logical'
    and state <> 'backup'
  group by application_name
  union all
  -- On a standby: nothing to replay is not a lag.
  select '', extract(epoch from now() - pg_last_xact_replay_timestamp()),
    pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
  where pg_is_in_recovery()
    and pg_last_wal_receive_lsn() is distinct from pg_last_wal_replay_lsn()
)
select
  case when seconds >= critical then 'critical' else 'warning' end as level,
  object,
  concat_ws(' and ', round(seconds) || ' seconds', bytes || ' bytes') || ' behind'
    as detail,
  'See: gw report replication-lag; look at the standby''s disk, network and conflicts.'
    as remediation
from lags
cross join limits
where seconds >= warning
  or bytes >= most
order by object;
