-- connections: connections by role, application and state
-- Params: none
-- Columns: database_name, role_name, application, state, connections, oldest_seconds (in
--   this state), share (of max_connections, less those kept for superusers).
-- Read: Shares that add up to 0.8: lower the pools, or put a pooler in front. Many
--   "idle in transaction": clients that forget to commit. Rows without a state are
--   hidden from who asks: only pg_read_all_stats sees all.
-- Cost: Reads activity; milliseconds.
select
  datname::text as database_name,
  usename::text as role_name,
  application_name as application,
  state,
  count(*) as connections,
  max(extract(epoch from clock_timestamp() - state_change))::float8 as oldest_seconds,
  count(*)::float8 / (current_setting('max_connections')::integer
    - current_setting('superuser_reserved_connections')::integer) as share
from pg_catalog.pg_stat_activity
where backend_type = 'client backend'
group by datname, usename, application_name, state
order by connections desc, database_name, role_name, application, state;
