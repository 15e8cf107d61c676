import { createRequire } from 'node:module';
import { format } from 'node:util';
import { type DestinationStream, pino } from 'pino';
import { unknownVariables } from './config.ts';
import { messageOf } from './errors.ts';
import { standardError } from './log-stream.ts';
import { setProcessLog } from './process-log.ts';
import { logContext } from './trace.ts';

/** Where secrets could stand in what is logged; they never reach the stream. */
const redact = [
  'password',
  'token',
  '*.password',
  '*.token',
  '*.refreshToken',
  '*.accessToken',
  '*.authorization',
  '*.email',
];

/** An e-mail address, a token, or a bearer's secret, wherever it stands in a text. */
const secrets =
  /[^\s"'<>()=,;:]+@[^\s"'<>()=,;:]+\.[^\s"'<>()=,;:]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*|\bwhsec_\S+|(?<=\bbearer )\S+|(?<=:\/\/[^\s:/]+:)[^\s@]+(?=@)/gi;

/** A text without what looks like an address or a token. */
export const scrub = (text: string): string => text.replace(secrets, '[redacted]');

const isSqlState = (code: unknown): code is string =>
  typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code);

/** What PostgreSQL says of an error that names objects, never values. */
const objects = ['schema', 'table', 'column', 'dataType', 'constraint', 'routine'] as const;

/**
 * What a log may say of an error. PostgreSQL puts values of rows and parameters into detail,
 * where, internalQuery, and the quotes of some messages: those are left out.
 */
export function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return typeof error === 'string' ? scrub(error) : error;
  const { code } = error as { code?: unknown };
  const frames = (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  const described: Record<string, unknown> = {
    type: error.name,
    message: scrub(isSqlState(code) ? withoutValues(error.message, code) : messageOf(error)),
    stack: frames.join('\n'),
  };
  if (code !== undefined) described.code = code;
  if (isSqlState(code)) {
    for (const name of objects) {
      const value = (error as unknown as Record<string, unknown>)[name];
      if (typeof value === 'string') described[name] = value;
    }
  }
  if (error.cause !== undefined) described.cause = describeError(error.cause);
  return described;
}

/** Of classes 22 (data) and P0 (raised by functions), a message quotes values. */
const withoutValues = (message: string, code: string): string =>
  /^(22|P0)/.test(code) ? message.replace(/".*"/gs, '"…"') : message;

/** The text of an error for a log line. */
export function errorText(error: unknown): string {
  const described = describeError(error) as { message?: unknown } | null;
  return typeof described?.message === 'string' ? described.message : String(described);
}

/** Loaded only where somebody looks. */
const loadPretty = (): typeof import('pino-pretty').PinoPretty =>
  createRequire(import.meta.url)('pino-pretty').PinoPretty;

/**
 * The log of one process: JSON lines on stderr, or readable lines when stderr is a
 * terminal. Results go to stdout and are never mixed with it. A line written for a request
 * or a job has its `request_id` and `trace_id`.
 */
export function createLog(name: string, level: string, stream?: DestinationStream) {
  const destination =
    stream ??
    (process.stderr.isTTY || process.env.GW_LOG_PRETTY === '1'
      ? loadPretty()({ destination: 2, ignore: 'pid,hostname', sync: true, singleLine: true })
      : standardError());
  return pino(
    {
      name,
      level,
      redact: { paths: redact, censor: '[redacted]' },
      // A copy: pino adds the line's own fields to it.
      mixin: () => ({ ...logContext.getStore() }),
      serializers: {
        err: describeError,
        error: (error: unknown) =>
          typeof error === 'string' ? scrub(error) : describeError(error),
      },
    },
    destination,
  );
}

export type Log = ReturnType<typeof createLog>;

/**
 * The log of a process that runs until it is stopped. What ends the process is said there too, as a
 * line of its own form.
 */
export function openProcessLog(name: string): Log {
  const processLog = createLog(name, 'info');
  setProcessLog(processLog);
  for (const { name: variable, nearest } of unknownVariables()) {
    processLog.warn({ variable, nearest }, 'nobody reads this variable');
  }
  return processLog;
}

/** Has what packages print with console come out as log lines: whoever reads a log reads JSON. */
export function logConsole(log: Log): void {
  const levels = { error: 'error', warn: 'warn', log: 'info', info: 'info', dir: 'info' } as const;
  for (const [name, level] of Object.entries(levels)) {
    console[name as keyof typeof levels] = (...what: unknown[]) => log[level](format(...what));
  }
}
