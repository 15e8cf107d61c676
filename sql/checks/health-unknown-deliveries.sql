-- unknown-deliveries: messages that may or may not have been delivered
-- Params: none
-- Needs: function ops.unknown_deliveries
-- Columns: level, object, detail, remediation.
-- Read: An attempt had no response, and it is too late to repeat it. A person asks the vendor.
-- Cost: Reads the unsent messages of 90 days, by an index of just those.
select
  'warning' as level,
  'message-send' as object,
  format('%s messages, the oldest due at %s', sum(messages),
    to_char(min(oldest) at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) as detail,
  'gw messages list --status UNKNOWN; then gw messages resolve or redrive' as remediation
from ops.unknown_deliveries()
having sum(messages) > 0;
