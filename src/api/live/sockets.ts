import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { handleProtocols, makeServer, type ServerOptions } from 'graphql-ws';
import { isAsyncIterable } from 'postgraphile/grafast';
import { makeGraphQLWSConfig } from 'postgraphile/grafserv';
import { type ExecutionResult, GraphQLError, getOperationAST } from 'postgraphile/graphql';
import { type WebSocket, WebSocketServer } from 'ws';
import type { Log } from '../../log.ts';
import type { ErrorCode } from '../errors.ts';
import type { Claims, TokenProblem } from '../tokens.ts';

/** Why sockets are closed. docs/reference/errors.md lists them. */
export const closeCodes = {
  /** This process stops. */
  goingAway: 1001,
  /** A fault of ours; the log has it. */
  internal: 1011,
  /** Changes may have been missed: reconnect, and read again. */
  restart: 1012,
  /** Responses are not read fast enough. */
  tooSlow: 1013,
  /** The token is not valid, its session has ended, or there was none for a minute. */
  unauthorized: 4401,
  /** The token has expired. Clients of graphql-ws retry after it, and not after 4401. */
  expired: 4403,
  /** Too many sockets. */
  tooMany: 4429,
} as const;

export interface SocketLimits {
  /** Operations that run at once for one user in this process, and sockets of one user. */
  maxSubscriptions: number;
  /** How long a socket may wait before connection_init, in milliseconds. */
  initTimeoutMs: number;
  /** How often a peer must answer a ping, in milliseconds. */
  keepAliveMs: number;
  /** Responses that may wait for a peer that does not read them, in bytes. */
  maxBufferedBytes: number;
  /** The longest message from a peer, in bytes. */
  maxMessageBytes: number;
}

export const defaultLimits: SocketLimits = {
  maxSubscriptions: 20,
  initTimeoutMs: 5_000,
  keepAliveMs: 15_000,
  maxBufferedBytes: 1_000_000,
  maxMessageBytes: 1_000_000,
};

/** How long a socket may stay without a token. */
export const anonymousMs = 60_000;
/** How long a peer may take to say good-bye. */
const farewellMs = 1_000;
const longestTimerMs = 2 ** 31 - 1;

export interface SocketsOptions {
  limits: SocketLimits;
  log: Log;
  verify: (authorization: string) => Promise<Claims | TokenProblem>;
  isRevoked: (sessionId: string) => boolean;
  /** Whether changes are being listened for. */
  isUp: () => boolean;
  /** Has the database tell of a user's changes. */
  watch: (userId: string) => Promise<void>;
}

/** What is known of one socket; graphql-ws carries it along as "extra". */
interface Peer {
  readonly socket: WebSocket;
  readonly request: IncomingMessage;
  claims: Claims | undefined;
  operations: number;
  isAlive: boolean;
  isClosed: boolean;
  expiry: NodeJS.Timeout | undefined;
}

const refuse = (code: ErrorCode, message: string): readonly [GraphQLError] => [
  new GraphQLError(message, { extensions: { code } }),
];

/** Where clients put a token: in connection_init, or (not browsers) in a header. */
function authorizationOf(
  params: Readonly<Record<string, unknown>> | undefined,
  request: IncomingMessage,
): string | undefined {
  for (const [name, value] of Object.entries(params ?? {})) {
    if (name.toLowerCase() === 'authorization' && typeof value === 'string') return value;
  }
  return request.headers.authorization;
}

type Grafserv = Parameters<typeof makeGraphQLWSConfig>[0];

/**
 * The WebSockets of this process, in the protocol graphql-transport-ws: who may open one,
 * how many, for how long, and why they are closed.
 */
export class Sockets {
  readonly #options: SocketsOptions;
  readonly #server: WebSocketServer;
  readonly #peers = new Set<Peer>();
  readonly #claims = new WeakMap<IncomingMessage, Claims>();
  readonly #operations = new Map<string, number>();
  readonly #keepAlive: NodeJS.Timeout;
  #opened: ReturnType<typeof makeServer<Record<string, unknown>, Peer>>['opened'] | undefined;
  #isClosing = false;

  constructor(options: SocketsOptions) {
    this.#options = options;
    this.#server = new WebSocketServer({
      noServer: true,
      maxPayload: options.limits.maxMessageBytes,
      handleProtocols,
      clientTracking: false,
    });
    this.#keepAlive = setInterval(() => this.#ping(), options.limits.keepAliveMs).unref();
  }

  /** How many sockets are open. */
  get size(): number {
    return this.#peers.size;
  }

  /** What the token of a socket's request says. */
  claimsOf(request: IncomingMessage): Claims | undefined {
    return this.#claims.get(request);
  }

  /** Whether a user has an operation here, or is about to. */
  isWanted(userId: string): boolean {
    return this.#operations.has(userId);
  }

  /** Executes operations with PostGraphile from now on. */
  serve(serv: Grafserv): void {
    const base = makeGraphQLWSConfig(serv);
    this.#opened = makeServer<Record<string, unknown>, Peer>({
      ...(base as ServerOptions<Record<string, unknown>, Peer>),
      connectionInitWaitTimeout: this.#options.limits.initTimeoutMs,
      onConnect: ({ extra, connectionParams }) => this.#admit(extra, connectionParams),
      onSubscribe: async (ctx, id, payload) => {
        const refusal = await this.#begin(ctx.extra);
        if (refusal !== undefined) return refusal;
        const args = await base.onSubscribe?.(ctx as never, id, payload);
        if (args === undefined || 'length' in args) {
          this.#finish(ctx.extra);
          return args;
        }
        const operation = getOperationAST(args.document, args.operationName);
        if (operation?.operation === 'subscription') return args;
        this.#finish(ctx.extra);
        return refuse('BAD_REQUEST', 'a socket is for subscriptions; send the rest over HTTP');
      },
      onOperation: (_ctx, _id, _payload, args, result) => {
        const { live } = args.contextValue as Grafast.Context;
        if (live === undefined || !isAsyncIterable(result)) return undefined;
        return live.pace(result as AsyncIterableIterator<ExecutionResult>);
      },
      onComplete: ({ extra }) => this.#finish(extra),
    }).opened;
  }

  /** Answers a request to upgrade to a WebSocket. */
  upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void {
    const path = (request.url ?? '/').split('?', 1)[0];
    if (path !== '/graphql' || this.#isClosing) {
      this.refuse(stream, this.#isClosing ? 503 : 404);
      return;
    }
    stream.on('error', () => stream.destroy());
    this.#server.handleUpgrade(request, stream, head, (socket) => this.#open(socket, request));
  }

  /** Answers such a request with a status alone. */
  refuse(stream: Duplex, status: number): void {
    stream.on('error', () => stream.destroy());
    stream.end(`HTTP/1.1 ${status}\r\nconnection: close\r\n\r\n`);
  }

  /** Closes every socket that `which` names. */
  close(code: number, reason: string, which: (claims?: Claims) => boolean = () => true): void {
    for (const peer of this.#peers) if (which(peer.claims)) this.#dismiss(peer, code, reason);
  }

  /**
   * Closes every socket, one after the other within spreadMs, and opens none any more. Resolves
   * when they are gone.
   */
  async stop(spreadMs: number): Promise<void> {
    this.#isClosing = true;
    clearInterval(this.#keepAlive);
    const gone = [...this.#peers].map(
      ({ socket }) => new Promise((resolve) => socket.once('close', resolve)),
    );
    const each = spreadMs / Math.max(this.#peers.size, 1);
    [...this.#peers].forEach((peer, index) => {
      setTimeout(() => this.#dismiss(peer, closeCodes.goingAway, 'the server stops'), each * index);
    });
    await Promise.all(gone);
    this.#server.close();
  }

  #open(socket: WebSocket, request: IncomingMessage): void {
    const peer: Peer = {
      socket,
      request,
      claims: undefined,
      operations: 0,
      isAlive: true,
      isClosed: false,
      expiry: undefined,
    };
    this.#peers.add(peer);
    this.#closeAfter(peer, anonymousMs, closeCodes.unauthorized, 'sign in first');
    socket.on('error', (error) => this.#options.log.debug({ error: error.message }, 'socket'));
    socket.on('pong', () => {
      peer.isAlive = true;
    });
    const closed = this.#opened?.(
      {
        protocol: socket.protocol,
        send: (text) => this.#send(peer, text),
        close: (code, reason) => this.#dismiss(peer, code ?? 1000, reason ?? ''),
        onMessage: (receive) =>
          socket.on('message', (data) => {
            receive(String(data)).catch((error: unknown) => {
              // Sending to a socket that has gone is no fault.
              if (peer.isClosed || socket.readyState !== socket.OPEN) return;
              this.#options.log.error({ err: error }, 'a socket failed');
              this.#dismiss(peer, closeCodes.internal, 'an internal error occurred');
            });
          }),
      },
      peer,
    );
    socket.once('close', (code, reason) => {
      clearTimeout(peer.expiry);
      this.#peers.delete(peer);
      while (peer.operations > 0) this.#finish(peer);
      peer.isClosed = true;
      closed?.(code, String(reason)).catch(() => {});
    });
  }

  /** Resolves when the text is out of our hands, so that a slow peer slows its own stream. */
  async #send(peer: Peer, text: string): Promise<void> {
    if (peer.socket.bufferedAmount > this.#options.limits.maxBufferedBytes) {
      this.#dismiss(peer, closeCodes.tooSlow, 'responses are not read');
      return;
    }
    await new Promise<void>((resolve, reject) => {
      peer.socket.send(text, (error) => (error ? reject(error) : resolve()));
    });
  }

  #dismiss({ socket }: Peer, code: number, reason: string): void {
    socket.close(code, reason);
    setTimeout(() => socket.terminate(), farewellMs).unref();
  }

  #closeAfter(peer: Peer, milliseconds: number, code: number, reason: string): void {
    clearTimeout(peer.expiry);
    peer.expiry = setTimeout(
      () => this.#dismiss(peer, code, reason),
      Math.min(milliseconds, longestTimerMs),
    ).unref();
  }

  async #admit(
    peer: Peer,
    params: Readonly<Record<string, unknown>> | undefined,
  ): Promise<boolean> {
    const { verify, isRevoked, isUp, limits } = this.#options;
    const authorization = authorizationOf(params, peer.request);
    if (authorization === undefined) return true;
    const verified = await verify(authorization);
    if (peer.isClosed) return false;
    const turnAway = (code: number, reason: string): false => {
      this.#dismiss(peer, code, reason);
      return false;
    };
    if (verified === 'TOKEN_EXPIRED') return turnAway(closeCodes.expired, 'token expired');
    if (verified === 'TOKEN_INVALID') return turnAway(closeCodes.unauthorized, 'token not valid');
    if (isRevoked(verified.sid)) return turnAway(closeCodes.unauthorized, 'session ended');
    if (!isUp()) return turnAway(closeCodes.restart, 'the database is away');
    const others = [...this.#peers].filter(({ claims }) => claims?.sub === verified.sub);
    if (others.length >= limits.maxSubscriptions) {
      return turnAway(closeCodes.tooMany, 'too many sockets');
    }
    peer.claims = verified;
    this.#claims.set(peer.request, verified);
    const left = verified.exp * 1000 - Date.now();
    this.#closeAfter(peer, left, closeCodes.expired, 'token expired');
    return true;
  }

  /** Counts an operation and has its user watched; returns why it may not begin, if so. */
  async #begin(peer: Peer): Promise<readonly GraphQLError[] | undefined> {
    const userId = peer.claims?.sub;
    if (userId === undefined) return refuse('UNAUTHENTICATED', 'sign in first');
    if (peer.isClosed) return refuse('BAD_REQUEST', 'the socket is closed');
    const { limits, watch, log } = this.#options;
    const running = this.#operations.get(userId) ?? 0;
    if (running >= limits.maxSubscriptions) {
      const message = `a user has at most ${limits.maxSubscriptions} subscriptions`;
      return refuse('TOO_MANY_SUBSCRIPTIONS', message);
    }
    this.#operations.set(userId, running + 1);
    peer.operations += 1;
    try {
      await watch(userId);
      return undefined;
    } catch (error) {
      log.error({ err: error }, 'cannot watch a user');
      this.#finish(peer);
      return refuse('UNAVAILABLE', 'the database is not available; try again');
    }
  }

  #finish(peer: Peer): void {
    const userId = peer.claims?.sub;
    // What a closed socket had running was counted off when it closed.
    if (userId === undefined || peer.isClosed || peer.operations === 0) return;
    peer.operations -= 1;
    const left = (this.#operations.get(userId) ?? 0) - 1;
    if (left > 0) this.#operations.set(userId, left);
    else this.#operations.delete(userId);
  }

  /** Ends sockets that did not answer the last ping, and pings the others. */
  #ping(): void {
    for (const peer of this.#peers) {
      if (!peer.isAlive) {
        peer.socket.terminate();
        continue;
      }
      peer.isAlive = false;
      peer.socket.ping();
    }
  }
}
