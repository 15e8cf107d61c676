-- api-queries: the API's operations of the last hours, by the time that they took
-- Params:
--   limit integer = 20: how many
--   hours integer = 24: how far back, 168 at most
-- Needs: function ops.query_performance
-- Columns: query_hash, executions, mean_seconds, p95_seconds, max_seconds, users,
--   last_execution. Of operations that ran more than 10 times.
-- Read: p95 far above the mean: some tenants have much more than others, or it waits for
--   locks. slow-queries has the database's side of it.
-- Cost: Reads the measurements of these hours.
select query_hash, executions, mean_seconds, p95_seconds, max_seconds, users, last_execution
from ops.query_performance(now() - interval '1 hour' * least(
  coalesce(nullif(current_setting('report.hours', true), ''), '24')::integer, 168))
order by p95_seconds desc, query_hash
limit coalesce(nullif(current_setting('report.limit', true), ''), '20')::integer;
