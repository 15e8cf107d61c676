import { randomUUID } from 'node:crypto';
import { isSafeError } from 'postgraphile/grafast';
import { GraphQLError } from 'postgraphile/graphql';
import { codeOf } from '../errors.ts';
import { errorText, type Log } from '../log.ts';
import type { Constraint } from './constraints.ts';
import type { FullDisk } from './full-disk.ts';

/** The codes that a frontend may rely on. docs/reference/errors.md lists them. */
export const errorCodes = [
  'UNAUTHENTICATED',
  'TOKEN_EXPIRED',
  'TOKEN_INVALID',
  'INVALID_CREDENTIALS',
  'INVALID_REFRESH_TOKEN',
  'NOT_A_GUEST',
  'USAGE_LIMIT_REACHED',
  'FORBIDDEN',
  'NOT_FOUND',
  'UNIQUE_VIOLATION',
  'CHECK_VIOLATION',
  'FOREIGN_KEY_VIOLATION',
  'VALIDATION_FAILED',
  'GRAPHQL_VALIDATION_FAILED',
  'QUERY_TOO_COMPLEX',
  'RESPONSE_TOO_LARGE',
  'RATE_LIMITED',
  'TOO_MANY_SUBSCRIPTIONS',
  'BAD_REQUEST',
  'BODY_TOO_LARGE',
  'SIGNATURE_INVALID',
  'CONFLICT',
  'READ_ONLY',
  'TIMEOUT',
  'UNAVAILABLE',
  'INTERNAL',
] as const;
export type ErrorCode = (typeof errorCodes)[number];

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

/** What is known of a constraint; kept current by Constraints. */
export type ConstraintOf = (name: string) => Constraint | undefined;

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

/**
 * The database is away, or cannot write: 55000: it allows no connections at present; 53100 and
 * 53200: its disk or memory is full; 25006: it is a standby, during a failover.
 */
const unavailable = [
  ...['57P01', '57P02', '57P03', '53100', '53200', '53300', '55000', '25006'],
  ...['08000', '08003', '08006'],
];

/**
 * What SQLSTATEs mean to a frontend. Those of class 22, a value that cannot be what the
 * column holds, are VALIDATION_FAILED; what is not here is INTERNAL.
 */
export const sqlStates: Record<string, ErrorCode> = {
  ...raised,
  '23505': 'UNIQUE_VIOLATION',
  '23514': 'CHECK_VIOLATION',
  '23503': 'FOREIGN_KEY_VIOLATION',
  '23502': 'VALIDATION_FAILED',
  '42501': 'FORBIDDEN',
  '40001': 'CONFLICT',
  '40P01': 'CONFLICT',
  '57014': 'TIMEOUT',
  ...Object.fromEntries(unavailable.map((sqlState) => [sqlState, 'UNAVAILABLE' as const])),
};

/** Errors that plugins of ours make, by their message. */
export const refusals = {
  login: 'e-mail or password is wrong',
  refreshSession: 'the refresh token is not valid; sign in again',
  notFound: 'there is no such row',
  pageSize: 'a page has between 0 and 100 rows',
  tooManyAtOnce: 'too many of your requests run at once; try again',
  readOnly: 'this is a copy of the database, which can only be read',
  responseTooLarge: 'the response would be longer than 10 MB; ask for less',
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

/** A message of graphql-js without the names that it proposes, which are the schema's. */
export const withoutSuggestion = (message: string): string =>
  message.replace(/ Did you mean .*\?$/s, '');

const isCode = (code: unknown): code is ErrorCode => errorCodes.includes(code as ErrorCode);

/** What a database error means to a frontend; undefined when it must be masked. */
function translate(
  error: DatabaseError,
  constraintOf: ConstraintOf,
  isAnonymous: boolean,
): PublicError | undefined {
  const { code, constraint } = error;
  const known = constraint === undefined ? undefined : constraintOf(constraint);
  const column = error.column ?? known?.column;
  const words = known?.message;
  const field = column === undefined ? undefined : fieldName(column);
  const subject = field ?? 'this';
  if (code in raised || code.startsWith('22')) {
    return { message: error.message, code: raised[code] ?? 'VALIDATION_FAILED', field };
  }
  const meaning = sqlStates[code];
  switch (meaning) {
    case 'UNIQUE_VIOLATION':
      return { message: words ?? `${subject} is taken`, code: meaning, field };
    case 'CHECK_VIOLATION': {
      const message = words ?? `${subject} is not acceptable (${constraint})`;
      return { message, code: meaning, field };
    }
    case 'FOREIGN_KEY_VIOLATION': {
      const message = `there is no such ${field?.replace(/Id$/, '') ?? 'row'}`;
      return { message, code: meaning, field };
    }
    case 'VALIDATION_FAILED':
      return { message: `${subject} must not be empty`, code: meaning, field };
    case 'FORBIDDEN':
      return isAnonymous
        ? { message: 'sign in first', code: 'UNAUTHENTICATED' }
        : { message: 'you may not do that', code: meaning };
    case 'CONFLICT':
      return { message: 'somebody else changed this; try again', code: meaning };
    case 'TIMEOUT':
      return { message: 'this took longer than 5 seconds', code: meaning };
    default:
      return undefined;
  }
}

/** What graphql-js has wrapped into sentences about types. */
function innermost(error: Error): Error {
  const inner = error instanceof GraphQLError ? error.originalError : undefined;
  return inner == null ? error : innermost(inner);
}

/** The field of a variable that is wrong, as graphql-js names it: "task.dueDate", "ids[2]". */
const fieldOfVariable = (message: string): string | undefined =>
  (/^Variable "\$\w+" got invalid value .* at "(?:[^"]*\.)?(\w+)(?:\[\d+\])*"[;.]/s.exec(message) ??
    /^Variable "\$(\w+)" got invalid value/.exec(message))?.[1];

export interface MaskOptions {
  disk?: FullDisk;
  /** Whether the database is a copy, of which nothing may be changed. */
  readsOnly?: () => boolean;
  /** Whether a message may propose names of the schema. */
  showsSchema?: boolean | undefined;
  /** Whether the request that is answered came without a token. */
  isAnonymous?: () => boolean;
}

const brokenConnection = new Set(['ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'ENOTFOUND']);

/**
 * Makes the function that turns whatever went wrong into what a frontend may see:
 * `{message, extensions: {code, field?}}`. What is not foreseen is masked; its `errorId`
 * stands in the log with everything that is known.
 */
export function makeMaskError(
  log: Log,
  constraintOf: ConstraintOf,
  {
    disk,
    readsOnly = () => false,
    showsSchema = true,
    isAnonymous = () => false,
  }: MaskOptions = {},
) {
  return (error: GraphQLError): GraphQLError => {
    const cause = error.originalError ?? undefined;
    const { index } = (cause ?? {}) as { index?: unknown };
    const show = ({ message, code, field }: PublicError, extra: object = {}): GraphQLError =>
      new GraphQLError(message, {
        nodes: error.nodes,
        source: error.source,
        positions: error.positions,
        path: error.path,
        extensions: {
          code,
          ...(field === undefined ? {} : { field }),
          // Of many rows, the one that is wrong.
          ...(typeof index === 'number' ? { index } : {}),
          ...extra,
        },
      });

    if (cause === undefined || cause instanceof GraphQLError) {
      // A document or a variable that the schema does not allow.
      const { code, retryAfter, field } = error.extensions;
      const message = code === 'VALIDATION_FAILED' ? innermost(error).message : error.message;
      return show(
        {
          message: showsSchema ? message : withoutSuggestion(message),
          code: isCode(code) ? code : 'GRAPHQL_VALIDATION_FAILED',
          field: typeof field === 'string' ? field : fieldOfVariable(error.message),
        },
        typeof retryAfter === 'number' ? { retryAfter } : {},
      );
    }
    const refusal = byMessage[cause.message];
    if (refusal !== undefined) return show({ message: cause.message, code: refusal });
    if (/^No values were (updated|deleted)/.test(cause.message)) {
      return show({ message: refusals.notFound, code: 'NOT_FOUND' });
    }
    const sqlState = codeOf(cause);
    if (sqlState === '53100') disk?.note();
    if (sqlState === '25006' && readsOnly()) {
      return show({ message: refusals.readOnly, code: 'READ_ONLY' });
    }
    if (sqlState !== undefined) {
      const translated = translate(cause as DatabaseError, constraintOf, isAnonymous());
      if (translated !== undefined) return show(translated);
    }

    if (isSafeError(cause)) {
      const { code, field } = (cause.extensions ?? {}) as { code?: unknown; field?: string };
      return show({
        message: cause.message,
        code: isCode(code) ? code : 'VALIDATION_FAILED',
        field,
      });
    }

    const errorId = randomUUID();
    // pg gives no code when a connection breaks under a query, or none can be had in time.
    const isDown =
      sqlState === undefined
        ? /^Connection terminated|^timeout exceeded when trying to connect/.test(cause.message)
        : sqlStates[sqlState] === 'UNAVAILABLE' || brokenConnection.has(sqlState);
    // An outage is no fault of the code: a stack a request would say nothing, a thousand times.
    if (isDown)
      log.warn({ errorId, path: error.path, sqlState, error: errorText(cause) }, 'outage');
    else log.error({ errorId, path: error.path, sqlState, err: cause }, 'masked error');
    return isDown
      ? show(
          { message: 'the database is not available; try again', code: 'UNAVAILABLE' },
          { errorId },
        )
      : show({ message: `an internal error occurred (${errorId})`, code: 'INTERNAL' }, { errorId });
  };
}
