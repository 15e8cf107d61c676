/*
 * Telemetry: ops.metrics() gives a scraper every figure of the database; a request's
 * trace reaches the jobs that it causes; insights() gives charts their weeks from the
 * query cache, which changes of the user's rows empty.
 *
 * Locks: SHARE ROW EXCLUSIVE for a moment on tasks, goals, habits, habit_logs and
 * reflections, for their new triggers.
 */

-- squawk-ignore-file ban-drop-table

--!include functions/app_hidden/current_traceparent.sql
grant execute on function app_hidden.current_traceparent()
  to app_user, app_anonymous;
comment on function app_hidden.current_traceparent() is
  'The W3C traceparent of the current request, or null; put into the data of its jobs.';

-- Counters of the cache. Sequences, because hits must neither wait for each other nor be
-- undone by a transaction that fails; unlogged as the cache is.
drop sequence if exists app_private.query_cache_hits, app_private.query_cache_misses;
create unlogged sequence app_private.query_cache_hits;
create unlogged sequence app_private.query_cache_misses;

comment on sequence app_private.query_cache_hits is
  'How often query_cache_get() had a result.';
comment on sequence app_private.query_cache_misses is
  'How often query_cache_get() had none.';

--!include functions/app_private/query_cache_get.sql

drop function if exists app_public.insights(integer);
drop type if exists app_public.insight_week;
create type app_public.insight_week as (
  week_start date,
  tasks_created integer,
  tasks_completed integer,
  reflections integer,
  average_mood double precision,
  habit_days integer,
  habits_kept integer,
  activity integer
);
comment on type app_public.insight_week is 'What you did in one week of yours.';
comment on column app_public.insight_week.week_start is
  E'@notNull\nThe Monday on which the week begins, in your time zone.';
comment on column app_public.insight_week.tasks_created is E'@notNull\nTasks made.';
comment on column app_public.insight_week.tasks_completed is E'@notNull\nTasks done.';
comment on column app_public.insight_week.reflections is
  E'@notNull\nEntries of the journal.';
comment on column app_public.insight_week.average_mood is
  'Mean of the entries'' moods, 1 to 5; null without any.';
comment on column app_public.insight_week.habit_days is
  E'@notNull\nDays on which a habit was kept, added up over habits.';
comment on column app_public.insight_week.habits_kept is
  E'@notNull\nHabits that were kept on at least one day.';
comment on column app_public.insight_week.activity is
  E'@notNull\nEntries of the activity: things made, changed, done and deleted.';

--!include functions/app_private/insights_lock.sql
comment on function app_private.insights_lock(uuid) is
  'The advisory lock of a user''s insights, 0 to 1023.';
--!include functions/app_private/compute_insights.sql
comment on function app_private.compute_insights(uuid, integer, text, date) is
  'The weeks of a user up to a day, as a JSON array; reads the tables.';
--!include functions/app_private/cached_insights.sql
comment on function app_private.cached_insights(uuid, integer) is
  'The weeks of a user up to today: from the cache, or computed and kept for an hour.';
--!include functions/app_public/insights.sql
grant execute on function app_public.insights(integer) to app_user;
comment on function app_public.insights(integer) is
  'Your last weeks, this one included, for charts: at most 100, oldest first.';

--!include functions/app_private/tg__invalidate_insights.sql
comment on function app_private.tg__invalidate_insights() is
  'Drops the cached insights of the users whose rows a statement has changed.';

-- The activity, which insights() counts too, is written by triggers of the same tables.
do $triggers$
declare
  target text;
begin
  foreach target in array
    array['tasks', 'goals', 'habits', 'habit_logs', 'reflections']
  loop
    execute pg_catalog.format('
      drop trigger if exists _900_invalidate_insert on app_public.%1$I;
      drop trigger if exists _900_invalidate_update on app_public.%1$I;
      drop trigger if exists _900_invalidate_delete on app_public.%1$I;
      create trigger _900_invalidate_insert after insert on app_public.%1$I
        referencing new table as new_rows
        for each statement execute function app_private.tg__invalidate_insights();
      create trigger _900_invalidate_update after update on app_public.%1$I
        referencing new table as new_rows
        for each statement execute function app_private.tg__invalidate_insights();
      create trigger _900_invalidate_delete after delete on app_public.%1$I
        referencing old table as old_rows
        for each statement execute function app_private.tg__invalidate_insights();
    ', target);
  end loop;
end
$triggers$;

--!include functions/ops/metrics.sql
grant execute on function ops.metrics() to gw_authenticator, gw_monitor;
comment on function ops.metrics() is
  'Figures for a scraper, of queues, messages, change capture, cron, backups and more.';
