-- partition-coverage: how far ahead the partitions of time-ranged tables reach
-- Params: none
-- Columns: parent_name, partitions, oldest_start, covered_until, ahead_seconds,
--   default_partition, default_rows (estimate). covered_until is where the first gap
--   begins: rows for later go to DEFAULT, or fail where there is none.
-- Read: Under two months ahead: call ops.maintain_partitions(); and see whether its cron
--   job runs. default_rows above 0: creating the partition moves them.
-- Cost: Reads the catalogue and statistics; milliseconds.
with parents as (
  select pg_partitioned_table.partrelid as oid,
    nullif(pg_partitioned_table.partdefid, 0) as default_oid
  from pg_catalog.pg_partitioned_table
  inner join pg_catalog.pg_attribute
    on pg_attribute.attrelid = pg_partitioned_table.partrelid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
    and pg_attribute.atttypid
      in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
  where pg_partitioned_table.partstrat = 'r'
    and pg_partitioned_table.partnatts = 1
),
bounds as (
  select parents.oid as parent_oid, part.oid, text_bounds[1] as lower_text,
    text_bounds[2] as upper_text
  from parents
  inner join pg_catalog.pg_inherits on pg_inherits.inhparent = parents.oid
  inner join pg_catalog.pg_class as part on part.oid = pg_inherits.inhrelid
  cross join lateral regexp_match(pg_get_expr(part.relpartbound, part.oid),
    '^FOR VALUES FROM \((?:''([^'']+)''|MINVALUE)\) TO \((?:''([^'']+)''|MAXVALUE)\)$')
    as text_bounds
  where text_bounds is not null
),
ranges as (
  select parent_oid, oid, coalesce(lower_text::timestamptz, '-infinity') as starts_at,
    coalesce(upper_text::timestamptz, 'infinity') as ends_at
  from bounds
),
coverage as (
  select parents.oid, parents.default_oid, count(ranges.oid) as partitions,
    min(ranges.starts_at) as oldest_start,
    -- The end of the partition that holds this instant, or the last of those that follow
    -- it without a gap.
    (select min(here.ends_at)
      from ranges as here
      where here.parent_oid = parents.oid
        and here.ends_at > now()
        and not exists (
          select from ranges as next
          where next.parent_oid = here.parent_oid and next.starts_at = here.ends_at
        )
        and exists (
          select from ranges as today
          where today.parent_oid = here.parent_oid
            and now() >= today.starts_at and now() < today.ends_at
        )
    ) as covered_until
  from parents
  left join ranges on ranges.parent_oid = parents.oid
  group by parents.oid, parents.default_oid
)
select
  coverage.oid::regclass::text as parent_name,
  coverage.partitions,
  nullif(coverage.oldest_start, '-infinity') as oldest_start,
  nullif(coverage.covered_until, 'infinity') as covered_until,
  case when isfinite(coverage.covered_until)
    then extract(epoch from coverage.covered_until - now())::float8
    when coverage.covered_until is null then 0 end as ahead_seconds,
  coverage.default_oid::regclass::text as default_partition,
  pg_stat_get_live_tuples(coverage.default_oid) as default_rows
from coverage
order by covered_until nulls first, parent_name;
