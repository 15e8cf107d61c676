-- oldest-xmin: what keeps vacuum from removing dead rows
-- Params:
--   oldest_xmin_warning bigint = 10000000: transactions since what it holds
--   oldest_xmin_critical bigint = 200000000: the same
-- Needs: role pg_monitor
-- Columns: level, object (the session, slot, standby or prepared transaction), detail,
--   remediation.
-- Read: No dead row that is younger is removed anywhere: tables grow, and transaction
--   numbers run out.
-- Cost: Milliseconds.
with holders as (
  select format('session %s', pid) as object, age(backend_xmin)::bigint as age,
    format('%s, %s, for %s', coalesce(usename, backend_type), state,
      date_trunc('second', now() - xact_start)) as what,
    format('select pg_terminate_backend(%s);', pid) as remediation
  from pg_catalog.pg_stat_activity
  where backend_xmin is not null and pid <> pg_backend_pid()
  union all
  select format('slot %s', slot_name), greatest(age(xmin), age(catalog_xmin)),
    case when active then 'its consumer is behind' else 'nobody reads it' end,
    format('Start its consumer, or: select pg_drop_replication_slot(%L);', slot_name)
  from pg_catalog.pg_replication_slots
  where xmin is not null or catalog_xmin is not null
  union all
  select format('standby %s', application_name), age(backend_xmin),
    'a query on it is long', 'End the query there.'
  from pg_catalog.pg_stat_replication
  where backend_xmin is not null
  union all
  select format('prepared transaction %s', gid), age(transaction),
    format('prepared by %s at %s', owner, date_trunc('second', prepared)),
    format('rollback prepared %L;', gid)
  from pg_catalog.pg_prepared_xacts
)
select
  case when age >= critical then 'critical' else 'warning' end as level,
  object,
  format('holds %s transactions: %s', age, what) as detail,
  remediation
from holders
cross join (
  select
    coalesce(nullif(current_setting('health.oldest_xmin_warning', true), ''),
      '10000000')::bigint as warning,
    coalesce(nullif(current_setting('health.oldest_xmin_critical', true), ''),
      '200000000')::bigint as critical
) as limits
where age >= warning
order by age desc, object;
