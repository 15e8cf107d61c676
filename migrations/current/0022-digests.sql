/*
 * The weekly digest: each Monday at 08:00, local time, what the user did in the week
 * before.
 *
 * It is a message like any other: planned by the schedule, unique by the ledger, sent by
 * the worker. Its week is over when it is sent, so that is when it is composed:
 * claim_messages() counts the weeks of a batch, keeps them in app_public.digests and
 * writes the texts. Of a week in which nothing happened there is a digest, and no message.
 *
 * Locks: ACCESS EXCLUSIVE on the view app_private.message_rules while the schedule of all
 * users is brought up to date, about 30 s for each 100,000. Whoever changes a user, plans
 * or sends messages waits that long.
 */

-- A line for each figure, which is left out when there is nothing to say of it.
insert into app_private.message_templates (message_type, locale, subject, body)
select 'DIGEST', words.locale, words.subject,
  words.opening || E'\n' || pg_catalog.string_agg(
    pg_catalog.format(
      case figure.name when 'habits' then E'{{#%1$s}}%2$s {{%1$s}}\n{{/%1$s}}'
      else '{{#%1$s}}%2$s {{%1$s}}{{#previous_%1$s}} (%3$s {{previous_%1$s}})'
        || E'{{/previous_%1$s}}\n{{/%1$s}}' end,
      figure.name, figure.label, words.week_before),
    '' order by figure.number)
from (
  values
    ('en', 'Your week from {{week_start}} to {{week_end}}',
      'Hi {{full_name}}, this was your week:', 'week before:',
      array['Tasks done:', 'Tasks made:', 'Goals worked on:', 'Habits (days in a row):',
        'Reflections:', 'Mood, of 5:']),
    ('de', 'Deine Woche vom {{week_start}} bis {{week_end}}',
      'Hallo {{full_name}}, das war deine Woche:', 'Vorwoche:',
      array['Aufgaben erledigt:', 'Aufgaben angelegt:', 'Ziele verfolgt:',
        'Gewohnheiten (Tage in Folge):', 'Reflexionen:', 'Stimmung, von 5:']),
    ('es', 'Tu semana del {{week_start}} al {{week_end}}',
      'Hola, {{full_name}}: así fue tu semana.', 'semana anterior:',
      array['Tareas hechas:', 'Tareas creadas:', 'Metas en marcha:',
        'Hábitos (días seguidos):', 'Reflexiones:', 'Ánimo, de 5:']),
    ('fr', 'Votre semaine du {{week_start}} au {{week_end}}',
      'Bonjour {{full_name}}, voici votre semaine :', 'semaine précédente :',
      array['Tâches faites :', 'Tâches créées :', 'Objectifs suivis :',
        'Habitudes (jours de suite) :', 'Réflexions :', 'Humeur, sur 5 :'])
) as words (locale, subject, opening, week_before, labels)
cross join lateral unnest(
  array['tasks_done', 'tasks_created', 'goals_touched', 'habits', 'reflections',
    'mood_average'], words.labels) with ordinality as figure (name, label, number)
group by words.locale, words.subject, words.opening, words.week_before
on conflict (message_type, locale) do nothing;
comment on table app_private.message_templates is
  'Texts by type and locale. {{first_name}}, {{last_name}}, {{full_name}}, {{age}} and {{years}} are filled in when planned; {{#age}}…{{/age}} is left out when the year is not known. A digest has the names of digest_values() instead of age and years, filled in when sent.';

-- The digest's base date is the day on which the user joined: the first Monday after it
-- is the first one that has a week to tell of.
create or replace view app_private.message_rules with (security_invoker = true) as
select users.id as user_id, wanted.message_type, wanted.base_date, wanted.send_time,
  users.timezone, users.leap_day_policy, users.first_name, users.last_name,
  coalesce(user_settings.locale, 'en') as locale
from app_public.users
left join app_public.user_settings on user_settings.user_id = users.id
cross join lateral (
  values
    ('BIRTHDAY', users.birthday_date, users.send_time,
      coalesce(user_settings.birthday_messages, true) and users.birthday_date is not null),
    ('ANNIVERSARY', users.anniversary_date, users.send_time,
      coalesce(user_settings.anniversary_messages, true)
        and users.anniversary_date is not null),
    ('DIGEST', (users.created_at at time zone users.timezone)::date, time '08:00',
      coalesce(user_settings.weekly_digest, true))
) as wanted (message_type, base_date, send_time, is_wanted)
where users.deleted_at is null
  and wanted.is_wanted;

--!include functions/app_private/digest_contents.sql
comment on function app_private.digest_contents(uuid[], date[]) is
  'Counts these users'' weeks, by their own days, and the weeks before them. The first array''s user has the second''s week.';
--!include functions/app_private/digest_values.sql
comment on function app_private.digest_values(jsonb, text, text) is
  'What a template of type DIGEST can name: first_name, last_name, full_name, week_start, week_end, habits, and tasks_done, tasks_created, goals_touched, habit_days, reflections, mood_average, each also as previous_….';
--!include functions/app_private/compose_digests.sql
comment on function app_private.compose_digests(uuid[], uuid[], timestamptz[]) is
  'Counts the weeks of those of these messages that are digests and were not attempted, keeps them and writes the texts. Returns the ids of messages whose week is empty.';
--!include functions/app_private/backfill_digests.sql
comment on function app_private.backfill_digests(uuid[], integer, boolean) is
  'Makes the digests of these users'' latest complete weeks, 1 to 52, without messages. Those that are there stay, unless they are to be recomputed. Returns how many were written.';

--!include functions/app_private/next_occasions.sql
--!include functions/app_private/plan_due_messages.sql
--!include functions/app_private/claim_messages.sql
comment on function app_private.claim_messages(jsonb, text) is
  'Marks a batch SENDING and returns what to send now; composes the digests among them. Takes an array of {job_id, user_id, message_id, scheduled_send_time, message_type}. Jobs of messages that are not to be sent are removed.';

comment on table app_public.digests is
  'A summary of a week, made on the Monday after it for users who want the weekly digest.';
comment on column app_public.digests.content is
  'A JSON object: week_start, timezone, tasks_created, tasks_done, goals_touched, habit_days, reflections, mood_sum, mood_count, mood_average (null without a mood), habits (at most 100 of {id, name, done, streak}: days kept in the week, and in a row up to its Sunday), previous (the same counts of the week before) and change (what became of each); both null in the week in which the user joined.';

select app_private.schedule_messages(array_agg(id))
from app_public.users
where deleted_at is null;
