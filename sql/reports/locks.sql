-- locks: table locks stronger than a reader's, and locks that sessions wait for
-- Params:
--   all boolean = false: also readers' locks
-- Columns: pid, role_name, application, object, mode, is_granted, waited_seconds,
--   transaction_seconds, query.
-- Read: An AccessExclusiveLock stops everybody. What is not granted waits: blocking says
--   for whom. Run migrations with a lock_timeout.
-- Cost: Takes the lock manager's partitions for an instant; milliseconds.
select
  pg_locks.pid,
  pg_stat_activity.usename::text as role_name,
  pg_stat_activity.application_name as application,
  case when pg_locks.relation is not null then pg_locks.relation::regclass::text
    else pg_locks.locktype end as object,
  pg_locks.mode,
  pg_locks.granted as is_granted,
  extract(epoch from clock_timestamp() - pg_locks.waitstart)::float8 as waited_seconds,
  extract(epoch from clock_timestamp() - pg_stat_activity.xact_start)::float8
    as transaction_seconds,
  regexp_replace(pg_stat_activity.query, '\s+', ' ', 'g') as query
from pg_catalog.pg_locks
inner join pg_catalog.pg_stat_activity on pg_stat_activity.pid = pg_locks.pid
where pg_locks.pid <> pg_backend_pid()
  and (pg_locks.database is null or pg_locks.database
    = (select oid from pg_catalog.pg_database where datname = current_database()))
  and (
    not pg_locks.granted
    or pg_locks.locktype = 'relation' and pg_locks.mode <> 'AccessShareLock'
    or pg_locks.locktype in ('relation', 'advisory')
      and coalesce(nullif(current_setting('report.all', true), ''), 'false')::boolean
  )
order by is_granted, waited_seconds desc nulls last, pg_locks.pid, object, mode;
