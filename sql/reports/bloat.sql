-- bloat: tables with unused space, by estimate
-- Params:
--   limit integer = 40: how many tables
--   min_bytes bigint = 1000000: leave out tables with less unused space
-- Columns: table_name, rows, heap_bytes, expected_bytes, wasted_bytes, wasted_share (of
--   the heap), dead_rows. An estimate from the planner's statistics: rows times their
--   mean width, against the size of the file. Wrong by some ten per cent, and by more
--   where rows are stored out of line.
-- Read: Over half, and more than you can spare: autovacuum comes too late (see
--   autovacuum), or something held the oldest snapshot (see long-running-queries). New
--   rows will use the room; only VACUUM FULL (which locks) or pg_repack gives it back.
-- Cost: Reads statistics; one stat of each table's file.
-- A monitoring role sees no statistics of columns that it may not read, so a schema may
-- offer their widths as ops.column_widths(); elsewhere pg_stats is asked. Which of the
--   two
-- exists is known only when this runs, so the query is dynamic.
with widths as (
  select relation, sum((1 - null_frac) * avg_width) as row_width
  from xmltable('/table/row' passing query_to_xml(
    case when to_regprocedure('ops.column_widths()') is null
      then 'select format(''%I.%I'', schemaname, tablename)::regclass::oid as relation,'
        ' null_frac, avg_width from pg_catalog.pg_stats'
        ' where schemaname !~ ''^(pg_|information_schema$)'' and not inherited'
      else 'select relation, null_frac, avg_width from ops.column_widths()'
    end, false, false, '')
    columns relation oid, null_frac float8, avg_width integer) as statistics
  group by relation
),
estimates as (
  select pg_class.oid, pg_class.reltuples,
    pg_relation_size(pg_class.oid) as heap_bytes,
    pg_stat_get_dead_tuples(pg_class.oid) as dead_rows,
    -- A row has a header of 24 bytes and a pointer of 4, and is aligned to 8; a page of
    -- 8192 has a header of 24.
    ceil(pg_class.reltuples * (28 + 8 * ceil(widths.row_width / 8)) / 8168
      * 100 / coalesce((
        select option_value::integer
        from pg_options_to_table(pg_class.reloptions)
        where option_name = 'fillfactor'
      ), 100)) * current_setting('block_size')::integer as expected_bytes
  from widths
  inner join pg_catalog.pg_class on pg_class.oid = widths.relation
  where pg_class.relkind in ('r', 'm')
    and pg_class.reltuples >= 0
)
select
  oid::regclass::text as table_name,
  reltuples::bigint as rows,
  heap_bytes,
  expected_bytes::bigint as expected_bytes,
  (heap_bytes - expected_bytes)::bigint as wasted_bytes,
  ((heap_bytes - expected_bytes) / heap_bytes)::float8 as wasted_share,
  dead_rows
from estimates
where heap_bytes - expected_bytes
  >= coalesce(nullif(current_setting('report.min_bytes', true), ''), '1000000')::bigint
order by wasted_bytes desc, table_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '40')::integer;
