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

export interface Violations {
  /** Names of the CHECKs of a table that values break, each for itself. */
  find(table: string, row: Record<string, unknown>): Promise<string[]>;
  /** Reads what a constraint says, if it is not known: its table may be new. */
  learn(constraint: string): Promise<unknown>;
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
  async find(table, row) {
    const { rows } = await pool.query<{ name: string }>(
      'select app_private.violated_checks($1, $2) as name',
      [table, row],
    );
    return rows.map(({ name }) => name);
  },
  async learn(constraint) {
    if (constraints.of(constraint) === undefined) await constraints.load();
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
function givenRow(error: GraphQLError, args: ExecutionArgs): Record<string, unknown> | undefined {
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

/**
 * PostgreSQL tells of the first CHECK that a row breaks. A form wants to know all of them, so the
 * others are asked for afterwards: each error of that kind becomes one for each CHECK of one column
 * that the given values break.
 */
export async function tellAllViolations(
  errors: readonly GraphQLError[],
  args: ExecutionArgs,
  { find, learn }: Violations,
): Promise<GraphQLError[]> {
  const told = errors.flatMap(eachRow).map(async (error) => {
    const cause = error.originalError ?? undefined;
    const { constraint: first } = (cause ?? {}) as { constraint?: string };
    if (first !== undefined) await learn(first).catch(() => {});
    const { index, row: one } = (cause ?? {}) as Partial<RowFailure>;
    const row = isCheckViolation(cause) ? (one ?? givenRow(error, args)) : undefined;
    if (!isCheckViolation(cause) || row === undefined) return [error];
    // What was asked for is refused in any case.
    const names = await find(`${cause.schema}.${cause.table}`, row).catch(() => []);
    const others = names.filter((name) => name !== cause.constraint);
    return [
      error,
      ...others.map(
        (constraint) =>
          new GraphQLError(error.message, {
            nodes: error.nodes ?? null,
            path: error.path ?? null,
            originalError: Object.assign(new Error(cause.message), {
              ...{ code: cause.code, constraint },
              ...(index === undefined ? {} : { index }),
            }),
          }),
      ),
    ];
  });
  return (await Promise.all(told)).flat();
}
