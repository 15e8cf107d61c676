-- message-funnel: what became of messages, from planned to delivered and complained
-- Params:
--   days_back integer = 7: from this many days ago
-- Needs: function ops.message_funnel
-- Columns: day (UTC, when due), message_type, channel, vendor (who reported), version (of the
--   template), planned (not canceled), sent, delivered, bounced, complained, unsubscribed (as
--   vendors report), suppressed, failed, expired, unknown, late_p50, late_p99 (seconds from due
--   to sent).
-- Read: bounced above 2 % or complained above 0.1 % of sent endangers a sending domain. Two
--   versions of a day and type are a trial: compare them.
-- Cost: Reads the messages and reports of those days; some seconds for a million.
select
  day,
  message_type,
  coalesce(channel, '') as channel,
  coalesce(vendor, '') as vendor,
  template_version as version,
  planned,
  sent,
  delivered,
  bounced,
  complained,
  unsubscribed,
  suppressed,
  failed,
  expired,
  unknown,
  late_p50_seconds as late_p50,
  late_p99_seconds as late_p99
from ops.message_funnel(
  (now() at time zone 'UTC')::date
    - coalesce(nullif(current_setting('report.days_back', true), ''), '7')::integer,
  (now() at time zone 'UTC')::date)
order by day desc, message_type, channel, vendor, version;
