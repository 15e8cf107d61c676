-- sequences: sequences that have spent most of their numbers
-- Params:
--   sequences_warning numeric = 0.75: share that is spent
--   sequences_critical numeric = 0.90: the same
-- Every: 1 hour
-- Columns: level, object (the sequence), detail, remediation.
-- Read: At the end every insert fails. The end is that of the sequence or of the column
--   that it fills, whichever comes first. Sequences that the role may not read are not
--   seen, nor those that cycle.
-- Cost: Reads the catalogue and each sequence.
with limits as (
  select
    coalesce(nullif(current_setting('health.sequences_warning', true), ''),
      '0.75')::numeric as warning,
    coalesce(nullif(current_setting('health.sequences_critical', true), ''),
      '0.90')::numeric as critical
),
spent as (
  select
    pg_class.oid::regclass::text as object,
    pg_sequences.last_value,
    least(pg_sequences.max_value, case pg_attribute.atttypid
      when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647
      end) as last,
    pg_sequences.start_value
  from pg_catalog.pg_sequences
  inner join pg_catalog.pg_class on pg_class.oid
    = format('%I.%I', pg_sequences.schemaname, pg_sequences.sequencename)::regclass
  left join pg_catalog.pg_depend on pg_depend.objid = pg_class.oid
    and pg_depend.classid = 'pg_catalog.pg_class'::regclass
    and pg_depend.refclassid = 'pg_catalog.pg_class'::regclass
    and pg_depend.refobjsubid > 0
    and pg_depend.deptype in ('a', 'i')
  left join pg_catalog.pg_attribute on pg_attribute.attrelid = pg_depend.refobjid
    and pg_attribute.attnum = pg_depend.refobjsubid
  where pg_sequences.increment_by > 0
    and not pg_sequences.cycle
)
select
  case when share >= critical then 'critical' else 'warning' end as level,
  object,
  format('%s %% spent: %s of %s', trunc(100 * share, 1), last_value, last) as detail,
  'Change the sequence and its column to bigint; that rewrites the table.' as remediation
from spent
cross join limits
cross join lateral (
  select (last_value - start_value)::numeric / nullif(last - start_value, 0) as share
) as shares
where share >= warning
order by object;
