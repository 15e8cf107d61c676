import { randomUUID } from 'node:crypto';
import { type Client, createClient } from 'graphql-ws';
import { afterEach } from 'vitest';
import { WebSocket } from 'ws';
import { type Api, type ApiOptions, startApi } from '../../src/api/server.ts';
import { createLog } from '../../src/log.ts';
import type { Sql } from '../../src/postgres/connect.ts';
import { jwtSecret, type Session, useApi } from './api.ts';
import type { TestDatabase } from './database.ts';
import { eventually } from './wait.ts';

export interface Closing {
  code: number;
  reason: string;
}

/** What one subscription was sent. */
export class Followed<Data> {
  readonly events: Data[] = [];
  /** GraphQL errors that ended or came with it, and how the socket was closed. */
  errors: { message: string; extensions?: { code?: string } }[] = [];
  isOver = false;
  stop: () => void = () => {};

  codes(): (string | undefined)[] {
    return this.errors.map(({ extensions }) => extensions?.code);
  }
}

export interface LiveOptions {
  token?: string | undefined;
  /** How often graphql-ws tries again by itself. */
  retryAttempts?: number;
}

/** A frontend's socket: the real graphql-ws client. */
export class LiveClient {
  readonly closings: Closing[] = [];
  readonly #client: Client;
  readonly #api: Api;

  constructor(api: Api, { token, retryAttempts = 0 }: LiveOptions) {
    this.#api = api;
    this.#client = createClient({
      url: `ws://127.0.0.1:${api.port}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts,
      retryWait: () => new Promise((resolve) => setTimeout(resolve, 100)),
      ...(token === undefined ? {} : { connectionParams: { authorization: `Bearer ${token}` } }),
      on: {
        closed: (event) => {
          const { code, reason } = event as Closing;
          this.closings.push({ code, reason });
        },
      },
    });
  }

  /** Subscribes at once; what comes, comes later. */
  open<Data>(query: string, variables: Record<string, unknown> = {}): Followed<Data> {
    const followed = new Followed<Data>();
    followed.stop = this.#client.subscribe<Data>(
      { query, variables },
      {
        next: ({ data, errors }) => {
          if (data != null) followed.events.push(data);
          if (errors !== undefined) followed.errors.push(...(errors as typeof followed.errors));
        },
        error: (error) => {
          followed.isOver = true;
          if (Array.isArray(error)) followed.errors.push(...error);
        },
        complete: () => {
          followed.isOver = true;
        },
      },
    );
    return followed;
  }

  /** Subscribes; resolves when changes are followed. */
  async follow<Data>(
    query: string,
    variables: Record<string, unknown> = {},
  ): Promise<Followed<Data>> {
    const before = this.#api.live.counts.subscriptions;
    const followed = this.open<Data>(query, variables);
    await eventually(async () => {
      if (followed.isOver) throw new Error(JSON.stringify(followed.errors));
      return this.#api.live.counts.subscriptions > before;
    });
    return followed;
  }

  /** The codes of the errors with which an operation is refused. */
  async refusal(query: string): Promise<(string | undefined)[]> {
    const followed = this.open(query);
    await eventually(async () => followed.isOver);
    return followed.codes();
  }

  async close(): Promise<void> {
    await this.#client.dispose();
  }
}

/** A bare socket, for what a well-behaved client never does. */
export class BareSocket {
  readonly socket: WebSocket;
  readonly messages: { id?: string; type: string; payload?: unknown }[] = [];
  readonly closed: Promise<Closing>;

  constructor(port: number, protocols = ['graphql-transport-ws']) {
    this.socket = new WebSocket(`ws://127.0.0.1:${port}/graphql`, protocols);
    this.socket.on('message', (data) => this.messages.push(JSON.parse(String(data))));
    this.socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      this.socket.once('close', (code, reason) => resolve({ code, reason: String(reason) }));
    });
  }

  async send(message: object): Promise<void> {
    if (this.socket.readyState === WebSocket.CONNECTING) {
      await new Promise((resolve) => this.socket.once('open', resolve));
    }
    this.socket.send(JSON.stringify(message));
  }

  /** Says who it is and waits to be let in. */
  async signIn(token: string): Promise<void> {
    await this.send({ type: 'connection_init', payload: { authorization: `Bearer ${token}` } });
    await eventually(async () => this.messages.some(({ type }) => type === 'connection_ack'));
  }
}

/** Gathers the notifications that the triggers send, as they are. */
export async function overhear(sql: Sql): Promise<{ heard: string[]; stop: () => Promise<void> }> {
  const heard: string[] = [];
  const { unlisten } = await sql.listen('gw_live', (payload) => heard.push(payload));
  return { heard, stop: unlisten };
}

export interface TaskChange {
  taskChanged: { event: string; rowId: string | null; task: { title: string } | null };
}
export const taskChanged = 'subscription { taskChanged { event rowId task { title } } }';
export const oneTask =
  'subscription ($id: UUID!) { taskChanged(rowId: $id) { event rowId task { title } } }';

/** An API whose sockets have small limits, and what tests of it do. */
export function useLive(db: TestDatabase) {
  const api = useApi(db, 'silent', {
    liveLimits: { maxSubscriptions: 4, initTimeoutMs: 1_000, keepAliveMs: 1_000 },
  });
  const clients: LiveClient[] = [];
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
    await eventually(async () => {
      const { sockets, subscriptions } = api.api.live.counts;
      return sockets === 0 && subscriptions === 0;
    });
  });
  return {
    api,
    /** A client that is closed after the test. */
    connect(options: LiveOptions): LiveClient {
      const client = new LiveClient(api.api, options);
      clients.push(client);
      return client;
    },
    /** Another API on the same database; the test closes it. */
    startOther: (liveLimits: ApiOptions['liveLimits'] = {}): Promise<Api> =>
      startApi({
        authenticatorUrl: db.url('authenticator'),
        jwtSecret,
        host: '127.0.0.1',
        port: 0,
        poolSize: 2,
        liveLimits,
        log: createLog('api', 'silent'),
      }),
    someone: (): Promise<Session> => api.register(`${randomUUID()}@example.com`),
    async makeTask(userId: string, title: string): Promise<string> {
      const [row] = await db.as('owner')<{ id: string }[]>`
        insert into app_public.tasks (user_id, title) values (${userId}, ${title}) returning id`;
      return row?.id ?? '';
    },
    async rename(id: string, title: string): Promise<void> {
      await db.as('owner')`update app_public.tasks set title = ${title} where id = ${id}`;
    },
  };
}
