import type { Operation } from './operation.ts';

const indexExists = (name: string, as: Operation['as'] = 'owner') => ({
  sql: `select 1 / count(*) as exists from pg_class where relname = '${name}'`,
  as,
});

const partitioned = 'CREATE INDEX CONCURRENTLY is refused on a partitioned table';
const notImmutable = 'CURRENT_DATE changes, so it cannot be in the predicate of an index';

/** "Database Schema" of the performance optimization. Its pg_cron jobs are in cron-jobs.ts. */
export const performance: Operation[] = [
  {
    section: 'Performance Metrics Table',
    sql: `CREATE TABLE performance_metrics_y2025m08 PARTITION OF performance_metrics
    FOR VALUES FROM ('2025-08-01') TO ('2025-09-01');`,
    as: 'owner',
    replaced: {
      fate: {
        leaves: `select relnamespace = 'app_public'::regnamespace
          from pg_class where relname = 'performance_metrics_y2025m08'`,
      },
      why: 'the table of the document is not partitioned; here its partition would be in app_public',
      by: {
        sql: `select ops.create_range_partition(
          'app_private.performance_metrics', timestamptz '2025-08-01 00:00+00', interval '1 month')`,
        as: 'owner',
      },
    },
  },
  {
    section: 'Migration 001',
    sql: 'CREATE EXTENSION IF NOT EXISTS "pg_stat_statements";',
    as: 'superuser',
  },
  {
    section: 'Migration 001',
    sql: `DO $$
DECLARE
    start_date DATE;
    end_date DATE;
    table_name TEXT;
BEGIN
    FOR i IN 0..5 LOOP
        start_date := DATE_TRUNC('month', CURRENT_DATE + (i || ' months')::INTERVAL);
        end_date := start_date + INTERVAL '1 month';
        table_name := 'performance_metrics_y' || EXTRACT(YEAR FROM start_date) || 
                     'm' || LPAD(EXTRACT(MONTH FROM start_date)::TEXT, 2, '0');
        
        EXECUTE format('CREATE TABLE %I PARTITION OF performance_metrics
                       FOR VALUES FROM (%L) TO (%L)',
                       table_name, start_date, end_date);
    END LOOP;
END $$;`,
    as: 'owner',
    replaced: {
      fate: { fails: '42P17' },
      why: 'the policy of the table has made these partitions already',
      by: { sql: 'select ops.ensure_partitions()', as: 'owner' },
    },
  },
  {
    section: 'Migration 002',
    sql: 'SELECT cleanup_expired_cache();',
    as: 'owner',
  },
  {
    section: 'Migration 003',
    sql: 'SELECT refresh_performance_views();',
    as: 'owner',
  },
  {
    section: 'Migration 003',
    sql: 'REFRESH MATERIALIZED VIEW CONCURRENTLY user_activity_summary;',
    as: 'owner',
  },
  {
    section: 'Migration 003',
    sql: 'REFRESH MATERIALIZED VIEW CONCURRENTLY query_performance_summary;',
    as: 'owner',
  },
  {
    section: 'Tasks Table Optimization',
    sql: "CREATE INDEX idx_tasks_overdue ON tasks(user_id, due_date) WHERE due_date < CURRENT_DATE AND status != 'completed';",
    as: 'owner',
    replaced: {
      fate: { fails: '42P17' },
      why: notImmutable,
      by: indexExists('tasks_user_id_due_date_idx'),
    },
  },
  {
    section: 'Migration 004',
    sql: 'CREATE INDEX CONCURRENTLY idx_tasks_user_status_updated ON tasks(user_id, status, updated_at);',
    as: 'owner',
    commits: true,
    replaced: {
      fate: { fails: '0A000' },
      why: partitioned,
      by: indexExists('tasks_user_id_status_updated_at_idx'),
    },
  },
  {
    section: 'Migration 004',
    sql: `CREATE INDEX CONCURRENTLY idx_tasks_list_position ON tasks(list_id, position_in_list) 
    WHERE position_in_list IS NOT NULL;`,
    as: 'owner',
    commits: true,
    replaced: {
      fate: { fails: '0A000' },
      why: partitioned,
      by: indexExists('tasks_user_id_list_id_position_in_list_idx_where_known'),
    },
  },
  {
    section: 'Migration 004',
    sql: `CREATE INDEX CONCURRENTLY idx_tasks_project_priority ON tasks(project_id, priority, created_at);`,
    as: 'owner',
    commits: true,
    replaced: {
      fate: { fails: '0A000' },
      why: partitioned,
      by: indexExists('tasks_user_id_project_id_priority_created_at_idx_where_known'),
    },
  },
  {
    section: 'Migration 004',
    sql: `CREATE INDEX CONCURRENTLY idx_tasks_search_text ON tasks 
    USING gin(to_tsvector('english', title || ' ' || COALESCE(description, '')));`,
    as: 'owner',
    commits: true,
    replaced: {
      fate: { fails: '0A000' },
      why: `${partitioned}; and @@ is no leakproof operator, so the index would go unused`,
      by: { sql: "select * from search_tasks('report')", as: 'user' },
    },
  },
  {
    section: 'Migration 004',
    sql: `CREATE INDEX CONCURRENTLY idx_tasks_active ON tasks(user_id, updated_at) 
    WHERE status != 'completed';`,
    as: 'owner',
    commits: true,
    replaced: {
      fate: { fails: '0A000' },
      why: partitioned,
      by: indexExists('tasks_user_id_status_updated_at_idx'),
    },
  },
  {
    section: 'Migration 004',
    sql: `CREATE INDEX CONCURRENTLY idx_tasks_overdue ON tasks(user_id, due_date) 
    WHERE due_date < CURRENT_DATE AND status != 'completed';`,
    as: 'owner',
    commits: true,
    replaced: {
      fate: { fails: '0A000' },
      why: `${partitioned}; and ${notImmutable}`,
      by: indexExists('tasks_user_id_due_date_idx'),
    },
  },
  {
    section: 'Migration 004',
    sql: `CREATE INDEX CONCURRENTLY idx_users_email_active ON users(email, is_active) 
    WHERE is_active = true;`,
    as: 'owner',
    commits: true,
    replaced: {
      fate: { fails: '42703' },
      why: 'an account is active while deleted_at is null, which the unique index says',
      by: indexExists('users_email_key_where_open'),
    },
  },
  {
    section: 'Migration 004',
    sql: 'CREATE INDEX CONCURRENTLY idx_projects_user_updated ON projects(user_id, updated_at);',
    as: 'owner',
    commits: true,
  },
  {
    section: 'Migration 004',
    sql: 'CREATE INDEX CONCURRENTLY idx_lists_user_project ON lists(user_id, project_id, created_at);',
    as: 'owner',
    commits: true,
  },
];
