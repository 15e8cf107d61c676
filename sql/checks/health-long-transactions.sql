-- long-transactions: transactions that have been open for too long, or stand idle
-- Params:
--   long_transactions_warning interval = 30 minutes: open for so long
--   long_transactions_critical interval = 2 hours: the same
--   long_transactions_idle interval = 5 minutes: idle in transaction for so long
-- Needs: role pg_read_all_stats
-- Columns: level, object (role and application), detail, remediation.
-- Read: Vacuum keeps every row version that has died since the transaction began, in every
--   table, and sessions that need its locks wait. Prepared transactions count.
-- Cost: Reads activity; milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.long_transactions_warning', true), ''),
      '30 minutes')::interval as warning,
    coalesce(nullif(current_setting('health.long_transactions_critical', true), ''),
      '2 hours')::interval as critical,
    coalesce(nullif(current_setting('health.long_transactions_idle', true), ''),
      '5 minutes')::interval as idle
),
open as (
  select concat_ws(' ', usename, nullif(application_name, '')) as object,
    format('pid %s', pid) as who, xact_start as began,
    case when state like 'idle in transaction%' then state_change end as idle_since,
    format('select pg_terminate_backend(%s);', pid) as remediation
  from pg_catalog.pg_stat_activity
  where datname = current_database()
    and backend_type = 'client backend'
    and xact_start is not null
    and pid <> pg_backend_pid()
  union all
  select concat_ws(' ', owner, 'prepared'), gid, prepared, null,
    format('rollback prepared %L; or commit it', gid)
  from pg_catalog.pg_prepared_xacts
  where database = current_database()
)
select
  case when bool_or(began < now() - critical) then 'critical' else 'warning' end as level,
  object,
  (array_agg(format('%s open for %s%s', who, date_trunc('second', now() - began),
    case when idle_since is not null then ', idle' else '' end) order by began, who))[1]
    || case when count(*) > 1 then format(', and %s more', count(*) - 1) else '' end
    as detail,
  (array_agg(open.remediation order by began, who))[1] as remediation
from open
cross join limits
where began < now() - warning
  or idle_since < now() - idle
group by object
order by object;
