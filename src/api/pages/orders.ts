import type { PgCodecWithAttributes, PgSelectQueryBuilder } from 'postgraphile/@dataplan/pg';
import type { GraphileConfig } from 'postgraphile/graphile-build';

/** As PostGraphile's builder of a query, but it does not hear that an order is total. */
const withoutClaim = { setOrderIsUnique: { value: () => {} } };

type Apply = (query: PgSelectQueryBuilder) => void;

/** "log_date desc, habit_id" as names and variants. */
function parseOrder(text: string): { attributeName: string; variant: 'asc' | 'desc' }[] {
  return text.split(/\s*,\s*/).map((term) => {
    const [attributeName = '', direction = 'asc'] = term.trim().split(/\s+/);
    return { attributeName, variant: direction === 'desc' ? 'desc' : 'asc' };
  });
}

/**
 * Every order is total, and every connection has one: rows that an order does not tell apart
 * come by their primary key, so that a page ends between two of them and not among them; and a
 * connection without `orderBy` comes as the tag `@defaultOrder` of its table says.
 */
export const OrdersPlugin: GraphileConfig.Plugin = {
  name: 'OrdersPlugin',
  version: '1.0.0',
  after: ['PgOrderAllAttributesPlugin', 'PgConnectionArgOrderByDefaultValuePlugin'],
  gather: {
    hooks: {
      // The first of the keys breaks ties; those of others may be empty, and the cursor with them.
      pgTables_PgResourceOptions(_info, { resourceOptions }) {
        const { uniques } = resourceOptions;
        if (uniques === undefined) return;
        resourceOptions.uniques = [...uniques].sort(
          (one, other) => Number(other.isPrimary ?? false) - Number(one.isPrimary ?? false),
        );
      },
    },
  },
  schema: {
    hooks: {
      GraphQLEnumType_values(values, build, { scope }) {
        const codec = scope.pgCodec as PgCodecWithAttributes | undefined;
        if (scope.isPgRowSortEnum !== true || codec?.attributes === undefined) return values;
        const uniques = build.pgTableResource(codec)?.uniques ?? [];
        for (const attributeName of Object.keys(codec.attributes)) {
          // PostGraphile takes the first column of any key for unique.
          const isUnique = uniques.some(
            ({ attributes }) => attributes.length === 1 && attributes[0] === attributeName,
          );
          if (isUnique && codec.attributes[attributeName]?.notNull) continue;
          for (const variant of ['asc', 'desc'] as const) {
            const name = build.inflection.orderByAttributeEnum({ codec, attributeName, variant });
            const grafast = values[name]?.extensions?.grafast as { apply?: Apply } | undefined;
            const apply = grafast?.apply;
            if (grafast === undefined || apply === undefined) continue;
            grafast.apply = (query) => apply(Object.create(query, withoutClaim));
          }
        }
        return values;
      },
      GraphQLObjectType_fields_field_args_arg(arg, build, { scope }) {
        const { argName, isPgFieldConnection, pgFieldResource: resource } = scope;
        const codec = resource?.codec as PgCodecWithAttributes | undefined;
        const text = codec?.extensions?.tags?.defaultOrder;
        if (argName !== 'orderBy' || isPgFieldConnection !== true || typeof text !== 'string')
          return arg;
        if (codec === undefined || resource?.parameters !== undefined) return arg;
        const { inflection } = build;
        const type = build.getTypeByName(inflection.orderByType(inflection.tableType(codec)));
        if (!(type instanceof build.graphql.GraphQLEnumType)) return arg;
        const defaultValue = parseOrder(text).map((order) => {
          const name = inflection.orderByAttributeEnum({ codec, ...order });
          const value = type.getValue(name);
          if (value != null) return value.value;
          throw new Error(`@defaultOrder of ${codec.name}: no index serves ${order.attributeName}`);
        });
        return { ...arg, defaultValue };
      },
    },
  },
};
