import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { postgraphile } from 'postgraphile';
import { grafserv } from 'postgraphile/grafserv/node';
import { errorText, type Log } from '../log.ts';
import { MeasuredPool } from '../postgres/measured-pool.ts';
import { ConstraintColumns } from './constraint-columns.ts';
import { type ErrorCode, makeMaskError } from './errors.ts';
import { readiness } from './health.ts';
import { Live } from './live/live.ts';
import type { SocketLimits } from './live/sockets.ts';
import { makePreset } from './preset.ts';
import { RevokedSessions } from './revoked-sessions.ts';
import { makeStripeWebhook, stripeWebhookPath } from './stripe-webhook.ts';
import { mayReadMetrics } from './telemetry/access.ts';
import { Telemetry } from './telemetry/telemetry.ts';
import { type Claims, verifyAuthorization } from './tokens.ts';
import { makeUnsubscribe, unsubscribePath } from './unsubscribe.ts';

export interface ApiOptions {
  /** gw_authenticator's connection. */
  authenticatorUrl: string;
  /** A superuser's connection, to follow schema changes (development only). */
  watchUrl?: string | undefined;
  jwtSecret: string;
  /** Stripe's signing secret; without it the webhook's route does not exist. */
  stripeWebhookSecret?: string | undefined;
  host: string;
  port: number;
  poolSize: number;
  /** Limits of WebSockets where they are not the usual ones. */
  liveLimits?: Partial<SocketLimits> | undefined;
  /** What is measured of requests, and who may read it. Unset: nothing is recorded. */
  metrics?: {
    /** The share of requests, 0 to 1, that are recorded. */
    sample: number;
    /** Milliseconds from which an operation is recorded in any case. */
    slowMs: number;
    /** Whoever knows it may read /metrics; without one, this machine only. */
    token?: string | undefined;
    /** A port of its own for /metrics, which the API's then has not; 0 for a free one. */
    port?: number | undefined;
    /** Measurements that may wait to be written. */
    capacity?: number | undefined;
  };
  log: Log;
}

export interface Api {
  server: Server;
  port: number;
  /** Subscriptions over WebSocket. */
  live: Live;
  /** Where /metrics is, when it has a port of its own. */
  metricsPort?: number;
  /** Stops accepting, lets running requests end, closes connections. */
  close(): Promise<void>;
}

const maxBody = 1_000_000;

const isWebSocket = ({ headers }: IncomingMessage): boolean =>
  headers.upgrade?.toLowerCase() === 'websocket';

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
  });
  response.end(text);
}

function sendError(
  response: ServerResponse,
  status: number,
  code: ErrorCode,
  message: string,
): void {
  sendJson(response, status, { errors: [{ message, extensions: { code } }] });
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/**
 * Starts the API: GraphQL at /graphql, GraphiQL at /, /unsubscribe, /healthz, /readyz and
 * /metrics. Resolves when it accepts requests.
 *
 * @throws when the database cannot be reached or the port is taken
 */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { authenticatorUrl, watchUrl, jwtSecret, host, log } = options;
  const pool = new MeasuredPool({
    connectionString: authenticatorUrl,
    max: options.poolSize,
    application_name: 'gw-api',
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
  });
  // A connection that dies while idle is replaced; requests see UNAVAILABLE meanwhile.
  pool.on('error', (error) => log.warn({ error: errorText(error) }, 'lost a connection'));

  const columns = new ConstraintColumns(pool);
  const revoked = new RevokedSessions(authenticatorUrl, log);
  await columns.load();
  await revoked.start();
  const live = new Live({
    authenticatorUrl,
    jwtSecret,
    revoked,
    limits: options.liveLimits,
    log,
  });
  await live.start();

  const unmeasured: NonNullable<ApiOptions['metrics']> = {
    sample: 0,
    slowMs: Number.POSITIVE_INFINITY,
  };
  const { token, port: metricsPort, ...measuring } = options.metrics ?? unmeasured;
  const telemetry = new Telemetry({ authenticatorUrl, pool, log, ...measuring });
  const maskError = makeMaskError(log, columns.columnOf);

  const claims = new WeakMap<IncomingMessage, Claims>();
  const pgl = postgraphile(
    makePreset({
      pool,
      jwtSecret,
      claimsOf: (request) => claims.get(request) ?? live.claimsOf(request),
      liveOf: (userId) => live.sourceOf(userId),
      maskError: (error) => {
        const masked = maskError(error);
        telemetry.addError(String(masked.extensions.code));
        return masked;
      },
      telemetry: options.metrics === undefined ? undefined : telemetry,
      watchUrl,
    }),
  );
  const serv = pgl.createServ(grafserv);
  await pgl.getSchema();
  const handleGraphql = serv.createHandler();
  const handleStripe = makeStripeWebhook(pool, options.stripeWebhookSecret, log);
  const handleUnsubscribe = makeUnsubscribe(pool, jwtSecret, log);

  /** Verifies the token before any database work; false when the request was answered. */
  async function authenticate(
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<boolean> {
    const header = request.headers.authorization;
    if (header === undefined) return true;
    const verified = await verifyAuthorization(header, jwtSecret);
    if (typeof verified !== 'string' && !revoked.has(verified.sid)) {
      claims.set(request, verified);
      const info = telemetry.infoOf(request);
      if (info !== undefined) {
        info.userId = verified.sub;
        info.sessionId = verified.sid;
      }
      return true;
    }
    const code = verified === 'TOKEN_EXPIRED' ? 'TOKEN_EXPIRED' : 'TOKEN_INVALID';
    telemetry.addError(code);
    response.setHeader('www-authenticate', 'Bearer error="invalid_token"');
    sendError(
      response,
      401,
      code,
      code === 'TOKEN_EXPIRED'
        ? 'the access token has expired; exchange the refresh token, without this header'
        : 'the access token is not valid, or its session has ended',
    );
    return false;
  }

  async function sendMetrics(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!mayReadMetrics(request, token)) {
      return sendError(response, 403, 'FORBIDDEN', 'metrics are not for you');
    }
    const text = await telemetry.metrics();
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
    response.end(text);
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '/').split('?', 1)[0];
    if (path === '/healthz') return sendJson(response, 200, { alive: true });
    if (path === '/readyz') {
      const { ready, checks } = await readiness(pool);
      return sendJson(response, ready ? 200 : 503, { ready, checks });
    }
    if (path === '/metrics' && metricsPort === undefined) return sendMetrics(request, response);
    if (path === stripeWebhookPath) {
      const { status, body } = await handleStripe(request);
      // What is left of a body that is too long is not read.
      if (status === 413) response.setHeader('connection', 'close');
      return sendJson(response, status, body);
    }
    if (path === unsubscribePath) return handleUnsubscribe(request, response);
    if (Number(request.headers['content-length'] ?? 0) > maxBody) {
      // Whoever sends so much does not read an answer first.
      response.setHeader('connection', 'close');
      return sendError(response, 413, 'BODY_TOO_LARGE', `a request has at most ${maxBody} bytes`);
    }
    if (path === '/graphql' && !(await authenticate(request, response))) return;
    await handleGraphql(request, response);
  }

  // Other upgrades that clients offer, such as h2c, are passed over, as without sockets.
  const upgrades = { shouldUpgradeCallback: isWebSocket };
  const listen = (
    port: number,
    work: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  ): Promise<Server> => {
    const server = createServer(upgrades, (request, response) => {
      response.setHeader('x-content-type-options', 'nosniff');
      telemetry.run(request, response, () => {
        work(request, response).catch((error: unknown) => {
          log.error({ err: error }, 'a request failed outside GraphQL');
          if (response.headersSent) response.destroy();
          else sendError(response, 500, 'INTERNAL', 'an internal error occurred');
        });
      });
    });
    server.requestTimeout = 30_000;
    // Longer than proxies and clients keep an idle connection: who closes it first must be
    // the one that would send on it, or a request meets a reset.
    server.keepAliveTimeout = 75_000;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, () => resolve(server));
    });
  };
  const server = await listen(options.port, handle);
  live.attach(server, serv);
  const metricsServer =
    metricsPort === undefined
      ? undefined
      : await listen(metricsPort, async (request, response) =>
          request.url === '/metrics'
            ? sendMetrics(request, response)
            : sendError(response, 404, 'NOT_FOUND', 'there is only /metrics'),
        );

  let closing: Promise<void> | undefined;
  async function close(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeIdleConnections();
    metricsServer?.close();
    metricsServer?.closeAllConnections();
    // Statements end after 5 s; nobody waits for connections that are merely open.
    const impatience = setTimeout(() => server.closeAllConnections(), 2_000);
    await live.stop();
    await closed;
    clearTimeout(impatience);
    await revoked.stop();
    await telemetry.close();
    await pgl.release();
    await pool.end();
  }
  return {
    server,
    port: portOf(server),
    live,
    ...(metricsServer === undefined ? {} : { metricsPort: portOf(metricsServer) }),
    close: () => (closing ??= close()),
  };
}
