import {
  type PgCodecWithAttributes,
  sideEffectWithPgClientTransaction,
  TYPES,
} from 'postgraphile/@dataplan/pg';
import { access, lambda, object, SafeError, type Step } from 'postgraphile/grafast';
import type { GraphileConfig } from 'postgraphile/graphile-build';
import {
  GraphQLID,
  type GraphQLInputType,
  GraphQLList,
  GraphQLNonNull,
  type GraphQLOutputType,
  GraphQLString,
} from 'postgraphile/graphql';
import { sql } from 'postgraphile/pg-sql2';
import { callerStep } from '../caller.ts';
import { limits } from '../limits.ts';
import { type Build, type Mutation, mutationsOf } from './mutations.ts';
import {
  type Change,
  changeRows,
  insertRows,
  type Row,
  type Target,
  upsertRow,
} from './statements.ts';
import { type Written, writeRows } from './write.ts';

/** The names that a client has for columns. */
function fieldsOf(
  build: Build,
  { target }: Mutation,
  columns: readonly string[],
): Map<string, string> {
  const codec = target.resource.codec as PgCodecWithAttributes;
  return new Map(
    columns.map((attributeName) => [
      build.inflection.attribute({ codec, attributeName }),
      attributeName,
    ]),
  );
}

const rowOf = (names: ReadonlyMap<string, string>, given: Row): Row =>
  Object.fromEntries(
    Object.entries(given).flatMap(([field, value]) => {
      const column = names.get(field);
      return column === undefined ? [] : [[column, value]];
    }),
  );

function refuseCount(rows: readonly unknown[], list: string): void {
  if (rows.length > 0 && rows.length <= limits.bulkRows) return;
  throw new SafeError(`${list} has 1 to ${limits.bulkRows} rows, and this ${rows.length}`, {
    ...{ code: 'VALIDATION_FAILED', field: list },
  });
}

/** Where a part of the key is null, PostgreSQL finds no row, and would insert one more each time. */
function refuseNoKey(
  { target, list }: Mutation,
  names: ReadonlyMap<string, string>,
  row: Row,
): void {
  const { attributes } = target.resource.codec as PgCodecWithAttributes;
  for (const [field, column] of names) {
    if (!target.key.includes(column) || row[column] != null) continue;
    if (attributes[column]?.notNull === true) continue;
    throw new SafeError(`${list} has a ${field}: it says which one is meant`, {
      ...{ code: 'VALIDATION_FAILED', field },
    });
  }
}

/** One of two changes of a row would be lost. */
function refuseTwins(changes: readonly Change[], list: string): void {
  const seen = new Set<string>();
  for (const { key } of changes) {
    const text = JSON.stringify(key).toLowerCase();
    if (seen.has(text)) {
      throw new SafeError('a row is named twice', { code: 'VALIDATION_FAILED', field: list });
    }
    seen.add(text);
  }
}

type Client = Parameters<typeof writeRows>[0];

/** Makes what writes the rows of an input, and says which they are. */
function writer(build: Build, mutation: Mutation) {
  const { kind, target, list } = mutation;
  const names = fieldsOf(build, mutation, Object.keys(target.columns));
  const patch = build.inflection.patchField(build.inflection.tableFieldName(mutation.resource));
  return async (client: Client, { input, caller }: { input: Row; caller: string | null }) => {
    const given = input[list];
    if (kind === 'upsert') {
      const row = rowOf(names, given as Row);
      refuseNoKey(mutation, names, row);
      const statement = () => upsertRow(target, row, caller);
      return writeRows(client, { rows: [row], statement, mustFind: false });
    }
    const items = given as Row[];
    refuseCount(items, list);
    if (kind === 'create') {
      const rows = items.map((item) => rowOf(names, item));
      const statement = (indices: readonly number[]) =>
        insertRows(
          target,
          indices.map((index) => rows[index] ?? {}),
        );
      return writeRows(client, { rows, statement, mustFind: false });
    }
    const changes = items.map((item): Change => {
      const key = rowOf(names, item);
      return kind === 'delete' ? { key } : { key, values: rowOf(names, item[patch] as Row) };
    });
    refuseTwins(changes, list);
    if (changes.some(({ values }) => values !== undefined && Object.keys(values).length === 0)) {
      throw new SafeError('a patch changes something', { code: 'VALIDATION_FAILED', field: list });
    }
    return writeRows(client, {
      rows: changes.map(({ key, values }) => ({ ...key, ...values })),
      statement: (indices) =>
        changeRows(
          target,
          indices.map((index) => changes[index] as Change),
          caller,
        ),
      mustFind: true,
    });
  };
}

/** Rows by their keys, in the order of these. */
function rowsByKeys({ resource, primaryKey }: Target, $keys: Step<Written[]>) {
  const $rows = resource.find();
  const keys = $rows.placeholder($keys as never, TYPES.jsonb);
  const attributes = (resource.codec as PgCodecWithAttributes).attributes;
  const typed = primaryKey.map(
    (column) =>
      sql`(key_ ->> ${sql.literal(column)})::${attributes[column]?.codec.sqlType ?? sql`text`}`,
  );
  const own = primaryKey.map((column) => sql`${$rows.alias}.${sql.identifier(column)}`);
  $rows.where(
    sql`(${sql.join(own, ', ')}) in (select ${sql.join(typed, ', ')} from jsonb_array_elements(${keys}) as key_)`,
  );
  const isSame = sql.join(
    typed.map((value, n) => sql`${value} = ${own[n] ?? sql.null}`),
    ' and ',
  );
  $rows.orderBy({
    fragment: sql`(select place_ from jsonb_array_elements(${keys}) with ordinality as list_ (key_, place_) where ${isSame})`,
    codec: TYPES.bigint,
    direction: 'ASC',
  });
  return $rows;
}

/** Takes rows for a list, or one of them for what is single. */
const inputType = (build: Build, { kind, item }: Mutation): GraphQLInputType => {
  const type = new GraphQLNonNull(build.getInputTypeByName(item) as GraphQLInputType);
  return kind === 'upsert' ? type : new GraphQLNonNull(new GraphQLList(type));
};

/**
 * Many rows at once: createTasks, updateTasks and deleteTasks, for each table of the caller's that
 * has the single one; and upsertHabitLog, where a key says what a row is about. One statement and
 * one transaction; what is wrong is told of each row, with its index.
 */
export const BulkPlugin: GraphileConfig.Plugin = {
  name: 'BulkPlugin',
  version: '1.0.0',
  after: ['PgTablesPlugin', 'PgMutationCreatePlugin', 'PgMutationUpdateDeletePlugin'],
  gather: {
    hooks: {
      // What is checked at the end of a transaction cannot say what is there already.
      pgTables_unique(_info, { unique, pgConstraint }) {
        if (pgConstraint.condeferrable !== true) return;
        unique.extensions = { ...unique.extensions, isDeferrable: true };
      },
    },
  },
  schema: {
    hooks: {
      init(value, build) {
        for (const mutation of mutationsOf(build)) registerTypes(build, mutation);
        return value;
      },
      GraphQLObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        if (scope.isRootMutation !== true) return fields;
        for (const mutation of mutationsOf(build)) {
          const { field: fieldName, kind, tableType, resource } = mutation;
          const write = writer(build, mutation);
          const what = {
            create: `Creates up to ${limits.bulkRows} \`${tableType}\` rows, or none when one of them is wrong.`,
            update: `Changes up to ${limits.bulkRows} \`${tableType}\` rows, or none when one of them is wrong or not there.`,
            delete: `Deletes up to ${limits.bulkRows} \`${tableType}\` rows, or none when one of them is not there.`,
            upsert: `Creates a \`${tableType}\`, or changes the one that has its key already.`,
          }[kind];
          const field = fieldWithHooks({ fieldName }, () => ({
            description: what,
            type: build.getOutputTypeByName(mutation.payload) as GraphQLOutputType,
            args: {
              input: {
                type: new GraphQLNonNull(
                  build.getInputTypeByName(mutation.input) as GraphQLInputType,
                ),
              },
            },
            plan: (_$root: Step, args) => {
              const $input = args.getRaw('input');
              const $result = sideEffectWithPgClientTransaction(
                resource.executor,
                { input: $input, caller: callerStep() } as never,
                write as never,
              );
              return object({
                result: $result,
                clientMutationId: access($input, 'clientMutationId'),
              });
            },
          }));
          build.extend(fields, { [fieldName]: field }, 'BulkPlugin adds a mutation');
        }
        return fields;
      },
    },
  },
};

function registerTypes(build: Build, mutation: Mutation): void {
  const { kind, target, field, rows, list, item, tableType } = mutation;
  const codec = target.resource.codec as PgCodecWithAttributes;
  const { inflection } = build;
  if (kind === 'update' || kind === 'delete') {
    build.registerInputObjectType(
      item,
      {},
      () => ({
        description: `Which \`${tableType}\`${kind === 'update' ? ', and what of it changes' : ''}.`,
        fields: () => ({
          ...Object.fromEntries(
            target.key.map((attributeName) => {
              const attribute = codec.attributes[attributeName];
              const type = build.getGraphQLTypeByPgCodec(attribute?.codec as never, 'input');
              return [
                inflection.attribute({ codec, attributeName }),
                {
                  type: new GraphQLNonNull(type as GraphQLInputType),
                  description: attribute?.description ?? null,
                },
              ];
            }),
          ),
          ...(kind === 'update'
            ? {
                [inflection.patchField(inflection.tableFieldName(target.resource))]: {
                  description: 'The fields that change.',
                  type: new GraphQLNonNull(
                    build.getInputTypeByName(inflection.patchType(tableType)) as GraphQLInputType,
                  ),
                },
              }
            : {}),
        }),
      }),
      'BulkPlugin',
    );
  }
  build.registerInputObjectType(
    mutation.input,
    { isMutationInput: true },
    () => ({
      description: `All input for the \`${field}\` mutation.`,
      fields: () => ({
        clientMutationId: {
          type: GraphQLString,
          description: 'Comes back as it is, for the client to tell mutations apart.',
        },
        [list]: {
          type: inputType(build, mutation),
          description:
            kind === 'upsert'
              ? `The \`${tableType}\` as it is to be.`
              : `The rows, 1 to ${limits.bulkRows}.`,
        },
      }),
    }),
    'BulkPlugin',
  );
  build.registerObjectType(
    mutation.payload,
    { isMutationPayload: true },
    () => ({
      description: `The output of our \`${field}\` mutation.`,
      fields: () => ({
        clientMutationId: {
          type: GraphQLString,
          description: 'As it was given.',
          plan: ($payload: Step) => access($payload, 'clientMutationId'),
        },
        ...(kind === 'delete' ? deletedIds(build, mutation) : writtenRows(build, mutation, rows)),
      }),
    }),
    'BulkPlugin',
  );
}

function writtenRows(build: Build, { target, tableType, kind }: Mutation, name: string) {
  const type = build.getOutputTypeByName(tableType) as GraphQLOutputType;
  return {
    [name]: {
      description:
        kind === 'upsert' ? 'The row, as it is now.' : 'The rows, in the order of the input.',
      type: new GraphQLNonNull(
        kind === 'upsert' ? type : new GraphQLList(new GraphQLNonNull(type)),
      ),
      plan($payload: Step) {
        const $rows = rowsByKeys(target, access<Written[]>($payload, 'result') as never);
        return kind === 'upsert' ? $rows.single() : $rows;
      },
    },
  };
}

function deletedIds(build: Build, { target, tableType }: Mutation) {
  const handler = build.getNodeIdHandler?.(tableType);
  const name = build.inflection.camelCase(`deleted-${tableType}-ids`);
  return {
    [name]: {
      description: 'Node ids of the deleted rows, in the order of the input.',
      type: new GraphQLNonNull(new GraphQLList(new GraphQLNonNull(GraphQLID))),
      plan: ($payload: Step) =>
        lambda(access<Written[]>($payload, 'result'), (rows) =>
          rows.map((row) =>
            handler?.codec.encode([handler.typeName, ...target.primaryKey.map((key) => row[key])]),
          ),
        ),
    },
  };
}
