-- disabled-triggers: triggers that somebody switched off
-- Params: none
-- Columns: level, object (the table and trigger), detail, remediation.
-- Read: A rule of the schema is not kept: rows are not validated, changes not told.
-- Cost: Reads the catalogue; milliseconds.
select distinct
  'critical' as level,
  format('%s %s', pg_trigger.tgrelid::regclass,
    case when pg_trigger.tgisinternal then coalesce(pg_constraint.conname, 'foreign key')
      else pg_trigger.tgname end) as object,
  case pg_trigger.tgenabled when 'D' then 'is disabled' else 'fires on a replica only' end
    as detail,
  format('alter table %s enable trigger %s;', pg_trigger.tgrelid::regclass,
    case when pg_trigger.tgisinternal then 'all' else quote_ident(pg_trigger.tgname) end)
    as remediation
from pg_catalog.pg_trigger
inner join pg_catalog.pg_class on pg_class.oid = pg_trigger.tgrelid
left join pg_catalog.pg_constraint on pg_constraint.oid = pg_trigger.tgconstraint
where pg_trigger.tgenabled in ('D', 'R')
  and pg_trigger.tgparentid = 0
order by object;
