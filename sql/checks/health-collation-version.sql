-- collation-version: collations whose rules differ from those that indexes were built with
-- Params: none
-- Columns: level, object (the collation, or the database), detail, remediation.
-- Read: The operating system or ICU was updated. Indexes of text may be in another order:
--   rows are not found, and unique values come twice.
-- Cost: Reads the catalogue; milliseconds.
-- Every: 1 hour
with versions as (
  select format('database %s', datname) as object, datcollversion as built_with,
    pg_database_collation_actual_version(oid) as actual,
    format('reindex database %I; alter database %1$I refresh collation version;', datname)
      as remediation
  from pg_catalog.pg_database
  where datname = current_database()
  union all
  select pg_collation.oid::regcollation::text, collversion,
    pg_collation_actual_version(pg_collation.oid),
    format('Rebuild the indexes that use it; alter collation %s refresh version;',
      pg_collation.oid::regcollation)
  from pg_catalog.pg_collation
  where collversion is not null
)
select
  'critical' as level,
  object,
  format('built with version %s, and the server has %s', built_with, coalesce(actual, 'none'))
    as detail,
  remediation
from versions
where built_with <> actual
order by object;
