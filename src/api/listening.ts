import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { sendError } from '../http.ts';
import type { Log } from '../log.ts';
import type { Drain } from './drain.ts';
import type { Telemetry } from './telemetry/telemetry.ts';
import type { Unread } from './unread.ts';

export type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export interface ListenOptions {
  host: string;
  /** 0 for a free one. */
  port: number;
  handle: Handler;
  telemetry: Telemetry;
  drain: Drain;
  unread: Unread;
  log: Log;
}

const isWebSocket = ({ headers }: IncomingMessage): boolean =>
  headers.upgrade?.toLowerCase() === 'websocket';

/** Listens for HTTP. Rejects when the port is taken. */
export function listen({
  host,
  port,
  handle,
  telemetry,
  drain,
  unread,
  log,
}: ListenOptions): Promise<Server> {
  // Other upgrades that clients offer, such as h2c, are passed over, as without sockets.
  const upgrades = { shouldUpgradeCallback: isWebSocket };
  const server = createServer(upgrades, (request, response) => {
    response.setHeader('x-content-type-options', 'nosniff');
    drain.track(response);
    unread.pace(response);
    telemetry.run(request, response, () => {
      handle(request, response).catch((error: unknown) => {
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
}

/** The port that a server listens on. */
export function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
