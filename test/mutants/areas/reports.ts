import { type Mutant, sqlFunction } from '../mutant.ts';

const figures = ['ops/reports', 'ops/report-figures'];
const checks = ['ops/checks'];
const checkHealth = ['ops/check-health'];

/** A report with a wrong figure. */
const report = (name: string, fault: string, find: string, replace: string): Mutant => ({
  fault: `${name}: ${fault}`,
  file: `sql/reports/${name}.sql`,
  find,
  replace,
  tests: figures,
});

/** A health check that says too much or too little. */
const check = (name: string, fault: string, find: string, replace: string): Mutant => ({
  fault: `${name}: ${fault}`,
  file: `sql/checks/health-${name}.sql`,
  find,
  replace,
  tests: checks,
});

export const mutants: Mutant[] = [
  report(
    'cache-hit',
    'the ratio of indexes is that of the heap',
    '(sum(idx_blks_hit) / nullif(sum(idx_blks_hit + idx_blks_read), 0))',
    '(sum(heap_blks_hit) / nullif(sum(heap_blks_hit + heap_blks_read), 0))',
  ),
  report(
    'cache-hit',
    'reads are hits',
    'sum(heap_blks_read)::bigint',
    'sum(heap_blks_hit)::bigint',
  ),
  report(
    'table-sizes',
    'indexes are counted as values out of line',
    'sum(pg_table_size(part.oid) - pg_relation_size(part.oid))',
    'sum(pg_total_relation_size(part.oid) - pg_relation_size(part.oid))',
  ),
  report(
    'table-sizes',
    'the total leaves the indexes out',
    'sum(pg_total_relation_size(part.oid))::bigint as total_bytes',
    'sum(pg_table_size(part.oid))::bigint as total_bytes',
  ),
  report(
    'index-usage',
    'scans are the wrong way round',
    'sum(seq_scan)::bigint as sequential_scans',
    'sum(idx_scan)::bigint as sequential_scans',
  ),
  report(
    'connections',
    'those kept for superusers are everybody’s',
    "\n    - current_setting('superuser_reserved_connections')::integer",
    '',
  ),
  report(
    'role-connections',
    'idle in transaction is active',
    "like 'idle in transaction%'",
    "= 'idle'",
  ),
  report(
    'replication-slots',
    'what is not confirmed is what is kept',
    'coalesce(confirmed_flush_lsn, restart_lsn)',
    'restart_lsn',
  ),
  report(
    'wraparound',
    'multixacts do not count',
    'greatest(transactions_age, multixact_age)::float8',
    'transactions_age::float8',
  ),
  report(
    'autovacuum',
    'a scale factor of the table is not read',
    'coalesce(options.scale, ',
    'coalesce(null, ',
  ),
  report(
    'locks',
    'readers’ locks are listed',
    "pg_locks.mode <> 'AccessShareLock'",
    "pg_locks.mode <> ''",
  ),
  check(
    'clock',
    'a server that is behind is well',
    'where abs(seconds) >= warning',
    'where seconds >= warning',
  ),
  check(
    'connections',
    'the check counts those kept for superusers',
    "\n      - current_setting('superuser_reserved_connections')::integer",
    '',
  ),
  check(
    'connections',
    'a limit of a role is not looked at',
    'where rolconnlimit > 0',
    'where rolconnlimit > 1000000',
  ),
  check(
    'sequences',
    'the column that is filled does not count',
    "when 'int4'::regtype then 2147483647",
    "when 'int4'::regtype then 9223372036854775807",
  ),
  check(
    'settings',
    'a server without fsync is well',
    "    ('fsync', 'critical', 'a crash of the machine corrupts the database'),\n",
    '',
  ),
  check(
    'slot-wal',
    'a slot that lost its log is well',
    "where wal_status in ('unreserved', 'lost')\n  or retained",
    'where retained',
  ),
  check(
    'long-transactions',
    'a transaction that stands idle is well',
    '\n  or idle_since < now() - idle',
    '',
  ),
  check('backups', 'a backup of one table is one of the database', '  where tables is null\n', ''),
  check('backups', 'a backup that nobody tried is well', 'newest.verified is null or ', ''),
  check(
    'disk',
    'the log does not count',
    'select coalesce(sum(size), 0) from pg_ls_waldir()',
    'select coalesce(sum(size) * 0, 0) from pg_ls_waldir()',
  ),
  {
    fault: 'a check that fails stops the others',
    file: sqlFunction('ops/check_health'),
    find: "    exception when others then\n      failure := sqlstate || ': ' || sqlerrm;",
    replace: '    exception when division_by_zero then\n      failure := sqlerrm;',
    tests: checkHealth,
  },
  {
    fault: 'a check that may not see says that all is well',
    file: sqlFunction('ops/check_health'),
    find: "            failure := 'cannot see: needs the ' || need;",
    replace: '            null;',
    tests: checkHealth,
  },
  {
    fault: 'an alert stays open when its problem is over',
    file: sqlFunction('ops/check_health'),
    find: "coalesce(finding.object, '') = alerts.object",
    replace: 'true',
    tests: checkHealth,
  },
  {
    fault: 'an alert that gets worse says nothing',
    file: sqlFunction('ops/raise_alert'),
    find: 'return level_before is distinct from p_level;',
    replace: 'return level_before is null;',
    tests: ['db/observability/alerts', 'ops/alerts'],
  },
  {
    fault: 'gw check cannot tell, and says that all is well',
    file: 'src/commands/check.ts',
    find: 'process.exitCode = codes.unknown;',
    replace: 'process.exitCode = codes.ok;',
    tests: ['ops/check-command'],
  },
  {
    fault: 'a critical finding is a warning for Nagios',
    file: 'src/commands/check.ts',
    find: 'critical: 2,',
    replace: 'critical: 1,',
    tests: ['ops/check-command'],
  },
  {
    fault: 'the audit log may lack its last row',
    file: sqlFunction('ops/verify_audit_log'),
    find: 'audit_log_head.last_id = newest.id\n        and ',
    replace: '',
    tests: ['db/operations/audit'],
  },
  {
    fault: 'a row of the audit log that was altered is right',
    file: sqlFunction('ops/verify_audit_log'),
    find: '      or chain.hash <> chain.right_hash\n',
    replace: '',
    tests: ['db/operations/audit'],
  },
];
