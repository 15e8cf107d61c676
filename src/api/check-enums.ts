import {
  enumCodec,
  type PgCodec,
  type PgCodecWithAttributes,
  type PgSelectQueryBuilder,
  TYPES,
  withPgClientFromPgService,
} from 'postgraphile/@dataplan/pg';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import { sql } from 'postgraphile/pg-sql2';

type Introspection = Parameters<
  NonNullable<GraphileConfig.GatherHooks['pgIntrospection_introspection']>
>[0]['introspection'];
type Attribute = Introspection['attributes'][number];
type Constraint = Introspection['constraints'][number];

interface Definition {
  id: string;
  definition: string;
}

const query = `
  select pg_constraint.oid::text as id, pg_get_constraintdef(pg_constraint.oid) as definition
  from pg_catalog.pg_constraint
  where pg_constraint.contype = 'c'
    and pg_constraint.connamespace = 'app_public'::regnamespace
    and cardinality(pg_constraint.conkey) = 1`;

/** The values of a CHECK of the form "column in (…)", in its order; undefined for another. */
export function valuesOf(definition: string): string[] | undefined {
  const text = `'(?:[^']|'')*'::text`;
  const list = new RegExp(
    String.raw`^CHECK \(\((?:\w+|"[^"]+") = ANY \(ARRAY\[(${text}(?:, ${text})*)\]\)\)\)$`,
  ).exec(definition);
  const values = list?.[1]?.match(new RegExp(text, 'g'));
  return values?.map((value) => value.slice(1, -"'::text".length).replaceAll("''", "'"));
}

/** Whether GraphQL can call a value by its name: a list with another one stays text. */
const isName = (value: string): boolean =>
  /^(?!__)[_a-z][_a-z0-9]*$/i.test(value) && !['true', 'false', 'null'].includes(value);

/** What "@value todo Not begun." says of a value. */
function describe(
  values: readonly string[],
  tag: unknown,
): { value: string; description?: string }[] {
  const described = new Map(
    [tag]
      .flat()
      .filter((line) => typeof line === 'string')
      .map((line) => {
        const [value = '', ...words] = line.split(' ');
        return [value, words.join(' ')];
      }),
  );
  return values.map((value) => {
    const description = described.get(value);
    return description === undefined ? { value } : { value, description };
  });
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** The codecs of the columns that have such a CHECK. Those of one name have one codec. */
const codecs = new WeakMap<Attribute, PgCodec>();

function readEnums(
  constraints: readonly Constraint[],
  definitions: readonly Definition[],
  singularize: (name: string) => string,
): void {
  const byName = new Map<string, PgCodec & { values: { value: string; description?: string }[] }>();
  const byId = new Map(definitions.map(({ id, definition }) => [id, definition]));
  for (const constraint of constraints) {
    const values = valuesOf(byId.get(constraint._id) ?? '');
    const [attribute] = constraint.getAttributes() ?? [];
    if (values === undefined || attribute === undefined || !values.every(isName)) continue;
    const { tags, description } = constraint.getTagsAndDescription();
    const table = singularize(constraint.getClass()?.relname ?? '');
    const name = typeof tags.enum === 'string' ? tags.enum : `${table}_${attribute.attname}`;
    const described = describe(values, tags.value);
    const known = byName.get(name);
    if (known !== undefined && known.values.map(({ value }) => value).join() !== values.join()) {
      throw new Error(`two CHECKs are @enum ${name}, and have different values`);
    }
    const codec = known ?? {
      ...enumCodec({
        name,
        identifier: sql`text`,
        values: described,
        ...(description ? { description: sentence(description) } : {}),
      }),
      // That of the CHECK: see GraphQLEnumType_values below.
      hasNaturalOrdering: true,
    };
    // One of the columns describes the values for all.
    if (described.some((value) => value.description !== undefined)) codec.values = described;
    byName.set(name, codec as never);
    codecs.set(attribute, codec as never);
  }
}

/** The place of a value in its CHECK, by which it is ordered; an index may have the same text. */
const placeOf = (values: readonly string[], column: ReturnType<typeof sql>) =>
  sql`array_position(array[${sql.join(
    values.map((value) => sql`${sql.literal(value)}::text`),
    ', ',
  )}], ${column})`;

type Apply = (query: PgSelectQueryBuilder) => void;

/**
 * A column of text whose CHECK lists its values is an enum: `column in ('low', 'high')`. The tags
 * of the constraint's comment name it (`@enum TaskPriority`), and describe its values
 * (`@value low Can wait.`). Its order is that of the CHECK. Values that are no names stay text.
 */
export const CheckEnumsPlugin: GraphileConfig.Plugin = {
  name: 'CheckEnumsPlugin',
  version: '1.0.0',
  after: ['PgOrderAllAttributesPlugin'],
  before: ['OrdersPlugin'],
  gather: {
    hooks: {
      async pgIntrospection_introspection(info, { introspection, serviceName }) {
        const service = info.resolvedPreset.pgServices?.find(({ name }) => name === serviceName);
        if (service === undefined) return;
        const { rows } = await withPgClientFromPgService(
          service,
          service.pgSettingsForIntrospection ?? null,
          (client) => client.query<Definition>({ text: query }),
        );
        readEnums(introspection.constraints, rows, (name) => info.inflection.singularize(name));
      },
      pgCodecs_attribute(_info, { attribute, pgAttribute }) {
        const codec = codecs.get(pgAttribute as Attribute);
        if (codec !== undefined) attribute.codec = codec;
      },
    },
  },
  schema: {
    entityBehavior: {
      pgCodecAttribute: {
        inferred: {
          provides: ['checkEnums'],
          after: ['default'],
          before: ['postInferred'],
          // PostGraphile takes enums for values in no order.
          callback: (behavior, [codec, attributeName]) =>
            'values' in (codec.attributes[attributeName]?.codec ?? {})
              ? [behavior, 'attribute:orderBy']
              : behavior,
        },
      },
    },
    hooks: {
      // Those compare text, and "high" < "low" there.
      GraphQLInputObjectType_fields: {
        after: ['PgConnectionArgFilterOperatorsPlugin'],
        callback(fields, _build, { scope }) {
          const { pgConnectionFilterOperators: operators } = scope;
          if (operators?.pgCodecs.some((codec) => 'values' in codec) !== true) return fields;
          return Object.fromEntries(
            Object.entries(fields).filter(([name]) => !/^(less|greater)Than/.test(name)),
          );
        },
      },
      GraphQLEnumType_values(values, build, { scope }) {
        const codec = scope.pgCodec as PgCodecWithAttributes | undefined;
        if (scope.isPgRowSortEnum !== true || codec?.attributes === undefined) return values;
        for (const [attributeName, attribute] of Object.entries(codec.attributes)) {
          const list = (attribute.codec as { values?: { value: string }[] }).values;
          if (list === undefined) continue;
          for (const variant of ['asc', 'desc'] as const) {
            const name = build.inflection.orderByAttributeEnum({ codec, attributeName, variant });
            const grafast = values[name]?.extensions?.grafast as { apply?: Apply } | undefined;
            if (grafast === undefined) continue;
            grafast.apply = (query) => {
              const column = sql`${query.alias}.${sql.identifier(attributeName)}`;
              query.orderBy({
                fragment: placeOf(
                  list.map(({ value }) => value),
                  column,
                ),
                codec: TYPES.int,
                direction: variant === 'asc' ? 'ASC' : 'DESC',
                nullable: attribute.notNull !== true,
              });
            };
          }
        }
        return values;
      },
    },
  },
};
