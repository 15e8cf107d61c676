-- schedule: pg_cron's jobs, their schedules and latest runs
-- Params:
--   days integer = 7: for how many days failures are counted
--   runs integer = 20: how many of the latest runs have their duration shown
-- Needs: function ops.schedule_status
-- Columns: job_name, schedule (UTC), command, is_declared (in ops.cron_jobs), is_active (in
--   pg_cron), last_start, last_end, last_seconds, last_status, failed (runs of the days),
--   run_seconds (each of the latest runs, oldest first), last_message, description.
-- Read: last_status failed: last_message says why; cron-history has the runs before. A job
--   that is not active does not run: gw migrate puts it right. last_start older than the
--   schedule wants: pg_cron's launcher does not run, or is in another database
--   (cron.database_name). A job that is not declared is somebody's own.
-- Cost: Reads pg_cron's history, which ops.retention_policies keeps for 14 days.
select
  job_name,
  schedule,
  regexp_replace(command, '\s+', ' ', 'g') as command,
  is_declared,
  is_active,
  last_start,
  last_end,
  extract(epoch from last_end - last_start)::float8 as last_seconds,
  last_status,
  failed,
  run_seconds,
  last_message,
  description
from ops.schedule_status(
  now() - coalesce(nullif(current_setting('report.days', true), ''), '7')::integer
    * interval '1 day',
  coalesce(nullif(current_setting('report.runs', true), ''), '20')::integer)
order by job_name, command;
