-- partition-coverage: time-ranged tables whose partitions do not reach far enough ahead
-- Params:
--   partition_coverage_warning interval = 2 months: ahead of now
--   partition_coverage_critical interval = 3 days: the same
--   partition_coverage_except text = ^(pgboss|app_partitions)$: not schemas that match this
-- Columns: level, object (the table), detail, remediation.
--   Of partitions shorter than a month, two ahead are enough, and one is critical.
-- Read: Later rows go to DEFAULT, or are refused where there is none. It is critical when
--   only days are left, or when today has no partition.
-- Cost: Reads the catalogue; milliseconds.
with parents as (
  select pg_partitioned_table.partrelid as oid,
    nullif(pg_partitioned_table.partdefid, 0) as default_oid
  from pg_catalog.pg_partitioned_table
  inner join pg_catalog.pg_attribute
    on pg_attribute.attrelid = pg_partitioned_table.partrelid
    and pg_attribute.attnum = pg_partitioned_table.partattrs[0]
    and pg_attribute.atttypid
      in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
  inner join pg_catalog.pg_class on pg_class.oid = pg_partitioned_table.partrelid
    and pg_class.relnamespace::regnamespace::text !~ coalesce(
      nullif(current_setting('health.partition_coverage_except', true), ''), '^(pgboss|app_partitions)$')
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
    max(case when now() >= ranges.starts_at and now() < ranges.ends_at
        and isfinite(ranges.starts_at) and isfinite(ranges.ends_at)
      then ranges.ends_at - ranges.starts_at end) as step,
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
  case when coalesce(covered_until, now()) < now() + least(critical, step)
    then 'critical' else 'warning' end as level,
  coverage.oid::regclass::text as object,
  case when covered_until is null then 'has no partition for today'
    else 'has partitions until '
      || to_char(covered_until at time zone 'UTC', 'YYYY-MM-DD')
    end as detail,
  'call ops.maintain_partitions(); and see why its pg_cron job did not.' as remediation
from coverage
cross join (
  select
    coalesce(nullif(current_setting('health.partition_coverage_warning', true), ''),
      '2 months')::interval as warning,
    coalesce(nullif(current_setting('health.partition_coverage_critical', true), ''),
      '3 days')::interval as critical
) as limits
where coalesce(covered_until, now()) < now() + least(warning, 2 * step)
  and (partitions > 0 or default_oid is not null)
order by object;
