-- message-routes: channels of a route by which no worker sends
-- Params: none
-- Needs: function ops.route_status
-- Columns: level, object (the type and channel), detail, remediation.
-- Read: critical where no other channel of the step has a worker: such messages wait until
--   they expire. While no worker runs at all, other checks speak.
-- Cost: Counts the jobs that wait, by an index.
select
  case when others.workers > 0 then 'warning' else 'critical' end as level,
  route.message_type || ' by ' || route.channel as object,
  format('no worker sends by %s, to which step %s of %s is routed; %s messages wait',
    route.channel, route.step, route.message_type, route.waiting) as detail,
  'Name it in GW_DELIVERY_VENDORS (push: GW_VAPID_KEY) of the workers, or change app_private.message_routes.' as remediation
from ops.route_status() as route
cross join lateral (
  select coalesce(sum(other.workers), 0) as workers
  from ops.route_status() as other
  where other.message_type = route.message_type
    and other.step = route.step
) as others
where route.problem = 'no worker has it'
order by route.message_type, route.step, route.channel;
