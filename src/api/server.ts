import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { Pool } from 'pg';
import { postgraphile } from 'postgraphile';
import { grafserv } from 'postgraphile/grafserv/node';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { ConstraintColumns } from './constraint-columns.ts';
import { type ErrorCode, makeMaskError } from './errors.ts';
import { readiness } from './health.ts';
import { makePreset } from './preset.ts';
import { RevokedSessions } from './revoked-sessions.ts';
import { makeStripeWebhook, stripeWebhookPath } from './stripe-webhook.ts';
import { type Claims, verifyAccessToken } from './tokens.ts';
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
  log: Log;
}

export interface Api {
  server: Server;
  port: number;
  /** Stops accepting, lets running requests end, closes connections. */
  close(): Promise<void>;
}

const maxBody = 1_000_000;

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
  code: ErrorCode | 'BODY_TOO_LARGE',
  message: string,
): void {
  sendJson(response, status, { errors: [{ message, extensions: { code } }] });
}

/**
 * Starts the API: GraphQL at /graphql, GraphiQL at /, /unsubscribe, /healthz and /readyz.
 * Resolves when it accepts requests.
 *
 * @throws when the database cannot be reached or the port is taken
 */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { authenticatorUrl, watchUrl, jwtSecret, host, log } = options;
  const pool = new Pool({
    connectionString: authenticatorUrl,
    max: options.poolSize,
    application_name: 'gw-api',
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
  });
  // A connection that dies while idle is replaced; requests see UNAVAILABLE meanwhile.
  pool.on('error', (error) => log.warn({ error: messageOf(error) }, 'lost a connection'));

  const columns = new ConstraintColumns(pool);
  const revoked = new RevokedSessions(authenticatorUrl, log);
  await columns.load();
  await revoked.start();

  const claims = new WeakMap<IncomingMessage, Claims>();
  const pgl = postgraphile(
    makePreset({
      pool,
      jwtSecret,
      claimsOf: (request) => claims.get(request),
      maskError: makeMaskError(log, columns.columnOf),
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
    const token = /^Bearer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i.exec(header)?.[1];
    const verified =
      token === undefined ? 'TOKEN_INVALID' : await verifyAccessToken(token, jwtSecret);
    if (typeof verified !== 'string' && !revoked.has(verified.sid)) {
      claims.set(request, verified);
      return true;
    }
    const code = verified === 'TOKEN_EXPIRED' ? 'TOKEN_EXPIRED' : 'TOKEN_INVALID';
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

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '/').split('?', 1)[0];
    if (path === '/healthz') return sendJson(response, 200, { alive: true });
    if (path === '/readyz') {
      const { ready, checks } = await readiness(pool);
      return sendJson(response, ready ? 200 : 503, { ready, checks });
    }
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

  const server = createServer((request, response) => {
    response.setHeader('x-content-type-options', 'nosniff');
    handle(request, response).catch((error: unknown) => {
      log.error({ err: error }, 'a request failed outside GraphQL');
      if (!response.headersSent) sendError(response, 500, 'INTERNAL', 'an internal error occurred');
      else response.destroy();
    });
  });
  server.requestTimeout = 30_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, host, resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : options.port;

  let closing: Promise<void> | undefined;
  async function close(): Promise<void> {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeIdleConnections();
    // Statements end after 5 s; nobody waits for connections that are merely open.
    const impatience = setTimeout(() => server.closeAllConnections(), 2_000);
    await closed;
    clearTimeout(impatience);
    await revoked.stop();
    await pgl.release();
    await pool.end();
  }
  return { server, port, close: () => (closing ??= close()) };
}
