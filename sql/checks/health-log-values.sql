-- log-values: the server's log takes what users wrote
-- Params: none
-- Columns: level, object (the setting, and the role or database it is set for), detail,
--   remediation.
-- Read: Passwords, addresses and texts end up in the log, where retention and erasure do not
--   reach them: as parameters of slow statements, as DETAIL of errors, as values in a
--   statement's text, or as constants in the plans of auto_explain.
-- Cost: Milliseconds.
with wanted as (
  select *
  from (values
    ('log_parameter_max_length', '0', 'slow statements are logged with their parameters'),
    ('log_parameter_max_length_on_error', '0', 'errors are logged with parameters'),
    ('log_error_verbosity', 'terse', 'errors are logged with DETAIL and CONTEXT, which quote rows'),
    ('log_min_error_statement', 'panic', 'failed statements are logged with the values in their text'),
    ('log_statement', 'none', 'statements are logged with the values in their text'),
    ('debug_print_parse', 'off', 'parse trees are logged with their constants'),
    ('debug_print_rewritten', 'off', 'parse trees are logged with their constants'),
    ('debug_print_plan', 'off', 'plans are logged with their constants'),
    ('auto_explain.log_min_duration', '-1', 'auto_explain logs plans with the values in their conditions')
  ) as quiet (setting, value, detail)
),

present as (
  select
    pg_settings.name,
    lower(pg_settings.setting) as value,
    '' as place,
    format('alter system set %s = ', pg_settings.name) || '%L; select pg_reload_conf();'
      as remediation
  from pg_catalog.pg_settings
  union all
  select
    split_part(entry, '=', 1),
    lower(substr(entry, strpos(entry, '=') + 1)),
    concat(' of role ' || quote_ident(pg_roles.rolname),
      ' in database ' || quote_ident(pg_database.datname)),
    concat('alter ',
      case when pg_roles.rolname is null
        then 'database ' || quote_ident(pg_database.datname)
        else 'role ' || quote_ident(pg_roles.rolname)
          || coalesce(' in database ' || quote_ident(pg_database.datname), '')
      end, ' reset ', split_part(entry, '=', 1), ';')
  from pg_catalog.pg_db_role_setting
  cross join lateral unnest(pg_db_role_setting.setconfig) as entry
  left join pg_catalog.pg_roles on pg_roles.oid = pg_db_role_setting.setrole
  left join pg_catalog.pg_database on pg_database.oid = pg_db_role_setting.setdatabase
)
select
  'critical' as level,
  wanted.setting || present.place as object,
  format('is %s: %s', present.value, wanted.detail) as detail,
  replace(present.remediation, '%L', quote_literal(wanted.value)) as remediation
from wanted
inner join present on present.name = wanted.setting
where present.value <> wanted.value
order by object;
