// First: it corrects what the next ones load.
import './pages/repair.ts';

import type { Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { postgraphile } from 'postgraphile';
import { grafserv } from 'postgraphile/grafserv/node';
import { clientAddress, readTrust } from '../client-address.ts';
import { errorText, type Log } from '../log.ts';
import { readOrigins } from '../origins.ts';
import { Fence } from '../postgres/fence.ts';
import { Listener } from '../postgres/listener.ts';
import { MeasuredPool } from '../postgres/measured-pool.ts';
import { Probe } from '../postgres/probe.ts';
import { Authentication } from './authentication.ts';
import { Constraints } from './constraints.ts';
import { crossOrigin } from './cross-origin.ts';
import type { DeliverySecrets } from './delivery-signatures.ts';
import { Drain } from './drain.ts';
import { makeMaskError } from './errors.ts';
import { FullDisk } from './full-disk.ts';
import { readiness } from './health.ts';
import { limits } from './limits.ts';
import { listen, portOf } from './listening.ts';
import { Live } from './live/live.ts';
import type { SocketLimits } from './live/sockets.ts';
import type { Operations } from './operations.ts';
import { refuseTransactionPooler } from './pooler.ts';
import { makePreset } from './preset.ts';
import { type RateOptions, Rates, tooOften } from './rates.ts';
import { RevokedSessions } from './revoked-sessions.ts';
import { makeRoutes, metricsOnly, metricsRoute, readyRoute } from './routes.ts';
import { Shares } from './shares.ts';
import { Telemetry } from './telemetry/telemetry.ts';
import { Unread } from './unread.ts';
import { violationsOf } from './violations.ts';
import { warmUp } from './warm-up.ts';

export interface ApiOptions {
  /** gw_authenticator's connection. */
  authenticatorUrl: string;
  /** A superuser's connection, to follow schema changes (development only). */
  watchUrl?: string | undefined;
  jwtSecret: string;
  /** Stripe's signing secret; without it the webhook's route does not exist. */
  stripeWebhookSecret?: string | undefined;
  /** Of the vendors that report what became of messages; none unless given. */
  deliverySecrets?: DeliverySecrets;
  host: string;
  port: number;
  poolSize: number;
  /** Requests that may wait for a connection; ten times as many as connections, unless given. */
  maxWaiting?: number | undefined;
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
  /** Proxies whose X-Forwarded-For is believed: addresses, networks, loopback; none unless given. */
  trustProxy?: string | undefined;
  /** Origins whose pages may use it, as readOrigins() has them; none unless given. */
  corsOrigins?: string | undefined;
  /** How often users and addresses may ask; no limit unless given. */
  rates?: RateOptions | undefined;
  /** Operations that clients name by a hash; alone: nothing else is run. */
  operations?: { list: Operations; alone: boolean } | undefined;
  /** Whether callers may read the schema; they may unless it is said. */
  showsSchema?: boolean | undefined;
  log: Log;
}

export interface Api {
  server: Server;
  port: number;
  /** Subscriptions over WebSocket. */
  live: Live;
  /** Where /metrics is, when it has a port of its own. */
  metricsPort?: number;
  /** Sends clients away, stops accepting, lets running requests end, closes connections. */
  close(patience?: Patience): Promise<void>;
}

export interface Patience {
  /** How long it still answers, and is not ready. */
  drainMs: number;
  /** How long all of it may take: requests that run then are cut off. */
  graceMs: number;
}

const unlimited: RateOptions = { anonymous: 0, signIn: 0, user: 0 };

const unmeasured: NonNullable<ApiOptions['metrics']> = {
  sample: 0,
  slowMs: Number.POSITIVE_INFINITY,
};

function openPool({ authenticatorUrl, poolSize, log }: ApiOptions): MeasuredPool {
  const pool = new MeasuredPool({
    connectionString: authenticatorUrl,
    max: poolSize,
    application_name: 'gw-api',
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 30_000,
    // Longer than any statement may take.
    silenceMs: (limits.statementSeconds + 2) * 1_000,
  });
  // A connection that dies while idle is replaced; requests see UNAVAILABLE meanwhile.
  pool.on('error', (error) => log.warn({ error: errorText(error) }, 'lost a connection'));
  return pool;
}

async function watchFence({ authenticatorUrl: url, log }: ApiOptions): Promise<Fence> {
  const fence = await Fence.watch({ url, applicationName: 'gw-api-fence', log });
  const { reason } = fence;
  if (reason !== undefined) log.warn({ reason }, 'the database is a copy: it is only read');
  return fence;
}

/** A probe that is answered within a second, or not at all. */
const openProbe = ({ authenticatorUrl: url }: ApiOptions): Probe =>
  new Probe({ url, applicationName: 'gw-api-probe', timeoutMs: 1_000 });

/**
 * Starts the API: GraphQL at /graphql, GraphiQL at /, /unsubscribe, /healthz, /readyz and
 * /metrics. Resolves when it accepts requests.
 *
 * @throws when the database cannot be reached or the port is taken
 */
export async function startApi(options: ApiOptions): Promise<Api> {
  const { authenticatorUrl, watchUrl, jwtSecret, host, corsOrigins, log } = options;
  await refuseTransactionPooler(authenticatorUrl);
  const pool = openPool(options);
  const probe = openProbe(options);
  const drain = new Drain();
  const disk = new FullDisk();
  const constraints = new Constraints(pool);
  const listener = new Listener({
    url: authenticatorUrl,
    applicationName: 'gw-api-listen',
    log,
  });
  const revoked = new RevokedSessions(listener);
  const live = new Live({ listener, jwtSecret, revoked, limits: options.liveLimits, log });
  await constraints.load();
  await listener.start();
  const fence = await watchFence(options);
  const readsOnly = () => fence.reason !== undefined;

  const trust = readTrust(options.trustProxy);
  const { token, port: metricsPort, ...measuring } = options.metrics ?? unmeasured;
  const telemetry = new Telemetry({
    ...{ authenticatorUrl, pool, live, log, trust, readsOnly },
    ...measuring,
  });
  const rates = new Rates(options.rates ?? unlimited);
  const authentication = new Authentication({ jwtSecret, revoked, telemetry });
  const maskError = makeMaskError(log, constraints.of, {
    disk,
    readsOnly,
    showsSchema: options.showsSchema,
    isAnonymous: () => {
      const request = telemetry.current();
      return request !== undefined && request.userId === undefined;
    },
  });
  const pgl = postgraphile(
    makePreset({
      pool,
      jwtSecret,
      claimsOf: (request) => authentication.claimsOf(request) ?? live.claimsOf(request),
      liveOf: (userId) => live.sourceOf(userId),
      maskError: (error) => {
        const masked = maskError(error);
        telemetry.addError(String(masked.extensions.code));
        return masked;
      },
      connections: {
        shares: new Shares(Math.ceil(options.poolSize / 2)),
        cancel: (backend) => probe.ask({ text: 'select pg_cancel_backend($1)', values: [backend] }),
      },
      countSignIns: async (request, fields) => {
        const address = telemetry.infoOf(request)?.address ?? '';
        const count = await rates.count('signIn', address, fields);
        if (count === undefined || !count.isOver) return undefined;
        return { message: tooOften('signIn', count.limit), seconds: count.resetSeconds };
      },
      violations: violationsOf(pool, constraints),
      readsOnly,
      showsSchema: options.showsSchema,
      operations: options.operations,
      telemetry: options.metrics === undefined ? undefined : telemetry,
      watchUrl,
    }),
  );
  const serv = pgl.createServ(grafserv);
  await warmUp(await pgl.getSchema());

  const metrics = metricsRoute(telemetry, token);
  const ready = readyRoute(() => readiness(probe, drain, disk, fence));
  const handle = makeRoutes({
    pool,
    ready,
    readsOnly,
    maxWaiting: options.maxWaiting ?? 10 * options.poolSize,
    jwtSecret,
    stripeWebhookSecret: options.stripeWebhookSecret,
    deliverySecrets: options.deliverySecrets ?? {},
    authentication,
    admit: (request, response) => {
      const userId = authentication.claimsOf(request)?.sub;
      const address = telemetry.infoOf(request)?.address ?? '';
      return userId === undefined
        ? rates.admit('anonymous', address, response)
        : rates.admit('user', userId, response);
    },
    graphql: serv.createHandler(),
    crossOrigin: corsOrigins === undefined ? undefined : crossOrigin(readOrigins(corsOrigins)),
    metrics: metricsPort === undefined ? metrics : undefined,
    log,
  });
  const unread = new Unread({ bytes: limits.unreadBytes, stallMs: limits.stallSeconds * 1_000 });
  const listening = { host, telemetry, drain, unread, log };
  const server = await listen({ ...listening, port: options.port, handle });
  live.attach(server, serv, async (request) => {
    const count = await rates.count('anonymous', clientAddress(request, trust) ?? '');
    return count?.isOver !== true;
  });
  const metricsServer =
    metricsPort === undefined
      ? undefined
      : await listen({ ...listening, port: metricsPort, handle: metricsOnly(metrics, ready) });

  let closing: Promise<void> | undefined;
  async function close({ drainMs, graceMs }: Patience): Promise<void> {
    drain.begin();
    // Nobody waits for connections that are merely open.
    const impatience = setTimeout(() => server.closeAllConnections(), graceMs);
    await Promise.all([live.stop(drainMs), sleep(drainMs)]);
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeIdleConnections();
    await closed;
    clearTimeout(impatience);
    metricsServer?.close();
    metricsServer?.closeAllConnections();
    revoked.stop();
    await fence.stop();
    await probe.close();
    await listener.stop();
    await telemetry.close();
    // Requests are over: nobody is helped by a good-bye that takes long, as PostGraphile's while it
    // watches the schema.
    const brief = (work: unknown) => Promise.race([work, sleep(1_000, undefined, { ref: false })]);
    await brief(pgl.release());
    await brief(pool.end());
  }
  return {
    server,
    port: portOf(server),
    live,
    ...(metricsServer === undefined ? {} : { metricsPort: portOf(metricsServer) }),
    close: (patience = { drainMs: 0, graceMs: 2_000 }) => (closing ??= close(patience)),
  };
}
