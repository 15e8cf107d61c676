-- wal-archiver: archive_command fails, or does not keep up
-- Params:
--   wal_archiver_warning bigint = 32: files that wait to be archived
--   wal_archiver_critical bigint = 256: the same
-- Needs: role pg_monitor
-- Columns: level, object (empty), detail, remediation.
-- Read: A restore to a point in time ends at the last file that was archived. What waits
--   is kept, until the disk is full.
-- Cost: Lists the directory of the archiver's status; milliseconds.
with state as (
  select pg_stat_archiver.*,
    (select count(*) from pg_ls_archive_statusdir() where name like '%.ready') as waiting
  from pg_catalog.pg_stat_archiver
  where current_setting('archive_mode') <> 'off'
)
select
  case when is_failing or waiting >= critical then 'critical' else 'warning' end as level,
  '' as object,
  case when is_failing
    then format('%s failed at %s; %s files wait', last_failed_wal,
      to_char(last_failed_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'), waiting)
    else format('%s files wait to be archived', waiting)
  end as detail,
  'The server''s log has what archive_command said. Correct it, and SELECT pg_reload_conf();'
    as remediation
from state
cross join lateral (
  select last_failed_time is not null
    and last_failed_time > coalesce(last_archived_time, '-infinity') as is_failing
) as failure
cross join (
  select
    coalesce(nullif(current_setting('health.wal_archiver_warning', true), ''),
      '32')::bigint as warning,
    coalesce(nullif(current_setting('health.wal_archiver_critical', true), ''),
      '256')::bigint as critical
) as limits
where is_failing or waiting >= warning;
