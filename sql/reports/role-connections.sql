-- role-connections: connections of each role, and its limit
-- Params: none
-- Columns: role_name, connections, active, idle_in_transaction, connection_limit (null:
--   as many as the server allows), share (of its limit, or of max_connections).
-- Read: Over 0.8: the next pool that grows is refused. alter role … connection limit …;
-- Cost: Reads activity; milliseconds.
select
  pg_roles.rolname::text as role_name,
  count(pg_stat_activity.pid) as connections,
  count(*) filter (where pg_stat_activity.state = 'active') as active,
  count(*) filter (where pg_stat_activity.state like 'idle in transaction%')
    as idle_in_transaction,
  nullif(pg_roles.rolconnlimit, -1) as connection_limit,
  count(pg_stat_activity.pid)::float8
    / coalesce(nullif(nullif(pg_roles.rolconnlimit, -1), 0),
    current_setting('max_connections')::integer) as share
from pg_catalog.pg_roles
left join pg_catalog.pg_stat_activity on pg_stat_activity.usesysid = pg_roles.oid
  and pg_stat_activity.backend_type = 'client backend'
where pg_roles.rolcanlogin
group by pg_roles.rolname, pg_roles.rolconnlimit
order by connections desc, role_name;
