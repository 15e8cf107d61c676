-- answer-rules: what a refused message means, in the order in which rules are tried
-- Params: none
-- Needs: app_private.answer_rules
-- Columns: position, channel, stage, codes, enhanced_code, pattern, verdict, note.
-- Read: The first rule that matches counts; an empty column matches anything. verdict message
--   or address: the message FAILED. later, channel: it is retried, and channel counts towards
--   holding the channel. gw_owner changes rules by SQL; the audit log keeps each change.
-- Cost: Reads a small table.
select
  position,
  coalesce(channel, '') as channel,
  coalesce(stage, '') as stage,
  case when lowest_code = highest_code then lowest_code::text
    else coalesce(lowest_code || '–' || highest_code, '') end as codes,
  coalesce(enhanced_code, '') as enhanced_code,
  coalesce(pattern, '') as pattern,
  verdict,
  note
from app_private.answer_rules
order by position;
