-- connection-pools: the latest samples of the processes' connection pools
-- Params:
--   hours integer = 1: samples of this many hours
-- Needs: app_private.connection_pool_stats
-- Columns: pool_name, recorded_at (latest sample), total, active, idle, waiting,
--   waiting_history (oldest first), wait_seconds (mean, of the latest), errors.
-- Read: waiting above 0 for long: the pool is too small, or its queries are too slow.
--   errors: the database refused or dropped connections.
-- Cost: Reads those hours' samples by an index.
select
  pool_name,
  max(recorded_at) as recorded_at,
  (array_agg(total_connections order by recorded_at desc, id))[1] as total,
  (array_agg(active_connections order by recorded_at desc, id))[1] as active,
  (array_agg(idle_connections order by recorded_at desc, id))[1] as idle,
  (array_agg(waiting_connections order by recorded_at desc, id))[1] as waiting,
  array_agg(waiting_connections order by recorded_at, id) as waiting_history,
  (array_agg(avg_connection_time_ms order by recorded_at desc, id))[1]::float8 / 1000
    as wait_seconds,
  sum(connection_errors)::bigint as errors
from app_private.connection_pool_stats
where recorded_at > now() - interval '1 hour'
  * coalesce(nullif(current_setting('report.hours', true), ''), '1')::integer
group by pool_name
order by pool_name;
