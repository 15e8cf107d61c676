-- set-aside-users: users for whom nothing is planned
-- Params: none
-- Needs: function ops.set_aside_users
-- Columns: level, object (time zones or messages), detail, remediation.
-- Read: The server does not know the users' time zone, or their rows make planning fail.
--   Other users are not affected. The planner takes them up when the zone is known
--   again, and tries the others again each 15 minutes.
-- Cost: Steps through the index of zones; tries each zone in use.
select 'critical' as level, reason as object,
  case reason
    when 'time zones' then format(
      '%s users have a time zone that the server does not know: %s', users, detail)
    else format('%s users could not be planned; the latest error: %s', users, detail)
  end as detail,
  case reason
    when 'time zones' then 'Install the package tzdata-legacy on the server, and restart it.'
    else 'gw messages explain tells the error of one user.'
  end as remediation
from ops.set_aside_users()
order by object;
