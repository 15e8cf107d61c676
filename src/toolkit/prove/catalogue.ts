import type { Transaction } from '../../postgres/connect.ts';
import type { ProveOptions } from './options.ts';

/** Which of our two roles has a privilege. */
export interface Grantees {
  user: boolean;
  anonymous: boolean;
}

export interface Column {
  name: string;
  /** As PostgreSQL writes it, with its modifier. */
  type: string;
  /** What a domain is made of, or the type itself. */
  baseType: string;
  isRequired: boolean;
  hasDefault: boolean;
  /** Never written: generated, or identity always. */
  isGenerated: boolean;
  /** Labels of an enum. */
  labels: string[];
  select: Grantees;
  insert: Grantees;
  update: Grantees;
}

export interface Check {
  name: string;
  columns: string[];
  definition: string;
}

export interface ForeignKey {
  name: string;
  columns: string[];
  parent: string;
  parentColumns: string[];
}

export interface Unique {
  name: string;
  /** Columns that it mentions, in expressions too. */
  columns: string[];
  isPrimary: boolean;
}

export interface Relation {
  oid: string;
  /** Quoted where needed, with its schema. */
  name: string;
  kind: 'r' | 'p' | 'v' | 'm' | 'f';
  isPartition: boolean;
  /** The table that it is a partition of, at the top; else itself. */
  root: string;
  /** The table that it is a partition of, directly. */
  parent: string | null;
  columns: Column[];
  checks: Check[];
  foreignKeys: ForeignKey[];
  uniques: Unique[];
  /** The column that says whose a row is. */
  ownerColumn: string | null;
  /** Whether a row belongs to a user, by that column or through a foreign key. */
  isOwned: boolean;
}

const kinds: Record<string, string> = {
  r: 'table',
  p: 'table',
  f: 'foreign table',
  v: 'view',
  m: 'materialized view',
};

/** What to call a relation's kind. */
export const kindOf = ({ kind, isPartition }: Relation): string =>
  isPartition ? 'partition' : (kinds[kind] ?? kind);

/** The relations of every schema that no extension made, by name. */
export async function loadCatalogue(
  sql: Transaction,
  options: ProveOptions,
): Promise<Map<string, Relation>> {
  const { user, anonymous } = options.roles;
  const relations = await sql<Relation[]>`
    select pg_class.oid::text as oid, format('%I.%I', nspname, relname) as name,
      relkind as kind, relispartition as "isPartition",
      coalesce(pg_partition_root(pg_class.oid)::oid, pg_class.oid)::text as root,
      inhparent::text as parent, '[]'::jsonb as columns, '[]'::jsonb as checks,
      '[]'::jsonb as "foreignKeys", '[]'::jsonb as uniques, null as "ownerColumn",
      false as "isOwned"
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    left join pg_inherits on inhrelid = pg_class.oid and relispartition
    where relkind in ('r', 'p', 'v', 'm', 'f')
      and relpersistence <> 't'
      and nspname <> all(${options.ignoredSchemas})
      and not exists (select from pg_depend
        where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e')
    order by relispartition, 2`;
  const oids = relations.map(({ oid }) => oid);
  const columns = await sql<(Column & { oid: string })[]>`
    select attrelid::text as oid, attname as name,
      format_type(atttypid, atttypmod) as type,
      format_type(case typtype when 'd' then typbasetype else atttypid end,
        case typtype when 'd' then typtypmod else atttypmod end) as "baseType",
      attnotnull and not atthasdef and attidentity = '' as "isRequired",
      atthasdef or attidentity <> '' as "hasDefault",
      attgenerated <> '' or attidentity = 'a' as "isGenerated",
      array(select enumlabel::text from pg_enum where enumtypid = atttypid
        order by enumsortorder) as labels,
      ${sql.unsafe(
        ['select', 'insert', 'update']
          .map(
            (privilege) => `jsonb_build_object(
              'user', has_column_privilege($1, attrelid, attnum, '${privilege}'),
              'anonymous', has_column_privilege($2, attrelid, attnum, '${privilege}'))
              as ${privilege}`,
          )
          .join(', ')
          .replaceAll('$1', `'${user}'`)
          .replaceAll('$2', `'${anonymous}'`),
      )}
    from pg_attribute
    inner join pg_type on pg_type.oid = atttypid
    where attrelid = any(${oids}::oid[]) and attnum > 0 and not attisdropped
    order by attrelid, attnum`;
  const checks = await sql<(Check & { oid: string })[]>`
    select attrelid::text as oid, conname as name, array_agg(attname::text) as columns,
      pg_get_constraintdef(pg_constraint.oid) as definition
    from pg_constraint
    inner join pg_attribute on attrelid = conrelid and attnum = any(conkey)
      or contypid <> 0 and atttypid = contypid
    where contype = 'c' and attrelid = any(${oids}::oid[])
    group by attrelid, pg_constraint.oid, conname
    order by conname`;
  const foreignKeys = await sql<(ForeignKey & { oid: string })[]>`
    select conrelid::text as oid, conname as name,
      array(select attname::text from unnest(conkey) with ordinality as key (attnum, place)
        inner join pg_attribute using (attnum) where attrelid = conrelid order by place)
        as columns,
      array(select attname::text from unnest(confkey) with ordinality as key (attnum, place)
        inner join pg_attribute using (attnum) where attrelid = confrelid order by place)
        as "parentColumns",
      (select format('%I.%I', nspname, relname) from pg_class
        inner join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = confrelid) as parent
    from pg_constraint
    where contype = 'f' and conparentid = 0 and conrelid = any(${oids}::oid[])
    order by conname`;
  const uniques = await sql<(Unique & { oid: string })[]>`
    select indrelid::text as oid, relname as name, indisprimary as "isPrimary",
      array(select distinct attname::text from pg_attribute where attrelid = indrelid
        and (attnum = any((indkey::int2[])[0:indnkeyatts - 1]) or exists (select from pg_depend
          where classid = 'pg_class'::regclass and objid = indexrelid
            and refobjid = indrelid and refobjsubid = attnum
            and indexprs is not null and not attnum = any(indkey)))) as columns
    from pg_index
    inner join pg_class on pg_class.oid = indexrelid
    where indisunique and indrelid = any(${oids}::oid[])
    order by relname`;
  const byOid = new Map(relations.map((relation) => [relation.oid, relation]));
  for (const column of columns) byOid.get(column.oid)?.columns.push(column);
  for (const check of checks) byOid.get(check.oid)?.checks.push(check);
  for (const key of foreignKeys) byOid.get(key.oid)?.foreignKeys.push(key);
  for (const unique of uniques) byOid.get(unique.oid)?.uniques.push(unique);
  const byName = new Map(relations.map((relation) => [relation.name, relation]));
  for (const relation of relations) {
    relation.root = byOid.get(relation.root)?.name ?? relation.name;
    relation.parent = relation.parent && (byOid.get(relation.parent)?.name ?? null);
  }
  findOwners(byName, options);
  return byName;
}

/** Says of each table whose its rows are: by its own column, or through what it refers to. */
function findOwners(relations: Map<string, Relation>, options: ProveOptions): void {
  for (const relation of relations.values()) {
    const key =
      relation.name === options.usersTable
        ? relation.uniques.find(({ isPrimary }) => isPrimary)?.columns[0]
        : options.ownerColumn;
    relation.ownerColumn = relation.columns.find(({ name }) => name === key)?.name ?? null;
    relation.isOwned = 'rpf'.includes(relation.kind) && relation.ownerColumn !== null;
  }
  for (let found = true; found; ) {
    found = false;
    for (const relation of relations.values()) {
      if (relation.isOwned) continue;
      const through = relation.foreignKeys.some(({ parent }) => relations.get(parent)?.isOwned);
      const partOf = relation.isPartition && relations.get(relation.root)?.isOwned === true;
      if (!through && !partOf) continue;
      relation.isOwned = true;
      found = true;
    }
  }
}

/** The index columns that distinguish rows, of the primary key when there is one. */
export const keyOf = (relation: Relation): string[] =>
  (relation.uniques.find(({ isPrimary }) => isPrimary) ?? relation.uniques[0])?.columns ??
  relation.columns.map(({ name }) => name);
