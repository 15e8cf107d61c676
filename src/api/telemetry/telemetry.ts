import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { SpanStatusCode } from '@opentelemetry/api';
import { Pool } from 'pg';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Trust } from '../../client-address.ts';
import { type Log, scrub } from '../../log.ts';
import { makeRegistry, measurePool, seconds } from '../../metrics/registry.ts';
import type { MeasuredPool } from '../../postgres/measured-pool.ts';
import { samplePool } from '../../postgres/pool-samples.ts';
import { type LogContext, logContext } from '../../trace.ts';
import { beginServerSpan, isTracing, noteSpan, within } from '../../tracing.ts';
import { errorCodes } from '../errors.ts';
import { DatabaseFigures } from './database-figures.ts';
import { describeStatement, documentHash } from './names.ts';
import { type Measurement, Recorder } from './recorder.ts';
import { beginRequest, type RequestInfo } from './request.ts';

export interface TelemetryOptions {
  authenticatorUrl: string;
  /** The pool that requests use. */
  pool: MeasuredPool;
  log: Log;
  /** Whose sockets are counted. */
  live: { readonly counts: { sockets: number; subscriptions: number } };
  /** The share of requests, 0 to 1, whose operation and statements are recorded. */
  sample: number;
  /** Milliseconds from which an operation or statement is always recorded. */
  slowMs: number;
  /** Measurements that may wait to be written. */
  capacity?: number | undefined;
  /** Which proxies are believed when they say for whom they ask. */
  trust: Trust;
  /** Whether the database is a copy: nothing is written then. */
  readsOnly: () => boolean;
}

/** Paths that have a label of their own; others, which anybody may invent, share one. */
const paths = new Set([
  '/',
  '/graphql',
  '/webhooks/stripe',
  '/webhooks/delivery',
  '/healthz',
  '/readyz',
  '/metrics',
]);

/** The label of a path. */
function routeOf(path: string): string {
  const route = path.startsWith('/webhooks/delivery/') ? '/webhooks/delivery' : path;
  return paths.has(route) ? route : 'other';
}
/** What is asked every few seconds is not worth a line each at level info. */
const quiet = new Set(['/healthz', '/readyz', '/metrics']);

/** A path for a log line: decoded, so that an address in it is seen, and without it. */
function readable(path: string): string {
  try {
    return scrub(decodeURIComponent(path)).slice(0, 200);
  } catch {
    return 'malformed';
  }
}

/** What the API says of itself: counters, recorded measurements, and a log line a request. */
export class Telemetry {
  readonly #options: TelemetryOptions;
  readonly #pool: Pool;
  readonly #recorder: Recorder;
  readonly #figures: DatabaseFigures;
  readonly #stopSampling: () => void;
  readonly #registry = makeRegistry('api');
  readonly #byRequest = new WeakMap<IncomingMessage, RequestInfo>();
  readonly #byContext = new WeakMap<LogContext, RequestInfo>();
  readonly #requests: Counter<'path' | 'status'>;
  readonly #operations: Counter<'type'>;
  readonly #errors: Counter<'code'>;
  readonly #failures: Counter<'type' | 'field'>;
  readonly #durations: Histogram<'type' | 'field'>;
  readonly #statements: Histogram;

  constructor(options: TelemetryOptions) {
    this.#options = options;
    this.#pool = new Pool({
      connectionString: options.authenticatorUrl,
      max: 2,
      application_name: 'gw-api-metrics',
      connectionTimeoutMillis: 2_000,
      statement_timeout: 3_000,
      // A server that hangs answers no timeout either.
      query_timeout: 4_000,
      keepAlive: true,
    });
    // Whatever needs it next connects again.
    this.#pool.on('error', () => {});
    const { log, capacity, readsOnly } = options;
    this.#recorder = new Recorder({
      pool: this.#pool,
      log,
      readsOnly,
      ...(capacity === undefined ? {} : { capacity }),
    });
    this.#figures = new DatabaseFigures(this.#pool);

    const registers = [this.#registry];
    this.#requests = new Counter({
      name: 'gw_http_requests_total',
      help: 'Requests that were answered, by path and status.',
      labelNames: ['path', 'status'],
      registers,
    });
    this.#operations = new Counter({
      name: 'gw_graphql_operations_total',
      help: 'Operations that were executed, by type.',
      labelNames: ['type'],
      registers,
    });
    this.#errors = new Counter({
      name: 'gw_graphql_errors_total',
      help: 'Errors in responses, by code.',
      labelNames: ['code'],
      registers,
    });
    this.#failures = new Counter({
      name: 'gw_graphql_failed_operations_total',
      help: 'Operations that were answered with an error, by type and root field.',
      labelNames: ['type', 'field'],
      registers,
    });
    // A rate needs a beginning.
    for (const code of errorCodes) this.#errors.inc({ code }, 0);
    for (const type of ['query', 'mutation', 'subscription']) this.#operations.inc({ type }, 0);
    this.#durations = new Histogram({
      name: 'gw_graphql_duration_seconds',
      help: 'Seconds from the request to its response, by type of operation and root field.',
      labelNames: ['type', 'field'],
      buckets: seconds,
      registers,
    });
    this.#statements = new Histogram({
      name: 'gw_statement_duration_seconds',
      help: 'Seconds that SQL statements of operations took.',
      buckets: seconds,
      registers,
    });
    this.#measureRecorder(registers);
    this.#measureSockets(registers);
    measurePool(this.#registry, options.pool);
    this.#stopSampling = samplePool({
      pool: options.pool,
      name: 'api',
      writer: this.#pool,
      log,
      readsOnly,
    });
  }

  /**
   * Begins a request and names it to the client. Runs the work so that its log lines have
   * the request's id and trace.
   */
  run(request: IncomingMessage, response: ServerResponse, work: () => void): void {
    const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
    const route = routeOf(path);
    const span = beginServerSpan(`${request.method} ${route}`, request.headers, {
      'http.request.method': request.method ?? 'GET',
      'http.route': route,
    });
    const info = beginRequest(
      request,
      Math.random() < this.#options.sample,
      this.#options.trust,
      span,
    );
    const context = { request_id: info.requestId, trace_id: info.traceId };
    this.#byRequest.set(request, info);
    this.#byContext.set(context, info);
    response.setHeader('x-request-id', info.requestId);
    response.setHeader('traceresponse', info.traceparent);
    response.once('close', () => {
      logContext.run(context, () => this.#end(info, response));
    });
    within(span, () => logContext.run(context, work));
  }

  /** What is known of a request; undefined for one that did not come through run(). */
  infoOf(request: IncomingMessage): RequestInfo | undefined {
    return this.#byRequest.get(request);
  }

  /** The request that the running code works for. */
  current(): RequestInfo | undefined {
    const context = logContext.getStore();
    return context === undefined ? undefined : this.#byContext.get(context);
  }

  /** Counts the code of an error that the running request is answered with. */
  addError(code: string): void {
    const info = this.current();
    if (info === undefined) this.#errors.inc({ code });
    else info.codes.push(code);
  }

  /** Told of each statement; see observeStatements(). */
  readonly onStatement = (text: string, began: number, failed: boolean): void => {
    const duration = performance.now() - began;
    if (isTracing()) {
      const { name } = describeStatement(text);
      const attributes = { 'db.system.name': 'postgresql', 'db.query.summary': name };
      noteSpan(name, attributes, began, failed);
    }
    this.#statements.observe(duration / 1000);
    const info = this.current();
    if (info === undefined) return;
    if (!info.isSampled && duration < this.#options.slowMs) return;
    const { name, hash } = describeStatement(text);
    this.#record(info, 'query', name, hash, began, duration);
  };

  /** Statements that take longer are slow. */
  get slowMs(): number {
    return this.#options.slowMs;
  }

  /** A statement that still runs is slow: notes by which id pg_stat_statements has it. */
  readonly onSlow = (backend: number): void => {
    const info = this.current();
    if (info === undefined) return;
    this.#pool
      .query<{ id: string }>({
        name: 'query-id',
        text: `select query_id::text as id from pg_stat_activity
          where pid = $1 and state = 'active' and query_id is not null`,
        values: [backend],
      })
      .then(({ rows: [row] }) => {
        if (row !== undefined && !info.queryIds.includes(row.id)) info.queryIds.push(row.id);
      })
      .catch(() => {});
  };

  /** Prometheus' text form of everything. Never rejects. */
  async metrics(): Promise<string> {
    const [own, database] = await Promise.all([this.#registry.metrics(), this.#figures.read()]);
    return `${own}\n${database}`;
  }

  /** Writes what waits to be written, and closes the connections; in two seconds at most. */
  async close(): Promise<void> {
    this.#stopSampling();
    const closed = this.#recorder.close().then(() => this.#pool.end());
    // A process has four seconds to stop, and figures are not worth them.
    await Promise.race([closed, setTimeout(2_000, undefined, { ref: false })]);
  }

  #end(info: RequestInfo, response: ServerResponse): void {
    const duration = performance.now() - info.startedAt;
    // Who hung up got no status; 499 is what proxies call that.
    const status = response.writableFinished ? response.statusCode : 499;
    this.#requests.inc({ path: routeOf(info.path), status });
    for (const code of info.codes) this.#errors.inc({ code });
    const { operation, otelSpan } = info;
    if (otelSpan !== undefined) {
      if (operation !== undefined) otelSpan.updateName(`${operation.kind} ${operation.field}`);
      otelSpan.setAttributes({
        'http.response.status_code': status,
        ...(operation === undefined ? {} : { 'graphql.operation.type': operation.kind }),
        ...(info.codes.length === 0 ? {} : { 'error.type': info.codes.join(', ') }),
      });
      if (status >= 500) otelSpan.setStatus({ code: SpanStatusCode.ERROR });
      otelSpan.end();
    }
    if (operation !== undefined) {
      this.#operations.inc({ type: operation.kind });
      const labels = { type: operation.kind, field: operation.field };
      this.#durations.observe(labels, duration / 1000);
      if (info.codes.length > 0) this.#failures.inc(labels);
      if (info.isSampled || duration >= this.#options.slowMs) {
        const hash = documentHash(operation.document);
        const name = `${operation.kind} ${operation.name}`;
        this.#record(info, 'api', name, hash, info.startedAt, duration);
      }
    }
    this.#options.log[quiet.has(info.path) ? 'debug' : 'info'](
      {
        method: info.method,
        path: readable(info.path),
        status,
        ms: Number(duration.toFixed(1)),
        ...(operation === undefined ? {} : { operation: operation.name, type: operation.kind }),
        ...(info.codes.length === 0 ? {} : { codes: info.codes }),
        ...(info.userId === undefined ? {} : { user_id: info.userId }),
        ...(info.queryIds.length === 0 ? {} : { query_ids: info.queryIds }),
      },
      'request',
    );
    // A connection that stays open keeps its last request; not the document and plan, too.
    delete info.operation;
  }

  #record(
    info: RequestInfo,
    type: Measurement['metric_type'],
    name: string,
    hash: string,
    began: number,
    duration: number,
  ): void {
    this.#recorder.add({
      metric_type: type,
      metric_name: name,
      duration_ms: Math.round(duration),
      user_id: info.userId,
      session_id: info.sessionId,
      request_id: info.requestId,
      endpoint: routeOf(info.path),
      query_hash: hash,
      user_agent: info.userAgent,
      ip_address: info.address,
      began: performance.timeOrigin + began,
      ...(type === 'api' && info.codes.length > 0 ? { metadata: { codes: info.codes } } : {}),
    });
  }

  #measureSockets(registers: Registry[]): void {
    const { live } = this.#options;
    new Gauge({
      name: 'gw_live_sockets',
      help: 'Open WebSockets.',
      registers,
      collect() {
        this.set(live.counts.sockets);
      },
    });
    new Gauge({
      name: 'gw_live_subscriptions',
      help: 'Subscriptions on them.',
      registers,
      collect() {
        this.set(live.counts.subscriptions);
      },
    });
  }

  #measureRecorder(registers: Registry[]): void {
    const recorder = this.#recorder;
    new Gauge({
      name: 'gw_measurements_waiting',
      help: 'Measurements that wait to be written.',
      registers,
      collect() {
        this.set(recorder.backlog);
      },
    });
    new Counter({
      name: 'gw_measurements_total',
      help: 'Measurements that were written, or dropped because 10,000 waited or the database refused.',
      labelNames: ['outcome'],
      registers,
      collect() {
        this.reset();
        for (const [outcome, count] of Object.entries(recorder.counts)) {
          this.inc({ outcome }, count);
        }
      },
    });
  }
}
