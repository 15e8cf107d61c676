--! Previous: sha1:c1a87f723881b86af080ca352c0ec8c2a35d7363
--! Hash: sha1:3b8c1c24fe33fb92dfc445f901680e8220003544
--! Message: digests

--! split: 0001-digests.sql
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
  empty_digests := coalesce((
    select app_private.compose_digests(array_agg(job.user_id), array_agg(job.message_id),
      array_agg(job.scheduled_send_time))
    from jsonb_to_recordset(p_jobs) as job (
      user_id uuid, message_id uuid, scheduled_send_time timestamptz, message_type text)
    where coalesce(job.message_type, 'DIGEST') = 'DIGEST'
    having count(*) > 0
  ), array[]::uuid[]);

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
comment on function app_private.claim_messages(jsonb, text) is
  'Marks a batch SENDING and returns what to send now; composes the digests among them. Takes an array of {job_id, user_id, message_id, scheduled_send_time, message_type}. Jobs of messages that are not to be sent are removed.';

comment on table app_public.digests is
  'A summary of a week, made on the Monday after it for users who want the weekly digest.';
comment on column app_public.digests.content is
  'A JSON object: week_start, timezone, tasks_created, tasks_done, goals_touched, habit_days, reflections, mood_sum, mood_count, mood_average (null without a mood), habits (at most 100 of {id, name, done, streak}: days kept in the week, and in a row up to its Sunday), previous (the same counts of the week before) and change (what became of each); both null in the week in which the user joined.';

select app_private.schedule_messages(array_agg(id))
from app_public.users
where deleted_at is null;
