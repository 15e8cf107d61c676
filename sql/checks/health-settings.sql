-- settings: settings with which data or the service is at risk
-- Params: none
-- Columns: level, object (the setting), detail, remediation.
-- Read: fsync and full_page_writes off: a power cut corrupts the database. autovacuum or
--   track_counts off: tables bloat, and transaction numbers run out. A small shared_buffers
--   makes every request read files.
-- Cost: Milliseconds; looks at the size of each database.
with wanted as (
  select *
  from (values
    ('fsync', 'critical', 'a crash of the machine corrupts the database'),
    ('full_page_writes', 'critical', 'a crash of the machine corrupts the database'),
    ('autovacuum', 'critical', 'nothing removes dead rows'),
    ('track_counts', 'critical', 'autovacuum does not know what to do'),
    ('ignore_checksum_failure', 'critical', 'damaged pages are used'),
    ('zero_damaged_pages', 'critical', 'damaged pages are emptied')
  ) as risks (object, level, detail)
)
select
  wanted.level,
  wanted.object,
  format('is %s: %s', pg_settings.setting, wanted.detail) as detail,
  format('alter system set %s = %s; select pg_reload_conf();', wanted.object,
    pg_settings.boot_val) as remediation
from wanted
inner join pg_catalog.pg_settings on pg_settings.name = wanted.object
where pg_settings.setting <> pg_settings.boot_val
union all
select 'warning', pg_settings.name, 'needs a restart of the server to take effect',
  'Restart it at a quiet hour.'
from pg_catalog.pg_settings
where pg_settings.pending_restart
union all
select
  'warning',
  'shared_buffers',
  format('is %s, %s %% of the databases (%s)', pg_size_pretty(memory.shared),
    round(100.0 * memory.shared / memory.stored, 1), pg_size_pretty(memory.stored)),
  'gw tune'
from (
  select pg_size_bytes(current_setting('shared_buffers')) as shared,
    sum(pg_database_size(oid))::bigint as stored
  from pg_catalog.pg_database
  where datallowconn
) as memory
-- More than this is a quarter of the memory of a usual machine.
where memory.shared < 4::bigint << 30
  and memory.shared < memory.stored / 25
order by object;
