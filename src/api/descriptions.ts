import type { GraphileConfig } from 'postgraphile/graphile-build';
import {
  type GraphQLEnumType,
  type GraphQLField,
  type GraphQLInputObjectType,
  type GraphQLNamedType,
  type GraphQLObjectType,
  type GraphQLSchema,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isObjectType,
} from 'postgraphile/graphql';

/**
 * What functions take that no column is called. PostgreSQL has no comments on arguments; an
 * argument called like a column of what the function answers, or of a user, has its comment.
 */
const functionArguments: Record<string, string> = {
  afterId: 'The later snapshot.',
  beforeId: 'The earlier snapshot.',
  embedding: 'The vector of the content, 1536 numbers.',
  everywhere: 'Ends all sessions of the user, not only this one.',
  matchCount: 'How many matches at most.',
  n: 'How many units are used.',
  password: 'The password, 8 characters to 72 bytes.',
  query: 'The words that are looked for, as they are typed into a search box.',
  queryEmbedding: 'The vector whose neighbours are looked for, 1536 numbers.',
  refreshToken: 'A refresh token that was not used yet.',
  visualizationIds: 'Every visualization of the project, in the new order.',
  weeks: 'How many weeks, 1 to 100, the running one among them.',
};

const directions: Record<string, string> = { ASC: 'ascending', DESC: 'descending' };

const camel = (name: string): string =>
  name.toLowerCase().replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

function describeEnum(type: GraphQLEnumType): void {
  for (const value of type.getValues()) {
    const order = /^(.+)_(ASC|DESC)$/.exec(value.name);
    const [, truncated, unit] = /^(.+)_TRUNCATED_TO_(.+)$/.exec(value.name) ?? [];
    if (type.name.endsWith('OrderBy')) {
      const by =
        order?.[1] === 'PRIMARY_KEY' ? 'the primary key' : `\`${camel(order?.[1] ?? '')}\``;
      value.description ??=
        order === null ? 'In no particular order.' : `By ${by}, ${directions[order[2] ?? '']}.`;
    } else if (type.name.endsWith('GroupBy')) {
      value.description ??=
        truncated === undefined
          ? `A group for each \`${camel(value.name)}\`.`
          : `A group for each ${unit?.toLowerCase()} of \`${camel(truncated)}\`, in UTC; its key is the first day.`;
    }
  }
}

/** Aggregates have no descriptions of their own, and the payloads of functions few. */
function describeObject(type: GraphQLObjectType): void {
  const [, table, spec] = /^(.+?)(Sum|Average|Min|Max)?Aggregates$/.exec(type.name) ?? [];
  if (table !== undefined) {
    const what = { Sum: 'Sums', Average: 'Averages', Min: 'Least', Max: 'Greatest' }[spec ?? ''];
    type.description ??=
      what === undefined
        ? `Counts and sums over many a \`${table}\`.`
        : `${what} of the values of many a \`${table}\`.`;
  }
  for (const field of Object.values(type.getFields())) {
    if (table !== undefined && field.name === 'keys') {
      field.description ??=
        'What the rows of this group have in common, as text, one for each `groupBy`.';
    } else if (/^deleted.+Id$/.test(field.name)) {
      field.description ??= 'The node id of what was deleted.';
    } else if (field.name === 'result') {
      const name = type.name.replace(/Payload$/, '');
      field.description ??= `What \`${name.charAt(0).toLowerCase()}${name.slice(1)}\` answers.`;
    }
  }
}

/** The object type of the rows that a field answers, below connection and payload. */
function rowsOf(field: GraphQLField<unknown, unknown>): GraphQLNamedType {
  const type = getNamedType(field.type);
  if (!isObjectType(type)) return type;
  const { nodes, result } = type.getFields();
  const inner = nodes ?? (type.name.endsWith('Payload') ? result : undefined);
  return inner === undefined ? type : getNamedType(inner.type);
}

/** Arguments have the description of the column that they are compared with or become. */
function describeArguments(schema: GraphQLSchema, root: GraphQLObjectType): void {
  for (const field of Object.values(root.getFields())) {
    const types = [rowsOf(field), schema.getType('User')].filter(isObjectType);
    const describe = (given: { name: string; description?: string | null | undefined }): void => {
      given.description ??=
        functionArguments[given.name] ??
        types
          .map((type) => type.getFields()[given.name]?.description)
          .find((description) => description != null);
    };
    for (const argument of field.args) {
      describe(argument);
      const type: GraphQLNamedType = getNamedType(argument.type);
      if (root === schema.getMutationType() && isInputObjectType(type)) {
        for (const input of Object.values((type as GraphQLInputObjectType).getFields())) {
          describe(input);
        }
      }
    }
  }
}

/**
 * Describes what neither a comment in the database nor a plugin has described, so that the
 * documentation in GraphiQL has no gap.
 */
export const DescriptionsPlugin: GraphileConfig.Plugin = {
  name: 'DescriptionsPlugin',
  version: '1.0.0',
  schema: {
    hooks: {
      finalize(schema) {
        for (const type of Object.values(schema.getTypeMap())) {
          if (type.name.startsWith('__')) continue;
          if (isEnumType(type)) describeEnum(type);
          if (isObjectType(type)) describeObject(type);
        }
        for (const root of [schema.getQueryType(), schema.getMutationType()]) {
          if (root != null) describeArguments(schema, root);
        }
        return schema;
      },
    },
  },
};
