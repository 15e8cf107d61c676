-- declared-jobs: jobs of ops.cron_jobs that pg_cron does not have, and the reverse
-- Params: none
-- Needs: cron.job, ops.cron_jobs
-- Columns: level, object (the job), detail, remediation.
-- Read: Critical for a job that does not run, or runs otherwise than it is declared. A job
--   that nobody declared is a warning: it goes with the next migration.
-- Cost: Milliseconds.
with jobs as (
  select jobname, schedule, command, active
  from cron.job
  where database = current_database()
    and username = pg_get_userbyid(
      (select relowner from pg_catalog.pg_class where oid = 'ops.cron_jobs'::regclass))
)
select
  'critical' as level,
  cron_jobs.job_name as object,
  case
    when jobs.jobname is null then 'is declared, and pg_cron does not have it'
    when not jobs.active then 'is switched off in pg_cron'
    else 'pg_cron runs it otherwise than it is declared'
  end as detail,
  'select ops.sync_cron_jobs();' as remediation
from ops.cron_jobs
left join jobs on jobs.jobname = cron_jobs.job_name
where cron_jobs.is_active
  and (jobs.schedule, jobs.command, jobs.active)
    is distinct from (cron_jobs.schedule, cron_jobs.scheduled_command, true)
union all
select
  'warning',
  coalesce(jobs.jobname, '(no name)'),
  'runs, and ops.cron_jobs does not declare it',
  'Declare it in a migration, or: select ops.sync_cron_jobs();'
from jobs
where jobs.active
  and not exists (
    select from ops.cron_jobs
    where cron_jobs.job_name = jobs.jobname and cron_jobs.is_active
  )
order by object;
