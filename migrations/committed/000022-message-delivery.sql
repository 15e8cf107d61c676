--! Previous: sha1:41a40d94e6f06777a36ab21f40b98a68cf4f7fbe
--! Hash: sha1:995668bb38204a207c389828a64492ad3bd9caa9
--! Message: message-delivery

--! split: 0001-message-delivery.sql
/*
 * Messages that follow their users, and a delivery that can be trusted.
 *
 * - message_schedule holds the next occasion of each user and type, so that a tick with
 *   nothing due reads one index entry, however many users there are. Triggers keep it, and
 *   what is planned and has not gone out, true to the user's rules in the transaction that
 *   changes them.
 * - A job is made when its message is due, not when it is planned.
 * - The weekly digest is a message like any other. Its week is over when it is sent, so that
 *   is when it is composed: claim_messages() counts the weeks of a batch, keeps them in
 *   app_public.digests and writes the texts. Of a week in which nothing happened there is
 *   a digest, and no message.
 * - delivery_channels holds the limits of each way out and its circuit breaker, shared by
 *   all workers.
 *
 *   SCHEDULED → QUEUED → SENDING → SENT
 *                  ↑        ↓
 *                  └─── RETRYING       FAILED: refused, or given up after the last try
 *                                      CANCELLED: the rules do not have it any more
 *                                      EXPIRED: too late
 *                                      UNKNOWN: may have been delivered; a person decides
 *
 * Locks: ACCESS EXCLUSIVE on app_public.message_logs and app_public.user_settings, for
 * added columns and constraints, which read the table once; SHARE ROW EXCLUSIVE on
 * app_public.users for triggers. message_logs gets an index; on a large table, make it
 * before on each partition, concurrently. The first schedule takes about 30 s for each
 * 100,000 users.
 */

-- Every table is locked for a moment, so that the old rules end where the new ones begin.
-- squawk-ignore-file require-concurrent-index-creation, constraint-missing-not-valid, adding-field-with-default, prefer-robust-stmts, ban-drop-table, require-concurrent-index-deletion

drop table if exists app_private.message_schedule, app_private.delivery_channels;
drop view if exists app_private.message_rules;
drop table if exists app_private.message_settings;

-- What a user wants to receive, when, and in which language.
alter table app_public.user_settings
  add column if not exists birthday_messages boolean not null default true,
  add column if not exists anniversary_messages boolean not null default true,
  add column if not exists weekly_digest boolean not null default true,
  add column if not exists locale text not null default 'en',
  add column if not exists quiet_from time,
  add column if not exists quiet_until time,
  drop constraint if exists user_settings_locale_check,
  drop constraint if exists user_settings_quiet_check,
  add constraint user_settings_locale_check check (locale ~ '^[a-z]{2,3}(-[A-Z]{2})?$'),
  add constraint user_settings_quiet_check check (
    (quiet_from is null) = (quiet_until is null) and quiet_from <> quiet_until
    and quiet_from < time '24:00' and quiet_until < time '24:00');
grant update (birthday_messages, anniversary_messages, weekly_digest, locale, quiet_from,
  quiet_until) on app_public.user_settings to app_user;
comment on column app_public.user_settings.birthday_messages is
  'Whether a message is sent on the birthday.';
comment on column app_public.user_settings.anniversary_messages is
  'Whether a message is sent on the anniversary.';
comment on column app_public.user_settings.weekly_digest is
  'Whether a digest of the week before is sent on Monday at 08:00, local time.';
comment on column app_public.user_settings.locale is
  'Language of messages, such as en or pt-BR; English where there is no text in it.';
comment on column app_public.user_settings.quiet_from is
  'Local time from which nothing is sent; null when there are no quiet hours.';
comment on column app_public.user_settings.quiet_until is
  'Local time at which held messages are sent; earlier than quietFrom when it is on the next day.';

alter table app_private.message_templates
  add column if not exists subject text not null default '',
  drop constraint message_templates_message_type_check,
  drop constraint if exists message_templates_subject_check,
  add constraint message_templates_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST')),
  add constraint message_templates_subject_check
    check (length(subject) <= 200 and subject !~ '[[:cntrl:]]');
comment on table app_private.message_templates is
  'Texts by type and locale. {{first_name}}, {{last_name}}, {{full_name}}, {{age}} and {{years}} are filled in when planned; {{#age}}…{{/age}} is left out when the year is not known. A digest has the names of digest_values() instead of age and years, filled in when sent.';

insert into app_private.message_templates (message_type, locale, subject, body) values
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
    'Bonjour {{full_name}}, bel anniversaire{{#years}} : {{years}} ans déjà{{/years}} !')
on conflict (message_type, locale) do nothing;
update app_private.message_templates
set subject = case message_type
  when 'BIRTHDAY' then 'Happy birthday, {{first_name}}!'
  when 'ANNIVERSARY' then 'Happy anniversary, {{first_name}}!'
  else subject end
where locale = 'en';

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

alter table app_private.message_ledger
  drop constraint message_ledger_message_type_check,
  add constraint message_ledger_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST'));
comment on table app_private.message_ledger is
  'One row for each message that was planned and not taken back: user, occasion, local date.';

alter table app_public.message_logs
  add column if not exists message_subject text not null default '',
  add column if not exists job_id uuid,
  add column if not exists recipient_email text,
  add column if not exists recipient_name text,
  add column if not exists attempted_at timestamptz,
  add column if not exists attempts jsonb,
  add column if not exists uncertain_since timestamptz,
  add column if not exists send_until timestamptz,
  drop constraint message_logs_message_type_check,
  drop constraint message_logs_status_check,
  drop constraint if exists message_logs_attempts_check,
  add constraint message_logs_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST')),
  add constraint message_logs_status_check
    check (status in ('SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'RETRYING', 'FAILED',
      'CANCELLED', 'EXPIRED', 'UNKNOWN')),
  add constraint message_logs_attempts_check check (jsonb_typeof(attempts) = 'array');
-- Jobs are no matter of the user, nor is what the vendor answered.
grant select (message_subject) on app_public.message_logs to app_user;
-- What is planned and what is on its way, without what is done.
create index if not exists message_logs_status_scheduled_send_time_idx_where_open
  on app_public.message_logs (status, scheduled_send_time)
  where status in ('SCHEDULED', 'QUEUED', 'SENDING', 'RETRYING');

comment on column app_public.message_logs.message_type is 'BIRTHDAY, ANNIVERSARY or DIGEST.';
comment on column app_public.message_logs.message_subject is
  'What it is called where a channel has subjects.';
comment on column app_public.message_logs.message_content is
  'The text, composed when the message was planned; a digest''s when it is sent.';
comment on column app_public.message_logs.status is
  'SCHEDULED (planned), QUEUED (due, or held by quiet hours), SENDING (the call is being made), SENT, RETRYING (refused for now), FAILED (refused, or given up), CANCELLED (not wanted any more), EXPIRED (too late), UNKNOWN (may have been delivered; a person decides).';
comment on column app_public.message_logs.job_id is
  'The job that may send it; null when none may.';
comment on column app_public.message_logs.recipient_email is
  'The address of the first attempt; every attempt has the same.';
comment on column app_public.message_logs.recipient_name is
  'The name of the first attempt; every attempt has the same.';
comment on column app_public.message_logs.attempted_at is 'When the latest call began.';
comment on column app_public.message_logs.attempts is
  'The attempts that did not deliver: when, code, answer, error.';
comment on column app_public.message_logs.uncertain_since is
  'When the first attempt began of which nobody knows whether it was delivered.';
comment on column app_public.message_logs.send_until is
  'When it is too late; null means the late window after scheduled_send_time.';
comment on column app_public.message_logs.error_message is
  'Why the latest attempt failed, or why it is not sent; null after success.';

-- One row. How long after its time a message may still be sent.
create table app_private.message_settings (
  only_row boolean not null default true,
  late_window interval not null default '12 hours',
  constraint message_settings_pkey primary key (only_row),
  constraint message_settings_only_row_check check (only_row),
  constraint message_settings_late_window_check
    check (late_window between interval '1 minute' and interval '7 days')
);
alter table app_private.message_settings enable row level security;
comment on table app_private.message_settings is 'One row: what holds for all messages.';
comment on column app_private.message_settings.late_window is
  'How long after its time a message may still be sent.';
insert into app_private.message_settings default values;
-- So small a table is never analyzed by itself.
analyze app_private.message_settings;

-- One row for each way out: its limits, and whether anybody answers there.
create table app_private.delivery_channels (
  name text not null,
  messages_per_second double precision,
  max_attempts integer not null default 20,
  retry_base interval not null default '30 seconds',
  retry_cap interval not null default '30 minutes',
  key_lifetime interval not null default '24 hours',
  failures_to_open integer not null default 50,
  circuit text not null default 'closed',
  failures integer not null default 0,
  opened_at timestamptz,
  pause interval not null default '15 seconds',
  probe_after timestamptz,
  permits double precision not null default 0,
  permits_at timestamptz not null default now(),
  constraint delivery_channels_pkey primary key (name),
  constraint delivery_channels_messages_per_second_check
    check (messages_per_second between 0.01 and 1000000),
  constraint delivery_channels_max_attempts_check check (max_attempts between 1 and 1000),
  constraint delivery_channels_retry_check
    check (retry_base > interval '0' and retry_cap >= retry_base),
  constraint delivery_channels_failures_to_open_check check (failures_to_open > 0),
  constraint delivery_channels_circuit_check
    check (circuit in ('closed', 'open', 'half-open')),
  constraint delivery_channels_probe_after_check
    check ((circuit = 'closed') = (probe_after is null))
) with (fillfactor = 50);
alter table app_private.delivery_channels enable row level security;
comment on table app_private.delivery_channels is
  'The limits of each way out, and the state of its circuit breaker.';
comment on column app_private.delivery_channels.messages_per_second is
  'Of all workers together; null means no limit.';
comment on column app_private.delivery_channels.max_attempts is
  'After so many a message is FAILED.';
comment on column app_private.delivery_channels.retry_base is
  'The first wait is up to this, each next up to twice as long.';
comment on column app_private.delivery_channels.retry_cap is 'No wait is longer.';
comment on column app_private.delivery_channels.key_lifetime is
  'How long the receiver remembers an idempotency key. An uncertain attempt that is older is not repeated.';
comment on column app_private.delivery_channels.failures_to_open is
  'So many calls in a row without an answer open the circuit: nothing is sent.';
comment on column app_private.delivery_channels.probe_after is
  'When one message is sent to see whether the receiver is back.';
insert into app_private.delivery_channels (name) values ('http'), ('smtp'), ('file');
analyze app_private.delivery_channels;

-- The next occasion of each user and type that is not in the ledger.
create table app_private.message_schedule (
  user_id uuid not null,
  message_type text not null,
  delivery_date date not null,
  scheduled_send_time timestamptz not null,
  constraint message_schedule_pkey primary key (user_id, message_type),
  constraint message_schedule_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint message_schedule_message_type_check
    check (message_type in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST'))
);
create index message_schedule_scheduled_send_time_idx
  on app_private.message_schedule (scheduled_send_time);
alter table app_private.message_schedule enable row level security;
comment on table app_private.message_schedule is
  'The next message of each user and type that is to be planned. Follows the users'' rules.';

-- Who gets which messages by what rule: open accounts and what they have not opted out of.
-- The digest's base date is the day on which the user joined: the first Monday after it
-- is the first one that has a week to tell of.
create view app_private.message_rules with (security_invoker = true) as
select users.id as user_id, wanted.message_type, wanted.base_date, wanted.send_time,
  users.timezone, users.leap_day_policy, users.first_name, users.last_name,
  coalesce(user_settings.locale, 'en') as locale, users.email, user_settings.quiet_from,
  user_settings.quiet_until
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
comment on view app_private.message_rules is
  'One row for each user and message type that is to be sent: the date, time and zone it hangs on.';

--! Included functions/app_hidden/earlier_instant.sql
-- The earlier instant has the offset that was in force some hours before: it is right when it
-- reads as the same local time. Several distances are tried, because transitions can lie
-- close together.
create or replace function app_hidden.earlier_instant(p_local timestamp, p_zone text)
returns timestamptz
language sql stable strict parallel safe
as $$
  select least(later.instant, min(earlier.instant)
    filter (where earlier.instant at time zone p_zone = p_local))
  from (select p_local at time zone p_zone) as later (instant)
  cross join (values (interval '1 hour'), ('4 hours'), ('12 hours'), ('26 hours'))
    as probe (distance)
  cross join lateral (select later.instant - probe.distance) as before (instant)
  cross join lateral (
    select (p_local - (before.instant at time zone p_zone - before.instant at time zone 'UTC'))
      at time zone 'UTC'
  ) as earlier (instant)
  group by later.instant
$$;
--! EndIncluded functions/app_hidden/earlier_instant.sql
grant execute on function app_hidden.earlier_instant(timestamp, text)
  to app_user, gw_readonly;
comment on function app_hidden.earlier_instant(timestamp, text) is
  'The earlier instant of a local time that occurs twice; the slow half of local_to_instant().';

--! Included functions/app_hidden/local_to_instant.sql
-- AT TIME ZONE already uses the offset before a gap. Only in an overlap it gives the later of
-- the two instants, and then the clock has been put back shortly before: 26 hours earlier
-- it did not show 26 hours less. Neither strict nor with SET, so that it is inlined.
create or replace function app_hidden.local_to_instant(p_local timestamp, p_zone text)
returns timestamptz
language sql stable parallel safe
as $$
  select case
    when ((p_local at time zone p_zone) - interval '26 hours') at time zone p_zone
      = p_local - interval '26 hours'
    then p_local at time zone p_zone
    else app_hidden.earlier_instant(p_local, p_zone)
  end
$$;
--! EndIncluded functions/app_hidden/local_to_instant.sql

--! Included functions/app_hidden/occurrence_in_year.sql
-- Not strict, so that it is inlined.
create or replace function app_hidden.occurrence_in_year(
  p_date date, p_year integer, p_leap_day_policy text
) returns date
language sql immutable parallel safe
as $$
  select case
    when app_hidden.month_day(p_date) <> 229
      or pg_catalog.date_part('day', pg_catalog.make_date(p_year, 3, 1) - 1) = 29
    then pg_catalog.make_date(p_year, pg_catalog.date_part('month', p_date)::integer,
      pg_catalog.date_part('day', p_date)::integer)
    when p_leap_day_policy = 'feb28' then pg_catalog.make_date(p_year, 2, 28)
    when p_leap_day_policy = 'mar1' then pg_catalog.make_date(p_year, 3, 1)
  end
$$;
--! EndIncluded functions/app_hidden/occurrence_in_year.sql
grant execute on function app_hidden.occurrence_in_year(date, integer, text)
  to app_user, gw_readonly;
comment on function app_hidden.occurrence_in_year(date, integer, text) is
  'The day on which a yearly date is celebrated in a year; null for February 29 where the policy is to skip it.';

--! Included functions/app_hidden/quiet_until.sql
-- The hours may span midnight: 22:00 to 07:00. An end in the night's second half belongs to
-- the next day. Where clocks are put back they show the end twice, and the first time may
-- be past: who waited for that would wait for nothing, again and again.
create or replace function app_hidden.quiet_until(
  p_at timestamptz, p_zone text, p_from time, p_until time
) returns timestamptz
language sql stable strict parallel safe
as $$
  select case
    when app_hidden.local_to_instant(quiet.until, p_zone) > p_at
    then app_hidden.local_to_instant(quiet.until, p_zone)
    else quiet.until at time zone p_zone
  end
  from (select p_at at time zone p_zone) as here (now)
  cross join lateral (
    select case
      when here.now::time >= p_from and (here.now::time < p_until or p_until < p_from)
      then here.now::date + p_until
        + case when p_until < p_from then interval '1 day' else interval '0' end
      when here.now::time < p_until and p_until < p_from
      then here.now::date + p_until
    end
  ) as quiet (until)
$$;
--! EndIncluded functions/app_hidden/quiet_until.sql
grant execute on function app_hidden.quiet_until(timestamptz, text, time, time)
  to gw_readonly;
comment on function app_hidden.quiet_until(timestamptz, text, time, time) is
  'When the quiet hours end that hold at an instant; null when there are none then.';

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
--! EndIncluded functions/app_hidden/render_template.sql
comment on function app_hidden.render_template(text, jsonb) is
  'Replaces {{name}} by the value of that key; {{#name}}…{{/name}} stays only where there is one. A value is never read as a template.';

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
--! EndIncluded functions/app_private/compose_message.sql
comment on function app_private.compose_message(text, date, date, text, text, text) is
  'Subject and text of a message, in the locale, its language, or English.';

--! Included functions/app_private/next_occasions.sql
-- Cheap bounds on the date come first: an instant costs far more to compute.
--
-- The occasion that the schedule holds stays the next one as long as the rules have it. When
-- it was still to come it is not missed because its instant moved into the past: it is due
-- now. When it was missed already, the planner is yet to say so.
create or replace function app_private.next_occasions(p_user_ids uuid[], p_now timestamptz)
returns table (
  user_id uuid,
  message_type text,
  delivery_date date,
  scheduled_send_time timestamptz
)
language sql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  select rules.user_id, rules.message_type, next.delivery_date, next.instant
  from app_private.message_rules as rules
  left join app_private.message_schedule
    on message_schedule.user_id = rules.user_id
    and message_schedule.message_type = rules.message_type
  cross join (
    select late_window, (p_now - late_window)::date - 2 as first_day,
      (p_now + interval '3 days')::date as last_planned_day
    from app_private.message_settings
    where only_row
  ) as settings
  cross join lateral (
    select candidate.delivery_date,
      case
        when message_schedule.delivery_date = candidate.delivery_date
          and message_schedule.scheduled_send_time > p_now
        then greatest(moment.instant, p_now)
        else moment.instant
      end as instant
    from (
      select app_hidden.occurrence_in_year(
        rules.base_date, year, rules.leap_day_policy) as delivery_date
      from generate_series(
        extract(year from least(message_schedule.delivery_date, settings.first_day))::integer,
        -- February 29 can be eight years away for those who skip it.
        -- Whoever is told on January 1 is planned in the year before.
        extract(year from settings.last_planned_day)::integer + case rules.leap_day_policy
          when 'skip' then 9 else 1 end) as year
      where rules.message_type <> 'DIGEST'
      union all
      -- On Sunday the next one is tomorrow, and when that is planned, a week later. One
      -- that was missed weeks ago is for the planner to say.
      select monday::date
      from generate_series(
        least(date_trunc('week', p_now at time zone 'UTC') - interval '7 days',
          message_schedule.delivery_date),
        date_trunc('week', p_now at time zone 'UTC') + interval '14 days',
        interval '7 days') as monday
      where rules.message_type = 'DIGEST'
    ) as candidate
    cross join lateral (
      select app_hidden.local_to_instant(
        candidate.delivery_date + rules.send_time, rules.timezone)
      offset 0
    ) as moment (instant)
    where candidate.delivery_date >= least(message_schedule.delivery_date, settings.first_day)
      and candidate.delivery_date > rules.base_date
      and (moment.instant > p_now - settings.late_window
        or message_schedule.delivery_date = candidate.delivery_date)
      -- Whoever moves February 29 from one day to the next has been greeted already.
      and (candidate.delivery_date > settings.last_planned_day
        or not exists (
          select from app_private.message_ledger
          where message_ledger.user_id = rules.user_id
            and message_ledger.message_type = rules.message_type
            and message_ledger.delivery_date
              between candidate.delivery_date - 2 and candidate.delivery_date + 2
        ))
    order by candidate.delivery_date
    limit 1
  ) as next
  where rules.user_id = any (p_user_ids)
$$;
--! EndIncluded functions/app_private/next_occasions.sql
comment on function app_private.next_occasions(uuid[], timestamptz) is
  'For each of the users and message types the next occasion that is not in the ledger.';

--! Included functions/app_private/schedule_messages.sql
create or replace function app_private.schedule_messages(
  p_user_ids uuid[], p_now timestamptz default now()
) returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with next as materialized (
    select * from app_private.next_occasions(p_user_ids, p_now)
  ),
  removed as (
    delete from app_private.message_schedule
    where message_schedule.user_id = any (p_user_ids)
      and not exists (
        select from next
        where next.user_id = message_schedule.user_id
          and next.message_type = message_schedule.message_type
      )
    returning 1
  ),
  written as (
    insert into app_private.message_schedule
      (user_id, message_type, delivery_date, scheduled_send_time)
    select user_id, message_type, delivery_date, scheduled_send_time
    from next
    order by user_id, message_type
    on conflict (user_id, message_type) do update
    set delivery_date = excluded.delivery_date,
      scheduled_send_time = excluded.scheduled_send_time
    where (message_schedule.delivery_date, message_schedule.scheduled_send_time)
      is distinct from (excluded.delivery_date, excluded.scheduled_send_time)
    returning 1
  )
  select (select count(*) from removed)::integer + (select count(*) from written)::integer
$$;
--! EndIncluded functions/app_private/schedule_messages.sql
comment on function app_private.schedule_messages(uuid[], timestamptz) is
  'Brings the schedule of these users up to date. Returns how many rows changed.';

--! Included functions/app_hidden/current_traceparent.sql
-- A session may set whatever it likes; only what has the form is passed on.
create or replace function app_hidden.current_traceparent() returns text
language sql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
  select given.traceparent
  from (values (current_setting('app.traceparent', true))) as given (traceparent)
  where given.traceparent ~ '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'
$$;
--! EndIncluded functions/app_hidden/current_traceparent.sql
grant execute on function app_hidden.current_traceparent()
  to app_user, app_anonymous;
comment on function app_hidden.current_traceparent() is
  'The W3C traceparent of the current request, or null; put into the data of its jobs.';

--! Included functions/app_private/enqueue_messages.sql
-- Gives each message a new job, and makes it the only one that may send it.
create or replace function app_private.enqueue_messages(
  p_user_ids uuid[], p_message_ids uuid[], p_times timestamptz[], p_not_before timestamptz
) returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
  with queued as (
    update app_public.message_logs
    set status = case message_logs.status
        when 'SENDING' then 'SENDING' when 'RETRYING' then 'RETRYING' else 'QUEUED' end,
      job_id = gen_random_uuid()
    from unnest(p_user_ids, p_message_ids, p_times)
      as wanted (user_id, id, scheduled_send_time)
    where message_logs.user_id = wanted.user_id
      and message_logs.id = wanted.id
      and message_logs.scheduled_send_time = wanted.scheduled_send_time
    returning message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.message_type, message_logs.job_id
  ),
  jobs as (
    insert into pgboss.job (id, name, data, start_after, created_on, keep_until,
      retry_limit, retry_delay, retry_backoff, retry_delay_max, expire_seconds,
      deletion_seconds, heartbeat_seconds, policy, dead_letter)
    select queued.job_id, queue.name,
      jsonb_strip_nulls(jsonb_build_object(
        'user_id', queued.user_id,
        'message_id', queued.id,
        'message_type', queued.message_type,
        'scheduled_send_time', queued.scheduled_send_time,
        'traceparent', app_hidden.current_traceparent())),
      greatest(queued.scheduled_send_time, p_not_before),
      -- pg-boss serves the oldest job first: let that be what is due first.
      least(queued.scheduled_send_time, now()),
      greatest(queued.scheduled_send_time, now())
        + queue.retention_seconds * interval '1 second',
      queue.retry_limit, queue.retry_delay, queue.retry_backoff, queue.retry_delay_max,
      queue.expire_seconds, queue.deletion_seconds, queue.heartbeat_seconds, queue.policy,
      queue.dead_letter
    from queued
    inner join pgboss.queue on queue.name = 'message-send'
    returning 1
  )
  select count(*)::integer from jobs
$$;
--! EndIncluded functions/app_private/enqueue_messages.sql
comment on function app_private.enqueue_messages(uuid[], uuid[], timestamptz[], timestamptz) is
  'Gives messages jobs that run when they are due, and not before the instant given.';

--! Included functions/app_private/queue_due_messages.sql
-- A job exists only for what is due: the queue stays short, and a message that is moved or
-- cancelled before then has no job to look for.
create or replace function app_private.queue_due_messages(p_now timestamptz default now())
returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with due as (
    select user_id, id, scheduled_send_time
    from app_public.message_logs
    where status = 'SCHEDULED'
      -- Also tells the planner in which partitions there is nothing to look for.
      and scheduled_send_time > p_now - interval '1 year'
      -- Until the next tick comes, and some more.
      and scheduled_send_time <= p_now + interval '90 seconds'
    order by user_id, id
    for update skip locked
  )
  select coalesce(app_private.enqueue_messages(array_agg(due.user_id), array_agg(due.id),
    array_agg(due.scheduled_send_time), '-infinity'), 0)
  from due
  having count(*) > 0
$$;
--! EndIncluded functions/app_private/queue_due_messages.sql
comment on function app_private.queue_due_messages(timestamptz) is
  'Queues what is planned and due by the next tick. Returns how many.';

drop function if exists app_private.plan_due_messages(timestamptz);
--! Included functions/app_private/plan_due_messages.sql
-- One statement plans: the ledger's row, the log's row and the next place in the schedule
-- change together or not at all. What they all need is looked for first, because a ledger
-- row without the others would keep the message from ever being sent.
create or replace function app_private.plan_due_messages(
  p_now timestamptz default now(), p_limit integer default 100000
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  planned integer;
  planned_users uuid[];
begin
  if not exists (select from pgboss.queue where name = 'message-send') then
    raise exception 'the queue message-send does not exist'
      using errcode = 'GW011', hint = 'A migration makes it with pgboss.create_queue().';
  end if;
  if (select count(*) from app_private.message_templates where locale = 'en'
    and message_type in ('BIRTHDAY', 'ANNIVERSARY', 'DIGEST')) < 3
  then
    raise exception 'a message type has no template in English'
      using errcode = 'GW011', hint = 'Insert it into app_private.message_templates.';
  end if;

  -- Whoever changes a user waits for these rows, and then sees what was planned; what is
  -- being changed at this moment is left for the next tick. The first due go first.
  with due as materialized (
    select message_schedule.*
    from app_private.message_schedule
    where message_schedule.scheduled_send_time <= p_now + interval '24 hours'
    order by message_schedule.scheduled_send_time
    limit p_limit
    for update skip locked
  ),
  -- The order is what keeps two planners from waiting for each other.
  claimed as (
    insert into app_private.message_ledger
      (user_id, message_type, delivery_date, message_id, scheduled_send_time)
    select due.user_id, due.message_type, due.delivery_date, gen_random_uuid(),
      due.scheduled_send_time
    from due
    inner join app_private.message_rules
      on message_rules.user_id = due.user_id
      and message_rules.message_type = due.message_type
    order by due.user_id, due.message_type
    on conflict do nothing
    returning *
  ),
  logged as (
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      message_subject, message_content, scheduled_send_time, idempotency_key, status,
      error_message)
    select claimed.user_id, claimed.message_id, claimed.message_type,
      claimed.delivery_date, coalesce(text.subject, ''), coalesce(text.body, ''),
      claimed.scheduled_send_time,
      concat_ws(':', claimed.user_id, claimed.message_type, claimed.delivery_date),
      case when is_late then 'EXPIRED' else 'SCHEDULED' end,
      case when is_late then 'planned ' || to_char(p_now, 'YYYY-MM-DD HH24:MI "UTC"')
        || ', after the late window of ' || settings.late_window || ' had passed' end
    from claimed
    inner join app_private.message_rules as rules
      on rules.user_id = claimed.user_id
      and rules.message_type = claimed.message_type
    inner join app_private.message_settings as settings on settings.only_row
    cross join lateral (
      select claimed.scheduled_send_time <= p_now - settings.late_window
    ) as lateness (is_late)
    -- What a digest says is known when its week is over: it is composed when it is sent.
    left join lateral app_private.compose_message(rules.message_type, claimed.delivery_date,
      rules.base_date, rules.first_name, rules.last_name, rules.locale) as text
      on rules.message_type <> 'DIGEST'
    returning 1
  )
  select (select count(*) from logged), array_agg(distinct due.user_id)
  into planned, planned_users
  from due;

  if planned_users is not null then
    perform app_private.schedule_messages(planned_users, p_now);
  end if;
  perform app_private.queue_due_messages(p_now);
  return planned;
end
$$;
--! EndIncluded functions/app_private/plan_due_messages.sql
comment on function app_private.plan_due_messages(timestamptz, integer) is
  'Plans what is due in the next 24 hours, the earliest first, up to a limit; then queues what is due. Returns how many were planned.';

--! Included functions/app_private/replan_messages.sql
-- What has not gone out follows the user's new rules, in the transaction that changes them.
-- SENDING is left alone: the call is on its way. A cancelled occasion leaves the ledger, so
-- that it is planned again when the change is taken back.
create or replace function app_private.replan_messages(
  p_user_ids uuid[], p_now timestamptz default now()
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  changed integer;
begin
  -- One change of a user at a time, and none while the planner has the user's rows.
  perform from app_public.users
  where id = any (p_user_ids)
  order by id
  for no key update;
  perform from app_private.message_schedule
  where user_id = any (p_user_ids)
  order by user_id, message_type
  for update;

  with unsent as materialized (
    select *
    from app_public.message_logs
    where user_id = any (p_user_ids)
      and status in ('SCHEDULED', 'QUEUED', 'RETRYING')
      and scheduled_send_time > p_now - interval '1 year'
    order by user_id, id
    for update
  ),
  decided as (
    select unsent.*,
      case
        when rules.user_id is not null
          and (unsent.message_type = 'DIGEST'
            or (rules.base_date < unsent.delivery_date
              and unsent.delivery_date = app_hidden.occurrence_in_year(rules.base_date,
                extract(year from unsent.delivery_date)::integer, rules.leap_day_policy)))
        then null
        when users.deleted_at is not null then 'the account was closed'
        when rules.user_id is null then 'the user does not want this message any more'
        else 'the date was changed'
      end as reason,
      -- What was still to come is not missed because it moved into the past.
      greatest(
        app_hidden.local_to_instant(
          unsent.delivery_date + rules.send_time, rules.timezone),
        least(p_now, unsent.scheduled_send_time)) as instant,
      text.subject, text.body
    from unsent
    inner join app_public.users on users.id = unsent.user_id
    left join app_private.message_rules as rules
      on rules.user_id = unsent.user_id
      and rules.message_type = unsent.message_type
    -- Every attempt under one key says the same.
    left join lateral app_private.compose_message(unsent.message_type, unsent.delivery_date,
      rules.base_date, rules.first_name, rules.last_name, rules.locale) as text
      on unsent.attempted_at is null and unsent.message_type <> 'DIGEST'
  ),
  written as (
    update app_public.message_logs
    set status = case
        when decided.reason is not null then 'CANCELLED'
        when decided.instant <> decided.scheduled_send_time then 'SCHEDULED'
        else message_logs.status
      end,
      error_message = coalesce(decided.reason, message_logs.error_message),
      scheduled_send_time = case when decided.reason is null
        then decided.instant else message_logs.scheduled_send_time end,
      -- The job of before finds nothing to do.
      job_id = case when decided.reason is null
        and decided.instant = decided.scheduled_send_time then message_logs.job_id end,
      message_subject = coalesce(decided.subject, message_logs.message_subject),
      message_content = coalesce(decided.body, message_logs.message_content)
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      and (decided.reason is not null
        or decided.instant <> decided.scheduled_send_time
        or coalesce(decided.body, decided.message_content) <> decided.message_content
        or coalesce(decided.subject, decided.message_subject) <> decided.message_subject)
    returning message_logs.user_id, message_logs.message_type, message_logs.delivery_date,
      message_logs.status, message_logs.scheduled_send_time
  ),
  released as (
    delete from app_private.message_ledger
    using written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status = 'CANCELLED'
  ),
  moved as (
    update app_private.message_ledger
    set scheduled_send_time = written.scheduled_send_time
    from written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status <> 'CANCELLED'
      and message_ledger.scheduled_send_time <> written.scheduled_send_time
  )
  select count(*) into changed from written;

  return changed + app_private.schedule_messages(p_user_ids, p_now);
end
$$;
--! EndIncluded functions/app_private/replan_messages.sql
comment on function app_private.replan_messages(uuid[], timestamptz) is
  'Moves, rewrites or cancels what has not gone out, as the users'' rules now are. Returns how many rows changed.';

--! Included functions/app_private/tg_users__replan.sql
-- Definer: whoever may change a user has no right to what is planned. Only what the rules of
-- messages read counts as a change.
create or replace function app_private.tg_users__replan() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed uuid[];
begin
  if tg_op = 'INSERT' then
    select array_agg(new_rows.id) into changed from new_rows;
    if changed is not null then
      perform app_private.schedule_messages(changed);
    end if;
    return null;
  end if;
  select array_agg(new_rows.id)
  into changed
  from new_rows
  inner join old_rows on old_rows.id = new_rows.id
  where (new_rows.timezone, new_rows.birthday_date, new_rows.anniversary_date,
      new_rows.send_time, new_rows.leap_day_policy, new_rows.deleted_at is null,
      new_rows.first_name, new_rows.last_name)
    is distinct from (old_rows.timezone, old_rows.birthday_date, old_rows.anniversary_date,
      old_rows.send_time, old_rows.leap_day_policy, old_rows.deleted_at is null,
      old_rows.first_name, old_rows.last_name);
  if changed is not null then
    perform app_private.replan_messages(changed);
  end if;
  return null;
end
$$;
--! EndIncluded functions/app_private/tg_users__replan.sql
comment on function app_private.tg_users__replan() is
  'Messages that have not gone out follow the user.';
--! Included functions/app_private/tg_user_settings__replan.sql
-- Definer: see tg_users__replan().
create or replace function app_private.tg_user_settings__replan() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  changed uuid[];
begin
  if tg_op = 'INSERT' then
    -- A user without settings counts as one with these.
    select array_agg(user_id)
    into changed
    from new_rows
    where (birthday_messages, anniversary_messages, weekly_digest, locale)
      is distinct from (true, true, true, 'en');
  else
    select array_agg(new_rows.user_id)
    into changed
    from new_rows
    inner join old_rows on old_rows.user_id = new_rows.user_id
    where (new_rows.birthday_messages, new_rows.anniversary_messages,
        new_rows.weekly_digest, new_rows.locale)
      is distinct from (old_rows.birthday_messages, old_rows.anniversary_messages,
        old_rows.weekly_digest, old_rows.locale);
  end if;
  if changed is not null then
    perform app_private.replan_messages(changed);
  end if;
  return null;
end
$$;
--! EndIncluded functions/app_private/tg_user_settings__replan.sql
comment on function app_private.tg_user_settings__replan() is
  'Messages that have not gone out follow the user''s wishes.';

drop trigger if exists _600_replan_insert on app_public.users;
drop trigger if exists _600_replan_update on app_public.users;
drop trigger if exists _600_replan_insert on app_public.user_settings;
drop trigger if exists _600_replan_update on app_public.user_settings;
create trigger _600_replan_insert after insert on app_public.users
  referencing new table as new_rows
  for each statement execute function app_private.tg_users__replan();
create trigger _600_replan_update after update on app_public.users
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_users__replan();
create trigger _600_replan_insert after insert on app_public.user_settings
  referencing new table as new_rows
  for each statement execute function app_private.tg_user_settings__replan();
create trigger _600_replan_update after update on app_public.user_settings
  referencing old table as old_rows new table as new_rows
  for each statement execute function app_private.tg_user_settings__replan();

--! Included functions/app_private/digest_contents.sql
-- What is counted belongs to a day of the user's own, so the local date is asked of each
-- row, and the range of instants only has to be wide enough. Rows are read once for each
-- user, however many weeks are wanted, by indexes that begin with user_id: a lateral with
-- "offset 0" cannot become a join with a table of everybody.
--
-- A goal counts as touched in a week in which it or a task that works towards it was
-- made, it was changed, such a task was done, or a reflection is about it.
create or replace function app_private.digest_contents(
  p_user_ids uuid[], p_week_starts date[]
) returns table (user_id uuid, week_start date, content jsonb, is_empty boolean)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- To compile the plan would take longer than to run it.
set jit = off
as $$
#variable_conflict use_column
declare
  -- A day more at either end: a local week is not one of UTC.
  first_day date := (select min(week) - 8 from unnest(p_week_starts) as week);
  last_day date := (select max(week) + 7 from unnest(p_week_starts) as week);
begin
  return query
  with wanted as materialized (
    select distinct users.id as user_id, wanted.week, users.timezone,
      (users.created_at at time zone users.timezone)::date as joined_on
    from unnest(p_user_ids, p_week_starts) as wanted (user_id, week)
    inner join app_public.users on users.id = wanted.user_id
  ),
  -- The week before is counted too, to be compared with.
  spans as materialized (
    select wanted.user_id, wanted.timezone,
      min(wanted.week) - 7 as first_date,
      max(wanted.week) + 6 as last_date,
      (min(wanted.week) - 8)::timestamp at time zone 'UTC' as since,
      (max(wanted.week) + 8)::timestamp at time zone 'UTC' as until
    from wanted
    group by wanted.user_id, wanted.timezone
  ),
  happened as materialized (
    select spans.user_id, event.kind, event.id, event.mood_score,
      date_trunc('week', event.day::timestamp)::date as week
    from spans
    cross join lateral (
      select 'task made' as kind, tasks.id, null::smallint as mood_score,
        (tasks.created_at at time zone spans.timezone)::date as day
      from app_public.tasks
      where tasks.user_id = spans.user_id
        and tasks.created_at between spans.since and spans.until
      union all
      select 'task done', tasks.id, null,
        (tasks.completed_at at time zone spans.timezone)::date
      from app_public.tasks
      where tasks.user_id = spans.user_id
        and tasks.status = 'done'
        -- Nothing is done after its last change: this is what the index knows.
        and tasks.updated_at >= spans.since
        and tasks.completed_at between spans.since and spans.until
      union all
      select 'goal', goals.id, null, (goals.created_at at time zone spans.timezone)::date
      from app_public.goals
      where goals.user_id = spans.user_id
        and goals.created_at between spans.since and spans.until
      union all
      select 'goal', goals.id, null,
        (user_activity.occurred_at at time zone spans.timezone)::date
      from app_public.user_activity
      inner join app_public.goals
        on goals.user_id = user_activity.user_id
        and goals.id = user_activity.entity_id
      where user_activity.user_id = spans.user_id
        and user_activity.entity_type = 'goal'
        and user_activity.action = 'updated'
        and user_activity.occurred_at between spans.since and spans.until
        -- Tells in which partitions there is nothing to look for.
        and user_activity.activity_date between first_day - 7 and last_day + 1
      union all
      select 'habit day', habit_logs.habit_id, null, habit_logs.log_date
      from app_public.habit_logs
      where habit_logs.user_id = spans.user_id
        and habit_logs.log_date between spans.first_date and spans.last_date
      union all
      select 'reflection', reflections.id, reflections.mood_score,
        reflections.reflection_date
      from app_public.reflections
      where reflections.user_id = spans.user_id
        and reflections.reflection_date between spans.first_date and spans.last_date
      offset 0
    ) as event
  ),
  events as (
    select user_id, kind, id, mood_score, week
    from happened
    union all
    select happened.user_id, 'goal', link.goal_id, null, happened.week
    from happened
    cross join lateral (
      select goals_tasks.goal_id
      from app_public.goals_tasks
      where goals_tasks.user_id = happened.user_id
        and goals_tasks.task_id = happened.id
      offset 0
    ) as link
    where happened.kind in ('task made', 'task done')
    union all
    select happened.user_id, 'goal', link.goal_id, null, happened.week
    from happened
    cross join lateral (
      select reflection_goals.goal_id
      from app_public.reflection_goals
      where reflection_goals.user_id = happened.user_id
        and reflection_goals.reflection_id = happened.id
      offset 0
    ) as link
    where happened.kind = 'reflection'
    -- So that a week without events, and the one before it, have a row.
    union all
    select user_id, 'wanted', null, null, week
    from wanted
    union all
    select user_id, 'before', null, null, week - 7
    from wanted
  ),
  counted as (
    select user_id, week,
      bool_or(kind = 'wanted') as is_wanted,
      count(*) filter (where kind not in ('wanted', 'before')) = 0 as is_empty,
      jsonb_build_object(
        'week_start', week,
        'tasks_created', count(*) filter (where kind = 'task made'),
        'tasks_done', count(*) filter (where kind = 'task done'),
        'goals_touched', count(distinct id) filter (where kind = 'goal'),
        'habit_days', count(*) filter (where kind = 'habit day'),
        'reflections', count(*) filter (where kind = 'reflection'),
        'mood_sum', coalesce(sum(mood_score), 0),
        'mood_count', count(mood_score),
        'mood_average', trim_scale(round(avg(mood_score), 2))) as figures
    from events
    group by user_id, week
  ),
  compared as (
    select counted.user_id, counted.week, counted.is_wanted, counted.is_empty,
      counted.figures,
      lag(counted.figures) over (partition by counted.user_id order by counted.week)
        as previous
    from counted
  )
  select compared.user_id, compared.week,
    compared.figures || jsonb_build_object(
      'timezone', wanted.timezone,
      'habits', kept.habits,
      -- Who joined in this week has no week before it.
      'previous', case when wanted.joined_on < compared.week then compared.previous end,
      'change', case when wanted.joined_on < compared.week then (
        select jsonb_object_agg(figure.name,
          trim_scale((compared.figures ->> figure.name)::numeric
            - (compared.previous ->> figure.name)::numeric))
        from unnest(array['tasks_created', 'tasks_done', 'goals_touched', 'habit_days',
          'reflections', 'mood_average']) as figure (name)
      ) end),
    compared.is_empty
  from compared
  inner join wanted on wanted.user_id = compared.user_id and wanted.week = compared.week
  cross join lateral (
    select coalesce(jsonb_agg(
      jsonb_build_object('id', habit.id, 'name', habit.name, 'done', habit.done,
        'streak', habit.streak)
      order by habit.done desc, habit.name, habit.id), '[]') as habits
    from (
      select habits.id, habits.name, log.done, coalesce(run.streak, 0) as streak
      from app_public.habits
      cross join lateral (
        select count(*) as done, max(habit_logs.log_date) as last_date
        from app_public.habit_logs
        where habit_logs.user_id = habits.user_id
          and habit_logs.habit_id = habits.id
          and habit_logs.log_date between compared.week and compared.week + 6
        offset 0
      ) as log
      -- From Sunday back to the latest day before which there is none.
      left join lateral (
        select compared.week + 7 - habit_logs.log_date as streak
        from app_public.habit_logs
        where habit_logs.user_id = habits.user_id
          and habit_logs.habit_id = habits.id
          and habit_logs.log_date <= compared.week + 6
          and not exists (
            select from app_public.habit_logs as day_before
            where day_before.user_id = habit_logs.user_id
              and day_before.habit_id = habit_logs.habit_id
              and day_before.log_date = habit_logs.log_date - 1
          )
        order by habit_logs.log_date desc
        limit 1
      ) as run on log.last_date = compared.week + 6
      where habits.user_id = compared.user_id
        and (log.done > 0
          or (habits.created_at at time zone wanted.timezone)::date < compared.week + 7
          and coalesce(habits.archived_at at time zone wanted.timezone, 'infinity')
            >= compared.week)
      order by log.done desc, habits.name, habits.id
      limit 100
    ) as habit
  ) as kept
  where compared.is_wanted;
end
$$;
--! EndIncluded functions/app_private/digest_contents.sql
comment on function app_private.digest_contents(uuid[], date[]) is
  'Counts these users'' weeks, by their own days, and the weeks before them. The first array''s user has the second''s week.';
--! Included functions/app_private/digest_values.sql
-- A figure that is 0 in both weeks is left out, and with it its section of the template.
create or replace function app_private.digest_values(
  p_content jsonb, p_first_name text, p_last_name text
) returns jsonb
language sql stable
as $$
  select pg_catalog.jsonb_build_object(
      'first_name', p_first_name,
      'last_name', p_last_name,
      'full_name', pg_catalog.btrim(p_first_name || ' ' || p_last_name),
      'week_start', p_content ->> 'week_start',
      'week_end', (p_content ->> 'week_start')::date + 6,
      'mood_average', p_content ->> 'mood_average',
      'previous_mood_average', p_content -> 'previous' ->> 'mood_average',
      'habits', (
        select pg_catalog.string_agg(
          pg_catalog.format('%s %s/7 (%s)', habit.value ->> 'name', habit.value ->> 'done',
            habit.value ->> 'streak'),
          ', ' order by habit.number)
        from pg_catalog.jsonb_array_elements(p_content -> 'habits')
          with ordinality as habit (value, number)
        where habit.value ->> 'done' <> '0'
          and habit.number <= 10
      ))
    || (
      select coalesce(pg_catalog.jsonb_object_agg(figure.name, p_content -> figure.name)
        || pg_catalog.jsonb_object_agg(
          'previous_' || figure.name, p_content -> 'previous' -> figure.name), '{}')
      from pg_catalog.unnest(array['tasks_created', 'tasks_done', 'goals_touched',
        'habit_days', 'reflections']) as figure (name)
      where coalesce(nullif(p_content ->> figure.name, '0'),
        nullif(p_content -> 'previous' ->> figure.name, '0')) is not null
    )
$$;
--! EndIncluded functions/app_private/digest_values.sql
comment on function app_private.digest_values(jsonb, text, text) is
  'What a template of type DIGEST can name: first_name, last_name, full_name, week_start, week_end, habits, and tasks_done, tasks_created, goals_touched, habit_days, reflections, mood_average, each also as previous_….';
--! Included functions/app_private/compose_digests.sql
-- Each attempt under one key says the same: what was attempted is left as it is. The
-- locks are taken in the order in which claim_messages() takes them.
create or replace function app_private.compose_digests(
  p_user_ids uuid[], p_message_ids uuid[], p_times timestamptz[]
) returns uuid[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  empty_messages uuid[];
begin
  with found as materialized (
    select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.delivery_date - 7 as week_start, rules.first_name, rules.last_name,
      rules.locale
    from unnest(p_user_ids, p_message_ids, p_times)
      as given (user_id, message_id, scheduled_send_time)
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
    inner join app_private.message_rules as rules
      on rules.user_id = message_logs.user_id
      and rules.message_type = message_logs.message_type
    where message_logs.message_type = 'DIGEST'
      and message_logs.status in ('QUEUED', 'RETRYING')
      and message_logs.attempted_at is null
    order by message_logs.user_id, message_logs.id
    for update of message_logs
  ),
  contents as materialized (
    select contents.*
    from (select array_agg(user_id) as users, array_agg(week_start) as weeks from found)
      as wanted
    cross join lateral app_private.digest_contents(wanted.users, wanted.weeks) as contents
  ),
  kept as (
    insert into app_public.digests (user_id, week_start, content)
    select user_id, week_start, content
    from contents
    order by user_id, week_start
    on conflict (user_id, week_start) do update
    set content = excluded.content
    where digests.content <> excluded.content
  ),
  written as (
    update app_public.message_logs
    set message_subject = app_hidden.render_template(template.subject, given.names),
      message_content = app_hidden.render_template(template.body, given.names)
    from found
    inner join contents
      on contents.user_id = found.user_id
      and contents.week_start = found.week_start
    cross join lateral (
      select message_templates.subject, message_templates.body
      from app_private.message_templates
      where message_templates.message_type = 'DIGEST'
        and message_templates.locale
          in (found.locale, split_part(found.locale, '-', 1), 'en')
      order by message_templates.locale = found.locale desc,
        message_templates.locale = 'en'
      limit 1
    ) as template
    cross join lateral (
      select app_private.digest_values(
        contents.content, found.first_name, found.last_name)
    ) as given (names)
    where message_logs.user_id = found.user_id
      and message_logs.id = found.id
      and message_logs.scheduled_send_time = found.scheduled_send_time
      and not contents.is_empty
  )
  select array_agg(found.id)
  into empty_messages
  from found
  inner join contents
    on contents.user_id = found.user_id
    and contents.week_start = found.week_start
  where contents.is_empty;
  return coalesce(empty_messages, '{}');
end
$$;
--! EndIncluded functions/app_private/compose_digests.sql
comment on function app_private.compose_digests(uuid[], uuid[], timestamptz[]) is
  'Counts the weeks of those of these messages that are digests and were not attempted, keeps them and writes the texts. Returns the ids of messages whose week is empty.';
--! Included functions/app_private/backfill_digests.sql
-- Not of weeks that were over before the user came.
create or replace function app_private.backfill_digests(
  p_user_ids uuid[], p_weeks integer, p_recompute boolean default false
) returns integer
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  written integer;
begin
  if p_weeks is null or p_weeks not between 1 and 52 then
    raise exception 'weeks must be 1 to 52'
      using errcode = 'invalid_parameter_value';
  end if;

  with wanted as (
    select users.id as user_id, week.start
    from app_public.users
    cross join lateral (
      select date_trunc('week', now() at time zone users.timezone)::date - 7 * number
      from generate_series(1, p_weeks) as number
    ) as week (start)
    where users.id = any (p_user_ids)
      and users.deleted_at is null
      and week.start + 6 >= (users.created_at at time zone users.timezone)::date
      and (p_recompute or not exists (
        select from app_public.digests
        where digests.user_id = users.id
          and digests.week_start = week.start
      ))
  ),
  made as (
    insert into app_public.digests (user_id, week_start, content)
    select contents.user_id, contents.week_start, contents.content
    from (
      select array_agg(user_id) as users, array_agg(start) as weeks from wanted
    ) as given
    cross join lateral app_private.digest_contents(given.users, given.weeks) as contents
    order by contents.user_id, contents.week_start
    on conflict (user_id, week_start) do update
    set content = excluded.content
    where p_recompute
      and digests.content <> excluded.content
    returning 1
  )
  select count(*) into written from made;
  return written;
end
$$;
--! EndIncluded functions/app_private/backfill_digests.sql
comment on function app_private.backfill_digests(uuid[], integer, boolean) is
  'Makes the digests of these users'' latest complete weeks, 1 to 52, without messages. Those that are there stay, unless they are to be recomputed. Returns how many were written.';
comment on table app_public.digests is
  'A summary of a week, made on the Monday after it for users who want the weekly digest.';
comment on column app_public.digests.content is
  'A JSON object: week_start, timezone, tasks_created, tasks_done, goals_touched, habit_days, reflections, mood_sum, mood_count, mood_average (null without a mood), habits (at most 100 of {id, name, done, streak}: days kept in the week, and in a row up to its Sunday), previous (the same counts of the week before) and change (what became of each); both null in the week in which the user joined.';

--! Included functions/app_private/take_send_permits.sql
-- Definer: the worker may not write what it is limited by. Without a limit and with the
-- circuit closed nothing is written, so that workers do not wait for each other.
create or replace function app_private.take_send_permits(p_channel text, p_wanted integer)
returns table (permits integer, wait_ms integer)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  channel app_private.delivery_channels;
  instant timestamptz;
  available double precision;
begin
  select * into channel from app_private.delivery_channels where name = p_channel;
  if not found then
    raise exception 'there is no channel %', p_channel
      using errcode = 'GW013', hint = 'app_private.delivery_channels lists them.';
  end if;
  if channel.circuit = 'closed' and channel.messages_per_second is null then
    return query select p_wanted, 0;
    return;
  end if;

  select * into channel from app_private.delivery_channels where name = p_channel for update;
  -- The lock may have taken time.
  instant := clock_timestamp();
  if channel.circuit <> 'closed' then
    if channel.probe_after > instant then
      return query select 0, least(ceil(extract(epoch from channel.probe_after - instant) * 1000),
        60000)::integer;
      return;
    end if;
    -- Without a message there is no probe, and what becomes due meanwhile need not wait.
    if not exists (
      select from pgboss.job
      where job.name = 'message-send'
        and job.state < 'active'
        and job.start_after <= instant
    ) then
      return query select 0, 1000;
      return;
    end if;
    -- One message tries whether the receiver is back. Its worker may die: then the next
    -- one tries a minute later.
    update app_private.delivery_channels
    set circuit = 'half-open', probe_after = instant + interval '1 minute'
    where name = p_channel;
    return query select 1, 0;
    return;
  end if;

  -- A bucket that holds one second's permits and fills evenly.
  available := case when channel.messages_per_second is null then p_wanted
    else least(greatest(channel.messages_per_second, 1), channel.permits
      + channel.messages_per_second * extract(epoch from instant - channel.permits_at)) end;
  if available < 1 then
    return query select 0, ceil((1 - available) / channel.messages_per_second * 1000)::integer;
    return;
  end if;
  update app_private.delivery_channels
  set permits = available - least(p_wanted, floor(available)), permits_at = instant
  where name = p_channel;
  return query select least(p_wanted, floor(available))::integer, 0;
end
$$;
--! EndIncluded functions/app_private/take_send_permits.sql
grant execute on function app_private.take_send_permits(text, integer) to gw_worker;
comment on function app_private.take_send_permits(text, integer) is
  'How many messages may be sent now, up to those wanted, and if none how many milliseconds to wait.';

--! Included functions/app_private/note_channel_health.sql
-- In the normal case, all well and the circuit closed, nothing is written; nor when nobody
-- was called.
create or replace function app_private.note_channel_health(
  p_channel text, p_reached integer, p_unreachable integer
) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  channel app_private.delivery_channels;
  all_failures integer;
  next_pause interval;
begin
  if p_reached = 0 and p_unreachable = 0 then
    return;
  end if;
  select * into channel from app_private.delivery_channels where name = p_channel;
  if p_unreachable = 0 and channel.circuit = 'closed' and channel.failures = 0 then
    return;
  end if;
  select * into channel from app_private.delivery_channels where name = p_channel for update;

  if p_reached > 0 then
    if channel.circuit <> 'closed' or channel.failures > 0 then
      update app_private.delivery_channels
      set circuit = 'closed', failures = 0, pause = default, probe_after = null,
        opened_at = null
      where name = p_channel;
    end if;
    if channel.circuit <> 'closed' then
      perform ops.resolve_alert('message-channel', p_channel);
    end if;
    return;
  end if;

  all_failures := channel.failures + p_unreachable;
  if channel.circuit = 'closed' and all_failures < channel.failures_to_open then
    update app_private.delivery_channels
    set failures = all_failures
    where name = p_channel;
    return;
  end if;
  -- Calls that were on their way when it opened say nothing new.
  if channel.circuit = 'open' then
    return;
  end if;
  next_pause := case channel.circuit when 'half-open' then least(channel.pause * 2, '5 minutes')
    else channel.pause end;
  update app_private.delivery_channels
  set circuit = 'open', failures = all_failures,
    pause = next_pause,
    opened_at = coalesce(channel.opened_at, clock_timestamp()),
    probe_after = clock_timestamp() + next_pause
  where name = p_channel;
  perform ops.raise_alert('message-channel', p_channel, 'critical',
    'the receiver does not answer; messages wait',
    'Sending goes on by itself when a probe, every 5 minutes at most, is answered.');
end
$$;
--! EndIncluded functions/app_private/note_channel_health.sql
comment on function app_private.note_channel_health(text, integer, integer) is
  'Opens or closes a channel''s circuit after some calls, of which so many were answered.';

drop function if exists app_private.claim_messages(jsonb);
drop function if exists app_private.begin_sending(jsonb);
drop function if exists app_private.record_send_results(jsonb);
--! Included functions/app_private/compose_digests_singly.sql
-- When a batch could not be composed: each by itself, so that one that cannot be holds up no
-- other. That one counts as refused: a person mends the cause and sends it again. What is
-- over by itself, such as a lock or a full disk, is thrown on, and tried again with the batch.
create or replace function app_private.compose_digests_singly(p_jobs jsonb, p_channel text)
returns uuid[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
  job record;
  reason text;
  tries integer;
  empty_messages uuid[] := array[]::uuid[];
begin
  for job in
    select given.*
    from jsonb_to_recordset(p_jobs) as given (job_id uuid, user_id uuid, message_id uuid,
      scheduled_send_time timestamptz, message_type text)
    where coalesce(given.message_type, 'DIGEST') = 'DIGEST'
    order by given.user_id, given.message_id
  loop
    begin
      empty_messages := empty_messages || app_private.compose_digests(
        array[job.user_id], array[job.message_id], array[job.scheduled_send_time]);
    exception when others then
      if sqlstate ~ '^(25|40|53|55|57|58)' then
        raise;
      end if;
      reason := format('it cannot be composed (%s): %s', sqlstate, left(sqlerrm, 300));
      update app_public.message_logs
      set status = 'SENDING', attempted_at = clock_timestamp()
      where message_logs.user_id = job.user_id
        and message_logs.id = job.message_id
        and message_logs.scheduled_send_time = job.scheduled_send_time
        and message_logs.job_id = job.job_id
        and message_logs.status in ('QUEUED', 'RETRYING')
      returning message_logs.retry_count into tries;
      perform app_private.record_send_results(jsonb_build_array(
        to_jsonb(job) || jsonb_build_object(
          'attempt', tries, 'status', 'FAILED', 'error', reason)), p_channel);
    end;
  end loop;
  return empty_messages;
end
$$;
--! EndIncluded functions/app_private/compose_digests_singly.sql
comment on function app_private.compose_digests_singly(jsonb, text) is
  'As compose_digests(), one after the other; what cannot be composed is FAILED.';

--! Included functions/app_private/claim_messages.sql
-- Definer: the worker has no right to tenants' tables, only to move messages on. Each job
-- says where its message is, so that one partition is touched; a message that has moved
-- since, or that another job has, leaves this job nothing to do.
create or replace function app_private.claim_messages(p_jobs jsonb, p_channel text)
returns table (
  job_id uuid,
  message_id uuid,
  user_id uuid,
  scheduled_send_time text,
  message_type text,
  delivery_date date,
  email text,
  full_name text,
  message_subject text,
  message_content text,
  idempotency_key text,
  attempt integer,
  was_attempted boolean
)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- Planned once a session: planning for each batch anew costs a third of running it.
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  empty_digests uuid[];
  returned integer;
begin
  -- A job that does not say its message's type may be a digest's.
  begin
    empty_digests := coalesce((
      select app_private.compose_digests(array_agg(job.user_id), array_agg(job.message_id),
        array_agg(job.scheduled_send_time))
      from jsonb_to_recordset(p_jobs) as job (
        user_id uuid, message_id uuid, scheduled_send_time timestamptz, message_type text)
      where coalesce(job.message_type, 'DIGEST') = 'DIGEST'
      having count(*) > 0
    ), array[]::uuid[]);
  exception when others then
    empty_digests := app_private.compose_digests_singly(p_jobs, p_channel);
  end;

  return query
  with given as materialized (
    select *
    from jsonb_to_recordset(p_jobs) as given (
      job_id uuid, user_id uuid, message_id uuid, scheduled_send_time timestamptz)
  ),
  found as (
    select message_logs.user_id, message_logs.id, message_logs.scheduled_send_time,
      message_logs.status, message_logs.job_id, message_logs.retry_count,
      message_logs.attempted_at, message_logs.message_type, message_logs.delivery_date,
      -- A worker died in the call: what became of it is not known.
      case when message_logs.status = 'SENDING'
        then least(message_logs.uncertain_since, message_logs.attempted_at)
        else message_logs.uncertain_since end as uncertain_since,
      coalesce(message_logs.send_until,
        message_logs.scheduled_send_time + settings.late_window) as send_until
    from given
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
      and message_logs.job_id = given.job_id
    inner join app_private.message_settings as settings on settings.only_row
    where message_logs.status in ('QUEUED', 'SENDING', 'RETRYING')
  ),
  -- The same rules as those of the planner, asked again at the last moment.
  decided as materialized (
    select found.*, quiet.until as quiet_until, rules.user_id is not null as is_wanted,
      rules.email, btrim(rules.first_name || ' ' || rules.last_name) as full_name,
      case
        when rules.user_id is null then 'CANCELLED'
        when rules.message_type <> 'DIGEST'
          and found.delivery_date is distinct from app_hidden.occurrence_in_year(
            rules.base_date, extract(year from found.delivery_date)::integer,
            rules.leap_day_policy) then 'CANCELLED'
        when found.id = any (empty_digests) then 'CANCELLED'
        when found.uncertain_since < now() - channel.key_lifetime then 'UNKNOWN'
        when found.retry_count >= channel.max_attempts then 'UNKNOWN'
        when now() > found.send_until then
          case when found.uncertain_since is null then 'EXPIRED' else 'UNKNOWN' end
        when quiet.until is not null then 'QUEUED'
        else 'SENDING'
      end as next_status
    from found
    inner join app_private.delivery_channels as channel on channel.name = p_channel
    left join app_private.message_rules as rules
      on rules.user_id = found.user_id
      and rules.message_type = found.message_type
    cross join lateral (
      select app_hidden.quiet_until(
        now(), rules.timezone, rules.quiet_from, rules.quiet_until)
    ) as quiet (until)
    -- Whoever else changes many of these rows takes them in this order too.
    order by found.user_id, found.id
  ),
  written as (
    update app_public.message_logs
    set status = decided.next_status,
      uncertain_since = decided.uncertain_since,
      attempted_at = case when decided.next_status = 'SENDING'
        then clock_timestamp() else message_logs.attempted_at end,
      -- A worker that died leaves an attempt that nobody else writes down.
      retry_count = message_logs.retry_count + (decided.status = 'SENDING')::integer,
      attempts = case when decided.status = 'SENDING'
        then coalesce(message_logs.attempts, '[]') || jsonb_build_array(jsonb_build_object(
          'started_at', decided.attempted_at, 'error', 'the worker died in the call'))
        else message_logs.attempts end,
      recipient_email = case when decided.next_status = 'SENDING' then coalesce(
        message_logs.recipient_email, decided.email) else message_logs.recipient_email end,
      recipient_name = case when decided.next_status = 'SENDING' then coalesce(
        message_logs.recipient_name, decided.full_name) else message_logs.recipient_name end,
      error_message = case decided.next_status
        when 'SENDING' then message_logs.error_message
        when 'QUEUED' then 'held until '
          || to_char(decided.quiet_until, 'YYYY-MM-DD HH24:MI "UTC"')
          || ': these are the user''s quiet hours'
        when 'UNKNOWN' then concat_ws('; ', message_logs.error_message,
          'an attempt of ' || to_char(decided.uncertain_since, 'YYYY-MM-DD HH24:MI "UTC"')
          || ' may have been delivered, and it is too late to repeat it')
        when 'EXPIRED' then 'not sent until '
          || to_char(decided.send_until, 'YYYY-MM-DD HH24:MI "UTC"')
          || ', the end of its late window'
        else case
          when decided.id = any (empty_digests) then 'nothing happened in that week'
          when decided.is_wanted then 'the date was changed'
          when (
            select users.deleted_at from app_public.users where users.id = decided.user_id
          ) is not null then 'the account was closed'
          else 'the user does not want this message any more'
        end
      end
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      -- Asked again of what somebody has just changed.
      and message_logs.status = decided.status
      and message_logs.job_id = decided.job_id
    returning message_logs.*
  ),
  finished as (
    delete from pgboss.job
    using given
    where job.name = 'message-send'
      and job.id = given.job_id
      and not exists (
        select from decided
        where decided.job_id = given.job_id
          and decided.next_status in ('SENDING', 'QUEUED')
      )
  ),
  held as (
    update pgboss.job
    set state = 'retry', start_after = decided.quiet_until, heartbeat_on = null
    from decided
    where job.name = 'message-send'
      and job.id = decided.job_id
      and decided.next_status = 'QUEUED'
  ),
  -- A cancelled occasion can come back, see replan_messages(). A week that is over and
  -- empty does not.
  released as (
    delete from app_private.message_ledger
    using written
    where message_ledger.user_id = written.user_id
      and message_ledger.message_type = written.message_type
      and message_ledger.delivery_date = written.delivery_date
      and written.status = 'CANCELLED'
      and written.id <> all (empty_digests)
  )
  select written.job_id, written.id, written.user_id,
    to_json(written.scheduled_send_time) #>> '{}', written.message_type,
    written.delivery_date, written.recipient_email, written.recipient_name,
    written.message_subject, written.message_content, written.idempotency_key,
    written.retry_count,
    written.uncertain_since is not null or written.attempts is not null
  from written
  where written.status = 'SENDING';

  get diagnostics returned = row_count;
  if returned < jsonb_array_length(p_jobs) and exists (
    select
    from jsonb_to_recordset(p_jobs)
      as given (user_id uuid, message_id uuid, scheduled_send_time timestamptz)
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
    where message_logs.status = 'UNKNOWN'
  ) then
    -- The health check of that name says more, and when it is over.
    perform ops.raise_alert('health-unknown-deliveries', 'message-send', 'warning',
      'messages may or may not have been delivered',
      'gw messages list --status UNKNOWN; then gw messages resolve or redrive');
  end if;
end
$$;
--! EndIncluded functions/app_private/claim_messages.sql
grant execute on function app_private.claim_messages(jsonb, text) to gw_worker;
comment on function app_private.claim_messages(jsonb, text) is
  'Marks a batch SENDING and returns what to send now; composes the digests among them. Takes an array of {job_id, user_id, message_id, scheduled_send_time, message_type}. Jobs of messages that are not to be sent are removed.';

--! Included functions/app_private/record_send_results.sql
-- Definer: see claim_messages(). What was delivered is SENT, whoever says so and however
-- late. Any other outcome counts only for the attempt that is the message's latest.
create or replace function app_private.record_send_results(p_results jsonb, p_channel text)
returns integer
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
-- Planned once a session: planning for each batch anew costs a third of running it.
set plan_cache_mode = force_generic_plan
as $$
declare
  recorded integer;
  reached integer;
  unreachable integer;
  given_up integer;
begin
  with result as materialized (
    select *
    from jsonb_to_recordset(p_results) as result (
      job_id uuid, user_id uuid, message_id uuid, scheduled_send_time timestamptz,
      attempt integer, status text, code integer, body text, error text,
      retry_after_seconds double precision, is_uncertain boolean)
  ),
  decided as materialized (
    select result.*, tries.counted,
      case when result.status = 'RETRYING'
        and result.attempt + tries.counted >= channel.max_attempts
        then 'FAILED' else result.status end as next_status,
      -- Exponential, with full jitter: those that failed together do not come back together.
      clock_timestamp() + greatest(
        random() * least(channel.retry_cap,
          channel.retry_base * 2 ^ least(result.attempt, 20)),
        -- Of a receiver that asks for more than a day, a day is believed.
        least(coalesce(result.retry_after_seconds, 0), 86400) * interval '1 second')
        as retry_at
    from result
    inner join app_private.delivery_channels as channel on channel.name = p_channel
    -- A probe of a receiver that is down uses up no attempt of the message that made it.
    cross join lateral (
      select (channel.circuit = 'closed' or coalesce(result.code, 500) < 500)::integer
    ) as tries (counted)
    -- Whoever else changes many of these rows takes them in this order too.
    order by result.user_id, result.message_id
  ),
  written as (
    update app_public.message_logs
    set status = decided.next_status,
      actual_send_time = case when decided.status = 'SENT' then clock_timestamp() end,
      retry_count = message_logs.retry_count
        + case decided.next_status when 'RETRYING' then decided.counted else 0 end,
      last_retry_at = case when decided.next_status = 'RETRYING'
        then clock_timestamp() else message_logs.last_retry_at end,
      api_response_code = decided.code,
      api_response_body = decided.body,
      error_message = decided.error,
      attempts = case when decided.status = 'SENT' then message_logs.attempts
        else coalesce(message_logs.attempts, '[]') || jsonb_build_array(
          jsonb_strip_nulls(jsonb_build_object(
            'started_at', message_logs.attempted_at,
            'ended_at', clock_timestamp(),
            'code', decided.code,
            'body', left(decided.body, 500),
            'error', decided.error,
            'retry_at', case when decided.next_status = 'RETRYING'
              then decided.retry_at end)))
        end,
      uncertain_since = case
        when decided.status = 'SENT' then null
        when decided.is_uncertain
        then least(message_logs.uncertain_since, message_logs.attempted_at)
        else message_logs.uncertain_since
      end
    from decided
    where message_logs.user_id = decided.user_id
      and message_logs.id = decided.message_id
      and message_logs.scheduled_send_time = decided.scheduled_send_time
      and message_logs.status <> 'SENT'
      and (decided.status = 'SENT'
        or (message_logs.status = 'SENDING' and message_logs.retry_count = decided.attempt))
    returning message_logs.user_id, message_logs.id, message_logs.status,
      message_logs.job_id, message_logs.retry_count, message_logs.error_message,
      decided.retry_at
  ),
  finished as (
    delete from pgboss.job
    using written
    where job.name = 'message-send'
      and job.id = written.job_id
      and written.status <> 'RETRYING'
    returning job.*, written.status as outcome, written.retry_count as tries,
      written.error_message as reason
  ),
  postponed as (
    update pgboss.job
    set state = 'retry', start_after = written.retry_at, heartbeat_on = null,
      output = jsonb_build_object('error', written.error_message)
    from written
    where job.name = 'message-send'
      and job.id = written.job_id
      and written.status = 'RETRYING'
  ),
  -- As pg-boss itself does it.
  dead as (
    insert into pgboss.job (name, data, retry_limit, retry_backoff, retry_delay, keep_until,
      deletion_seconds, expire_seconds, heartbeat_seconds, source_name, source_id,
      source_created_on, source_retry_count, source_output, source_root_id)
    select queue.name, finished.data, queue.retry_limit, queue.retry_backoff,
      queue.retry_delay, now() + queue.retention_seconds * interval '1 second',
      queue.deletion_seconds, queue.expire_seconds, queue.heartbeat_seconds, finished.name,
      finished.id, finished.created_on, finished.tries,
      jsonb_build_object('error', finished.reason), finished.id
    from finished
    inner join pgboss.queue on queue.name = finished.dead_letter
    where finished.outcome = 'FAILED'
  )
  select count(*), count(*) filter (where status = 'FAILED')
  into recorded, given_up
  from written;

  -- Too many requests, or a refusal: somebody is there. What failed without an answer, such
  -- as a message to no address, was never sent and says nothing.
  select count(*) filter (where result.status = 'SENT' or result.code < 500
      or result.status = 'FAILED' and result.code is not null),
    count(*) filter (where result.status = 'RETRYING'
      and (result.code is null or result.code >= 500))
  into reached, unreachable
  from jsonb_to_recordset(p_results) as result (status text, code integer);
  perform app_private.note_channel_health(p_channel, reached, unreachable);

  if given_up > 0 then
    -- The health check of that name says more, and when it is over.
    perform ops.raise_alert('health-dead-letters', 'message-send-dead', 'warning',
      'messages were given up',
      'gw messages list --status FAILED; then gw messages redrive');
  end if;
  return recorded;
end
$$;
--! EndIncluded functions/app_private/record_send_results.sql
grant execute on function app_private.record_send_results(jsonb, text) to gw_worker;
comment on function app_private.record_send_results(jsonb, text) is
  'Records what became of a batch of attempts, and finishes or postpones their jobs: an array of {job_id, user_id, message_id, scheduled_send_time, attempt, status, code, body, error, retry_after_seconds, is_uncertain}. Returns how many counted.';

--! Included functions/ops/unknown_deliveries.sql
-- Definer: as message_status(). An older one waits no more.
create or replace function ops.unknown_deliveries()
returns table (message_type text, messages bigint, oldest timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select message_logs.message_type, count(*), min(message_logs.scheduled_send_time)
  from app_public.message_logs
  where message_logs.scheduled_send_time between now() - interval '90 days' and now()
    and message_logs.status = 'UNKNOWN'
  group by 1
$$;
--! EndIncluded functions/ops/unknown_deliveries.sql
grant execute on function ops.unknown_deliveries() to gw_monitor;
comment on function ops.unknown_deliveries() is
  'How many messages of each type may or may not have been delivered in the last 90 days.';

--! Included functions/app_private/requeue_lost_messages.sql
-- A job can be lost: deleted by hand, or expired because no worker ran for a week. The
-- message then waits for nothing. claim_messages() decides whether it may still be sent.
create or replace function app_private.requeue_lost_messages() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with lost as (
    select user_id, id, scheduled_send_time
    from app_public.message_logs
    where status in ('QUEUED', 'SENDING', 'RETRYING')
      and scheduled_send_time > now() - interval '1 year'
      and updated_at < now() - interval '15 minutes'
      and not exists (
        select from pgboss.job
        where job.name = 'message-send'
          and job.id = message_logs.job_id
          and job.state in ('created', 'retry', 'active')
      )
    order by user_id, id
    for update skip locked
  )
  select coalesce(app_private.enqueue_messages(array_agg(lost.user_id), array_agg(lost.id),
    array_agg(lost.scheduled_send_time), now()), 0)
  from lost
$$;
--! EndIncluded functions/app_private/requeue_lost_messages.sql
comment on function app_private.requeue_lost_messages() is
  'Gives a new job to each message that waits for one that is gone. Returns how many.';

--! Included functions/app_private/prune_message_ledger.sql
-- An occasion is looked for in the ledger until its late window is over, which is 7 days at
-- most. What became of it is in message_logs.
create or replace function app_private.prune_message_ledger() returns integer
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with pruned as (
    delete from app_private.message_ledger
    where delivery_date < (now() - interval '60 days')::date
    returning 1
  )
  select count(*)::integer from pruned
$$;
--! EndIncluded functions/app_private/prune_message_ledger.sql
comment on function app_private.prune_message_ledger() is
  'Deletes ledger rows of occasions more than 60 days ago. Returns how many.';

-- Workers of before find their jobs gone and their messages planned: queue_due_messages()
-- makes new ones. What they have begun keeps its job.
delete from pgboss.job where name = 'message-send' and state < 'active';
update app_public.message_logs
set job_id = id, attempted_at = updated_at
where status in ('QUEUED', 'SENDING', 'RETRYING');

-- How often is the message's matter, counted in message_logs; a job is only taken back from
-- a worker that died.
update pgboss.queue
set retry_limit = 1000000, retry_delay = 1, retry_backoff = false, retry_delay_max = null
where name = 'message-send';

select app_private.schedule_messages(array_agg(id))
from app_public.users
where deleted_at is null;

drop function if exists app_private.fail_abandoned_messages();
delete from ops.cron_jobs where job_name = 'fail-abandoned-messages';
insert into ops.cron_jobs (job_name, schedule, command, description) values
  ('requeue-lost-messages', '*/5 * * * *', 'select app_private.requeue_lost_messages()',
    'A message whose job is gone would wait for ever.'),
  ('prune-message-ledger', '41 3 * * *', 'select app_private.prune_message_ledger()',
    'What makes a message unique is needed only as long as it could be planned again.')
on conflict (job_name) do update
set schedule = excluded.schedule,
  command = excluded.command,
  description = excluded.description;
