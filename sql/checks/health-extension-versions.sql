-- extension-versions: extensions that are older than what is installed on the machine
-- Params: none
-- Every: 1 hour
-- Columns: level, object (the extension), detail, remediation.
-- Read: A package was updated, and its SQL was not: functions are missing, or faults remain.
-- Cost: Reads the control files of all extensions; milliseconds.
select
  'warning' as level,
  name::text as object,
  format('is %s, installed is %s', installed_version, default_version) as detail,
  format('as superuser: alter extension %I update;', name) as remediation
from pg_catalog.pg_available_extensions
where installed_version is not null
  and installed_version <> default_version
order by object;
