-- role-passwords: roles whose password expires soon, or has
-- Params:
--   role_passwords_warning interval = 14 days: ahead of now
-- Columns: level, object (the role), detail, remediation.
-- Read: Who connects as it next is refused.
-- Cost: Milliseconds.
select
  case when rolvaliduntil <= now() then 'critical' else 'warning' end as level,
  rolname::text as object,
  format('its password %s at %s',
    case when rolvaliduntil <= now() then 'expired' else 'expires' end,
    to_char(rolvaliduntil at time zone 'UTC', 'YYYY-MM-DD HH24:MI')) as detail,
  format('Set another with \password, then: alter role %I valid until ''infinity'';', rolname)
    as remediation
from pg_catalog.pg_roles
where rolcanlogin
  and rolvaliduntil < now() + coalesce(
    nullif(current_setting('health.role_passwords_warning', true), ''), '14 days')::interval
order by object;
