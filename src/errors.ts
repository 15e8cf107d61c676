/** Exit codes of `gw`; docs/reference/errors.md lists them. */
export const EXIT = {
  ok: 0,
  /** The command ran and the answer is no, or the work failed. */
  failure: 1,
  /** The command line or the environment is wrong; nothing was done. */
  usage: 2,
  /** The database cannot be reached, or refuses us. */
  unavailable: 3,
} as const;

/**
 * An error whose message is written for the person who reads it: what is wrong and where.
 * `hint` says what to do about it. The command line prints both and no stack.
 */
export class GwError extends Error {
  readonly hint: string | undefined;
  readonly exitCode: number;

  constructor(
    message: string,
    options: { hint?: string; exitCode?: number; cause?: unknown } = {},
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
