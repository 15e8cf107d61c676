-- vacuum-horizon: what keeps vacuum from removing dead rows, oldest first
-- Params: none
-- Columns: holder (a session, slot, standby or prepared transaction), transactions (since what
--   it holds), what, held_seconds (null where PostgreSQL does not say).
-- Read: No dead row that is younger than the first one is removed. The check oldest-xmin warns
--   from ten million transactions on.
-- Cost: Reads activity; milliseconds.
with holders as (
  select format('session %s', pid) as holder, age(backend_xmin)::bigint as transactions,
    concat_ws(', ', usename, backend_type, state) as what,
    extract(epoch from clock_timestamp() - xact_start)::float8 as held_seconds
  from pg_catalog.pg_stat_activity
  where backend_xmin is not null and pid <> pg_backend_pid()
  union all
  select format('slot %s', slot_name), greatest(age(xmin), age(catalog_xmin)),
    case when active then 'read by its consumer' else 'nobody reads it' end, null
  from pg_catalog.pg_replication_slots
  where xmin is not null or catalog_xmin is not null
  union all
  select format('standby %s', application_name), age(backend_xmin),
    'hot_standby_feedback', null
  from pg_catalog.pg_stat_replication
  where backend_xmin is not null
  union all
  select format('prepared transaction %s', gid), age(transaction),
    format('prepared by %s', owner),
    extract(epoch from clock_timestamp() - prepared)::float8
  from pg_catalog.pg_prepared_xacts
)
select holder, transactions, what, held_seconds
from holders
order by transactions desc, holder;
