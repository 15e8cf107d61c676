-- message-routes: by which channels messages leave, and whether these send now
-- Params: none
-- Needs: function ops.route_status
-- Columns: message_type, step, channel, weight, address_kind, problem (why it does not send now),
--   workers, waiting (messages), sent_today and warm_up_limit (in a warm-up).
-- Read: The lowest step is tried first; the next one when the user has no address for it, or
--   the address or the message is refused. Of one step, weight is a channel's share. A type
--   without a row leaves by the channel of GW_DELIVERY_URL. gw_owner changes
--   app_private.message_routes by SQL; the audit log keeps each change.
-- Cost: Counts the jobs that wait, by an index.
select message_type, step, channel, weight, address_kind, coalesce(problem, '') as problem,
  workers, waiting, sent_today, warm_up_limit
from ops.route_status()
order by message_type, step, weight desc, channel;
