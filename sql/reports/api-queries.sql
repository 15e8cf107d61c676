-- api-queries: the API's operations of the last 7 days, by the time that they took
-- Params:
--   limit integer = 20: how many
-- Needs: app_private.query_performance_summary
-- Columns: query_hash, executions, mean_seconds, p95_seconds, max_seconds, users,
--   last_execution. As old as the latest refresh, 15 minutes at most.
-- Read: p95 far above the mean: some tenants have much more than others, or it waits for
--   locks. slow-queries has the database's side of it.
-- Cost: Reads a materialized view.
select
  query_hash,
  execution_count as executions,
  avg_duration_ms::float8 / 1000 as mean_seconds,
  p95_duration_ms::float8 / 1000 as p95_seconds,
  max_duration_ms::float8 / 1000 as max_seconds,
  unique_users as users,
  last_execution
from app_private.query_performance_summary
order by p95_seconds desc, query_hash
limit coalesce(nullif(current_setting('report.limit', true), ''), '20')::integer;
