-- slot-wal: replication slots hold back write-ahead log
-- Params:
--   slot_wal_warning bigint = 1073741824: bytes held back
--   slot_wal_critical bigint = 3221225472: the same
-- Columns: level, object (the slot; max_slot_wal_keep_size when that is unset), detail,
--   remediation.
-- Read: What is held back cannot be removed: the disk fills, or the slot is invalidated
--   at max_slot_wal_keep_size and its consumer has to begin anew.
-- Cost: Reads shared memory; milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.slot_wal_warning', true), ''),
      '1073741824')::bigint as warning,
    coalesce(nullif(current_setting('health.slot_wal_critical', true), ''),
      '3221225472')::bigint as critical
),
slots as (
  select slot_name::text as object, active, wal_status,
    pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_receive_lsn()
      else pg_current_wal_lsn() end, restart_lsn) as retained
  from pg_catalog.pg_replication_slots
  where not temporary
)
select
  case when wal_status in ('unreserved', 'lost') or retained >= critical
    then 'critical' else 'warning' end as level,
  object,
  case when wal_status = 'lost' then 'the slot was invalidated: its log is gone'
    else format('holds back %s bytes, %s, log is %s', coalesce(retained, 0),
      case when active then 'connected' else 'nobody connected' end, wal_status)
  end as detail,
  case when wal_status = 'lost'
    then format('select pg_drop_replication_slot(%L); then begin anew', object)
    else 'Start its consumer, or drop the slot; see: gw report replication-slots'
  end as remediation
from slots
cross join limits
where wal_status in ('unreserved', 'lost')
  or retained >= warning
union all
select 'warning', 'max_slot_wal_keep_size', 'a slot that nobody reads can fill the disk',
  'alter system set max_slot_wal_keep_size = ''4GB''; select pg_reload_conf();'
where current_setting('max_slot_wal_keep_size') = '-1'
  and exists (select from pg_catalog.pg_replication_slots where not temporary)
order by object;
