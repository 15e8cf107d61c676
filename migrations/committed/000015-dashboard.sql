--! Previous: sha1:649bd15d30f1be78425b34480c4227b4f1d4af2f
--! Hash: sha1:330b254a8d84a28742bb0b3fcee98f5e34d55a76
--! Message: dashboard
--! Baseline: topics/15-dashboard.sql

/*
 * Counts by day and by week, for charts.
 *
 * Change data capture updates the daily counts within seconds. The weekly summary is a
 * materialized view that is refreshed every hour.
 */

-- Daily counts, written by change data capture. The mood is stored as a sum and a count,
-- so that the average stays exact when reflections are added, changed or deleted.
create table app_public.user_dashboard_aggregates (
  user_id uuid not null,
  agg_date date not null,
  tasks_created integer not null default 0,
  tasks_completed integer not null default 0,
  reflections_count integer not null default 0,
  mood_sum integer not null default 0,
  mood_count integer not null default 0,
  avg_mood numeric(3, 2) generated always as (
    case when mood_count > 0 then round(mood_sum::numeric / mood_count, 2) end) stored,
  last_updated timestamptz not null default now(),
  constraint user_dashboard_aggregates_pkey primary key (user_id, agg_date),
  constraint user_dashboard_aggregates_user_id_fkey
    foreign key (user_id) references app_public.users on delete cascade,
  constraint user_dashboard_aggregates_counts_check check (
    least(tasks_created, tasks_completed, reflections_count, mood_sum, mood_count) >= 0)
);

alter table app_public.user_dashboard_aggregates enable row level security;

create policy own on app_public.user_dashboard_aggregates
  for select to app_user
  using (user_id = app_hidden.current_app_user_id());

create policy everyone on app_public.user_dashboard_aggregates
  for select to gw_readonly
  using (true);

create policy capture on app_public.user_dashboard_aggregates
  for all to gw_cdc
  using (true);

-- No insert, update or delete by users: the consumer of the change stream writes the
-- table.
grant select on app_public.user_dashboard_aggregates to app_user, gw_readonly;

grant select, insert, update, delete on app_public.user_dashboard_aggregates to gw_cdc;

comment on table app_public.user_dashboard_aggregates is
  E'@defaultOrder agg_date desc\n'
  'Counts of a user''s tasks and reflections for one day.';
comment on column app_public.user_dashboard_aggregates.user_id is
  'The user whose rows are counted.';
comment on column app_public.user_dashboard_aggregates.agg_date is
  'The day, in the user''s time zone.';
comment on column app_public.user_dashboard_aggregates.tasks_created is
  'Number of tasks created on the day.';
comment on column app_public.user_dashboard_aggregates.tasks_completed is
  'Number of tasks completed on the day.';
comment on column app_public.user_dashboard_aggregates.reflections_count is
  'Number of reflections about the day.';
comment on column app_public.user_dashboard_aggregates.mood_sum is
  'Sum of the mood scores of these reflections.';
comment on column app_public.user_dashboard_aggregates.mood_count is
  'Number of these reflections that have a mood score.';
comment on column app_public.user_dashboard_aggregates.avg_mood is
  E'@name average_mood\n'
  'Average mood score, 1.00 to 5.00; null when no reflection has one.';
comment on column app_public.user_dashboard_aggregates.last_updated is
  'When the counts last changed.';

-- Weekly counts of the last twelve weeks, for a chart. Tasks and reflections are counted
-- separately and then joined by week: one join of the rows would multiply the counts and
-- lose weeks that have only reflections.
create materialized view app_private.mv_user_weekly_summary as
  with task_weeks as (
    select user_id,
      date_trunc('week', created_at at time zone 'UTC')::date as week_start,
      count(*) filter (where status = 'done') as tasks_completed,
      count(*) as tasks_total
    from app_public.tasks
    where created_at >= date_trunc('week', now() at time zone 'UTC') at time zone 'UTC'
      - interval '12 weeks'
    group by 1, 2
  ),
  reflection_weeks as (
    select user_id,
      date_trunc('week', reflection_date::timestamp)::date as week_start,
      round(avg(mood_score), 2) as avg_mood,
      count(*) as reflections_count
    from app_public.reflections
    where reflection_date >= date_trunc('week', now() at time zone 'UTC')::date - 84
    group by 1, 2
  )
  select user_id,
    week_start,
    coalesce(task_weeks.tasks_completed, 0) as tasks_completed,
    coalesce(task_weeks.tasks_total, 0) as tasks_total,
    reflection_weeks.avg_mood,
    coalesce(reflection_weeks.reflections_count, 0) as reflections_count
  from task_weeks
  full join reflection_weeks using (user_id, week_start);

-- REFRESH … CONCURRENTLY, which does not block readers, needs a unique index. The view is
-- new and has no readers yet, so a plain index build blocks nobody.
-- squawk-ignore require-concurrent-index-creation
create unique index mv_user_weekly_summary_user_id_week_start_key
  on app_private.mv_user_weekly_summary (user_id, week_start);

comment on materialized view app_private.mv_user_weekly_summary is
  'Tasks and reflections of each user and week (from Monday, UTC), as of the latest refresh. To refresh it reads the tables whole, so nothing does so unasked: refresh_weekly_summary().';

-- The same for the caller alone, counted when it is asked for: a user's weeks are a few
-- hundred rows, everybody's are the whole table.
create view app_public.weekly_summaries with (security_invoker = true) as
  select user_id,
    week_start,
    coalesce(task_weeks.tasks_completed, 0)::integer as tasks_completed,
    coalesce(task_weeks.tasks_total, 0)::integer as tasks_total,
    reflection_weeks.avg_mood,
    coalesce(reflection_weeks.reflections_count, 0)::integer as reflections_count
  from (
    select tasks.user_id,
      date_trunc('week', tasks.created_at at time zone 'UTC')::date as week_start,
      count(*) filter (where tasks.status = 'done') as tasks_completed,
      count(*) as tasks_total
    from app_public.tasks
    where tasks.user_id = app_hidden.current_app_user_id()
      and tasks.created_at >= date_trunc('week', now() at time zone 'UTC')
        at time zone 'UTC' - interval '12 weeks'
    group by 1, 2
  ) as task_weeks
  full join (
    select reflections.user_id,
      date_trunc('week', reflections.reflection_date::timestamp)::date as week_start,
      round(avg(reflections.mood_score), 2) as avg_mood,
      count(*) as reflections_count
    from app_public.reflections
    where reflections.user_id = app_hidden.current_app_user_id()
      and reflections.reflection_date
        >= date_trunc('week', now() at time zone 'UTC')::date - 84
    group by 1, 2
  ) as reflection_weeks using (user_id, week_start);

grant select on app_public.weekly_summaries to app_user;

comment on view app_public.weekly_summaries is
  E'@defaultOrder week_start desc\n@primaryKey user_id,week_start\n'
  '@foreignKey (user_id) references app_public.users (id)\n'
  'Your counts for each of the last twelve weeks and the current one. A week without tasks '
  'and reflections has no row.';
comment on column app_public.weekly_summaries.user_id is
  'The user whose rows are counted.';
comment on column app_public.weekly_summaries.week_start is
  'The Monday on which the week began, in UTC.';
comment on column app_public.weekly_summaries.tasks_completed is
  E'@notNull\n'
  'Number of tasks that were created in the week and are done now.';
comment on column app_public.weekly_summaries.tasks_total is
  E'@notNull\n'
  'Number of tasks created in the week.';
comment on column app_public.weekly_summaries.avg_mood is
  E'@name average_mood\n'
  'Average mood score of the week''s reflections, 1.00 to 5.00; null when none has a '
  'score.';
comment on column app_public.weekly_summaries.reflections_count is
  E'@notNull\n'
  'Number of reflections about days of the week.';

--! Included functions/app_private/refresh_weekly_summary.sql
create or replace function app_private.refresh_weekly_summary() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  refresh materialized view concurrently app_private.mv_user_weekly_summary;
end
$$;

comment on function app_private.refresh_weekly_summary() is
  'Refreshes mv_user_weekly_summary without blocking readers. Reads all tasks of twelve weeks: 2.5 seconds at 100,000 users.';
--! EndIncluded functions/app_private/refresh_weekly_summary.sql
