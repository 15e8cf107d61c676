-- autovacuum: dead rows, when a table was vacuumed, and at what number it will be
-- Params:
--   limit integer = 40: how many tables
-- Columns: table_name, live_rows, dead_rows, threshold_rows (of dead ones), share (of the
--   threshold), last_vacuum, last_analyze (by hand or automatic), vacuums. Partitions are
--   vacuumed, and listed, each by itself.
-- Read: A share over 1 that stays: autovacuum cannot keep up (see vacuum-progress) or is
--   held back by an old snapshot (see long-running-queries, replication-slots). A large
--   table needs a lower scale factor: alter table … set
--   (autovacuum_vacuum_scale_factor =
--   0.05);
-- Cost: Reads statistics; milliseconds.
with settings as (
  select pg_class.oid, pg_class.reltuples,
    coalesce(options.threshold, current_setting('autovacuum_vacuum_threshold'))::float8
      as threshold,
    coalesce(options.scale, current_setting('autovacuum_vacuum_scale_factor'))::float8
      as scale
  from pg_catalog.pg_class
  cross join lateral (
    select
      max(option_value) filter (where option_name = 'autovacuum_vacuum_threshold')
        as threshold,
      max(option_value) filter (where option_name = 'autovacuum_vacuum_scale_factor')
        as scale
    from pg_options_to_table(pg_class.reloptions)
  ) as options
)
select
  pg_stat_user_tables.relid::regclass::text as table_name,
  n_live_tup as live_rows,
  n_dead_tup as dead_rows,
  ceil(threshold + scale * greatest(reltuples, 0))::bigint as threshold_rows,
  (n_dead_tup / nullif(threshold + scale * greatest(reltuples, 0), 0))::float8 as share,
  greatest(last_vacuum, last_autovacuum) as last_vacuum,
  greatest(last_analyze, last_autoanalyze) as last_analyze,
  vacuum_count + autovacuum_count as vacuums
from pg_catalog.pg_stat_user_tables
inner join settings on settings.oid = pg_stat_user_tables.relid
order by share desc nulls last, dead_rows desc, table_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '40')::integer;
