-- stuck-messages: messages that were due long ago and are neither sent nor given up
-- Params:
--   stuck_messages_warning interval = 1 hour: after so long
--   stuck_messages_critical interval = 6 hours: the same
-- Needs: function ops.overdue_messages
-- Columns: level, object (type and status), detail, remediation.
-- Read: No worker runs, its jobs are lost, or the vendor refuses for hours (RETRYING).
-- Cost: Counts the unsent messages that are due, by an index of just those.
with limits as (
  select
    coalesce(nullif(current_setting('health.stuck_messages_warning', true), ''),
      '1 hour')::interval as warning,
    coalesce(nullif(current_setting('health.stuck_messages_critical', true), ''),
      '6 hours')::interval as critical
)
select
  case when oldest < now() - critical then 'critical' else 'warning' end as level,
  concat_ws(' ', message_type, status) as object,
  format('%s messages, the oldest due at %s', messages,
    to_char(oldest at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) as detail,
  'See whether gw worker runs: gw report job-queues, message-status.' as remediation
from limits
cross join lateral ops.overdue_messages(warning)
order by object;
