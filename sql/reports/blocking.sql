-- blocking: sessions that wait for locks, and the sessions that hold them
-- Params: none
-- Columns: blocked_pid, blocked_role, waited_seconds, wants (mode and object),
--   blocked_query, blocking_pid, blocking_role, blocking_state, blocking_seconds (its
--   transaction), blocking_query (its latest statement, not always the one that locked).
-- Read: Look for the blocking_pid that is itself not blocked: end that one, with select
--   pg_cancel_backend(pid), or pg_terminate_backend(pid) when it is idle in transaction.
-- Cost: Takes the lock manager's partitions for an instant for each who waits.
select
  blocked.pid as blocked_pid,
  blocked.usename::text as blocked_role,
  extract(epoch from clock_timestamp() - wanted.waitstart)::float8 as waited_seconds,
  concat_ws(' on ', wanted.mode,
    coalesce(wanted.relation::regclass::text, wanted.locktype)) as wants,
  regexp_replace(blocked.query, '\s+', ' ', 'g') as blocked_query,
  blocking.pid as blocking_pid,
  blocking.usename::text as blocking_role,
  blocking.state as blocking_state,
  extract(epoch from clock_timestamp() - blocking.xact_start)::float8 as blocking_seconds,
  regexp_replace(blocking.query, '\s+', ' ', 'g') as blocking_query
from pg_catalog.pg_stat_activity as blocked
cross join lateral unnest(pg_blocking_pids(blocked.pid)) as blockers (pid)
left join pg_catalog.pg_stat_activity as blocking on blocking.pid = blockers.pid
left join lateral (
  select pg_locks.mode, pg_locks.relation, pg_locks.locktype, pg_locks.waitstart
  from pg_catalog.pg_locks
  where pg_locks.pid = blocked.pid and not pg_locks.granted
  limit 1
) as wanted on true
where blocked.datname = current_database()
order by waited_seconds desc nulls last, blocked_pid, blocking_pid;
