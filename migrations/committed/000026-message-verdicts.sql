--! Previous: sha1:c612abf4aaff29710c5091957d49832634f41b36
--! Hash: sha1:6f1e47ca4e0d89746c6acc7909f3b64584acf30b
--! Message: message-verdicts
--! Baseline: topics/26-message-verdicts.sql

/*
 * Verdicts: what a refused attempt says, and of whom.
 *
 * A receiver that refuses a message may mean the message, its address, or the sender. Only
 * the first two end a message. answer_rules says which it is, and a person may edit it.
 */

-- The first rule that matches counts, in the order of position. Every column that is null
-- matches anything.
create table app_private.answer_rules (
  position integer not null,
  channel text,
  stage text,
  lowest_code integer,
  highest_code integer,
  enhanced_code text,
  pattern text,
  verdict text not null,
  note text not null,
  constraint answer_rules_pkey primary key (position),
  constraint answer_rules_channel_fkey
    foreign key (channel) references app_private.delivery_channels on delete cascade,
  constraint answer_rules_stage_check check (length(stage) between 1 and 40),
  constraint answer_rules_code_check
    check (num_nulls(lowest_code, highest_code) <> 1
      and lowest_code >= 100 and highest_code between lowest_code and 999),
  constraint answer_rules_enhanced_code_check
    check (enhanced_code ~ '^[45]\.(\d{1,3}|%)(\.(\d{1,3}|%))?$'),
  constraint answer_rules_pattern_check
    check (length(pattern) between 1 and 500 and '' !~* pattern),
  constraint answer_rules_verdict_check
    check (verdict in ('message', 'address', 'later', 'channel')),
  constraint answer_rules_note_check check (length(note) between 1 and 200)
);

create index answer_rules_channel_idx on app_private.answer_rules (channel);

alter table app_private.answer_rules enable row level security;

create policy everyone on app_private.answer_rules
  for select to gw_monitor
  using (true);

grant select on app_private.answer_rules to gw_monitor;

comment on table app_private.answer_rules is
  'What a refusal means: the first rule, by position, that matches it. Without one the attempt is repeated.';
comment on column app_private.answer_rules.position is 'The order in which rules are tried.';
comment on column app_private.answer_rules.channel is 'Only refusals of this channel.';
comment on column app_private.answer_rules.stage is
  'Only refusals at this stage: response (HTTP), connect, login, MAIL FROM, RCPT TO, DATA (SMTP), gone (push), address, compose (before the call).';
comment on column app_private.answer_rules.lowest_code is
  'Only codes from this one on, HTTP''s or SMTP''s.';
comment on column app_private.answer_rules.highest_code is 'Only codes up to this one.';
comment on column app_private.answer_rules.enhanced_code is
  'Only enhanced status codes (RFC 3463) like this: 5.7.%.';
comment on column app_private.answer_rules.pattern is
  'Only responses whose text matches this regular expression, in either case.';
comment on column app_private.answer_rules.verdict is
  'message: it FAILED. address: it FAILED, and nothing more is sent to the address. later: it is retried. channel: it is retried, and refusals in a row hold the channel.';
comment on column app_private.answer_rules.note is 'What such a refusal means.';
comment on constraint answer_rules_pattern_check on app_private.answer_rules is
  'a pattern is a regular expression of at most 500 characters that does not match the empty text';

insert into app_private.answer_rules
  (position, channel, stage, lowest_code, highest_code, enhanced_code, pattern, verdict, note)
values
  -- Before the call.
  (100, null, 'address', null, null, null, null, 'message', 'the user has no address that can be used'),
  (110, null, 'compose', null, null, null, null, 'message', 'the message cannot be composed'),

  -- HTTP.
  (200, 'http', 'response', 400, 499, null,
    '(inactive|suppressed|bounced|blocked) (recipient|address)|recipient (is )?(inactive|suppressed)',
    'address', 'the vendor does not send to this address any more'),
  (210, 'http', 'response', 400, 499, null,
    '(quota|credit|daily|monthly|sending|account)[ a-z]{0,20}(exceeded|exhausted|limit|suspended)',
    'channel', 'a quota of the account is used up, or the account is suspended'),
  (220, 'http', 'response', 300, 399, null, null, 'channel', 'the endpoint has moved; GW_DELIVERY_URL is out of date'),
  (230, 'http', 'response', 401, 401, null, null, 'channel', 'the key is refused'),
  (231, 'http', 'response', 402, 402, null, null, 'channel', 'the account has to be paid for'),
  (232, 'http', 'response', 403, 403, null, null, 'channel', 'the key may not send, or not from this sender'),
  (233, 'http', 'response', 404, 405, null, null, 'channel', 'there is no such endpoint; GW_DELIVERY_URL is wrong'),
  (234, 'http', 'response', 407, 407, null, null, 'channel', 'a proxy wants a login'),
  (235, 'http', 'response', 408, 409, null, null, 'later', 'the vendor had no time, or is busy with the same key'),
  (236, 'http', 'response', 410, 410, null, null, 'channel', 'the endpoint is gone'),
  (237, 'http', 'response', 413, 415, null, null, 'message', 'the message is too large, or of a form that is not taken'),
  (238, 'http', 'response', 421, 421, null, null, 'channel', 'the connection reached another server'),
  (239, 'http', 'response', 425, 425, null, null, 'later', 'it came too early'),
  (240, 'http', 'response', 426, 426, null, null, 'channel', 'the endpoint wants another protocol'),
  (241, 'http', 'response', 429, 429, null, null, 'later', 'too many requests'),
  (242, 'http', 'response', 431, 431, null, null, 'channel', 'the headers are too large'),
  (250, 'http', 'response', 400, 499, null, null, 'message', 'the vendor does not take this message'),
  (260, 'http', 'response', 500, 599, null, null, 'later', 'the vendor has a fault'),

  -- Push services of browsers.
  (268, 'push', 'gone', null, null, null, null, 'address', 'no browser of the user takes notifications any more'),
  (270, 'push', 'response', 404, 404, null, null, 'address', 'the browser takes no notifications any more'),
  (271, 'push', 'response', 410, 410, null, null, 'address', 'the browser takes no notifications any more'),
  (272, 'push', 'response', 400, 403, null, null, 'channel', 'the push service refuses the key or the subject (GW_VAPID_KEY, GW_VAPID_SUBJECT)'),
  (273, 'push', 'response', 413, 413, null, null, 'message', 'the message is too large'),
  (274, 'push', 'response', 408, 429, null, null, 'later', 'too many requests'),
  (275, 'push', 'response', 405, 499, null, null, 'message', 'the push service does not take this message'),
  (276, 'push', 'response', 500, 599, null, null, 'later', 'the push service has a fault'),

  -- SMTP: what is said before a message is about nobody's message.
  (300, 'smtp', 'connect', null, null, null, null, 'channel', 'the server does not talk to us'),
  (301, 'smtp', 'login', null, null, null, null, 'channel', 'the user or password is refused'),
  (310, 'smtp', null, 400, 499, null, null, 'later', 'the server says: not now'),
  (320, 'smtp', null, 530, 538, null, null, 'channel', 'the server wants a login, or encryption'),
  (321, 'smtp', 'MAIL FROM', 500, 599, null, null, 'channel', 'the sender is refused'),
  (330, 'smtp', null, 500, 599, '5.1.7', null, 'channel', 'the sender''s address is refused'),
  (331, 'smtp', null, 500, 599, '5.1.8', null, 'channel', 'the sender''s domain is refused'),
  (332, 'smtp', null, 500, 599, '5.2.2', null, 'message', 'the mailbox is full'),
  (333, 'smtp', null, 500, 599, '5.2.3', null, 'message', 'the message is too large for the mailbox'),
  (334, 'smtp', null, 500, 599, '5.3.4', null, 'message', 'the message is too large'),
  (335, 'smtp', 'RCPT TO', 500, 599, '5.1.%', null, 'address', 'there is no such mailbox or domain'),
  (336, 'smtp', 'RCPT TO', 500, 599, '5.2.1', null, 'address', 'the mailbox is disabled'),
  (337, 'smtp', 'RCPT TO', 500, 599, '5.4.4', null, 'address', 'the domain takes no mail'),
  (338, 'smtp', null, 500, 599, '5.7.%', null, 'channel', 'the sender is refused by a policy: reputation, DKIM, SPF, relaying'),
  (340, 'smtp', null, 500, 599, null,
    '(quota|daily|hourly|rate|sending|message)[ a-z]{0,20}(exceeded|limit)|too many (messages|connections)',
    'channel', 'a quota of the sender is used up'),
  (341, 'smtp', null, 500, 599, null,
    'spam|black ?list|block ?list|reputation|relay|spf|dkim|dmarc|banned|sender',
    'channel', 'the sender is refused'),
  (342, 'smtp', 'RCPT TO', 500, 599, null,
    '(user|recipient|mailbox|address)[ a-z]{0,20}(unknown|not found|unavailable|disabled|rejected)|(no such|unknown|invalid) (user|recipient|mailbox|address)|does( not|n''t) exist',
    'address', 'there is no such mailbox'),
  (350, 'smtp', null, 500, 599, null, null, 'message', 'the server does not take this message');

-- After the rules that everybody has: those are no change.
create trigger _900_audit after insert or update or delete on app_private.answer_rules
  for each row execute function app_private.tg__audit('messages.answer_rule');

--! Included functions/app_private/refusal_verdict.sql
-- Without SET, so that it becomes part of the query around it.
create or replace function app_private.refusal_verdict(
  p_channel text, p_stage text, p_code integer, p_body text
) returns text
language sql stable
as $$
  select coalesce((
    select answer_rules.verdict
    from app_private.answer_rules
    where (answer_rules.channel is null or answer_rules.channel in (p_channel, (
        select delivery_channels.protocol
        from app_private.delivery_channels
        where delivery_channels.name = p_channel)))
      and (answer_rules.stage is null or answer_rules.stage = p_stage)
      and (answer_rules.lowest_code is null
        or p_code between answer_rules.lowest_code and answer_rules.highest_code)
      -- As a mail server says it: 550 5.1.1 User unknown.
      and (answer_rules.enhanced_code is null
        or pg_catalog.substring(p_body, '^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})\M')
          like answer_rules.enhanced_code)
      and (answer_rules.pattern is null or p_body ~* answer_rules.pattern)
    order by answer_rules.position
    limit 1
  ), 'later')
$$;

comment on function app_private.refusal_verdict(text, text, integer, text) is
  'What a refusal means, by answer_rules: message, address, later or channel. Takes the channel, the stage, the code of HTTP or SMTP, and the text of the response.';
--! EndIncluded functions/app_private/refusal_verdict.sql
--! Included functions/app_private/judge_results.sql
-- A few refusals are about their messages. When many of the latest messages are refused for
-- good, the sender is what is refused: from then on nothing fails, and the channel is held.
create or replace function app_private.judge_results(p_results jsonb, p_channel text)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  channel app_private.delivery_channels := app_private.delivery_channel(p_channel);
  judged jsonb;
  outcomes text;
begin
  -- Nearly always: nothing is refused, and nothing is written.
  if not p_results @? '$[*] ? (@.status == "REFUSED" || @.status == "FAILED")'
    and channel.recent_outcomes = ''
  then
    return p_results;
  end if;

  select * into channel from app_private.delivery_channels where name = p_channel for update;
  with results as materialized (
    select result.value, result.number, result.value ->> 'status' as status,
      case result.value ->> 'status'
        when 'FAILED' then 'message'
        when 'RETRYING' then 'later'
        when 'REFUSED' then app_private.refusal_verdict(p_channel,
          result.value ->> 'stage', (result.value ->> 'code')::integer,
          result.value ->> 'body')
      end as verdict
    from jsonb_array_elements(p_results) with ordinality as result (value, number)
  ),
  -- What the receiver said of messages, the latest 50 before these with numbers below 1.
  said as (
    select place - length(channel.recent_outcomes) as number,
      substr(channel.recent_outcomes, place, 1) = '1' as is_final
    from generate_series(1, length(channel.recent_outcomes)) as place
    union all
    select results.number, results.status <> 'SENT'
    from results
    where results.status = 'SENT'
      or results.verdict in ('message', 'address') and results.value ? 'code'
  ),
  counted as (
    select said.*,
      sum(said.is_final::integer) over (
        order by said.number rows between 49 preceding and current row) as refusals
    from said
  ),
  latest as (
    select string_agg(said.is_final::integer::text, '' order by said.number) as outcomes
    from (select * from said order by number desc limit 50) as said
  ),
  told as (
    select results.*,
      results.verdict in ('message', 'address') and results.value ? 'code'
        and (channel.opened_because = 'refusals' or results.number >= (
          select min(counted.number)
          from counted
          where counted.number > 0
            and counted.is_final
            and counted.refusals >= channel.refusals_to_open)) is true as is_held
    from results
  )
  select jsonb_agg(told.value || jsonb_build_object(
      'status', case when told.status = 'SENT' then 'SENT'
        when told.verdict in ('message', 'address') and not told.is_held then 'FAILED'
        else 'RETRYING' end,
      'verdict', told.verdict,
      'is_held', told.is_held)
    order by told.number), (select latest.outcomes from latest)
  into judged, outcomes
  from told;

  -- Fifty that went well need not be remembered.
  outcomes := case when outcomes like '%1%' then outcomes else '' end;
  if outcomes <> channel.recent_outcomes then
    update app_private.delivery_channels
    set recent_outcomes = outcomes
    where name = p_channel;
  end if;
  return judged;
end
$$;

comment on function app_private.judge_results(jsonb, text) is
  'Says of each result of a batch what becomes of its message: SENT, FAILED or RETRYING, with the verdict of answer_rules, and whether it is held, since too many of the latest messages were refused for good (refusals_to_open of 50).';
--! EndIncluded functions/app_private/judge_results.sql
