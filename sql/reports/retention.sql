-- retention: how long each table's rows are kept, and what will be deleted next
-- Params: none
-- Needs: function ops.retention_status
-- Columns: relation, kept_for (empty: for ever), time_column, oldest (row), due_rows,
--   due_partitions (to be detached), detached_partitions (to be dropped), next_job,
--   schedule (UTC), blocked_by.
-- Read: What is due goes when next_job runs. blocked_by says what is in its way: without a
--   verified backup, for instance, a detached partition stays on the disk. ops.alerts
--   (retention-failed) and ops.partition_events say since when. The policies are rows of
--   ops.retention_policies and ops.partition_policies.
-- Cost: Counts the due rows of each table of ops.retention_policies, without an index on
--   its time column by reading it.
select
  relation,
  kept_for::text as kept_for,
  time_column,
  oldest,
  due_rows,
  due_partitions,
  detached_partitions,
  next_job,
  schedule,
  blocked_by
from ops.retention_status()
order by relation;
