-- clock: the server's clock and ours differ
-- Params:
--   clock_client timestamptz = : our time at this moment; empty: not checked
--   clock_warning numeric = 2: seconds
--   clock_critical numeric = 30: seconds
-- Columns: level, object (empty), detail, remediation.
-- Read: Tokens, messages and schedules are early or late by so much. gw check compares
--   with its own clock, and cannot tell which of the two is wrong.
-- Cost: Nothing.
with limits as (
  select
    nullif(current_setting('health.clock_client', true), '')::timestamptz as client,
    coalesce(nullif(current_setting('health.clock_warning', true), ''), '2')::numeric
      as warning,
    coalesce(nullif(current_setting('health.clock_critical', true), ''), '30')::numeric
      as critical
)
select
  case when abs(seconds) >= critical then 'critical' else 'warning' end as level,
  '' as object,
  format('the server is %s seconds %s', round(abs(seconds), 1),
    case when seconds > 0 then 'ahead of us' else 'behind us' end) as detail,
  'Let both machines keep time with NTP.' as remediation
from limits
cross join lateral (
  select extract(epoch from clock_timestamp() - client) as seconds
) as difference
where abs(seconds) >= warning
order by object;
