-- cron-jobs: jobs of pg_cron whose latest run failed, or that did not run when due
-- Params: none
-- Needs: cron.job, cron.job_run_details
-- Columns: level, object (the job), detail, remediation.
-- Read: Critical when the latest three runs failed. A job is late after twice its
--   interval and five minutes; the interval is the longest that its schedule allows,
--   taken roughly. Until 1.5 the background workers of pg_cron wait for each other: one
--   long job holds up all others.
-- Cost: Reads pg_cron's history, which ops.retention_policies keeps for 14 days.
with jobs as (
  select job.jobid, coalesce(job.jobname, job.jobid::text) as object, field,
    regexp_match(job.schedule, '^([1-5]?[0-9]) seconds$') as seconds
  from cron.job
  cross join lateral regexp_split_to_array(btrim(job.schedule), '\s+') as field
  where job.active
    and job.database = current_database()
),
schedules as (
  select jobs.jobid, jobs.object,
    case
      when seconds is not null then seconds[1]::integer * interval '1 second'
      -- @hourly and its like.
      when cardinality(field) <> 5 then interval '32 days'
      when field[4] <> '*' then interval '366 days'
      when field[3] <> '*' then interval '32 days'
      when field[5] <> '*' then interval '8 days'
      when field[2] ~ '^\*/[0-9]+$' then substr(field[2], 3)::integer * interval '1 hour'
      when field[2] <> '*' then interval '1 day'
      when field[1] = '*' then interval '1 minute'
      when field[1] ~ '^\*/[0-9]+$'
        then substr(field[1], 3)::integer * interval '1 minute'
      else interval '1 hour'
    end as step
  from jobs
),
runs as (
  select schedules.jobid, schedules.object, schedules.step,
    max(run.start_time) as last_run,
    (array_agg(run.status order by run.runid desc)
      filter (where run.status in ('succeeded', 'failed')))[1:3] as latest,
    (array_agg(run.return_message order by run.runid desc)
      filter (where run.status = 'failed'))[1] as message
  from schedules
  left join cron.job_run_details as run on run.jobid = schedules.jobid
  group by schedules.jobid, schedules.object, schedules.step
)
select
  case when latest = '{failed,failed,failed}' then 'critical' else 'warning' end as level,
  object,
  'the latest run failed: ' || left(coalesce(message, ''), 200) as detail,
  format('Correct its cause; see: gw report cron-history --param job=%s', object)
    as remediation
from runs
where latest[1] = 'failed'
union all
select
  'warning',
  object,
  case when last_run is null then 'has not run although it was due'
    else format('last ran at %s, although it is due every %s',
      to_char(last_run at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), step) end,
  'See whether pg_cron''s launcher runs, and cron.database_name is this database.'
from runs
where coalesce(last_run < now() - 2 * step - interval '5 minutes',
  -- One that never ran is late when a job that was made after it has run so long ago.
  exists (
    select from runs as later
    where later.jobid > runs.jobid
      and (
        select min(job_run_details.start_time)
        from cron.job_run_details
        where job_run_details.jobid = later.jobid
      ) < now() - 2 * runs.step - interval '5 minutes'
  ))
union all
select
  'warning',
  'pg_cron',
  format('is %s: a job waits until the job before it has ended', default_version),
  'Install pg_cron 1.5 or newer (docker/provision.sh), and restart the server at a quiet hour.'
from pg_catalog.pg_available_extensions
where name = 'pg_cron'
  and default_version ~ '^1\.[0-4]\M'
  and current_setting('cron.use_background_workers', true) = 'on'
order by object, level;
