import { type Operation, thisDatabase } from './operation.ts';

/** "Database Setup & Operations Guide" of InstantViz. */
export const instantviz: Operation[] = [
  {
    section: 'Additional security recommendations',
    sql: `CREATE ROLE readonly_user WITH LOGIN PASSWORD 'secure_password';
   GRANT CONNECT ON DATABASE instantviz TO readonly_user;
   GRANT SELECT ON ALL TABLES IN SCHEMA public TO readonly_user;
   ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO readonly_user;`,
    with: { instantviz: thisDatabase },
    as: 'superuser',
    replaced: {
      fate: {
        leaves: "select not has_table_privilege('readonly_user', 'app_public.tasks', 'select')",
      },
      why: 'no table is in public; gw_readonly reads every row of app_public and no secret',
      by: { sql: 'select count(*) from tasks', as: 'readonly' },
    },
  },
  { section: 'Disaster Recovery Plan', sql: 'SELECT COUNT(*) FROM users;', as: 'readonly' },
  {
    section: 'Disk Usage',
    sql: "SELECT pg_size_pretty(pg_database_size('instantviz'));",
    with: { instantviz: thisDatabase },
    as: 'monitor',
  },
  {
    section: 'Disk Usage',
    sql: `SELECT tablename,
       pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename))
FROM pg_tables
WHERE schemaname = 'public'
ORDER BY pg_total_relation_size(schemaname||'.'||tablename) DESC;`,
    as: 'owner',
    replaced: {
      fate: { finds: 'nothing' },
      why: 'no table is in public',
      by: {
        sql: `select tablename, pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename))
          from pg_tables
          where schemaname in ('app_public', 'app_private', 'app_partitions')
          order by pg_total_relation_size(schemaname||'.'||tablename) desc`,
        as: 'owner',
      },
    },
  },
  {
    section: 'Active Connections',
    sql: `SELECT COUNT(*), state
FROM pg_stat_activity
WHERE datname = 'instantviz'
GROUP BY state;`,
    with: { instantviz: thisDatabase },
    as: 'monitor',
  },
  {
    section: 'Query Optimization Tips',
    sql: `EXPLAIN ANALYZE
SELECT * FROM workspaces WHERE owner_id = 123 ORDER BY created_at DESC LIMIT 10;`,
    as: 'user',
    replaced: {
      fate: { fails: '42703' },
      why: 'the owner is user_id, a uuid, and row-level security names it',
      by: {
        sql: 'explain analyze select * from workspaces order by created_at desc limit 10',
        as: 'user',
      },
    },
  },
  {
    section: 'Query Optimization Tips',
    sql: `SELECT query, calls, total_time, mean_time
FROM pg_stat_statements
ORDER BY mean_time DESC
LIMIT 10;`,
    as: 'monitor',
    replaced: {
      fate: { fails: '42703' },
      why: 'since PostgreSQL 13 the columns are total_exec_time and mean_exec_time',
      by: {
        sql: `select query, calls, total_exec_time, mean_exec_time
          from pg_stat_statements
          order by mean_exec_time desc
          limit 10`,
        as: 'monitor',
      },
    },
  },
  {
    section: '"Too many connections" Error',
    sql: `SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE state = 'idle' AND state_change < NOW() - INTERVAL '5 minutes';`,
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: 'it ends connections of every database, pg_cron and the API among them',
      by: {
        sql: `select pg_terminate_backend(pid)
          from pg_stat_activity
          where datname = current_database()
            and state = 'idle in transaction'
            and state_change < now() - interval '5 minutes'`,
        as: 'superuser',
      },
    },
  },
];
