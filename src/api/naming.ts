import type { PgManyToManyRelationDetails as ManyToMany } from '@graphile-contrib/pg-many-to-many';
import type { GraphileConfig } from 'postgraphile/graphile-build';

/**
 * Relations are named by what they relate, not by the tenant key that every composite
 * foreign key begins with: tasks.list_id is `list`, not `userList`.
 */
export const TenantKeyNamesPlugin: GraphileConfig.Plugin = {
  name: 'TenantKeyNamesPlugin',
  version: '1.0.0',
  after: ['PgSimplifyInflectionPlugin'],
  inflection: {
    replace: {
      _getBaseNameFromKeys(previous, _preset, keys) {
        const telling = keys.filter(({ attributeName }) => attributeName !== 'user_id');
        return (telling.length > 0 ? previous?.(telling) : previous?.(keys)) ?? null;
      },
    },
  },
};

/**
 * Filters and orders on columns of partitioned tables and views, too, are offered only where
 * an index serves them: PgIndexBehaviorsPlugin looks at ordinary tables alone. A view has no
 * index; what its comment says is its key has one below it.
 */
export const PartitionedIndexPlugin: GraphileConfig.Plugin = {
  name: 'PartitionedIndexPlugin',
  version: '1.0.0',
  after: ['smart-tags'],
  gather: {
    hooks: {
      pgCodecs_attribute(_info, { attribute, pgAttribute }) {
        const table = pgAttribute.getClass();
        const name = pgAttribute.attname;
        const { primaryKey } = table?.getTags() ?? {};
        if (table?.relkind !== 'p' && table?.relkind !== 'v') return;
        const isIndexed =
          table.relkind === 'v'
            ? typeof primaryKey === 'string' && primaryKey.split(/\s*,\s*/).includes(name)
            : // A partial index counts: ours leave out nulls only.
              table
                .getIndexes()
                .some((index) => index.getKeys().some((key) => key?.attname === name));
        attribute.extensions ??= Object.create(null);
        const { extensions } = attribute;
        if (!isIndexed && extensions !== undefined) extensions.isIndexed ??= false;
      },
    },
  },
};

/** Whether a table does nothing but link two others: its key is the two foreign keys. */
function isLinkTable({
  leftTable,
  leftRelationName,
  junctionTable,
  rightRelationName,
}: ManyToMany) {
  const left = leftTable.getRelation(leftRelationName).remoteAttributes;
  const right = junctionTable.getRelation(rightRelationName).localAttributes;
  const key = junctionTable.uniques.find(({ isPrimary }) => isPrimary)?.attributes ?? [];
  return (
    left.length > 1 &&
    right.length > 1 &&
    key.length === new Set([...left, ...right]).size &&
    key.every((attribute) => left.includes(attribute) || right.includes(attribute))
  );
}

/**
 * Many-to-many fields through tables made for it (goals_tasks: goal.tasks, task.goals), and
 * not through every table that happens to have two foreign keys.
 */
export const LinkTablesPlugin: GraphileConfig.Plugin = {
  name: 'LinkTablesPlugin',
  version: '1.0.0',
  after: ['PgManyToManyRelationInflectionPlugin', 'PgManyToManyRelationPlugin'],
  inflection: {
    replace: {
      _manyToManyRelation(previous, _preset, details) {
        if (!isLinkTable(details)) return previous?.(details) ?? '';
        return this.camelCase(
          this.pluralize(this._singularizedCodecName(details.rightTable.codec)),
        );
      },
    },
  },
  schema: {
    entityBehavior: {
      pgManyToMany: {
        override: {
          provides: ['linkTables'],
          after: ['default'],
          callback: (behavior, details) =>
            isLinkTable(details) ? behavior : [behavior, '-manyToMany'],
        },
      },
    },
    hooks: {
      init(value, build) {
        // The plugin compares the key with both foreign keys' columns, where user_id stands
        // twice, and takes a link for possible several times.
        const relationships = build.pgManyToManyRealtionshipsByResource.values();
        for (const details of [...relationships].flat()) {
          if (isLinkTable(details)) details.allowsMultipleEdgesToNode = false;
        }
        return value;
      },
    },
  },
};
