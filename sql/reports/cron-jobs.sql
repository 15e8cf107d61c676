-- cron-jobs: pg_cron's jobs and how their latest runs went
-- Params:
--   runs integer = 20: how many of the latest runs
-- Needs: cron.job, cron.job_run_details
-- Columns: job_name, schedule (UTC), command, is_active, last_run, last_status,
--   run_seconds (each of the latest runs, oldest first), failed (of them), last_message
--   (of the latest failure).
-- Read: last_status failed: last_message says why. last_run older than the schedule
--   wants: pg_cron's launcher does not run, or is in another database
--   (cron.database_name).
-- Cost: Reads pg_cron's history, which a job keeps at 14 days.
select
  job.jobname as job_name,
  job.schedule,
  regexp_replace(job.command, '\s+', ' ', 'g') as command,
  job.active as is_active,
  latest.last_run,
  latest.last_status,
  latest.run_seconds,
  coalesce(latest.failed, 0) as failed,
  latest.last_message
from cron.job
left join lateral (
  select
    max(run.start_time) as last_run,
    (array_agg(run.status order by run.runid desc))[1] as last_status,
    array_agg(coalesce(extract(epoch from run.end_time - run.start_time), 0)::float8
      order by run.runid) as run_seconds,
    count(*) filter (where run.status = 'failed') as failed,
    (array_agg(run.return_message order by run.runid desc)
      filter (where run.status = 'failed'))[1] as last_message
  from (
    select runid, start_time, end_time, status, return_message
    from cron.job_run_details
    where job_run_details.jobid = job.jobid
    order by runid desc
    limit coalesce(nullif(current_setting('report.runs', true), ''), '20')::integer
  ) as run
) as latest on true
order by job_name, job.jobid;
