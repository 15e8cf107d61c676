-- index-bloat: B-tree indexes with unused space, by estimate
-- Params:
--   limit integer = 40: how many indexes
--   min_bytes bigint = 1000000: leave out indexes with less unused space
-- Columns: index_name, table_name, index_bytes, expected_bytes, wasted_bytes,
--   wasted_share. An estimate as in bloat; an index on expressions is left out, and one
--   whose equal keys are stored once is smaller than expected.
-- Read: Over half, and more than you can spare: reindex index concurrently …; it needs
--   the index's room a second time while it runs, and no lock that stops writers.
-- Cost: Reads statistics; one stat of each index file.
-- The query is dynamic for the reason that bloat.sql gives.
with widths as (
  select relation, attribute, (1 - null_frac) * avg_width as width
  from xmltable('/table/row' passing query_to_xml(
    case when to_regprocedure('ops.column_widths()') is null
      then 'select format(''%I.%I'', schemaname, tablename)::regclass::oid as relation,'
        ' attname as attribute, null_frac, avg_width from pg_catalog.pg_stats'
        ' where schemaname !~ ''^(pg_|information_schema$)'' and not inherited'
      else 'select relation, attribute, null_frac, avg_width from ops.column_widths()'
    end, false, false, '')
    columns relation oid, attribute text, null_frac float8, avg_width integer)
    as statistics
),
estimates as (
  select pg_index.indexrelid, pg_index.indrelid,
    pg_relation_size(pg_index.indexrelid) as index_bytes,
    -- An entry has a header of 8 bytes and a pointer of 4, and is aligned to 8; a leaf is
    -- filled to 90 per cent unless told otherwise, and one page is the root's.
    (1 + ceil(pg_class.reltuples * (12 + 8 * ceil(keys.width / 8)) / 8152
      * 100 / coalesce((
        select option_value::integer
        from pg_options_to_table(pg_class.reloptions)
        where option_name = 'fillfactor'
      ), 90))) * current_setting('block_size')::integer as expected_bytes
  from pg_catalog.pg_index
  inner join pg_catalog.pg_class on pg_class.oid = pg_index.indexrelid
  inner join pg_catalog.pg_am on pg_am.oid = pg_class.relam and pg_am.amname = 'btree'
  cross join lateral (
    select sum(widths.width) as width, count(*) as columns
    from pg_catalog.pg_attribute
    inner join widths on widths.relation = pg_attribute.attrelid
      and widths.attribute = pg_attribute.attname
    where pg_attribute.attrelid = pg_index.indrelid
      and pg_attribute.attnum = any (pg_index.indkey)
  ) as keys
  where pg_class.relkind = 'i'
    and pg_class.reltuples >= 0
    and keys.columns = pg_index.indnatts
)
select
  indexrelid::regclass::text as index_name,
  indrelid::regclass::text as table_name,
  index_bytes,
  expected_bytes::bigint as expected_bytes,
  (index_bytes - expected_bytes)::bigint as wasted_bytes,
  ((index_bytes - expected_bytes) / index_bytes)::float8 as wasted_share
from estimates
where index_bytes - expected_bytes
  >= coalesce(nullif(current_setting('report.min_bytes', true), ''), '1000000')::bigint
order by wasted_bytes desc, index_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '40')::integer;
