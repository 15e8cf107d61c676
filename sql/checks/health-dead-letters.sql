-- dead-letters: jobs that were given up
-- Params:
--   dead_letters_warning bigint = 1: jobs in one queue
--   dead_letters_critical bigint = 100: the same
-- Needs: pgboss.queue, pgboss.job
-- Columns: level, object (the dead letter queue), detail, remediation.
-- Read: A person decides what becomes of each: put it back, or delete it.
-- Cost: Counts the jobs of dead letter queues.
with limits as (
  select
    coalesce(nullif(current_setting('health.dead_letters_warning', true), ''),
      '1')::bigint as warning,
    coalesce(nullif(current_setting('health.dead_letters_critical', true), ''),
      '100')::bigint as critical
),
letters as (
  select job.name as object, count(*) as jobs, min(job.created_on) as oldest
  from pgboss.job
  where job.name in (
      select queue.dead_letter from pgboss.queue where queue.dead_letter is not null
    )
    and job.state < 'completed'
  group by job.name
)
select
  case when jobs >= critical then 'critical' else 'warning' end as level,
  object,
  format('%s jobs, the oldest of %s', jobs,
    to_char(oldest at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) as detail,
  case object when 'message-send-dead'
    then 'gw messages list --status FAILED; then gw messages redrive'
    else format('select id, output from pgboss.job where name = %L; then put back or delete',
      object) end as remediation
from letters
cross join limits
where jobs >= warning
order by object;
