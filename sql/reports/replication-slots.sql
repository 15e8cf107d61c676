-- replication-slots: slots, and the write-ahead log that each holds back
-- Params: none
-- Columns: slot_name, slot_type, plugin, database_name, is_active, wal_status,
--   retained_bytes (cannot be removed), pending_bytes (not confirmed by the consumer),
--   safe_bytes (until the slot is invalidated; null without max_slot_wal_keep_size).
-- Read: retained_bytes that grow and is_active false: the consumer is away, and the disk
--   will fill, or the slot be lost. Start it, or: select pg_drop_replication_slot('…');
--   wal_status unreserved or lost: it has to begin anew with a snapshot.
-- Cost: Reads shared memory; milliseconds.
select
  slot_name::text as slot_name,
  slot_type,
  plugin::text as plugin,
  database::text as database_name,
  active as is_active,
  wal_status,
  pg_wal_lsn_diff(position.lsn, restart_lsn)::bigint as retained_bytes,
  pg_wal_lsn_diff(position.lsn, coalesce(confirmed_flush_lsn, restart_lsn))::bigint
    as pending_bytes,
  safe_wal_size as safe_bytes
from pg_catalog.pg_replication_slots
cross join lateral (
  select case when pg_is_in_recovery() then pg_last_wal_receive_lsn()
    else pg_current_wal_lsn() end as lsn
) as position
order by retained_bytes desc nulls last, slot_name;
