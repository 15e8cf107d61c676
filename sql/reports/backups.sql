-- backups: backups, their age, and whether a trial restore succeeded
-- Params:
--   limit integer = 30: how many
-- Needs: ops.backups
-- Columns: started_at, kind, tables (empty: all), location, backup_bytes, run_seconds,
--   age_seconds, verified_at (restored for a trial).
-- Read: A backup that was never restored is a hope. run_seconds empty: it runs, or
--   failed.
-- Cost: Milliseconds.
select
  started_at,
  kind,
  coalesce(array_to_string(tables, ', '), '') as tables,
  location,
  bytes as backup_bytes,
  extract(epoch from finished_at - started_at)::float8 as run_seconds,
  extract(epoch from now() - started_at)::float8 as age_seconds,
  verified_at
from ops.backups
order by started_at desc, id
limit coalesce(nullif(current_setting('report.limit', true), ''), '30')::integer;
