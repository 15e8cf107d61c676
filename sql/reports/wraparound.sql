-- wraparound: how close each database and its oldest tables are to running out of
--   transaction numbers
-- Params:
--   limit integer = 10: how many tables of this database
-- Columns: object, kind (database or table), transactions_age, multixact_age, share (of
--   the two thousand million after which the server refuses to write).
-- Read: Over 0.1 of a table: its vacuum does not finish, see vacuum-progress. Over 0.5:
--   end what holds the oldest snapshot (long-running-queries, replication-slots), then:
--   vacuum (freeze) …;
-- Cost: Reads the catalogue; milliseconds.
select object, kind, transactions_age, multixact_age,
  greatest(transactions_age, multixact_age)::float8 / 2000000000 as share
from (
  select datname::text as object, 'database' as kind,
    age(datfrozenxid) as transactions_age,
    mxid_age(datminmxid) as multixact_age
  from pg_catalog.pg_database
  union all
  (
    select oid::regclass::text, 'table', age(relfrozenxid), mxid_age(relminmxid)
    from pg_catalog.pg_class
    where relkind in ('r', 'm', 't')
      and relpersistence <> 't'
    order by greatest(age(relfrozenxid), mxid_age(relminmxid)) desc, oid
    limit coalesce(nullif(current_setting('report.limit', true), ''), '10')::integer
  )
) as ages
order by kind, share desc, object;
