import type { Operation } from './operation.ts';

/** "Database Operations Guide" of Billow. Its pg_cron jobs are in cron-jobs.ts. */
export const billow: Operation[] = [
  {
    section: 'Architecture (row-level security)',
    sql: `CREATE POLICY <table>_self_all ON <table>
FOR ALL
USING (user_id = current_app_user_id());`,
    with: { '<table>': 'tasks' },
    as: 'owner',
  },
  { section: 'Implementation', sql: 'SELECT set_app_user($1)', as: 'authenticator' },
  {
    section: 'Job 1: Refresh Materialized View',
    sql: 'REFRESH MATERIALIZED VIEW CONCURRENTLY mv_user_weekly_summary',
    as: 'owner',
  },
  {
    section: 'Job 2: Create Next Month Partition',
    sql: 'SELECT create_next_month_partition()',
    as: 'owner',
  },
  {
    section: 'Job 3: Prune Old Partitions',
    sql: 'SELECT prune_old_activity_partitions()',
    as: 'owner',
  },
  {
    section: 'Job 4: Daily ANALYZE',
    sql: `ANALYZE tasks;
  ANALYZE user_activity;
  ANALYZE reflections;`,
    as: 'owner',
  },
  {
    section: 'mv_user_weekly_summary',
    sql: 'SELECT * FROM mv_user_weekly_summary WHERE user_id = $1 ORDER BY week_start DESC LIMIT 12;',
    as: 'owner',
  },
  {
    section: 'mv_user_weekly_summary, by a user',
    sql: 'SELECT * FROM mv_user_weekly_summary WHERE user_id = $1 ORDER BY week_start DESC LIMIT 12;',
    as: 'user',
    replaced: {
      fate: { fails: '42P01' },
      why: 'a materialized view ignores row-level security, so users read a view of their rows',
      by: {
        sql: 'SELECT * FROM weekly_summaries WHERE user_id = $1 ORDER BY week_start DESC LIMIT 12;',
        as: 'user',
      },
    },
  },
  {
    section: 'Setup (logical replication)',
    sql: 'ALTER SYSTEM SET wal_level = logical;',
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: 'docker/postgresql.conf sets it, in text that is reviewed',
      by: {
        sql: "select 1 / (current_setting('wal_level') = 'logical')::integer as is_set",
        as: 'monitor',
      },
    },
  },
  {
    section: 'Monitoring (change data capture)',
    sql: "SELECT * FROM pg_replication_slots WHERE slot_name = 'billow_slot';",
    as: 'monitor',
  },
  {
    section: 'Autovacuum',
    sql: 'ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0.05);',
    as: 'owner',
    replaced: {
      fate: { fails: ['22023', '42809'] },
      why: 'a partitioned table has no storage, so each partition is told',
      by: {
        sql: `alter table app_partitions.tasks_h00 set (autovacuum_vacuum_scale_factor = 0.05)`,
        as: 'owner',
      },
    },
  },
  {
    section: 'Autovacuum',
    sql: 'ALTER TABLE reflections SET (autovacuum_vacuum_scale_factor = 0.1);',
    as: 'owner',
  },
  {
    section: 'Autovacuum',
    sql: `SELECT schemaname, tablename, last_vacuum, last_autovacuum
FROM pg_stat_user_tables
ORDER BY last_autovacuum DESC;`,
    as: 'monitor',
    replaced: {
      fate: { fails: '42703' },
      why: 'pg_stat_user_tables calls the column relname',
      by: {
        sql: `select schemaname, relname, last_vacuum, last_autovacuum
          from pg_stat_user_tables
          order by last_autovacuum desc nulls last`,
        as: 'monitor',
      },
    },
  },
  {
    section: 'Table sizes',
    sql: `SELECT
  schemaname,
  tablename,
  pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename)) AS size
FROM pg_tables
WHERE schemaname = 'public'
ORDER BY pg_total_relation_size(schemaname||'.'||tablename) DESC;`,
    as: 'owner',
    replaced: {
      fate: { finds: 'nothing' },
      why: 'no table is in public, and a partitioned parent has no size of its own',
      by: {
        sql: `select schemaname, tablename,
            (select sum(pg_total_relation_size(relid))
              from pg_partition_tree(format('%I.%I', schemaname, tablename)::regclass)) as bytes
          from pg_tables
          where schemaname in ('app_public', 'app_private', 'app_hidden', 'ops')
          order by bytes desc`,
        as: 'owner',
      },
    },
  },
  {
    section: 'Partition info',
    sql: `SELECT
  parent.relname AS parent_table,
  child.relname AS partition_name,
  pg_size_pretty(pg_relation_size(child.oid)) AS size
FROM pg_inherits
JOIN pg_class parent ON pg_inherits.inhparent = parent.oid
JOIN pg_class child ON pg_inherits.inhrelid = child.oid
WHERE parent.relname IN ('tasks', 'user_activity')
ORDER BY parent.relname, child.relname;`,
    as: 'monitor',
  },
  {
    section: 'Slow queries',
    sql: `SELECT
  query,
  calls,
  total_exec_time / 1000 AS total_time_sec,
  mean_exec_time / 1000 AS mean_time_sec
FROM pg_stat_statements
WHERE query NOT LIKE '%pg_stat%'
ORDER BY total_exec_time DESC
LIMIT 10;`,
    as: 'monitor',
  },
  {
    section: 'Partition creation failed',
    sql: 'SELECT create_next_month_partition();',
    as: 'owner',
  },
  {
    section: 'CDC consumer stalled',
    sql: 'SELECT * FROM pg_replication_slots;',
    as: 'monitor',
  },
  {
    section: 'CDC consumer stalled',
    sql: "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'billow_slot';",
    as: 'monitor',
  },
];
