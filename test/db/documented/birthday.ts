import { type Operation, thisDatabase } from './operation.ts';

/** "Database Infrastructure Setup" of the Birthday Message Scheduler. */
export const birthday: Operation[] = [
  {
    section: 'Partitioning Strategy',
    sql: `CREATE TABLE message_logs_2025_01 PARTITION OF message_logs
  FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');`,
    as: 'owner',
    replaced: {
      fate: {
        leaves: `select relnamespace = 'app_public'::regnamespace and not relrowsecurity
          from pg_class where relname = 'message_logs_2025_01'`,
      },
      why: 'it lands in an exposed schema, without row-level security of its own',
      by: {
        sql: `select ops.create_range_partition(
          'app_public.message_logs', timestamptz '2025-01-01 00:00+00', interval '1 month')`,
        as: 'owner',
      },
    },
  },
  {
    section: 'Message Logs Table (idempotency)',
    sql: 'CREATE UNIQUE INDEX idx_message_logs_idempotency ON message_logs(idempotency_key);',
    as: 'owner',
    replaced: {
      fate: { fails: '0A000' },
      why: 'a unique index of a partitioned table must hold its partition key',
      by: {
        sql: `select 1 / count(*) as has_key from pg_constraint
          where conname = 'message_ledger_pkey'
            and pg_get_constraintdef(oid) = 'PRIMARY KEY (user_id, message_type, delivery_date)'`,
        as: 'owner',
      },
    },
  },
  {
    section: 'Timezone Validation',
    sql: `ALTER TABLE users
ADD CONSTRAINT check_timezone_format
CHECK (timezone ~ '^[A-Za-z]+/[A-Za-z_]+$');`,
    as: 'owner',
    replaced: {
      fate: { fails: '23514' },
      why: 'it refuses UTC, America/Argentina/Buenos_Aires and America/Port-au-Prince',
      by: {
        sql: `select 1 / (count(*) = 3)::integer as known from app_hidden.timezones
          where name in ('UTC', 'America/Argentina/Buenos_Aires', 'America/Port-au-Prince')`,
        as: 'readonly',
      },
    },
  },
  {
    section: 'Message Status Validation',
    sql: `ALTER TABLE message_logs
ADD CONSTRAINT check_message_status
CHECK (status IN ('SCHEDULED', 'QUEUED', 'SENDING', 'SENT', 'FAILED', 'RETRYING'));`,
    as: 'owner',
  },
  {
    section: 'Message Type Validation',
    sql: `ALTER TABLE message_logs
ADD CONSTRAINT check_message_type
CHECK (message_type IN ('BIRTHDAY', 'ANNIVERSARY'));`,
    as: 'owner',
  },
  {
    section: 'Retry Count Validation',
    sql: `ALTER TABLE message_logs
ADD CONSTRAINT check_retry_count_positive
CHECK (retry_count >= 0);`,
    as: 'owner',
  },
  {
    section: 'Query Performance Tips',
    sql: `SELECT * FROM message_logs
   WHERE scheduled_send_time BETWEEN '2025-01-01' AND '2025-01-31';`,
    as: 'readonly',
  },
  {
    section: 'Query Performance Tips',
    sql: "SELECT * FROM message_logs WHERE status = 'SENT';",
    as: 'readonly',
  },
  {
    section: 'Query Performance Tips',
    sql: `SELECT * FROM users
   WHERE birthday_date = '12-30' AND deleted_at IS NULL;`,
    as: 'readonly',
    replaced: {
      fate: { fails: '22007' },
      why: 'a date has a year; the index is on month and day',
      by: {
        sql: `select * from users
          where app_hidden.month_day(birthday_date) = 1230
            and birthday_date is not null
            and deleted_at is null`,
        as: 'readonly',
      },
    },
  },
  {
    section: 'Query Performance Tips',
    sql: `SELECT * FROM message_logs
   WHERE message_type = 'BIRTHDAY'
     AND status = 'SCHEDULED'
     AND scheduled_send_time > NOW();`,
    as: 'readonly',
  },
  {
    section: 'Check Partition Usage',
    sql: `SELECT
  schemaname,
  tablename,
  pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename)) AS size
FROM pg_tables
WHERE tablename LIKE 'message_logs_%'
ORDER BY pg_total_relation_size(schemaname||'.'||tablename) DESC;`,
    as: 'owner',
  },
  {
    section: 'Check Index Usage',
    sql: `SELECT
  schemaname,
  tablename,
  indexname,
  idx_scan,
  idx_tup_read,
  idx_tup_fetch
FROM pg_stat_user_indexes
WHERE schemaname = 'public'
ORDER BY idx_scan DESC;`,
    as: 'monitor',
    replaced: {
      fate: { fails: '42703' },
      why: 'the columns are called relname and indexrelname, and no table is in public',
      by: {
        sql: `select schemaname, relname, indexrelname, idx_scan, idx_tup_read, idx_tup_fetch
          from pg_stat_user_indexes
          where schemaname like 'app\\_%'
          order by idx_scan desc`,
        as: 'monitor',
      },
    },
  },
  {
    section: 'Check Connection Pool',
    sql: `SELECT
  count(*) AS total_connections,
  sum(CASE WHEN state = 'active' THEN 1 ELSE 0 END) AS active_connections,
  sum(CASE WHEN state = 'idle' THEN 1 ELSE 0 END) AS idle_connections
FROM pg_stat_activity
WHERE datname = 'birthday_app';`,
    with: { birthday_app: thisDatabase },
    as: 'monitor',
  },
  {
    section: 'Partition Errors',
    sql: `SELECT
  inhrelid::regclass AS partition_name
FROM pg_inherits
WHERE inhparent = 'message_logs'::regclass;`,
    as: 'owner',
  },
];
