import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Span } from '@opentelemetry/api';
import { clientAddress, type Trust } from '../../client-address.ts';
import { formatTraceparent, newSpan, parseTraceparent, type Trace } from '../../trace.ts';
import type { OperationInfo } from './names.ts';

/** What is known of a request, from its first byte to its access log line. */
export interface RequestInfo {
  readonly requestId: string;
  readonly traceId: string;
  /** Of our span; given to the database, and so to jobs. */
  readonly traceparent: string;
  /** As performance.now() says, milliseconds. */
  readonly startedAt: number;
  readonly method: string;
  /** Without the query string, which may hold anything. */
  readonly path: string;
  readonly address: string | undefined;
  readonly userAgent: string | undefined;
  /** Whether its operation and statements are recorded, however fast they are. */
  readonly isSampled: boolean;
  userId?: string;
  sessionId?: string;
  operation?: OperationInfo;
  /** Codes of the errors that it was answered with. */
  codes: string[];
  /** Of its slow statements, as pg_stat_statements has them. */
  queryIds: string[];
  /** Where spans are collected. */
  readonly otelSpan: Span | undefined;
}

function traceOf(span: Span): Trace {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return { traceId, spanId, flags: traceFlags.toString(16).padStart(2, '0') };
}

const first = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header[0] : header;

/** Begins a request: its own id or the caller's, its place in the caller's trace or a new one. */
export function beginRequest(
  request: IncomingMessage,
  isSampled: boolean,
  trust: Trust,
  otelSpan?: Span,
): RequestInfo {
  const { headers } = request;
  const given = first(headers['x-request-id']);
  const span =
    otelSpan === undefined
      ? newSpan(parseTraceparent(first(headers.traceparent)))
      : traceOf(otelSpan);
  return {
    requestId: given !== undefined && /^[A-Za-z0-9._-]{8,100}$/.test(given) ? given : randomUUID(),
    traceId: span.traceId,
    traceparent: formatTraceparent(span),
    startedAt: performance.now(),
    method: request.method ?? 'GET',
    path: (request.url ?? '/').split('?', 1)[0] ?? '/',
    address: clientAddress(request, trust),
    userAgent: headers['user-agent']?.slice(0, 1000),
    isSampled,
    otelSpan,
    codes: [],
    queryIds: [],
  };
}
