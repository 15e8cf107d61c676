-- checksum-failures: pages that were read and are damaged
-- Params:
--   checksum_failures bigint = 1: at least this many since the statistics began
-- Columns: level, object (empty, or the shared objects), detail, remediation.
-- Read: The disk or memory returns other bytes than were written. Rows are lost where no
--   copy has them.
-- Cost: Milliseconds.
select
  'critical' as level,
  case when datname is null then 'shared objects' else '' end as object,
  format('%s damaged pages, the latest at %s', checksum_failures,
    to_char(checksum_last_failure at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) as detail,
  'Fail over to a standby, or restore a backup on another disk; keep this one.' as remediation
from pg_catalog.pg_stat_database
where checksum_failures >= coalesce(
    nullif(current_setting('health.checksum_failures', true), ''), '1')::bigint
  and (datname is null or datname = current_database())
order by object;
