-- connections: too few connections are left
-- Params:
--   connections_warning numeric = 0.80: share of max_connections, or of a role's limit
--   connections_critical numeric = 0.95: the same
-- Needs: role pg_read_all_stats
-- Columns: level, object (empty: the server; else a role with a limit), detail,
--   remediation.
-- Read: The next pool that grows is refused. gw report connections says who has the
--   connections.
-- Cost: Reads activity; milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.connections_warning', true), ''),
      '0.80')::numeric as warning,
    coalesce(nullif(current_setting('health.connections_critical', true), ''),
      '0.95')::numeric as critical
),
used as (
  select '' as object, count(*) as taken,
    current_setting('max_connections')::integer
      - current_setting('superuser_reserved_connections')::integer as allowed
  from pg_catalog.pg_stat_activity
  where backend_type = 'client backend'
  union all
  select rolname::text, count(pg_stat_activity.pid), rolconnlimit
  from pg_catalog.pg_roles
  left join pg_catalog.pg_stat_activity on pg_stat_activity.usesysid = pg_roles.oid
    and pg_stat_activity.backend_type = 'client backend'
  where rolconnlimit > 0
  group by rolname, rolconnlimit
)
select
  case when taken >= allowed * critical then 'critical' else 'warning' end as level,
  object,
  format('%s of %s connections are taken', taken, allowed) as detail,
  'Lower the pools or put a pooler in front; see: gw report connections' as remediation
from used
cross join limits
where taken >= allowed * warning
order by object;
