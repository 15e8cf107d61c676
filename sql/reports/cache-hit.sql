-- cache-hit: share of reads that PostgreSQL found in its memory, by table
-- Params:
--   limit integer = 30: how many tables
-- Columns: table_name (all of them first), heap_reads, heap_hit_ratio, index_reads,
--   index_hit_ratio. Reads are of blocks that were not in shared_buffers; the operating
--   system may have had them.
-- Read: A ratio under 0.99 of a table that is asked all day: more shared_buffers, an
--   index that is missing (see sequential-scans), or a working set that outgrew the
--   memory. Counted since the statistics began, so a morning after a restart looks bad.
-- Cost: Reads statistics; milliseconds.
with blocks as (
  select
    pg_statio_user_tables.relid,
    coalesce(parents.root, pg_statio_user_tables.relid)::regclass::text as table_name,
    heap_blks_read, heap_blks_hit, idx_blks_read, idx_blks_hit
  from pg_catalog.pg_statio_user_tables
  left join lateral (
    select pg_partition_root(pg_statio_user_tables.relid) as root
  ) as parents on true
)
select
  case when grouping(table_name) = 1 then '(all)' else table_name end as table_name,
  sum(heap_blks_read)::bigint as heap_reads,
  (sum(heap_blks_hit) / nullif(sum(heap_blks_hit + heap_blks_read), 0))::float8
    as heap_hit_ratio,
  coalesce(sum(idx_blks_read), 0)::bigint as index_reads,
  (sum(idx_blks_hit) / nullif(sum(idx_blks_hit + idx_blks_read), 0))::float8
    as index_hit_ratio
from blocks
group by rollup (table_name)
order by grouping(table_name) desc,
  coalesce(sum(heap_blks_read + coalesce(idx_blks_read, 0)), 0) desc, table_name
limit coalesce(nullif(current_setting('report.limit', true), ''), '30')::integer;
