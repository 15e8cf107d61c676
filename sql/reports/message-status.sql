-- message-status: messages of each day by status
-- Params:
--   days_back integer = 7: from this many days ago
--   days_ahead integer = 1: until this many days from now
-- Needs: function ops.message_status
-- Columns: day (UTC, when due), message_type, planned, in_progress (queued, sending or to
--   be retried), sent, failed, expired, unknown (may have been delivered), canceled,
--   suppressed, retries, share (sent, of those that were neither canceled nor suppressed).
-- Read: in_progress on a past day: stuck, see gw check. failed, expired, unknown: see gw
--   messages list. A day that is empty and should not be: the planner's cron job did not
--   run.
-- Cost: Counts the messages of those days, by an index; a second for some millions.
select
  day,
  message_type,
  coalesce(sum(messages) filter (where status = 'SCHEDULED'), 0)::bigint as planned,
  coalesce(sum(messages) filter (where status in ('QUEUED', 'SENDING', 'RETRYING')), 0)
    ::bigint as in_progress,
  coalesce(sum(messages) filter (where status = 'SENT'), 0)::bigint as sent,
  coalesce(sum(messages) filter (where status = 'FAILED'), 0)::bigint as failed,
  coalesce(sum(messages) filter (where status = 'EXPIRED'), 0)::bigint as expired,
  coalesce(sum(messages) filter (where status = 'UNKNOWN'), 0)::bigint as unknown,
  coalesce(sum(messages) filter (where status = 'CANCELED'), 0)::bigint as canceled,
  coalesce(sum(messages) filter (where status = 'SUPPRESSED'), 0)::bigint as suppressed,
  sum(retries)::bigint as retries,
  (coalesce(sum(messages) filter (where status = 'SENT'), 0)
    / sum(messages) filter (where status not in ('CANCELED', 'SUPPRESSED')))::float8 as share
from ops.message_status(
  (now() at time zone 'UTC')::date
    - coalesce(nullif(current_setting('report.days_back', true), ''), '7')::integer,
  (now() at time zone 'UTC')::date
    + coalesce(nullif(current_setting('report.days_ahead', true), ''), '1')::integer)
group by day, message_type
order by day desc, message_type;
