/*
 * Unsubscribing by a link, and templates that can be trusted.
 *
 * - unsubscribe() is what the API calls when the link in a message was followed and
 *   confirmed. The triggers of user_settings cancel what is planned, in the same transaction.
 * - A template that names what a message does not know, or whose sections are not closed, is
 *   refused when it is written. Until now it left a hole in the text that was sent.
 *
 * A template of before that names something else makes this migration fail and change
 * nothing: mend the template first.
 *
 * Locks: ACCESS EXCLUSIVE on app_private.message_templates (a few rows), for a constraint.
 */

-- A table of a few rows is read in no time.
-- squawk-ignore-file constraint-missing-not-valid

--!include functions/app_private/unsubscribe.sql
grant execute on function app_private.unsubscribe(uuid, text) to gw_authenticator;
comment on function app_private.unsubscribe(uuid, text) is
  'Turns one type of messages off for a user: BIRTHDAY, ANNIVERSARY or DIGEST. Does nothing when it is off, or when the user is gone.';

--!include functions/app_hidden/template_names.sql
comment on function app_hidden.template_names(text) is
  'The names that a template fills in or has sections of. What is neither a name nor one end of a section with two ends stands as it is written, with its braces.';

-- A digest's names are those of its query, which composes it when it is sent.
alter table app_private.message_templates
  drop constraint if exists message_templates_names_check,
  add constraint message_templates_names_check check (
    case message_type
      when 'DIGEST' then pg_catalog.array_to_string(
        app_hidden.template_names(subject) || app_hidden.template_names(body), '') !~ '[{}]'
      else app_hidden.template_names(subject) || app_hidden.template_names(body)
        <@ array['first_name', 'last_name', 'full_name', 'age', 'years']
    end);
