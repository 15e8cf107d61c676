-- cron-history: the latest runs of pg_cron's jobs
-- Params:
--   job text = : only jobs whose name matches this regular expression
--   failed boolean = false: only runs that failed
--   limit integer = 50: how many runs
-- Needs: cron.job, cron.job_run_details
-- Columns: started_at, job_name, status, run_seconds, message.
-- Read: status failed with its message; a run that is "running" for long holds the next
--   one back. schedule has one line for each job.
-- Cost: Reads pg_cron's history, which ops.retention_policies keeps for 14 days.
select
  job_run_details.start_time as started_at,
  coalesce(job.jobname, job_run_details.jobid::text) as job_name,
  job_run_details.status,
  extract(epoch from coalesce(job_run_details.end_time,
    case job_run_details.status when 'running' then clock_timestamp() end)
    - job_run_details.start_time)::float8 as run_seconds,
  job_run_details.return_message as message
from cron.job_run_details
left join cron.job on job.jobid = job_run_details.jobid
where coalesce(job.jobname, '') ~ coalesce(current_setting('report.job', true), '')
  and (job_run_details.status = 'failed'
    or not coalesce(nullif(current_setting('report.failed', true), ''), 'false')::boolean)
order by job_run_details.runid desc
limit coalesce(nullif(current_setting('report.limit', true), ''), '50')::integer;
