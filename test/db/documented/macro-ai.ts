import { type Operation, thisDatabase } from './operation.ts';

const unusedIndexes = `SELECT
  schemaname,
  tablename,
  indexname,
  idx_scan
FROM pg_stat_user_indexes
WHERE idx_scan = 0
  AND indexname NOT LIKE '%_pkey';`;

/** That a setting is what docker/postgresql.conf makes it; divides by zero when it is not. */
const isSet = (name: string, value: string) => ({
  sql: `select 1 / (current_setting('${name}') = '${value}')::integer as is_set`,
  as: 'superuser' as const,
});

const inFile = 'docker/postgresql.conf sets it, in text that is reviewed';

/** "Database Operations" of Macro AI. */
export const macroAi: Operation[] = [
  {
    section: '3. Review Migration',
    sql: 'ALTER TABLE "users" ADD COLUMN "phone_number" varchar(20);',
    as: 'owner',
  },
  {
    section: 'Point-in-Time Recovery Setup',
    sql: 'ALTER SYSTEM SET wal_level = replica;',
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: 'it would end change data capture, which needs logical; logical holds all of replica',
      by: isSet('wal_level', 'logical'),
    },
  },
  {
    section: 'Point-in-Time Recovery Setup',
    sql: `ALTER SYSTEM SET archive_mode = on;
ALTER SYSTEM SET archive_command = 'aws s3 cp %p s3://macro-ai-wal-archive/%f';`,
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: 'where the archive is, is the choice of whoever runs the server',
      by: isSet('archive_mode', 'off'),
    },
  },
  {
    section: 'Point-in-Time Recovery Setup',
    sql: 'ALTER SYSTEM SET max_wal_senders = 3;',
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: `${inFile}: 10, for change data capture, backups and replicas`,
      by: {
        sql: "select 1 / (current_setting('max_wal_senders')::integer >= 10)::integer as is_set",
        as: 'superuser',
      },
    },
  },
  {
    section: 'Point-in-Time Recovery Setup',
    sql: 'SELECT pg_reload_conf();',
    as: 'superuser',
  },
  { section: 'Full Database Restore', sql: 'SELECT COUNT(*) FROM users;', as: 'readonly' },
  {
    section: 'Current Indexes',
    sql: 'CREATE UNIQUE INDEX email_idx ON users (email);',
    as: 'owner',
    replaced: {
      fate: { leaves: "select indexdef !~ 'lower' from pg_indexes where indexname = 'email_idx'" },
      why: 'Ann@example.com and ann@example.com are one address, free again when it is closed',
      by: {
        sql: "select 1 / count(*) as exists from pg_class where relname = 'users_email_key_where_open'",
        as: 'owner',
      },
    },
  },
  {
    section: 'Current Indexes',
    sql: 'CREATE INDEX idx_chat_vectors_embedding ON chat_vectors USING ivfflat (embedding vector_cosine_ops);',
    as: 'owner',
    replaced: {
      fate: {
        leaves: `select indexdef ~ 'ivfflat' and indexdef !~ 'user_id' from pg_indexes
          where indexname = 'idx_chat_vectors_embedding'`,
      },
      why: "it finds the nearest of all users' vectors and then drops those of others",
      by: {
        sql: `select * from search_chat_vectors(array_fill(0.1::double precision, array[1536]))`,
        as: 'user',
      },
    },
  },
  {
    section: 'Index Monitoring',
    sql: `SELECT
  schemaname,
  tablename,
  indexname,
  idx_scan,
  idx_tup_read,
  idx_tup_fetch
FROM pg_stat_user_indexes
ORDER BY idx_scan DESC;`,
    as: 'monitor',
    replaced: {
      fate: { fails: '42703' },
      why: 'the columns are called relname and indexrelname',
      by: {
        sql: `select schemaname, relname, indexrelname, idx_scan, idx_tup_read, idx_tup_fetch
          from pg_stat_user_indexes
          order by idx_scan desc`,
        as: 'monitor',
      },
    },
  },
  {
    section: 'Index Monitoring; Weekly Maintenance',
    sql: unusedIndexes,
    as: 'monitor',
    replaced: {
      fate: { fails: '42703' },
      why: 'the columns are called relname and indexrelname, and a unique index is never unused',
      by: {
        sql: `select schemaname, relname, indexrelname, idx_scan
          from pg_stat_user_indexes
          inner join pg_index using (indexrelid)
          where idx_scan = 0
            and not indisunique`,
        as: 'monitor',
      },
    },
  },
  {
    section: 'Query Performance Monitoring',
    sql: 'ALTER SYSTEM SET log_min_duration_statement = 1000;',
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: inFile,
      by: {
        sql: `select 1 / count(*) as is_set from pg_file_settings
          where name = 'log_min_duration_statement' and setting = '1000'`,
        as: 'superuser',
      },
    },
  },
  {
    section: 'Query Performance Monitoring',
    sql: "ALTER SYSTEM SET log_statement = 'all';",
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: "every statement's text would be in the log, with what users wrote",
      by: isSet('log_statement', 'none'),
    },
  },
  {
    section: 'Query Performance Monitoring',
    sql: `EXPLAIN (ANALYZE, BUFFERS)
SELECT * FROM chats
WHERE user_id = 'user-uuid'
ORDER BY updated_at DESC
LIMIT 10;`,
    with: { 'user-uuid': '{user}' },
    as: 'user',
  },
  {
    section: 'Performance Metrics Collection',
    sql: `SELECT
  datname,
  numbackends,
  xact_commit,
  xact_rollback,
  blks_read,
  blks_hit,
  tup_returned,
  tup_fetched,
  tup_inserted,
  tup_updated,
  tup_deleted
FROM pg_stat_database
WHERE datname = 'macro_ai_prod';`,
    with: { macro_ai_prod: thisDatabase },
    as: 'monitor',
  },
  {
    section: 'Performance Metrics Collection',
    sql: `SELECT
  schemaname,
  tablename,
  seq_scan,
  seq_tup_read,
  idx_scan,
  idx_tup_fetch,
  n_tup_ins,
  n_tup_upd,
  n_tup_del
FROM pg_stat_user_tables;`,
    as: 'monitor',
    replaced: {
      fate: { fails: '42703' },
      why: 'pg_stat_user_tables calls the column relname',
      by: {
        sql: `select schemaname, relname, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch,
            n_tup_ins, n_tup_upd, n_tup_del
          from pg_stat_user_tables`,
        as: 'monitor',
      },
    },
  },
  { section: 'Daily Maintenance', sql: 'ANALYZE;', as: 'owner' },
  {
    section: 'Daily Maintenance',
    sql: `SELECT
  schemaname,
  tablename,
  pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename)) as size
FROM pg_tables
WHERE schemaname = 'public'
ORDER BY pg_total_relation_size(schemaname||'.'||tablename) DESC;`,
    as: 'owner',
    replaced: {
      fate: { finds: 'nothing' },
      why: 'no table is in public; and a size is not bloat',
      by: {
        sql: `select schemaname, relname, n_dead_tup, n_live_tup
          from pg_stat_user_tables
          order by n_dead_tup desc, schemaname, relname`,
        as: 'monitor',
      },
    },
  },
  {
    section: 'Daily Maintenance',
    sql: `SELECT
  state,
  COUNT(*) as connections
FROM pg_stat_activity
WHERE datname = 'macro_ai_prod'
GROUP BY state;`,
    with: { macro_ai_prod: thisDatabase },
    as: 'monitor',
  },
  { section: 'Weekly Maintenance', sql: 'VACUUM ANALYZE;', as: 'owner', commits: true },
  {
    section: 'Weekly Maintenance',
    sql: 'REINDEX DATABASE macro_ai_prod;',
    with: { macro_ai_prod: thisDatabase },
    as: 'owner',
    commits: true,
    replaced: {
      fate: 'not run',
      why: 'it locks each table against writing, and its indexes against every reader',
      by: {
        sql: 'reindex table concurrently app_public.reflections',
        as: 'owner',
        commits: true,
      },
    },
  },
  {
    section: 'Weekly Maintenance',
    sql: "DELETE FROM chat_vectors WHERE created_at < NOW() - INTERVAL '1 year';",
    as: 'owner',
  },
  {
    section: 'Database User Management',
    sql: `CREATE USER macro_ai_app WITH PASSWORD 'secure_password';`,
    as: 'owner',
    replaced: {
      fate: { fails: '42501' },
      why: 'only a superuser makes roles, by sql/bootstrap/roles.sql, which names no password',
      by: {
        sql: `select 1 / (count(*) = 10)::integer as exist from pg_roles
          where rolname ~ '^(gw|app)_' and not rolsuper and not rolcreaterole`,
        as: 'monitor',
      },
    },
  },
  {
    section: 'Database User Management',
    sql: `CREATE USER macro_ai_app WITH PASSWORD 'secure_password';

-- Grant necessary permissions
GRANT CONNECT ON DATABASE macro_ai_prod TO macro_ai_app;
GRANT USAGE ON SCHEMA public TO macro_ai_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO macro_ai_app;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO macro_ai_app;`,
    with: { macro_ai_prod: thisDatabase },
    as: 'superuser',
    replaced: {
      fate: { leaves: "select not has_schema_privilege('macro_ai_app', 'app_public', 'usage')" },
      why: 'no table is in public; the API is app_user, with rights by column and row',
      by: { sql: "insert into tasks (title) values ('x') returning user_id", as: 'user' },
    },
  },
  {
    section: 'Database User Management',
    sql: `CREATE USER macro_ai_readonly WITH PASSWORD 'readonly_password';
GRANT CONNECT ON DATABASE macro_ai_prod TO macro_ai_readonly;
GRANT USAGE ON SCHEMA public TO macro_ai_readonly;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO macro_ai_readonly;`,
    with: { macro_ai_prod: thisDatabase },
    as: 'superuser',
    replaced: {
      fate: {
        leaves: "select not has_table_privilege('macro_ai_readonly', 'app_public.chats', 'select')",
      },
      why: 'no table is in public; gw_readonly reads every row of app_public and no secret',
      by: { sql: 'select count(*) from chats', as: 'readonly' },
    },
  },
  {
    section: 'SSL Configuration',
    sql: `ALTER SYSTEM SET ssl = on;
ALTER SYSTEM SET ssl_cert_file = '/etc/ssl/certs/server.crt';
ALTER SYSTEM SET ssl_key_file = '/etc/ssl/private/server.key';`,
    as: 'superuser',
    replaced: {
      fate: 'not run',
      why: "the files are the server's, and ssl = on without hostssl in pg_hba.conf enforces nothing",
      by: { sql: 'select ssl, version from pg_stat_ssl where pid = pg_backend_pid()', as: 'owner' },
    },
  },
];
