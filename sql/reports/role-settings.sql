-- role-settings: settings of roles and databases, outside postgresql.conf
-- Params: none
-- Columns: role_name (empty: every role), database_name (empty: every database), setting,
--   value.
-- Read: The most specific wins: role in database, role, database, postgresql.conf. They
--   hold from the next connection on.
-- Cost: Reads the catalogue; milliseconds.
select
  coalesce(pg_get_userbyid(nullif(setrole, 0))::text, '') as role_name,
  coalesce(pg_database.datname::text, '') as database_name,
  split_part(assignment, '=', 1) as setting,
  substr(assignment, strpos(assignment, '=') + 1) as value
from pg_catalog.pg_db_role_setting
left join pg_catalog.pg_database on pg_database.oid = pg_db_role_setting.setdatabase
cross join lateral unnest(setconfig) as assignments (assignment)
where setdatabase = 0 or pg_database.datname = current_database()
order by role_name, database_name, setting;
