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
 * Arguments of functions that have no column of the same name. PostgreSQL has no comments on
 * arguments, so an argument takes the comment of the column with its name: a column of the
 * rows that the function returns, or of `users`.
 */
const functionArguments: Record<string, string> = {
  afterId: 'Id of the later snapshot.',
  address: 'The URL of the push service: `endpoint` of the subscription.',
  auth: 'The secret of the subscription: 16 bytes in base64url.',
  beforeId: 'Id of the earlier snapshot.',
  embedding: 'The embedding of the content: 1,536 numbers.',
  everywhere: 'Whether all sessions of the user end, not only the current one; false by default.',
  matchCount: 'Maximum number of matches: 10 by default, 100 at most.',
  n: 'Number of units to count, at least 1; 1 by default.',
  password: 'The password, 8 characters to 72 bytes.',
  messageIds: 'Ids of the messages; those of others are left out.',
  publicKey: 'The key of the subscription, `keys.p256dh`: 65 bytes in base64url.',
  query: 'Words to search for, as a user types them into a search box.',
  queryEmbedding: 'The embedding whose nearest texts are searched: 1,536 numbers.',
  refreshToken: 'A refresh token that was not used before.',
  visualizationIds: 'Ids of all visualizations of the project, in the new order.',
  weeks: 'Number of weeks, 1 to 100, including the current one.',
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

/** PostGraphile describes no aggregates, and few fields of the payloads of functions. */
function describeObject(type: GraphQLObjectType): void {
  const [, table, spec] = /^(.+?)(Sum|Average|Min|Max)?Aggregates$/.exec(type.name) ?? [];
  if (table !== undefined) {
    const what = {
      Sum: 'Sums',
      Average: 'Averages',
      Min: 'Smallest values',
      Max: 'Largest values',
    }[spec ?? ''];
    type.description ??=
      what === undefined
        ? `Aggregates over \`${table}\` rows, such as their number.`
        : `${what} of the columns of \`${table}\` rows.`;
  }
  for (const field of Object.values(type.getFields())) {
    if (table !== undefined && field.name === 'keys') {
      field.description ??=
        'The values that the rows of this group share, as text: one for each `groupBy`.';
    } else if (/^deleted.+Id$/.test(field.name)) {
      field.description ??= 'Node id of the deleted row.';
    } else if (field.name === 'result') {
      const name = type.name.replace(/Payload$/, '');
      field.description ??= `The result of \`${name.charAt(0).toLowerCase()}${name.slice(1)}\`.`;
    }
  }
}

/** The object type of the rows that a field returns, inside a connection or a payload. */
function rowsOf(field: GraphQLField<unknown, unknown>): GraphQLNamedType {
  const type = getNamedType(field.type);
  if (!isObjectType(type)) return type;
  const { nodes, result } = type.getFields();
  const inner = nodes ?? (type.name.endsWith('Payload') ? result : undefined);
  return inner === undefined ? type : getNamedType(inner.type);
}

/** An argument has the description of the column that it is compared with or written to. */
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
 * Describes every type, field and argument that has no description from a comment in the
 * database or from a plugin, so that the documentation in GraphiQL has no gap.
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
