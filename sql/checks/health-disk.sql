-- disk: the server's files fill the volume that they are said to have
-- Params:
--   disk_volume bigint = 0: bytes of the volume; 0: not known, and not checked
--   disk_warning numeric = 0.80: share of it
--   disk_critical numeric = 0.90: the same
-- Needs: role pg_monitor
-- Columns: level, object (empty), detail, remediation.
-- Read: SQL cannot see how much of a disk is free, nor what else lies on it. So tell it
--   the size of the volume: alter database … set health.disk_volume = '107374182400';
--   `gw check` on the server's own machine also asks the file system itself
--   (disk-free).
-- Cost: Reads the size of every file of each database; a second for many thousand.
with limits as (
  select
    coalesce(nullif(current_setting('health.disk_volume', true), ''), '0')::bigint
      as volume,
    coalesce(nullif(current_setting('health.disk_warning', true), ''), '0.80')::numeric
      as warning,
    coalesce(nullif(current_setting('health.disk_critical', true), ''), '0.90')::numeric
      as critical
),
used as (
  select (
    select sum(pg_database_size(oid)) from pg_catalog.pg_database where volume > 0
  ) + (
    select coalesce(sum(size), 0) from pg_ls_waldir() where volume > 0
  ) as bytes
  from limits
)
select
  case when bytes >= volume * critical then 'critical' else 'warning' end as level,
  '' as object,
  format('databases and write-ahead log take %s of %s bytes (%s %%)', bytes, volume,
    round(100 * bytes / volume)) as detail,
  'See: gw report table-sizes, bloat, replication-slots; or enlarge the volume.'
    as remediation
from used
cross join limits
where volume > 0
  and bytes >= volume * warning
order by object;
