-- broken-plans: messages that were planned by half, and wishes that the schedule lacks
-- Params: none
-- Every: 1 hour
-- Needs: function ops.broken_plans
-- Columns: level, object (message_ledger or message_schedule), detail, remediation.
-- Read: A ledger row without its message means that nobody sends it. A wish without a
--   schedule means that nobody plans it. Both are faults of the program, or of somebody
--   who changed the rows by hand.
-- Cost: Compares the wishes of all users with the schedule: seconds for a million users.
select 'critical' as level, object,
  format(case object
    when 'message_ledger' then '%s rows of the last days without a message, one of user %s'
    else '%s wishes without a next occasion, one of user %s' end, users, example) as detail,
  case object
    when 'message_ledger'
    then 'Delete these rows of app_private.message_ledger, then run gw messages replan.'
    else 'Run gw messages replan.' end as remediation
from ops.broken_plans()
order by object;
