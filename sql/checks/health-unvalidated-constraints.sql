-- unvalidated-constraints: constraints that were added NOT VALID and never validated
-- Params: none
-- Columns: level, object (the table and constraint), detail, remediation.
-- Read: New rows keep it, old ones may not. The planner does not use it.
-- Cost: Reads the catalogue; milliseconds.
select
  'warning' as level,
  format('%s %s', pg_constraint.conrelid::regclass, pg_constraint.conname) as object,
  'is NOT VALID' as detail,
  format('alter table %s validate constraint %I;', pg_constraint.conrelid::regclass,
    pg_constraint.conname) as remediation
from pg_catalog.pg_constraint
where not pg_constraint.convalidated
  and pg_constraint.conrelid <> 0
  and pg_constraint.conparentid = 0
order by object;
