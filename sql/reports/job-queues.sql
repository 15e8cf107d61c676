-- job-queues: pg-boss's queues and their jobs
-- Params: none
-- Needs: pgboss.queue, pgboss.job
-- Columns: queue_name, due (may run now), later (not yet), retrying, active, failed,
--   completed, oldest_due_seconds, dead_letter_queue.
-- Read: due that grows, with oldest_due_seconds: no worker, or too few. failed: see their
--   output in pgboss.job. Rows in a dead letter queue were given up: a person decides.
-- Cost: Counts the jobs that are kept, a day's finished ones among them.
select
  queue.name as queue_name,
  count(*) filter (where job.state < 'active' and job.start_after <= now()) as due,
  count(*) filter (where job.state < 'active' and job.start_after > now()) as later,
  count(*) filter (where job.state = 'retry') as retrying,
  count(*) filter (where job.state = 'active') as active,
  count(*) filter (where job.state = 'failed') as failed,
  count(*) filter (where job.state = 'completed') as completed,
  extract(epoch from now() - min(job.start_after)
    filter (where job.state < 'active' and job.start_after <= now()))::float8
    as oldest_due_seconds,
  queue.dead_letter as dead_letter_queue
from pgboss.queue
left join pgboss.job on job.name = queue.name
group by queue.name, queue.dead_letter
order by queue_name;
