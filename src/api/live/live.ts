import type { IncomingMessage, Server } from 'node:http';
import type { makeGraphQLWSConfig } from 'postgraphile/grafserv';
import type { Log } from '../../log.ts';
import type { Listener } from '../../postgres/listener.ts';
import type { RevokedSessions } from '../revoked-sessions.ts';
import { type Claims, verifyAuthorization } from '../tokens.ts';
import { LiveSource } from './follow.ts';
import { Hub } from './hub.ts';
import { Leases } from './leases.ts';
import { closeCodes, defaultLimits, type SocketLimits, Sockets } from './sockets.ts';

export interface LiveOptions {
  /** Not started yet. */
  listener: Listener;
  jwtSecret: string;
  revoked: RevokedSessions;
  limits?: Partial<SocketLimits> | undefined;
  log: Log;
}

/** Subscriptions over WebSocket: one listening connection, fanned out in memory. */
export class Live {
  readonly #hub = new Hub();
  readonly #sockets: Sockets;
  readonly #leases: Leases;

  constructor({ listener, jwtSecret, revoked, limits, log }: LiveOptions) {
    this.#leases = new Leases(listener, log, {
      onNotification: (notification) => this.#hub.publish(notification),
      onLost: () => {
        this.#sockets.close(closeCodes.restart, 'changes may have been missed: read again');
      },
      onLate: (userId) => this.#hub.refresh(userId),
      isWanted: (userId) => this.#sockets.isWanted(userId),
    });
    this.#sockets = new Sockets({
      limits: { ...defaultLimits, ...limits },
      log,
      verify: (authorization) => verifyAuthorization(authorization, jwtSecret),
      isRevoked: (sessionId) => revoked.has(sessionId),
      isUp: () => this.#leases.isUp,
      watch: (userId) => this.#leases.watch(userId),
    });
    revoked.onRevoked((sessionId) => {
      this.#sockets.close(
        closeCodes.unauthorized,
        'session ended',
        (claims) => claims?.sid === sessionId,
      );
    });
  }

  /** Open sockets of this process, and subscriptions on them. */
  get counts(): { sockets: number; subscriptions: number } {
    return { sockets: this.#sockets.size, subscriptions: this.#hub.size };
  }

  /** Takes WebSockets from an HTTP server. */
  attach(
    server: Server,
    serv: Parameters<typeof makeGraphQLWSConfig>[0],
    mayConnect: (request: IncomingMessage) => Promise<boolean>,
  ): void {
    this.#sockets.serve(serv);
    server.on('upgrade', async (request, stream, head) => {
      if (await mayConnect(request)) this.#sockets.upgrade(request, stream, head);
      else this.#sockets.refuse(stream, 429);
    });
  }

  /** What the token of a socket's request says; undefined when it has none. */
  claimsOf(request: IncomingMessage): Claims | undefined {
    return this.#sockets.claimsOf(request);
  }

  sourceOf(userId: string): LiveSource {
    return new LiveSource(this.#hub, userId);
  }

  /**
   * Closes sockets with 1001, and opens none any more.
   *
   * @param spreadMs over how long, so that not all clients come back at one moment
   */
  async stop(spreadMs: number): Promise<void> {
    await this.#sockets.stop(spreadMs);
    this.#leases.stop();
  }
}
