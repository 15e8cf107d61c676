-- replication-lag: how far each consumer of the write-ahead log is behind
-- Params: none
-- Columns: application, role_name, client_address, state, is_synchronous, sent_bytes,
--   flush_bytes, replay_bytes (behind this server), replay_lag_seconds.
-- Read: Bytes that grow: the consumer, or the network to it, is too slow. A lag in
--   seconds is null once everything was replayed. Who is not connected is not here: see
--   replication-slots.
-- Cost: Reads shared memory; milliseconds.
select
  application_name as application,
  usename::text as role_name,
  host(client_addr) as client_address,
  state,
  sync_state in ('sync', 'quorum') as is_synchronous,
  pg_wal_lsn_diff(position.lsn, sent_lsn)::bigint as sent_bytes,
  pg_wal_lsn_diff(position.lsn, flush_lsn)::bigint as flush_bytes,
  pg_wal_lsn_diff(position.lsn, replay_lsn)::bigint as replay_bytes,
  extract(epoch from replay_lag)::float8 as replay_lag_seconds
from pg_catalog.pg_stat_replication
cross join lateral (
  select case when pg_is_in_recovery() then pg_last_wal_receive_lsn()
    else pg_current_wal_lsn() end as lsn
) as position
order by replay_bytes desc nulls last, application, client_address, pid;
