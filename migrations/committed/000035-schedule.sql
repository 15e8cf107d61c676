--! Previous: sha1:01e49e5ba15d1cace357e7446d5d9bb44cfd451d
--! Hash: sha1:ae1ddb8b8c95e6711c07587706faf40fd31ccc9e
--! Message: schedule
--! Baseline: topics/35-schedule.sql

/*
 * When things run by themselves, and how long they are kept: every pg_cron job and every
 * partition policy. Nothing else declares one.
 *
 * "gw report cron-jobs" shows what ran last.
 */

--! Included functions/app_private/analyze_hot_tables.sql
create or replace function app_private.analyze_hot_tables() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  analyze app_public.tasks, app_public.user_activity, app_public.reflections;
end
$$;

comment on function app_private.analyze_hot_tables() is
  'Refreshes the planner''s statistics of the tables that change most.';
--! EndIncluded functions/app_private/analyze_hot_tables.sql

insert into ops.partition_policies
  (parent_table, step, premake, retention, retention_action, require_backup)
values
  -- The record of what was sent is kept.
  ('app_public.message_logs', '1 month', 12, null, 'detach', true),
  -- A year, then dropped once a verified backup holds it.
  ('app_public.user_activity', '1 month', 12, '12 months', 'drop', true),
  -- Samples, not records: dropped when they are old, backed up or not.
  ('app_private.performance_metrics', '1 month', 6, '12 months', 'drop', false),
  ('app_private.connection_pool_stats', '1 month', 6, '3 months', 'drop', false);

select ops.ensure_partitions();

-- Times are UTC.
insert into ops.cron_jobs (job_name, schedule, command, description) values
  -- Each minute.
  ('plan-due-messages', '* * * * *', 'select app_private.plan_due_messages()',
    'Finds birthdays and anniversaries of the next 24 hours and queues their messages.'),
  ('check-health', '* * * * *', 'select ops.check_health()',
    'Runs the health checks that are due; alerts follow what they find.'),
  -- Several times an hour.
  ('requeue-lost-messages', '*/5 * * * *', 'select app_private.requeue_lost_messages()',
    'A message whose job is gone would wait for ever.'),
  ('refresh-views', '*/15 * * * *', 'select app_private.refresh_performance_views()',
    'user_activity_summary and query_performance_summary.'),
  -- Each hour.
  ('refresh-weekly-summary', '0 * * * *', 'select app_private.refresh_weekly_summary()',
    'The chart of the last twelve weeks.'),
  ('cache-cleanup', '0 * * * *', 'select app_private.cleanup_expired_cache()',
    'An expired result is never returned; this gives its space back.'),
  -- Each night.
  ('daily-analyze', '0 2 * * *', 'select app_private.analyze_hot_tables()',
    'Statistics of partitioned parents, which autovacuum does not keep.'),
  ('ensure-partitions', '17 3 * * *', 'select ops.ensure_partitions()',
    'Keeps every policy''s partitions ahead of time; catches up after missed runs.'),
  ('delete-expired-sessions', '29 3 * * *',
    'select app_private.delete_expired_sessions()',
    'Sessions are of no use a week after they ended.'),
  ('prune-message-ledger', '41 3 * * *', 'select app_private.prune_message_ledger()',
    'What makes a message unique is needed only as long as it could be planned again.'),
  ('cron-history-cleanup', '43 3 * * *',
    'select ops.delete_cron_history()',
    'pg_cron never deletes its own history.'),
  ('stripe-events-cleanup', '50 3 * * *', 'select app_private.delete_old_stripe_events()',
    'Events of Stripe are kept for a year.'),
  ('alert-notices-cleanup', '51 3 * * *', 'select ops.delete_old_alert_notices()',
    'Notices are kept 90 days.'),
  ('drop-detached-partitions', '51 3 * * *', 'select ops.drop_detached_partitions()',
    'Backups and replication slots catch up during the month; then the tables can go.'),
  ('sync-timezones', '5 4 * * *', 'select app_hidden.sync_timezones()',
    'A tzdata update may bring zones.'),
  -- Each month.
  ('create-next-month-partition', '0 0 1 * *', 'select ops.create_next_month_partition()',
    'Creates next month''s partitions; ensure-partitions catches up nightly.'),
  ('prune-old-partitions', '0 0 2 * *', 'select ops.prune_old_activity_partitions()',
    'Detaches partitions that are older than their policy keeps.');
