--! Previous: sha1:05da52e833b23e426bf1b824f56e72a18564f9c3
--! Hash: sha1:c1049ce2bd1c57475e9e2e9e5e522344b50499d7
--! Message: message-types
--! Baseline: topics/21-message-types.sql

/*
 * The texts of messages, by type and locale.
 */

--! Included functions/app_hidden/render_template.sql
-- Sections go first, while there is only the template's own text: a value is never read as
-- a template. Then split at "{{": the first piece is literal, each other piece is
-- "name}}literal". A loop, because a query for each text costs more than the text.
create or replace function app_hidden.render_template(p_template text, p_values jsonb)
returns text
language plpgsql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
  template text := p_template;
  section text;
  pieces text[];
  piece text;
  name_end integer;
  rendered text;
begin
  if strpos(template, '{{#') > 0 then
    for section in
      select distinct hit[1]
      from regexp_matches(p_template, '\{\{#([a-z_]+)\}\}', 'g') as hit
    loop
      template := regexp_replace(template,
        format('\{\{#%1$s\}\}(.*?)\{\{/%1$s\}\}', section),
        case when coalesce(p_values ->> section, '') = '' then '' else '\1' end,
        'g');
    end loop;
  end if;
  pieces := string_to_array(template, '{{');
  rendered := coalesce(pieces[1], '');
  foreach piece in array pieces[2:]
  loop
    name_end := strpos(piece, '}}');
    rendered := rendered || case
      when name_end = 0 then '{{' || piece
      else coalesce(p_values ->> btrim(left(piece, name_end - 1)), '')
        || substr(piece, name_end + 2)
    end;
  end loop;
  return rendered;
end
$$;

comment on function app_hidden.render_template(text, jsonb) is
  'Replaces {{name}} by the value of that key; {{#name}}…{{/name}} stays only where there is one. A value is never read as a template.';
--! EndIncluded functions/app_hidden/render_template.sql
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

comment on function app_hidden.template_names(text) is
  'The names that a template fills in or has sections of. What is neither a name nor one end of a section with two ends stands as it is written, with its braces.';
--! EndIncluded functions/app_hidden/template_names.sql

create table app_private.message_templates (
  message_type text not null,
  locale text not null,
  subject text not null default '',
  body text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint message_templates_pkey primary key (message_type, locale),
  constraint message_templates_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST')),
  constraint message_templates_locale_check check (locale ~ '^[a-z]{2,3}(-[A-Z]{2})?$'),
  constraint message_templates_body_check check (length(body) between 1 and 4000),
  constraint message_templates_subject_check
    check (length(subject) <= 200 and subject !~ '[[:cntrl:]]'),
  constraint message_templates_names_check check (
    app_hidden.template_names(subject) || app_hidden.template_names(body)
    <@ (array['first_name', 'last_name', 'full_name'] || case message_type
      when 'DIGEST' then array['week_start', 'week_end', 'habits',
        'tasks_created', 'tasks_done', 'goals_touched', 'habit_days', 'reflections',
        'mood_average', 'previous_tasks_created', 'previous_tasks_done',
        'previous_goals_touched', 'previous_habit_days', 'previous_reflections',
        'previous_mood_average']
      else array['age', 'years']
    end))
);

alter table app_private.message_templates enable row level security;

create trigger _100_timestamps before insert or update on app_private.message_templates
  for each row execute function app_private.tg__timestamps();

comment on table app_private.message_templates is
  'Texts by type and locale. {{first_name}}, {{last_name}}, {{full_name}}, {{age}} and {{years}} are filled in when planned; {{#age}}…{{/age}} is left out when the year is not known. A digest has the names of digest_values() instead of age and years, filled in when sent.';

--! Included functions/app_private/compose_message.sql
-- The year 1604 stands for one that is not known: then there is no age.
create or replace function app_private.compose_message(
  p_message_type text, p_delivery_date date, p_base_date date,
  p_first_name text, p_last_name text, p_locale text
) returns table (subject text, body text)
language sql stable
as $$
  select app_hidden.render_template(template.subject, given.names),
    app_hidden.render_template(template.body, given.names)
  from (
    select message_templates.subject, message_templates.body
    from app_private.message_templates
    where message_templates.message_type = p_message_type
      and message_templates.locale in (p_locale, pg_catalog.split_part(p_locale, '-', 1), 'en')
    -- The whole locale, else its language, else English.
    order by message_templates.locale = p_locale desc, message_templates.locale = 'en'
    limit 1
  ) as template
  cross join (
    select pg_catalog.jsonb_build_object(
      'first_name', p_first_name,
      'last_name', p_last_name,
      'full_name', pg_catalog.btrim(p_first_name || ' ' || p_last_name),
      'age', years.passed,
      'years', years.passed)
    from (
      select case when pg_catalog.date_part('year', p_base_date) <> 1604
        then pg_catalog.date_part('year', p_delivery_date)
          - pg_catalog.date_part('year', p_base_date) end
    ) as years (passed)
  ) as given (names)
$$;

comment on function app_private.compose_message(text, date, date, text, text, text) is
  'Subject and text of a message, in the locale, its language, or English.';
--! EndIncluded functions/app_private/compose_message.sql

insert into app_private.message_templates (message_type, locale, subject, body) values
  ('BIRTHDAY', 'en', 'Happy birthday, {{first_name}}!',
    'Hey, {{full_name}}, it''s your birthday! Have a great day.'),
  ('ANNIVERSARY', 'en', 'Happy anniversary, {{first_name}}!',
    'Hey, {{full_name}}, happy anniversary!'),
  ('BIRTHDAY', 'de', 'Alles Gute zum Geburtstag, {{first_name}}!',
    'Hallo {{full_name}}, alles Gute zum{{#age}} {{age}}.{{/age}} Geburtstag!'),
  ('ANNIVERSARY', 'de', 'Alles Gute zum Jahrestag, {{first_name}}!',
    'Hallo {{full_name}}, alles Gute zum{{#years}} {{years}}.{{/years}} Jahrestag!'),
  ('BIRTHDAY', 'es', '¡Feliz cumpleaños, {{first_name}}!',
    '¡Hola, {{full_name}}! ¡Feliz cumpleaños{{#age}} número {{age}}{{/age}}!'),
  ('ANNIVERSARY', 'es', '¡Feliz aniversario, {{first_name}}!',
    '¡Hola, {{full_name}}! ¡Feliz aniversario{{#years}} número {{years}}{{/years}}!'),
  ('BIRTHDAY', 'fr', 'Joyeux anniversaire, {{first_name}} !',
    'Bonjour {{full_name}}, joyeux anniversaire{{#age}} pour vos {{age}} ans{{/age}} !'),
  ('ANNIVERSARY', 'fr', 'Bel anniversaire, {{first_name}} !',
    'Bonjour {{full_name}}, bel anniversaire{{#years}} : {{years}} ans déjà{{/years}} !');

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
group by words.locale, words.subject, words.opening, words.week_before;
