-- replica-identity: published tables whose changes cannot be published
-- Params: none
-- Columns: level, object (the table), detail, remediation.
-- Read: UPDATE and DELETE on it fail as long as it is published without an identity.
-- Cost: Reads the catalogue; milliseconds.
select distinct
  'critical' as level,
  pg_class.oid::regclass::text as object,
  format('is in publication %s and has no replica identity', pg_publication.pubname)
    as detail,
  format('alter table %s add primary key (…); or replica identity full;',
    pg_class.oid::regclass) as remediation
from pg_catalog.pg_publication
cross join lateral pg_get_publication_tables(pg_publication.pubname) as published
cross join lateral (
  select tree.relid from pg_partition_tree(published.relid) as tree where tree.isleaf
  union
  select published.relid
) as leaf (relid)
inner join pg_catalog.pg_class on pg_class.oid = leaf.relid and pg_class.relkind = 'r'
where (pg_publication.pubupdate or pg_publication.pubdelete)
  and pg_class.relreplident <> 'f'
  and not exists (
    select from pg_catalog.pg_index
    where pg_index.indrelid = pg_class.oid
      and case pg_class.relreplident
        when 'd' then pg_index.indisprimary
        when 'i' then pg_index.indisreplident
        else false
      end
  )
order by object;
