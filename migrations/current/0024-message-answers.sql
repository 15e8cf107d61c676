/*
 * Answers for whoever is on call: why a message was, will be or was not sent
 * (ops.explain_message), what goes out by the rules (ops.simulate_messages), and what a
 * change of tzdata moves (ops.find_moved_messages, ops.replan_users). And what people may
 * do to messages: send them again, cancel them, say what became of them, which enters the
 * audit log. gw messages calls all of these.
 *
 * gw_monitor may execute ops.explain_message alone: its answer has no address, no name
 * and no text. The others serve the owner.
 *
 * Locks: none on existing tables but what comments take (SHARE UPDATE EXCLUSIVE).
 */

drop function if exists ops.explain_message(uuid, text, date);
drop function if exists ops.simulate_messages(timestamptz, timestamptz, uuid, jsonb);
drop function if exists ops.find_moved_messages(uuid, text, timestamptz);
drop function if exists ops.replan_users(uuid, integer, text, uuid);
drop function if exists ops.redrive_messages(
  text[], text, date, uuid, timestamptz, uuid, boolean, boolean);
drop function if exists ops.cancel_messages(
  text, text[], text, date, uuid, timestamptz, uuid, boolean);
drop function if exists ops.resolve_message(uuid, text);
drop function if exists app_private.explain_planned(app_public.message_logs, timestamptz);
drop function if exists app_private.explain_attempts(app_public.message_logs);
drop function if exists app_private.redrive_refusals(
  text[], text, date, uuid, timestamptz, uuid, boolean);
drop function if exists app_private.find_occasions(timestamptz, timestamptz, uuid);

--!include functions/app_private/without_addresses.sql
comment on function app_private.without_addresses(text, integer) is
  'A text on one line, e-mail addresses hidden, cut to a length in characters.';
--!include functions/app_private/describe_instant.sql
comment on function app_private.describe_instant(timestamp, text) is
  'How a local time becomes an instant: ordinary, in a gap, or in an overlap.';
--!include functions/app_private/describe_occasion.sql
comment on function app_private.describe_occasion(text, date, text, date) is
  'Whether a day is an occasion, and why.';
--!include functions/app_private/explain_attempts.sql
comment on function app_private.explain_attempts(app_public.message_logs) is
  'Each attempt to send a message, and what people did to it, in the order of time.';
--!include functions/app_private/explain_unplanned.sql
comment on function app_private.explain_unplanned(uuid, text, date, timestamptz) is
  'Why there is no message for an occasion of the user''s rules.';
--!include functions/app_private/explain_planned.sql
comment on function app_private.explain_planned(app_public.message_logs, timestamptz) is
  'What became of a message, and what comes next.';
--!include functions/ops/explain_message.sql
grant execute on function ops.explain_message(uuid, text, date) to gw_monitor;
comment on function ops.explain_message(uuid, text, date) is
  'Why a user''s message of a type and local date was, will be, or was not sent, step by step.';

--!include functions/app_private/find_occasions.sql
comment on function app_private.find_occasions(timestamptz, timestamptz, uuid) is
  'What goes out in a range of time by the rules: how many, how many of them held by quiet hours, and how many are planned, sent or stopped already.';
--!include functions/app_private/check_simulated_changes.sql
comment on function app_private.check_simulated_changes(jsonb) is
  'Refuses changes of a user that ops.simulate_messages() cannot make.';
--!include functions/ops/simulate_messages.sql
comment on function ops.simulate_messages(timestamptz, timestamptz, uuid, jsonb) is
  'What goes out by hour and zone; for a user and changes, what only was so before them and what only after.';

--!include functions/ops/find_moved_messages.sql
comment on function ops.find_moved_messages(uuid, text, timestamptz) is
  'Instants in the schedule and of waiting messages that the zones'' rules now make others.';
--!include functions/ops/replan_users.sql
comment on function ops.replan_users(uuid, integer, text, uuid) is
  'Brings what has not gone out up to date for the next so many users by id, after an id. Returns the last id, null at the end, how many users and how many changes.';

--!include functions/app_private/find_messages.sql
comment on function app_private.find_messages(
  text[], text, date, uuid, timestamptz, uuid) is
  'Messages by filters; null does not filter.';
--!include functions/app_private/redrive_refusals.sql
comment on function app_private.redrive_refusals(
  text[], text, date, uuid, timestamptz, uuid, boolean) is
  'Messages that did not go out, and why one may not be sent again; null when it may.';
--!include functions/ops/redrive_messages.sql
comment on function ops.redrive_messages(
  text[], text, date, uuid, timestamptz, uuid, boolean, boolean) is
  'Sends messages again that failed, expired, were cancelled, or have an unknown outcome. Returns all that the filters match; what was refused has a reason.';
--!include functions/ops/cancel_messages.sql
comment on function ops.cancel_messages(
  text, text[], text, date, uuid, timestamptz, uuid, boolean) is
  'Cancels what has not gone out, so that it is not planned again. Returns all that the filters match; what was refused has a reason.';
--!include functions/ops/resolve_message.sql
comment on function ops.resolve_message(uuid, text) is
  'Says of an UNKNOWN message what the receiver says of it: SENT or FAILED.';
--!include functions/ops/limit_channel.sql
comment on function ops.limit_channel(text, double precision) is
  'Limits a channel to so many messages a second, of all workers together; null: no limit.';

comment on column app_public.message_logs.recipient_email is
  'The address of the first attempt; every attempt has the same, until it is sent again by hand.';
comment on column app_public.message_logs.recipient_name is
  'The name of the first attempt; every attempt has the same, until it is sent again by hand.';
comment on column app_public.message_logs.attempts is
  'The attempts that did not deliver (when, code, answer, error), and what people did to it (change).';
