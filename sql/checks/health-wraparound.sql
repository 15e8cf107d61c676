-- wraparound: a database runs out of transaction numbers
-- Params:
--   wraparound_warning bigint = 500000000: transactions, or multixacts, of age
--   wraparound_critical bigint = 1200000000: the same
-- Columns: level, object (the database), detail, remediation.
-- Read: At two thousand million the server refuses to write. Autovacuum begins at 200
--   million and normally keeps it there: something holds it back.
-- Cost: Reads the catalogue; milliseconds.
with limits as (
  select
    coalesce(nullif(current_setting('health.wraparound_warning', true), ''),
      '500000000')::bigint as warning,
    coalesce(nullif(current_setting('health.wraparound_critical', true), ''),
      '1200000000')::bigint as critical
),
ages as (
  select datname::text as object, greatest(age(datfrozenxid), mxid_age(datminmxid)) as age
  from pg_catalog.pg_database
)
select
  case when ages.age >= critical then 'critical' else 'warning' end as level,
  object,
  format('its oldest transaction is %s old', ages.age) as detail,
  'End the oldest transaction (gw report long-running-queries), then: vacuum (freeze);'
    as remediation
from ages
cross join limits
where ages.age >= warning
order by object;
