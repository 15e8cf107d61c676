-- checks-running: nobody runs the checks inside the database
-- Params:
--   checks_running interval = 10 minutes: since the latest run
-- Needs: ops.health_checks
-- Columns: level, object (empty), detail, remediation.
-- Read: No alert opens or closes: pg_cron does not run, its job check-health is missing,
--   or gw migrate has not copied the checks. Only gw check can find this.
-- Cost: Milliseconds.
select
  -- In its first minute a database has not run them yet.
  case when max(ran_at) is null
      and exists (select from pg_catalog.pg_extension where extname = 'pg_cron')
    then 'warning' else 'critical' end as level,
  '' as object,
  case
    when not exists (select from pg_catalog.pg_extension where extname = 'pg_cron')
      then 'pg_cron is not in this database: nothing runs the checks, nor plans messages'
    when max(ran_at) is null then 'they have not run yet'
    else format('they last ran at %s',
      to_char(max(ran_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) end as detail,
  'See whether pg_cron runs: gw report schedule; then: gw migrate' as remediation
from ops.health_checks
having coalesce(max(ran_at) < now() - coalesce(
  nullif(current_setting('health.checks_running', true), ''), '10 minutes')::interval,
  true)
order by object;
