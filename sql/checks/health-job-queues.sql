-- job-queues: jobs that are due and that no worker takes
-- Params:
--   job_queues_warning interval = 10 minutes: the oldest is due for so long
--   job_queues_critical interval = 1 hour: the same
-- Needs: pgboss.queue, pgboss.job
-- Columns: level, object (the queue), detail, remediation.
-- Read: No worker runs, or too few. Dead letter queues are left out: see dead-letters.
-- Cost: Reads the oldest due job of each queue.
with limits as (
  select
    coalesce(nullif(current_setting('health.job_queues_warning', true), ''),
      '10 minutes')::interval as warning,
    coalesce(nullif(current_setting('health.job_queues_critical', true), ''),
      '1 hour')::interval as critical
),
waiting as (
  select job.name as object, count(*) as jobs, min(job.start_after) as oldest
  from pgboss.job
  where job.state < 'active'
    and job.start_after <= now()
    and not exists (select from pgboss.queue where queue.dead_letter = job.name)
  group by job.name
)
select
  case when oldest < now() - critical then 'critical' else 'warning' end as level,
  object,
  format('%s jobs are due, the oldest since %s', jobs,
    to_char(oldest at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) as detail,
  'Start gw worker, or another one.' as remediation
from waiting
cross join limits
where oldest < now() - warning
order by object;
