-- subscriptions: logical subscriptions that are off, fail, or hear nothing
-- Params:
--   subscriptions_silence interval = 5 minutes: since the publisher was heard
-- Needs: role pg_monitor
-- Columns: level, object (the subscription), detail, remediation.
-- Read: The tables here fall behind, and the publisher keeps its log for them.
-- Cost: Milliseconds.
select
  case when subenabled then 'critical' else 'warning' end as level,
  pg_subscription.subname::text as object,
  case
    when not subenabled then 'is disabled'
    when worker.pid is null then 'has no worker'
    else format('has heard nothing since %s',
      to_char(worker.last_msg_receipt_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'))
  end || format('; %s errors', errors.apply_error_count + errors.sync_error_count) as detail,
  case when subenabled then 'The server''s log says why. It may be a row that is there already.'
    else format('alter subscription %I enable; or drop it.', pg_subscription.subname)
  end as remediation
from pg_catalog.pg_subscription
inner join pg_catalog.pg_database on pg_database.oid = pg_subscription.subdbid
  and pg_database.datname = current_database()
left join pg_catalog.pg_stat_subscription as worker
  on worker.subid = pg_subscription.oid and worker.relid is null
left join pg_catalog.pg_stat_subscription_stats as errors
  on errors.subid = pg_subscription.oid
where not subenabled
  or worker.pid is null
  or worker.last_msg_receipt_time < now() - coalesce(nullif(
    current_setting('health.subscriptions_silence', true), ''), '5 minutes')::interval
order by object;
