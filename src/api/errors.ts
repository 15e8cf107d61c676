import { randomUUID } from 'node:crypto';
import { isSafeError } from 'postgraphile/grafast';
import { GraphQLError } from 'postgraphile/graphql';
import { codeOf } from '../errors.ts';
import type { Log } from '../log.ts';

/** The codes that a frontend may rely on. README lists them. */
export type ErrorCode =
  | 'UNAUTHENTICATED'
  | 'TOKEN_EXPIRED'
  | 'TOKEN_INVALID'
  | 'INVALID_CREDENTIALS'
  | 'INVALID_REFRESH_TOKEN'
  | 'NOT_A_GUEST'
  | 'USAGE_LIMIT_REACHED'
  | 'FORBIDDEN'
  | 'NOT_FOUND'
  | 'UNIQUE_VIOLATION'
  | 'CHECK_VIOLATION'
  | 'FOREIGN_KEY_VIOLATION'
  | 'VALIDATION_FAILED'
  | 'GRAPHQL_VALIDATION_FAILED'
  | 'TOO_MANY_SUBSCRIPTIONS'
  | 'BAD_REQUEST'
  | 'CONFLICT'
  | 'TIMEOUT'
  | 'UNAVAILABLE'
  | 'INTERNAL';

interface DatabaseError extends Error {
  code: string;
  column?: string;
  constraint?: string;
  table?: string;
}

interface PublicError {
  message: string;
  code: ErrorCode;
  field?: string | undefined;
}

/** Which column a constraint is about; kept current by ConstraintColumns. */
export type ColumnOf = (constraint: string) => string | undefined;

/** A column's name in GraphQL; "id" is the node id there, the column is rowId. */
const fieldName = (column: string): string =>
  column === 'id'
    ? 'rowId'
    : column.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** SQLSTATEs that functions of ours raise; their messages are written for users. */
const raised: Record<string, ErrorCode> = {
  GW001: 'UNAUTHENTICATED',
  GW002: 'VALIDATION_FAILED',
  GW003: 'NOT_A_GUEST',
  GW020: 'USAGE_LIMIT_REACHED',
  GW021: 'VALIDATION_FAILED',
};

/** Errors that plugins of ours make, by their message. */
export const refusals = {
  login: 'e-mail or password is wrong',
  refreshSession: 'the refresh token is not valid; sign in again',
  notFound: 'there is no such row',
  pageSize: 'a page has between 0 and 100 rows',
} as const;

const byMessage: Record<string, ErrorCode> = {
  [refusals.login]: 'INVALID_CREDENTIALS',
  [refusals.refreshSession]: 'INVALID_REFRESH_TOKEN',
  [refusals.notFound]: 'NOT_FOUND',
  [refusals.pageSize]: 'VALIDATION_FAILED',
  // What postgraphile-plugin-connection-filter says.
  'Empty objects are forbidden in filter argument input.': 'VALIDATION_FAILED',
  'Null literals are forbidden in filter argument input.': 'VALIDATION_FAILED',
};

/** What a database error means to a frontend; undefined when it must be masked. */
function translate(error: DatabaseError, columnOf: ColumnOf): PublicError | undefined {
  const { code, constraint } = error;
  const column = error.column ?? (constraint === undefined ? undefined : columnOf(constraint));
  const field = column === undefined ? undefined : fieldName(column);
  const subject = field ?? 'this';
  const known = raised[code];
  if (known !== undefined) return { message: error.message, code: known, field };
  switch (code) {
    case '23505':
      return { message: `${subject} is taken`, code: 'UNIQUE_VIOLATION', field };
    case '23514':
      return {
        message: `${subject} is not acceptable (${constraint})`,
        code: 'CHECK_VIOLATION',
        field,
      };
    case '23503':
      return { message: `${subject} refers to nothing`, code: 'FOREIGN_KEY_VIOLATION', field };
    case '23502':
      return { message: `${subject} must not be empty`, code: 'VALIDATION_FAILED', field };
    case '42501':
      return { message: 'you may not do that', code: 'FORBIDDEN' };
    case '40001':
    case '40P01':
      return { message: 'somebody else changed this; try again', code: 'CONFLICT' };
    case '57014':
      return { message: 'this took longer than 5 seconds', code: 'TIMEOUT' };
    default:
      // Class 22: a value that cannot be what the column holds.
      return code.startsWith('22')
        ? { message: error.message, code: 'VALIDATION_FAILED', field }
        : undefined;
  }
}

const unavailable = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'ENOTFOUND'],
  // 55000: the database allows no connections at present.
  ...['57P01', '57P02', '57P03', '53300', '55000', '08000', '08003', '08006'],
]);

/**
 * Makes the function that turns whatever went wrong into what a frontend may see:
 * `{message, extensions: {code, field?}}`. What is not foreseen is masked; its `errorId`
 * stands in the log with everything that is known.
 */
export function makeMaskError(log: Log, columnOf: ColumnOf) {
  return (error: GraphQLError): GraphQLError => {
    const cause = error.originalError ?? undefined;
    const show = ({ message, code, field }: PublicError, extra: object = {}): GraphQLError =>
      new GraphQLError(message, {
        nodes: error.nodes,
        source: error.source,
        positions: error.positions,
        path: error.path,
        extensions: { code, ...(field === undefined ? {} : { field }), ...extra },
      });

    if (cause === undefined || cause instanceof GraphQLError) {
      // A document or a variable that the schema does not allow.
      const code = typeof error.extensions.code === 'string' ? error.extensions.code : undefined;
      return show({
        message: error.message,
        code: (code as ErrorCode | undefined) ?? 'GRAPHQL_VALIDATION_FAILED',
      });
    }
    const refusal = byMessage[cause.message];
    if (refusal !== undefined) return show({ message: cause.message, code: refusal });
    if (/^No values were (updated|deleted)/.test(cause.message)) {
      return show({ message: refusals.notFound, code: 'NOT_FOUND' });
    }
    const sqlState = codeOf(cause);
    if (sqlState !== undefined) {
      const translated = translate(cause as DatabaseError, columnOf);
      if (translated !== undefined) return show(translated);
    }

    if (isSafeError(cause)) return show({ message: cause.message, code: 'VALIDATION_FAILED' });

    const errorId = randomUUID();
    // pg gives no code when a connection breaks under a query, or none can be had in time.
    const isDown =
      sqlState === undefined
        ? /^Connection terminated|^timeout exceeded when trying to connect/.test(cause.message)
        : unavailable.has(sqlState);
    log.error({ errorId, path: error.path, sqlState, err: cause }, 'masked error');
    return isDown
      ? show(
          { message: 'the database is not available; try again', code: 'UNAVAILABLE' },
          { errorId },
        )
      : show({ message: `an internal error occurred (${errorId})`, code: 'INTERNAL' }, { errorId });
  };
}
