import type { Pool } from 'pg';
import { sendError, sendJson } from '../http.ts';
import type { Log } from '../log.ts';
import { mayReadMetrics } from '../metrics/access.ts';
import type { Authentication } from './authentication.ts';
import type { CrossOrigin } from './cross-origin.ts';
import type { DeliverySecrets } from './delivery-signatures.ts';
import { deliveryWebhookPath, makeDeliveryWebhook } from './delivery-webhook.ts';
import { refusals } from './errors.ts';
import type { Readiness } from './health.ts';
import { limits } from './limits.ts';
import type { Handler } from './listening.ts';
import { makeStripeWebhook, stripeWebhookPath } from './stripe-webhook.ts';
import type { Telemetry } from './telemetry/telemetry.ts';
import { makeUnsubscribe, unsubscribePath } from './unsubscribe.ts';

/**
 * Makes the handler of /metrics.
 *
 * @param token whoever knows it may read them; without one, this machine only
 */
export function metricsRoute(telemetry: Telemetry, token: string | undefined): Handler {
  return async (request, response) => {
    if (!mayReadMetrics(request, token)) {
      return sendError(response, 403, 'FORBIDDEN', 'metrics are not for you');
    }
    const text = await telemetry.metrics();
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
    response.end(text);
  };
}

/** Makes the handler of a port that has nothing but health and /metrics. */
export function metricsOnly(metrics: Handler, ready: Handler): Handler {
  return async (request, response) => {
    if (request.url === '/metrics') return metrics(request, response);
    if (request.url === '/healthz') return sendJson(response, 200, { alive: true });
    if (request.url === '/readyz') return ready(request, response);
    sendError(response, 404, 'NOT_FOUND', 'there are /healthz, /readyz and /metrics');
  };
}

/** Makes the handler of /readyz. */
export function readyRoute(ask: () => Promise<Readiness>): Handler {
  return async (_, response) => {
    const { ready, checks } = await ask();
    sendJson(response, ready ? 200 : 503, { ready, checks });
  };
}

export interface RouteOptions {
  pool: Pool;
  ready: Handler;
  /** Whether the database is a copy, of which nothing may be changed. */
  readsOnly: () => boolean;
  /** Requests that may wait for a connection of the pool. */
  maxWaiting: number;
  jwtSecret: string;
  /** Without it the webhook's route does not exist. */
  stripeWebhookSecret: string | undefined;
  /** Of the vendors that report what became of messages. */
  deliverySecrets: DeliverySecrets;
  authentication: Authentication;
  /** Counts a request whose token was verified; false when it was answered, as one too many. */
  admit: (...request: Parameters<Handler>) => Promise<boolean>;
  /** PostGraphile's own routes: /graphql, and GraphiQL at /. */
  graphql: (...request: Parameters<Handler>) => unknown;
  /** For /graphql; undefined when pages of other origins may not read it. */
  crossOrigin: CrossOrigin | undefined;
  /** Undefined when they have a port of their own. */
  metrics: Handler | undefined;
  log: Log;
}

const needsDatabase = new Set(['/graphql', stripeWebhookPath, unsubscribePath]);

/** Whoever was sent there tries again. */
const changes = new Set([stripeWebhookPath, unsubscribePath]);

/** Makes the handler of every path that the API has. */
export function makeRoutes(options: RouteOptions): Handler {
  const { pool, jwtSecret, stripeWebhookSecret, authentication, graphql, metrics, log } = options;
  const stripe = makeStripeWebhook(pool, stripeWebhookSecret, log);
  const reports = makeDeliveryWebhook(pool, options.deliverySecrets, log);
  const unsubscribe = makeUnsubscribe(pool, jwtSecret, log);
  return async (request, response) => {
    const [path = '/'] = (request.url ?? '/').split('?', 1);
    const isReport = path.startsWith(deliveryWebhookPath);
    if (path === '/healthz') return sendJson(response, 200, { alive: true });
    if (path === '/readyz') return options.ready(request, response);
    if (path === '/metrics' && metrics !== undefined) return metrics(request, response);
    if (path === '/graphql') {
      // First: a page has to be able to read why it was refused.
      if (options.crossOrigin?.(request, response) === true) return;
      response.setHeader('cache-control', 'no-store');
    }
    if (pool.waitingCount >= options.maxWaiting && (isReport || needsDatabase.has(path))) {
      // Whoever waits behind so many would give up before it is their turn.
      response.setHeader('retry-after', '1');
      return sendError(response, 503, 'UNAVAILABLE', 'too many requests wait already; try again');
    }
    if (options.readsOnly() && (isReport || changes.has(path))) {
      return sendError(response, 503, 'UNAVAILABLE', refusals.readOnly);
    }
    if (isReport || path === stripeWebhookPath) {
      const { status, body } = await (isReport
        ? reports(request, path.slice(deliveryWebhookPath.length))
        : stripe(request));
      // What is left of a body that is too long is not read.
      if (status === 413) response.setHeader('connection', 'close');
      return sendJson(response, status, body);
    }
    if (path === unsubscribePath) return unsubscribe(request, response);
    const isAnonymous = request.headers.authorization === undefined;
    const most = isAnonymous ? limits.anonymousBodyBytes : limits.bodyBytes;
    if (Number(request.headers['content-length'] ?? 0) > most) {
      // Whoever sends so much does not read a response first.
      response.setHeader('connection', 'close');
      const whose = isAnonymous ? 'a request without a token' : 'a request';
      return sendError(response, 413, 'BODY_TOO_LARGE', `${whose} has at most ${most} bytes`);
    }
    if (path === '/graphql') {
      if (!(await authentication.check(request, response))) return;
      if (!(await options.admit(request, response))) return;
    }
    await graphql(request, response);
  };
}
