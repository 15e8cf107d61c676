-- message-holds: messages that a person stopped, and nobody let go
-- Params:
--   message_holds_warning interval = 1 hour: a hold that is older and holds messages
--   message_holds_critical interval = 24 hours: the same
-- Needs: function ops.message_holds_status
-- Columns: level, object (the hold), detail, remediation.
-- Read: What is held is not late, so no other check speaks of it. A hold with an end is meant.
-- Cost: Counts the unsent messages that are held, by an index of unsent ones.
with limits as (
  select
    coalesce(nullif(current_setting('health.message_holds_warning', true), ''),
      '1 hour')::interval as warning,
    coalesce(nullif(current_setting('health.message_holds_critical', true), ''),
      '24 hours')::interval as critical
)
select
  case when held_at < now() - critical then 'critical' else 'warning' end as level,
  'hold ' || hold as object,
  format('%s messages wait since %s: %s', messages,
    to_char(held_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), reason) as detail,
  format('gw messages release %s --send, --skip or --next-morning', hold) as remediation
from limits
cross join ops.message_holds_status()
where messages > 0
  and held_until is null
  and held_at < now() - warning
order by hold;
