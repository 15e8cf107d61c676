import type { Pool } from 'pg';
import {
  type ExecutionArgs,
  type FieldNode,
  GraphQLError,
  getArgumentValues,
  getOperationAST,
  Kind,
  type SelectionSetNode,
} from 'postgraphile/graphql';
import { BulkError, type RowFailure } from './bulk/write.ts';
import type { Constraints } from './constraints.ts';

type Row = Record<string, unknown>;

export interface Violations {
  /** Names of the CHECKs of a table that each of these rows breaks. */
  find(table: string, rows: readonly Row[]): Promise<string[][]>;
  /** Reads what constraints say, if one is not known: its table may be new. */
  learn(constraints: readonly string[]): Promise<unknown>;
}

interface CheckViolation extends Error {
  code: string;
  schema: string;
  table: string;
  constraint: string;
}

const isCheckViolation = (error: Error | undefined): error is CheckViolation =>
  (error as { code?: unknown } | undefined)?.code === '23514';

export const violationsOf = (pool: Pool, constraints: Constraints): Violations => ({
  async find(table, rows) {
    const { rows: found } = await pool.query<{ names: string[][] | null }>(
      'select app_private.violated_checks($1, $2) as names',
      [table, JSON.stringify(rows)],
    );
    return found[0]?.names ?? [];
  },
  async learn(names) {
    if (names.some((name) => constraints.of(name) === undefined)) await constraints.load();
  },
});

/** The root field whose response has a name; looked for in fragments too. */
function rootField(
  name: string | number | undefined,
  set: SelectionSetNode,
  args: ExecutionArgs,
): FieldNode | undefined {
  for (const one of set.selections) {
    if (one.kind === Kind.FIELD) {
      if ((one.alias ?? one.name).value === name) return one;
      continue;
    }
    const inner =
      one.kind === Kind.INLINE_FRAGMENT
        ? one
        : args.document.definitions.find(
            (definition) =>
              definition.kind === Kind.FRAGMENT_DEFINITION &&
              definition.name.value === one.name.value,
          );
    const found = inner && 'selectionSet' in inner && inner.selectionSet;
    const field = found ? rootField(name, found, args) : undefined;
    if (field !== undefined) return field;
  }
  return undefined;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const columnName = (field: string): string =>
  field === 'rowId' ? 'id' : field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** What a mutation was given for a row, by the names of its columns; undefined without any. */
function givenRow(error: GraphQLError, args: ExecutionArgs): Row | undefined {
  const operation = getOperationAST(args.document, args.operationName);
  const field = operation && rootField(error.path?.[0], operation.selectionSet, args);
  const type = operation && args.schema.getRootType(operation.operation)?.getFields();
  const definition = field && type?.[field.name.value];
  if (field == null || definition == null) return undefined;
  const { input } = getArgumentValues(definition, field, args.variableValues ?? {});
  if (!isObject(input)) return undefined;
  const row = Object.values(input).find(isObject) ?? input;
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [columnName(name), value]));
}

/** The errors of many rows, each with its place in the input. */
function eachRow(error: GraphQLError): GraphQLError[] {
  const { originalError: cause } = error;
  if (!(cause instanceof BulkError)) return [error];
  return cause.failures.map(
    ({ index, row, cause: own }) =>
      new GraphQLError(own.message, {
        nodes: error.nodes ?? null,
        path: error.path ?? null,
        originalError: Object.assign(own, { index, row }),
      }),
  );
}

/** The same error of another CHECK. */
function ofCheck(error: GraphQLError, cause: CheckViolation, constraint: string): GraphQLError {
  const { index } = cause as Partial<RowFailure>;
  return new GraphQLError(error.message, {
    nodes: error.nodes ?? null,
    path: error.path ?? null,
    originalError: Object.assign(new Error(cause.message), {
      ...{ code: cause.code, constraint },
      ...(index === undefined ? {} : { index }),
    }),
  });
}

/**
 * PostgreSQL tells of the first CHECK that a row breaks. A form wants to know all of them, so the
 * others are asked for afterwards, once for all rows of a table: each error of that kind becomes
 * one for each CHECK of one column that the given values break.
 */
export async function tellAllViolations(
  errors: readonly GraphQLError[],
  args: ExecutionArgs,
  { find, learn }: Violations,
): Promise<GraphQLError[]> {
  const all = errors.flatMap(eachRow);
  const constraints = all.flatMap(({ originalError }) => {
    const { constraint } = (originalError ?? {}) as { constraint?: string };
    return constraint === undefined ? [] : [constraint];
  });
  // What was asked for is refused in any case.
  if (constraints.length > 0) await learn(constraints).catch(() => {});
  const byTable = new Map<string, { error: GraphQLError; row: Row }[]>();
  for (const error of all) {
    const cause = error.originalError ?? undefined;
    if (!isCheckViolation(cause)) continue;
    const row = (cause as Partial<RowFailure>).row ?? givenRow(error, args);
    const table = `${cause.schema}.${cause.table}`;
    if (row !== undefined) byTable.set(table, [...(byTable.get(table) ?? []), { error, row }]);
  }
  const names = new Map<GraphQLError, string[]>();
  for (const [table, broken] of byTable) {
    const found = await find(
      table,
      broken.map(({ row }) => row),
    ).catch(() => []);
    for (const [place, { error }] of broken.entries()) names.set(error, found[place] ?? []);
  }
  return all.flatMap((error) => {
    const cause = error.originalError as CheckViolation;
    const others = names.get(error)?.filter((name) => name !== cause.constraint) ?? [];
    return [error, ...others.map((constraint) => ofCheck(error, cause, constraint))];
  });
}
