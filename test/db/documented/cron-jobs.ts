/** What the documents give to pg_cron, to the letter, and the declared job of that name. */
export const scheduled: { document: string; job: string; sql: string }[] = [
  {
    document: 'Billow',
    job: 'refresh-weekly-summary',
    sql: `SELECT cron.schedule(
  'refresh-weekly-summary',
  '0 * * * *',
  $$REFRESH MATERIALIZED VIEW CONCURRENTLY mv_user_weekly_summary$$
);`,
  },
  {
    document: 'Billow',
    job: 'create-next-month-partition',
    sql: `SELECT cron.schedule(
  'create-next-month-partition',
  '0 0 1 * *',
  $$SELECT create_next_month_partition()$$
);`,
  },
  {
    document: 'Billow',
    job: 'prune-old-partitions',
    sql: `SELECT cron.schedule(
  'prune-old-partitions',
  '0 0 2 * *',
  $$SELECT prune_old_activity_partitions()$$
);`,
  },
  {
    document: 'Billow',
    job: 'daily-analyze',
    sql: `SELECT cron.schedule(
  'daily-analyze',
  '0 2 * * *',
  $$
  ANALYZE tasks;
  ANALYZE user_activity;
  ANALYZE reflections;
  $$
);`,
  },
  {
    document: 'performance optimization',
    job: 'cache-cleanup',
    sql: "SELECT cron.schedule('cache-cleanup', '0 * * * *', 'SELECT cleanup_expired_cache();');",
  },
  {
    document: 'performance optimization',
    job: 'refresh-views',
    sql: "SELECT cron.schedule('refresh-views', '*/15 * * * *', 'SELECT refresh_performance_views();');",
  },
];

/** What the documents say about jobs that are scheduled. */
export const aboutJobs: string[] = [
  'SELECT * FROM cron.job;',
  "SELECT cron.unschedule('cache-cleanup');",
  "SELECT cron.unschedule('refresh-views');",
  // 'job-name' stands for any.
  "SELECT cron.unschedule('job-name');".replace('job-name', 'daily-analyze'),
];
