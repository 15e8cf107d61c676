/** Exit codes of `gw`. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  unavailable: 3,
  interrupted: 130,
} as const;

/** What each exit code means; docs/reference/errors.md has the same sentences. */
export const exitMeanings: Record<keyof typeof EXIT, string> = {
  ok: 'the command did its work, or the answer is yes',
  failure: 'the work failed, or the answer is no',
  usage: 'the command line or the environment is wrong; nothing was done',
  unavailable: 'the database cannot be reached, or refuses the role, its right, or a write',
  interrupted: 'Ctrl-C (SIGTERM: 143, SIGHUP: 129); what the command had started is cleared away',
};

/**
 * An error whose message is written for the person who reads it: what is wrong and where.
 * `hint` says what to do about it. The command line prints both and no stack.
 */
export class GwError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: number;

  constructor(
    message: string,
    options: { hint?: string | undefined; exitCode?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = 'GwError';
    this.hint = options.hint;
    this.exitCode = options.exitCode ?? EXIT.failure;
  }
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.map(messageOf).join('; ');
  }
  if (error instanceof Error) return error.message || error.name;
  const message = (error as { message?: unknown } | null)?.message;
  return typeof message === 'string' ? message : String(error);
}

/** The SQLSTATE or system error code of anything that was thrown. */
export function codeOf(error: unknown): string | undefined {
  if (error instanceof AggregateError) return codeOf(error.errors[0]);
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** What a driver's error says, whichever driver it came from. */
export interface ErrorDetails {
  message: string;
  code: string | undefined;
  detail: string | undefined;
  hint: string | undefined;
  /** The functions in which it came, innermost first. */
  where: string | undefined;
  /** The statement inside a function that failed. */
  query: string | undefined;
  /** In characters from 1. */
  position: number | undefined;
}

export function errorDetails(error: unknown): ErrorDetails {
  const fields = (error ?? {}) as Record<string, unknown>;
  const text = (...names: string[]): string | undefined =>
    names.map((name) => fields[name]).find((value) => typeof value === 'string' && value !== '') as
      | string
      | undefined;
  const position = Number(fields.position);
  return {
    message: messageOf(error),
    code: codeOf(error),
    detail: text('detail'),
    hint: text('hint'),
    where: text('where'),
    query: text('internalQuery', 'internal_query'),
    position: position > 0 ? position : undefined,
  };
}

/** Where a connection goes, for what is said of its failure. */
export interface Place {
  /** `host:port/database` */
  address: string;
  user: string;
  database: string;
  /** The environment variable or option that the URL came from. */
  variable: string;
}

interface Explanation {
  codes: RegExp;
  /** From the error's own words, and the place or "the database". */
  say: (message: string, where: string, place: Place | undefined) => string;
  hint: string | ((place: Place | undefined) => string);
  exitCode: number;
}

const unreachable: Explanation[] = [
  {
    codes: /^ECONNREFUSED$/,
    say: (_, where) => `nothing listens at ${where}`,
    hint: 'Start the server, or correct host and port.',
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^(ENOTFOUND|EAI_\w+)$/,
    say: (_, where) => `the host of ${where} is not known`,
    hint: 'Correct the host name.',
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^(CONNECT_TIMEOUT|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH)$/,
    say: (_, where) => `${where} does not answer`,
    hint: 'Check the address and any firewall between.',
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^(DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|CERT|ERR_TLS|ERR_SSL)_\w+$/,
    say: (message, where) => `the certificate of ${where} is refused: ${message}`,
    hint: 'Name its CA in NODE_EXTRA_CA_CERTS, and the host as the certificate does.',
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^(ECONNRESET|EPIPE|CONNECTION_\w+|57P01|57P02|57P05|08\w{3})$/,
    say: (message, where) => `the connection to ${where} was lost: ${message}`,
    hint: "See the server's log, and run the command again.",
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^57P03$/,
    say: (message, where) => `${where} takes no connections: ${message}`,
    hint: 'Wait until the server has started, and run the command again.',
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^53300$/,
    say: (message, where) => `${where} takes no more connections: ${message}`,
    hint: 'End some that idle, or raise max_connections.',
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^3D000$/,
    say: (message, _, place) =>
      place === undefined
        ? message
        : `the server of ${place.address} has no database "${place.database}"`,
    hint: (place) =>
      place === undefined ? 'Correct the URL.' : `Create it with: createdb ${place.database}`,
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^28\w{3}$/,
    say: (message, where, place) =>
      place === undefined ? message : `${where} refuses user "${place.user}": ${message}`,
    hint: "Correct user and password, and see the server's pg_hba.conf.",
    exitCode: EXIT.unavailable,
  },
];

const refused: Explanation[] = [
  {
    codes: /^42501$/,
    say: (message) => `a right is missing: ${message}`,
    hint: 'Connect as a role that has it, or grant it.',
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^25006$/,
    say: (message) => `the database is read-only: ${message}`,
    hint: "A standby cannot be written to: use the primary's URL.",
    exitCode: EXIT.unavailable,
  },
  {
    codes: /^(42P01|3F000|42883|42703|42704)$/,
    say: (message) => `the database is not as this command needs it: ${message}`,
    hint: 'Is it the right database, and migrated? Run: npm run gw -- status',
    exitCode: EXIT.failure,
  },
  {
    codes: /^55006$/,
    say: (message) => message,
    hint: 'Stop what uses it, such as npm start or an open psql, and run the command again.',
    exitCode: EXIT.failure,
  },
  {
    codes: /^(40\w{3}|55P03|57014)$/,
    say: (message) => message,
    hint: 'Other sessions were in the way: run the command again when they have ended.',
    exitCode: EXIT.failure,
  },
  {
    codes: /^ERR_INVALID_URL$/,
    say: () => 'a connection URL cannot be read',
    hint: 'It looks like postgres://user@host:port/database.',
    exitCode: EXIT.usage,
  },
  {
    codes: /^EADDRINUSE$/,
    say: (message) => `a port is taken: ${message}`,
    hint: 'Choose another, or stop what listens there.',
    exitCode: EXIT.usage,
  },
  {
    codes: /^(ENOENT|EACCES|EPERM|EISDIR|ENOTDIR|EROFS)$/,
    say: (message) => message,
    hint: 'Is the path right, and may this user read and write there?',
    exitCode: EXIT.failure,
  },
  {
    codes: /^(ENOSPC|53100)$/,
    say: (message) => message,
    hint: 'The disk is full: make room.',
    exitCode: EXIT.failure,
  },
  // The rest of what PostgreSQL says.
  {
    codes: /^[0-9A-Z]{5}$/,
    say: (message) => message,
    hint: "The server's log has the statement; GW_DEBUG=1 shows where it was run.",
    exitCode: EXIT.failure,
  },
];

/** Whether an error says that there is no connection, rather than what came of a statement. */
export const isUnreachable = (error: unknown): boolean =>
  unreachable.some(({ codes }) => codes.test(codeOf(error) ?? ''));

/**
 * Says what an error of a driver, of PostgreSQL or of Node means, and what to do about it.
 *
 * @param place where the connection went, when that is known
 * @returns undefined for what nobody expects: a fault of ours
 */
export function explainError(error: unknown, place?: Place): GwError | undefined {
  if (error instanceof GwError) return error;
  const { code = '', message, hint } = errorDetails(error);
  const found = [...unreachable, ...refused].find(({ codes }) => codes.test(code));
  if (found === undefined) return undefined;
  const { address, port } = error as { address?: unknown; port?: unknown };
  const where =
    place?.address ?? (typeof address === 'string' ? `${address}:${port}` : 'the database');
  const state = /^[0-9A-Z]{5}$/.test(code) && !unreachable.includes(found) ? ` (${code})` : '';
  const source = place === undefined ? '' : ` (${place.variable})`;
  const usual = typeof found.hint === 'string' ? found.hint : found.hint(place);
  return new GwError(`${found.say(message, where, place)}${state}${source}`, {
    hint: hint ?? usual,
    exitCode: found.exitCode,
    cause: error,
  });
}

/** An error as `gw` prints it: one line, or as many as its message has, and a hint. */
export function formatError(error: GwError): string {
  const hint = error.hint === undefined ? [] : [`hint: ${error.hint.split('\n').join('\n      ')}`];
  return `${[`error: ${error.message}`, ...hint].join('\n')}\n`;
}

/** Anything that was thrown as what people are told of it; a fault of ours is called one. */
export function expectedOrFault(error: unknown): GwError {
  return (
    explainError(error) ??
    new GwError(`unexpected: ${messageOf(error)}`, {
      hint: 'This is a fault of gw. GW_DEBUG=1 shows where it came from.',
      cause: error,
    })
  );
}
