-- retention: how long each table's rows are kept, and what will be deleted next
-- Params: none
-- Needs: function ops.retention_status
-- Columns: relation, kept_for (empty: for ever), time_column, oldest (row), due_at (of the
--   next rows or partition), due_rows, due_partitions (to be detached), detached_partitions
--   (to be dropped), next_partition (to leave its table or to be dropped), next_job,
--   schedule (UTC), last_run and last_status (of that job), blocked_by.
-- Read: next_job deletes what is due at its next run after due_at. blocked_by says what is
--   in its way: without a verified backup, for instance, a detached partition stays on the
--   disk. ops.alerts (retention-failed) and ops.partition_events say since when. The
--   policies are rows of ops.retention_policies and ops.partition_policies.
-- Cost: Counts the due rows of each table of ops.retention_policies, without an index on
--   its time column by reading it. Reads pg_cron's history of 14 days.
select
  relation,
  kept_for::text as kept_for,
  time_column,
  oldest,
  due_at,
  due_rows,
  due_partitions,
  detached_partitions,
  next_partition,
  next_job,
  schedule,
  last_run,
  last_status,
  blocked_by
from ops.retention_status()
order by relation;
