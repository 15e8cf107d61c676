--! Previous: sha1:2d442cb54f0bf181919651e31fac91f6b09be17e
--! Hash: sha1:320bd4b9137e9061ed3d590b4bd44ecdda1a3fa6
--! Message: digests
--! Baseline: topics/29-digests.sql

/*
 * The weekly digest: a summary of a user's week, composed when its message is sent.
 */

-- One row for each user and week. claim_messages() composes it just before the message is
-- sent, so that it says what is true on Monday morning.
create table app_public.digests (
  user_id uuid not null,
  id uuid not null default gen_random_uuid(),
  week_start date not null,
  content jsonb not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint digests_pkey primary key (user_id, id),
  constraint digests_user_id_week_start_key unique (user_id, week_start),
  constraint digests_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint digests_week_start_check check (extract(isodow from week_start) = 1),
  constraint digests_content_check check (jsonb_typeof(content) = 'object')
);

alter table app_public.digests enable row level security;

create policy own on app_public.digests
  for select to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.digests
  for select to gw_readonly
  using (true);

grant select on app_public.digests to app_user, gw_readonly;

create trigger _100_timestamps before insert or update on app_public.digests
  for each row execute function app_private.tg__timestamps();

comment on table app_public.digests is
  E'@defaultOrder week_start desc\n'
  'A summary of a week, composed on the Monday after it for users who want the weekly digest.';
comment on column app_public.digests.user_id is 'Whose week it was.';
comment on column app_public.digests.id is 'Unique among the user''s digests.';
comment on column app_public.digests.week_start is 'The Monday on which the week began.';
comment on column app_public.digests.content is
  'A JSON object: week_start, timezone, tasks_created, tasks_done, goals_touched, habit_days, reflections, mood_sum, mood_count, mood_average (null without a mood), habits (at most 100 of {id, name, done, streak}: days kept in the week, and in a row up to its Sunday), previous (the same counts of the week before) and change (what became of each); both null in the week in which the user joined.';
comment on column app_public.digests.created_at is 'When the row was made.';
comment on column app_public.digests.updated_at is 'When the row last changed.';

--! Included functions/app_private/digest_events.sql
-- Events belong to local days of the user. So the local date is computed for each row,
-- and the range of instants only has to be wide enough. Rows are read once for each user,
-- however many weeks are wanted, by indexes that begin with user_id: a lateral with
-- "offset 0" cannot become a join with the rows of all users.
--
-- A goal counts as touched in a week when it, or a task that works towards it, was
-- created, when it was changed, when such a task was done, or when a reflection is about
-- it.
create or replace function app_private.digest_events(
  p_user_ids uuid[], p_week_starts date[]
) returns table (user_id uuid, kind text, id uuid, mood_score smallint, week date)
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
  with spans as materialized (
    -- The week before is counted too, to be compared with.
    select users.id as user_id, zone.name as timezone,
      min(wanted.week) - 7 as first_date,
      max(wanted.week) + 6 as last_date,
      (min(wanted.week) - 8)::timestamp at time zone 'UTC' as since,
      (max(wanted.week) + 8)::timestamp at time zone 'UTC' as until
    from unnest(p_user_ids, p_week_starts) as wanted (user_id, week)
    inner join app_public.users on users.id = wanted.user_id
    inner join app_hidden.known_timezones as zone on zone.name = users.timezone
    group by users.id, zone.name
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
        -- A task is never done after its last change, and updated_at has the index.
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
        -- A bound that lets PostgreSQL skip partitions.
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
  )
  select happened.user_id, happened.kind, happened.id, happened.mood_score, happened.week
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
  where happened.kind = 'reflection';
end
$$;

comment on function app_private.digest_events(uuid[], date[]) is
  'What these users did in these weeks, and in the weeks before, by weeks of their own days: tasks made and done, goals touched, habit days, reflections.';
--! EndIncluded functions/app_private/digest_events.sql
--! Included functions/app_private/digest_habits.sql
-- Without SET, so that it becomes part of digest_contents().
create or replace function app_private.digest_habits(
  p_user_id uuid, p_week date, p_timezone text
) returns table (habits jsonb)
language sql stable
as $$
  select coalesce(pg_catalog.jsonb_agg(
    pg_catalog.jsonb_build_object('id', habit.id, 'name', habit.name, 'done', habit.done,
      'streak', habit.streak)
    order by habit.done desc, habit.name, habit.id), '[]') as habits
  from (
    select habits.id, habits.name, log.done, coalesce(run.streak, 0) as streak
    from app_public.habits
    cross join lateral (
      select pg_catalog.count(*) as done, pg_catalog.max(habit_logs.log_date) as last_date
      from app_public.habit_logs
      where habit_logs.user_id = habits.user_id
        and habit_logs.habit_id = habits.id
        and habit_logs.log_date between p_week and p_week + 6
      offset 0
    ) as log
    -- From Sunday back to the latest day before which there is none.
    left join lateral (
      select p_week + 7 - habit_logs.log_date as streak
      from app_public.habit_logs
      where habit_logs.user_id = habits.user_id
        and habit_logs.habit_id = habits.id
        and habit_logs.log_date <= p_week + 6
        and not exists (
          select from app_public.habit_logs as day_before
          where day_before.user_id = habit_logs.user_id
            and day_before.habit_id = habit_logs.habit_id
            and day_before.log_date = habit_logs.log_date - 1
        )
      order by habit_logs.log_date desc
      limit 1
    ) as run on log.last_date = p_week + 6
    where habits.user_id = p_user_id
      and (log.done > 0
        or (habits.created_at at time zone p_timezone)::date < p_week + 7
        and coalesce(habits.archived_at at time zone p_timezone, 'infinity')
          >= p_week)
    order by log.done desc, habits.name, habits.id
    limit 100
  ) as habit
$$;

comment on function app_private.digest_habits(uuid, date, text) is
  'The habits that a user had in a week, at most 100: the days on which each was kept, and how many in a row up to its Sunday.';
--! EndIncluded functions/app_private/digest_habits.sql
--! Included functions/app_private/digest_contents.sql
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
begin
  return query
  with wanted as materialized (
    select distinct users.id as user_id, wanted.week, zone.name as timezone,
      (users.created_at at time zone zone.name)::date as joined_on
    from unnest(p_user_ids, p_week_starts) as wanted (user_id, week)
    inner join app_public.users on users.id = wanted.user_id
    inner join app_hidden.known_timezones as zone on zone.name = users.timezone
  ),
  events as (
    select * from app_private.digest_events(p_user_ids, p_week_starts)
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
      -- A user who joined in this week has no week before it.
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
  cross join lateral app_private.digest_habits(
    compared.user_id, compared.week, wanted.timezone) as kept
  where compared.is_wanted;
end
$$;

comment on function app_private.digest_contents(uuid[], date[]) is
  'The contents of digests: counts of a week and of the week before, by the user''s own days. The arrays are pairs: p_week_starts[i] is a week of p_user_ids[i].';
--! EndIncluded functions/app_private/digest_contents.sql
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

comment on function app_private.digest_values(jsonb, text, text) is
  'What a template of type DIGEST can name: first_name, last_name, full_name, week_start, week_end, habits, and tasks_done, tasks_created, goals_touched, habit_days, reflections, mood_average, each also as previous_….';
--! EndIncluded functions/app_private/digest_values.sql
--! Included functions/app_private/compose_digests.sql
-- A message that may have reached somebody keeps its text. Locks are taken in the order of claim_messages().
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
      rules.locale, rules.message_type
    from unnest(p_user_ids, p_message_ids, p_times)
      as given (user_id, message_id, scheduled_send_time)
    inner join app_public.message_logs
      on message_logs.user_id = given.user_id
      and message_logs.id = given.message_id
      and message_logs.scheduled_send_time = given.scheduled_send_time
    inner join app_private.message_rules as rules
      on rules.user_id = message_logs.user_id
      and rules.message_type = message_logs.message_type
    where rules.repeats = 'weekly'
      and message_logs.status in ('QUEUED', 'RETRYING')
      and message_logs.recipient_name is null
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
      message_content = app_hidden.render_template(template.body, given.names),
      message_html = case when template.html is not null then app_hidden.render_template(
        template.html, app_hidden.html_values(given.names)) end,
      template_version = template.version, template_locale = template.locale
    from found
    inner join contents
      on contents.user_id = found.user_id
      and contents.week_start = found.week_start
    cross join lateral app_private.choose_template(
      found.message_type, found.locale, found.user_id) as template
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

comment on function app_private.compose_digests(uuid[], uuid[], timestamptz[]) is
  'Composes those of these messages that are digests, and that nobody can have yet: writes the digests and the texts. Returns the ids of messages whose week is empty.';
--! EndIncluded functions/app_private/compose_digests.sql
--! Included functions/app_private/backfill_digests.sql
-- Weeks that ended before the user joined get none.
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
    inner join app_hidden.known_timezones as zone on zone.name = users.timezone
    cross join lateral (
      select date_trunc('week', now() at time zone zone.name)::date - 7 * number
      from generate_series(1, p_weeks) as number
    ) as week (start)
    where users.id = any (p_user_ids)
      and users.deleted_at is null
      and week.start + 6 >= (users.created_at at time zone zone.name)::date
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

comment on function app_private.backfill_digests(uuid[], integer, boolean) is
  'Writes the digests of these users'' latest complete weeks, 1 to 52, without messages. Existing ones stay, unless p_recompute says otherwise. Returns how many were written.';
--! EndIncluded functions/app_private/backfill_digests.sql
--! Included functions/app_private/compose_digests_singly.sql
-- For a batch that could not be composed: each digest by itself, so that a bad one does
-- not hold up the others. The bad one is FAILED: a person mends the cause and sends it
-- again. An error that passes by itself, such as a lock or a full disk, is raised again,
-- and the batch is retried.
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
    where given.message_type is null
      or given.message_type in (
        select type from app_private.message_types where repeats = 'weekly')
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

comment on function app_private.compose_digests_singly(jsonb, text) is
  'As compose_digests(), one after the other; a message that cannot be composed is FAILED.';
--! EndIncluded functions/app_private/compose_digests_singly.sql
