import process from 'node:process';
import {
  type Attributes,
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';

/*
 * Spans for whoever collects them by OpenTelemetry. Nothing is made, and the SDK is not loaded,
 * unless its own variables say where spans go. No span holds a value of a row or a parameter.
 */

let isOn = false;

/** Whether spans are made. */
export const isTracing = (): boolean => isOn;

const tracer = () => trace.getTracer('groundwork');

/** Whether OpenTelemetry's variables ask for spans. */
function isWanted(): boolean {
  if (process.env.OTEL_SDK_DISABLED === 'true') return false;
  if (process.env.OTEL_TRACES_EXPORTER === 'none') return false;
  return Boolean(
    process.env.OTEL_EXPORTER_OTLP_ENDPOINT ||
      process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ||
      process.env.OTEL_TRACES_EXPORTER,
  );
}

/**
 * Starts making spans, where OpenTelemetry's variables ask for them.
 *
 * @param service the name of the process, unless OTEL_SERVICE_NAME has another
 * @returns what sends the last spans and ends, in two seconds at most
 */
export async function startTracing(service: string): Promise<() => Promise<void>> {
  if (!isWanted()) return async () => {};
  const { NodeSDK } = await import('@opentelemetry/sdk-node');
  const sdk = new NodeSDK({
    serviceName: process.env.OTEL_SERVICE_NAME ?? service,
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  });
  sdk.start();
  isOn = true;
  return async () => {
    const late = new Promise<void>((resolve) => setTimeout(resolve, 2_000).unref());
    await Promise.race([sdk.shutdown().catch(() => {}), late]);
  };
}

/** The place that a traceparent names, as the parent of spans. */
const parentOf = (traceparent: string | undefined): Context =>
  traceparent === undefined ? ROOT_CONTEXT : propagation.extract(ROOT_CONTEXT, { traceparent });

/** A span of a request that came in; undefined while spans are not made. */
export function beginServerSpan(
  name: string,
  headers: object,
  attributes: Attributes,
): Span | undefined {
  if (!isOn) return undefined;
  const parent = propagation.extract(ROOT_CONTEXT, headers);
  return tracer().startSpan(name, { kind: SpanKind.SERVER, attributes }, parent);
}

/** Runs work as a part of a span. */
export const within = <Result>(span: Span | undefined, work: () => Result): Result =>
  span === undefined ? work() : context.with(trace.setSpan(context.active(), span), work);

/** Runs work in a span of its own, whether it ends at once or later. */
export function inSpan<Result>(name: string, attributes: Attributes, work: () => Result): Result {
  if (!isOn) return work();
  const span = tracer().startSpan(name, { attributes });
  return endWith(span, () => within(span, work));
}

export interface CallSpan {
  name: string;
  attributes: Attributes;
  /** Of the request that caused it. */
  traceparent?: string | undefined;
}

/**
 * Runs a call to somebody else in a span: in the trace of what caused it, and with a link to the
 * work that makes it now.
 */
export function inCallSpan<Result>(
  { name, attributes, traceparent }: CallSpan,
  work: () => Result,
): Result {
  if (!isOn) return work();
  const now = trace.getSpanContext(context.active());
  const parent = traceparent === undefined ? context.active() : parentOf(traceparent);
  const links = traceparent === undefined || now === undefined ? [] : [{ context: now }];
  const span = tracer().startSpan(name, { kind: SpanKind.CLIENT, attributes, links }, parent);
  return endWith(span, () => context.with(trace.setSpan(parent, span), work));
}

/** A span of something that is over: a statement. */
export function noteSpan(
  name: string,
  attributes: Attributes,
  began: number,
  failed: boolean,
): void {
  if (!isOn) return;
  const startTime = performance.timeOrigin + began;
  const span = tracer().startSpan(name, { kind: SpanKind.CLIENT, attributes, startTime });
  if (failed) span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

/** Headers by which whoever is called can go on with the trace; none while spans are not made. */
export function outgoingHeaders(): Record<string, string> {
  const headers: Record<string, string> = {};
  if (isOn) propagation.inject(context.active(), headers);
  return headers;
}

function endWith<Result>(span: Span, work: () => Result): Result {
  const fail = (error: unknown): void => {
    // Its message may hold a value.
    span.setStatus({
      code: SpanStatusCode.ERROR,
      message: (error as { code?: string }).code ?? '',
    });
    span.end();
  };
  try {
    const result = work();
    if (result instanceof Promise) {
      result.then(() => span.end(), fail);
    } else {
      span.end();
    }
    return result;
  } catch (error) {
    fail(error);
    throw error;
  }
}
