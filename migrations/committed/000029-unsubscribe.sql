--! Previous: sha1:10537e61a842bde7386009a86171c0cd25b5eb3a
--! Hash: sha1:82280ca559731d246463e80ffa5f69804db464fb
--! Message: unsubscribe

--! split: 0001-unsubscribe.sql
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

--! Included functions/app_private/unsubscribe.sql
-- Definer: the API's login role may call this and read no table. There is no caller to
-- check: who calls has verified the token of a link, and all that it can do is this.
-- A user without settings has all messages, so a row is made; one who is gone has none.
create or replace function app_private.unsubscribe(p_user_id uuid, p_message_type text)
returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
-- An API connection does not wait longer.
set lock_timeout = '5s'
as $$
  insert into app_public.user_settings as settings
    (user_id, birthday_messages, anniversary_messages, weekly_digest)
  select id, p_message_type <> 'BIRTHDAY', p_message_type <> 'ANNIVERSARY',
    p_message_type <> 'DIGEST'
  from app_public.users
  where id = p_user_id
  on conflict (user_id) do update
  set birthday_messages = settings.birthday_messages and excluded.birthday_messages,
    anniversary_messages = settings.anniversary_messages and excluded.anniversary_messages,
    weekly_digest = settings.weekly_digest and excluded.weekly_digest
  -- What is off already is not written again.
  where settings.birthday_messages and not excluded.birthday_messages
    or settings.anniversary_messages and not excluded.anniversary_messages
    or settings.weekly_digest and not excluded.weekly_digest
$$;
--! EndIncluded functions/app_private/unsubscribe.sql
grant execute on function app_private.unsubscribe(uuid, text) to gw_authenticator;
comment on function app_private.unsubscribe(uuid, text) is
  'Turns one type of messages off for a user: BIRTHDAY, ANNIVERSARY or DIGEST. Does nothing when it is off, or when the user is gone.';

--! Included functions/app_hidden/template_names.sql
-- Reads a template as render_template() does: each piece after "{{" is "name}}literal".
-- Sections may stand in each other; each is closed before the one around it.
create or replace function app_hidden.template_names(p_template text) returns text[]
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  names text[] := array[]::text[];
  opened text[] := array[]::text[];
  piece text;
  inside text;
begin
  foreach piece in array (string_to_array(p_template, '{{'))[2:]
  loop
    inside := split_part(piece, '}}', 1);
    if strpos(piece, '}}') = 0 then
      names := names || '{{'::text;
    elsif inside ~ '^#[a-z_]+$' then
      opened := substr(inside, 2) || opened;
      names := names || substr(inside, 2);
    elsif inside ~ '^/[a-z_]+$' and opened[1] = substr(inside, 2) then
      opened := opened[2:];
    elsif btrim(inside) ~ '^[a-z_]+$' then
      names := names || btrim(inside);
    else
      names := names || format('{{%s}}', inside);
    end if;
  end loop;
  names := names || array(
    select format('{{#%s}}', name) from unnest(opened) as left_open (name));
  return array(select distinct name collate "C" from unnest(names) as found (name) order by 1);
end
$$;
--! EndIncluded functions/app_hidden/template_names.sql
comment on function app_hidden.template_names(text) is
  'The names that a template fills in or has sections of. What is neither a name nor one end of a section with two ends stands as it is written, with its braces.';

-- A digest's names are those of digest_values().
alter table app_private.message_templates
  drop constraint if exists message_templates_names_check,
  add constraint message_templates_names_check check (
    app_hidden.template_names(subject) || app_hidden.template_names(body)
    <@ (array['first_name', 'last_name', 'full_name'] || case message_type
      when 'DIGEST' then array['week_start', 'week_end', 'habits',
        'tasks_created', 'tasks_done', 'goals_touched', 'habit_days', 'reflections',
        'mood_average', 'previous_tasks_created', 'previous_tasks_done',
        'previous_goals_touched', 'previous_habit_days', 'previous_reflections',
        'previous_mood_average']
      else array['age', 'years']
    end));
