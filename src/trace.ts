import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

/**
 * A place in a trace, as https://www.w3.org/TR/trace-context/ writes it:
 * `00-<trace id>-<span id>-<flags>`.
 */
export interface Trace {
  traceId: string;
  spanId: string;
  /** Two hexadecimal digits; 01: whoever began the trace keeps it. */
  flags: string;
}

const form = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** Reads a traceparent; undefined when it is not one. */
export function parseTraceparent(text: string | undefined): Trace | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = form.exec(text ?? '') ?? [];
  if (version === undefined || version === 'ff') return undefined;
  // Later versions may append fields; this one has none.
  if (version === '00' && more !== undefined) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, flags };
}

/** A span of ours: in the caller's trace, or in a new one when there is none. */
export function newSpan(parent?: Trace): Trace {
  const random = randomBytes(parent === undefined ? 24 : 8).toString('hex');
  return {
    spanId: random.slice(0, 16),
    traceId: parent?.traceId ?? random.slice(16),
    flags: parent?.flags ?? '00',
  };
}

export const formatTraceparent = ({ traceId, spanId, flags }: Trace): string =>
  `00-${traceId}-${spanId}-${flags}`;

/** What every log line says that is written on behalf of a request or a job. */
export interface LogContext {
  request_id?: string;
  trace_id?: string;
}

/** Whom the running code works for; createLog() adds it to each line. */
export const logContext = new AsyncLocalStorage<LogContext>();

/** The different trace ids of jobs, at most ten, for a log line; undefined without any. */
export function traceIdsOf(jobs: readonly { data: unknown }[]): string[] | undefined {
  const ids = new Set<string>();
  for (const { data } of jobs) {
    const { traceparent } = (data ?? {}) as { traceparent?: unknown };
    const trace = typeof traceparent === 'string' ? parseTraceparent(traceparent) : undefined;
    if (trace !== undefined) ids.add(trace.traceId);
    if (ids.size === 10) break;
  }
  return ids.size === 0 ? undefined : [...ids];
}
