-- long-running-queries: statements and transactions that have been open for a while
-- Params:
--   min_seconds numeric = 60: open for at least this long
-- Columns: pid, role_name, application, state, transaction_seconds, query_seconds,
--   waits_for, blocked_by, query.
-- Read: Each keeps vacuum from removing what died since it began. "idle in transaction"
--   is a client that forgot to commit. select pg_cancel_backend(pid) ends the
--   statement, select pg_terminate_backend(pid) the connection.
-- Cost: Reads activity; milliseconds.
select
  pid,
  usename::text as role_name,
  application_name as application,
  state,
  extract(epoch from clock_timestamp() - xact_start)::float8 as transaction_seconds,
  extract(epoch from clock_timestamp() - query_start)::float8 as query_seconds,
  nullif(concat_ws(': ', wait_event_type, wait_event), '') as waits_for,
  nullif(pg_blocking_pids(pid), '{}')::text as blocked_by,
  regexp_replace(query, '\s+', ' ', 'g') as query
from pg_catalog.pg_stat_activity
where datname = current_database()
  and pid <> pg_backend_pid()
  and backend_type = 'client backend'
  and (state <> 'idle' or xact_start is not null)
  and extract(epoch from clock_timestamp() - coalesce(xact_start, query_start))
    >= coalesce(nullif(current_setting('report.min_seconds', true), ''), '60')::numeric
order by transaction_seconds desc nulls last, pid;
