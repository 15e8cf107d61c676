import { type Mutant, sqlFunction } from '../mutant.ts';

const verdicts = ['db/messages/verdicts'];
const feedback = ['db/messages/feedback'];
const optouts = ['db/messages/optouts'];
const holds = ['db/messages/holds'];
const webhook = ['api/delivery-webhook'];
const html = ['db/messages/html'];
const approvals = ['cli/approvals'];
const inbox = ['api/inbox'];
const compile = sqlFunction('app_hidden/compile_html');
const health = sqlFunction('app_private/note_channel_health');
const judge = sqlFunction('app_private/judge_results');
const claims = sqlFunction('app_private/decide_claims');
const signatures = 'src/api/delivery-signatures.ts';

export const mutants: Mutant[] = [
  {
    fault: 'a wrong key is the end of each message',
    statement: "update app_private.answer_rules set verdict = 'message' where position = 230",
    tests: verdicts,
  },
  {
    fault: 'a sender that is refused is the end of each message',
    statement:
      "update app_private.answer_rules set verdict = 'message' where enhanced_code = '5.7.%'",
    tests: verdicts,
  },
  {
    fault: 'the last rule counts, not the first',
    file: sqlFunction('app_private/refusal_verdict'),
    find: 'order by answer_rules.position',
    replace: 'order by answer_rules.position desc',
    tests: verdicts,
  },
  {
    fault: 'messages fail without end, however many were refused',
    file: judge,
    find: 'counted.refusals >= channel.refusals_to_open',
    replace: 'counted.refusals >= channel.refusals_to_open * 100',
    tests: verdicts,
  },
  {
    fault: 'what was refused in an earlier batch is forgotten',
    file: judge,
    find: '    set recent_outcomes = outcomes\n',
    replace: "    set recent_outcomes = ''\n",
    tests: verdicts,
  },
  {
    fault: 'one message that is sent opens a channel that refused many',
    file: health,
    find: 'channel.probes_sent + p_sent < channel.probes_to_close',
    replace: 'false',
    tests: verdicts,
  },
  {
    fault: 'an answer of 401 closes the circuit',
    file: sqlFunction('app_private/note_results'),
    find: "      and result.verdict is distinct from 'channel' and not",
    replace: '      and not',
    tests: verdicts,
  },
  {
    fault: 'a probe of a refused sender is an attempt of its message',
    file: sqlFunction('app_private/decide_results'),
    find: "coalesce(result.code, 500) < 500 and result.verdict is distinct from 'channel'",
    replace: 'coalesce(result.code, 500) < 500',
    tests: verdicts,
  },
  {
    fault: 'a retry goes to the address of before, though nobody was reached',
    file: sqlFunction('app_private/record_send_results'),
    find: "recipient_name = case when decided.next_status not in ('RETRYING', 'QUEUED')\n        or ",
    replace: 'recipient_name = case when true\n        or ',
    tests: verdicts,
  },
  {
    fault: 'what may have reached somebody goes to a new address',
    file: claims,
    find: 'and not found.is_bound\n      then stopped.email',
    replace: 'and true\n      then stopped.email',
    tests: verdicts,
  },
  {
    fault: 'an event that is posted twice counts twice',
    file: sqlFunction('app_private/store_delivery_events'),
    find: 'inner join counted on counted.event_id = given.event_id',
    replace: 'left join counted on counted.event_id = given.event_id',
    tests: feedback,
  },
  {
    fault: 'a bounce that means the sender suppresses the address',
    file: sqlFunction('app_private/event_kind'),
    find: "= 'channel'",
    replace: "= 'nothing'",
    tests: feedback,
  },
  {
    fault: 'soft bounces of any age count',
    file: sqlFunction('app_private/store_delivery_events'),
    find: 'event.occurred_at - settings.soft_bounce_window)',
    replace: "event.occurred_at - interval '10 years')",
    tests: feedback,
  },
  {
    fault: 'what a person lifted is brought back by an old report',
    file: sqlFunction('app_private/change_address_states'),
    find: 'before.lifted_at is null or change.occurred_at > before.lifted_at',
    replace: 'true',
    tests: feedback,
  },
  {
    fault: 'the worker sends to a suppressed address',
    file: claims,
    find: 'coalesce(stopped.suppression,\n',
    replace: 'coalesce(null,\n',
    tests: feedback,
  },
  {
    fault: 'an unsubscription stops what nobody can turn off',
    file: sqlFunction('app_private/suppression'),
    find: "(address_states.state <> 'unsubscribed' or p_is_optional)",
    replace: 'true',
    tests: feedback,
  },
  {
    fault: 'an unsubscription from one type stops all',
    file: sqlFunction('app_private/suppression'),
    find: 'and address_optouts.message_type = p_message_type',
    replace: '',
    tests: optouts,
  },
  {
    fault: 'an unsubscription ends with the account',
    file: sqlFunction('app_private/unsubscribe'),
    find: 'and users.email is not null',
    replace: 'and users.email is null',
    tests: optouts,
  },
  {
    fault: 'who only names an address turns its messages on',
    file: sqlFunction('app_private/tg_user_settings__opt_in'),
    find: 'and (address_optouts.user_id = users.id or users.email_verified)',
    replace: '',
    tests: optouts,
  },
  {
    fault: 'any change of the settings turns messages on',
    file: sqlFunction('app_private/tg_user_settings__opt_in'),
    find: "to_jsonb(new_rows) ->> message_types.opt_out_column = 'true'",
    replace: 'true',
    tests: optouts,
  },
  {
    fault: 'a mended mailbox turns on what a person turned off',
    file: sqlFunction('ops/lift_suppression'),
    find: '    update app_private.address_states\n',
    replace:
      '    delete from app_private.address_optouts where address_hash = hash;\n    update app_private.address_states\n',
    tests: optouts,
  },
  {
    fault: 'an address in other letters is another address',
    file: sqlFunction('app_private/address_hash'),
    find: 'pg_catalog.lower(pg_catalog.btrim(p_address))',
    replace: 'pg_catalog.btrim(p_address)',
    tests: feedback,
  },
  {
    fault: 'who has no address is planned',
    statement: `do $fault$ begin
      execute 'create or replace view app_private.message_rules with (security_invoker = true) as '
        || replace(pg_get_viewdef('app_private.message_rules'::regclass),
          'user_messages.email IS NOT NULL', 'true');
    end $fault$`,
    tests: feedback,
  },
  {
    fault: 'a hold of one zone holds all',
    file: sqlFunction('app_private/held_by'),
    find: 'message_holds.timezone = p_timezone',
    replace: 'true',
    tests: holds,
  },
  {
    fault: 'what a hold kept is too late when it ends by itself',
    file: sqlFunction('app_private/find_claims'),
    find: 'where message_holds.id = message_logs.hold_id',
    replace: 'where message_holds.id = -1',
    tests: holds,
  },
  {
    fault: 'what was released is too late',
    file: sqlFunction('ops/release_messages'),
    find: 'coalesce(held.instant, now()) + late_window',
    replace: 'message_logs.scheduled_send_time + late_window',
    tests: holds,
  },
  {
    fault: 'a held message is overdue',
    file: sqlFunction('ops/overdue_messages'),
    find: "not like 'held %'",
    replace: "not like 'held until %'",
    tests: holds,
  },
  {
    fault: 'a limit of 0 sends',
    file: sqlFunction('app_private/take_send_permits'),
    find: '  if channel.messages_per_second = 0 then\n',
    replace: '  if channel.messages_per_second = -1 then\n',
    tests: ['db/messages/operator-changes'],
  },
  {
    fault: 'a report with a wrong signature is believed',
    file: signatures,
    find: '.filter((signature) => isSame(signature, wanted)).length === 0',
    replace: '.length === 0',
    tests: webhook,
  },
  {
    fault: 'a report that was recorded is believed later',
    file: signatures,
    find: 'Math.abs(now - Number(seconds)) > allowed',
    replace: 'false',
    tests: webhook,
  },
  {
    fault: 'a report of Mailgun is believed without its key',
    file: signatures,
    find: "|| !isSame(Buffer.from(given, 'hex'), wanted)",
    replace: '',
    tests: webhook,
  },
  {
    fault: 'a value of HTML is not escaped in an attribute',
    file: sqlFunction('app_hidden/html_values'),
    find: "'\"', '&quot;'",
    replace: "'\"', '\"'",
    tests: html,
  },
  {
    fault: 'a value in a link is written as text',
    file: compile,
    find: "in ('href', 'src') then",
    replace: "in ('') then",
    tests: html,
  },
  {
    fault: 'a value chooses the host of a link',
    file: sqlFunction('app_hidden/attribute_problem'),
    find: '(:\\d+)?([/?#].*)?|(mailto|tel)',
    replace: '.*|(mailto|tel)',
    tests: html,
  },
  {
    fault: 'events are attributes of mail',
    file: sqlFunction('app_hidden/attribute_problem'),
    find: "array['href',",
    replace: "array['onclick', 'href',",
    tests: html,
  },
  {
    fault: 'scripts are elements of mail',
    file: compile,
    find: "array['a', 'b',",
    replace: "array['script', 'a', 'b',",
    tests: html,
  },
  {
    fault: 'who asks for an approval gives it',
    file: sqlFunction('ops/approve_change'),
    find: 'if request.requested_by = ops.acting_person() then',
    replace: 'if false then',
    tests: approvals,
  },
  {
    fault: 'an approval is for any change',
    file: sqlFunction('ops/require_approval'),
    find: '      and ops.is_same_change(approvals.details, p_details)\n',
    replace: '',
    tests: approvals,
  },
  {
    fault: 'an approval can be used again',
    file: sqlFunction('ops/require_approval'),
    find: '      and approvals.used_at is null\n',
    replace: '',
    tests: approvals,
  },
  {
    fault: 'what is read again is read for the first time',
    file: sqlFunction('app_public/mark_messages_read'),
    find: '    and read_at is null;',
    replace: ';',
    tests: inbox,
  },
  {
    fault: 'a user reads the messages of others',
    file: sqlFunction('app_public/mark_messages_read'),
    find: '  where user_id = caller\n    and id = any (mark_messages_read.message_ids)\n    and stage',
    replace: '  where id = any (mark_messages_read.message_ids)\n    and stage',
    tests: inbox,
  },
  {
    fault: 'a simulation counts nobody as suppressed',
    file: sqlFunction('app_private/find_occasions'),
    find: 'is_by_mail_alone(message_rules.message_type)) is not null',
    replace: 'is_by_mail_alone(message_rules.message_type)) is null',
    tests: ['db/messages/simulate'],
  },
  {
    fault: 'a user gets two trials',
    file: sqlFunction('app_private/choose_template'),
    find: 'and dealt.number < shares.up_to',
    replace: 'and true',
    tests: ['cli/templates'],
  },
  {
    fault: 'one more trial moves users of another',
    file: sqlFunction('app_private/choose_template'),
    find: 'min(trials.version) over ()',
    replace: 'max(trials.version) over ()',
    tests: ['cli/templates'],
  },
];
