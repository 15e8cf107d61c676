import { Client } from 'pg';
import { messageOf } from '../../errors.ts';
import type { Log } from '../../log.ts';
import { type Notification, parseNotification } from './events.ts';

/** How often leases of two minutes are renewed, which also shows that the server answers. */
const renewMs = 30_000;

/** How long a writer that was there before a watch is waited for. */
const writersMs = 60_000;
const pollMs = 200;

export interface ListenerEvents {
  onNotification: (notification: Notification) => void;
  /** Notifications may have been missed; of all users from now on nothing is known. */
  onLost: () => void;
  /** A change from before the user was watched may be visible only now. */
  onLate: (userId: string) => void;
  /** Whether somebody still wants to hear of the user. */
  isWanted: (userId: string) => boolean;
}

const away = (): Error =>
  Object.assign(new Error('the listening connection is away'), { code: '08003' });

/**
 * The one connection of this process that listens for changes, as gw_authenticator. When it
 * breaks it says so at once, and is made again for as long as it takes; postgres.js would
 * give up after one refusal. LISTEN needs a session of its own: no transaction pooler.
 */
export class Listener {
  readonly #url: string;
  readonly #log: Log;
  readonly #events: ListenerEvents;
  readonly #watched = new Set<string>();
  readonly #queue = new Set<string>();
  readonly #renewal: NodeJS.Timeout;
  #queued: Promise<void> | undefined;
  #running: Promise<void> = Promise.resolve();
  #client: Client | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(
    authenticatorUrl: string,
    log: Log,
    events: ListenerEvents,
    everyMs: number = renewMs,
  ) {
    this.#url = authenticatorUrl;
    this.#log = log;
    this.#events = events;
    this.#renewal = setInterval(() => void this.#renew(), everyMs).unref();
  }

  get isUp(): boolean {
    return this.#client !== undefined;
  }

  /** Starts listening. Rejects when the database cannot be reached. */
  async start(): Promise<void> {
    const client = new Client({
      connectionString: this.#url,
      application_name: 'gw-api-live',
      connectionTimeoutMillis: 5_000,
      query_timeout: 10_000,
      keepAlive: true,
    });
    client.on('error', (error) => this.#lose(client, error));
    client.on('end', () => this.#lose(client, new Error('the connection ended')));
    client.on('notification', ({ payload = '' }) => {
      const notification = parseNotification(payload);
      if (notification === undefined) this.#log.warn('a notification of gw_live is not readable');
      else this.#events.onNotification(notification);
    });
    try {
      await client.connect();
      await client.query('listen gw_live');
    } catch (error) {
      client.end().catch(() => {});
      throw error;
    }
    if (this.#isStopped) await client.end();
    else this.#client = client;
  }

  /**
   * Has the database tell of a user's changes from now on.
   *
   * @throws when the database is away
   */
  async watch(userId: string): Promise<void> {
    if (this.#watched.has(userId)) return;
    // Those who ask while an answer is awaited are asked for together: after a restart
    // thousands of sockets come back at once.
    this.#queue.add(userId);
    this.#queued ??= this.#running = this.#running.catch(() => {}).then(() => this.#watchQueued());
    await this.#queued;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#renewal);
    clearTimeout(this.#retry);
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => {});
  }

  #connection(): Client {
    if (this.#client === undefined) throw away();
    return this.#client;
  }

  async #watchQueued(): Promise<void> {
    const users = [...this.#queue];
    this.#queue.clear();
    this.#queued = undefined;
    const client = this.#connection();
    await this.#lease(client, users);
    const writers = await this.#writers(client);
    // Another connection knows nothing of what happened between the two.
    if (this.#connection() !== client) throw away();
    for (const userId of users) this.#watched.add(userId);
    if (writers.length > 0) this.#awaitWriters(client, users, writers);
  }

  /** Watches users for two minutes; returns those that were not watched until now. */
  async #lease(client: Client, userIds: string[]): Promise<string[]> {
    const { rows } = await client.query<{ id: string }>(
      'select id from app_private.watch_live($1) as id',
      [userIds],
    );
    return rows.map(({ id }) => id);
  }

  async #writers(client: Client): Promise<string[]> {
    const { rows } = await client.query<{ ids: string[] }>(
      'select app_private.live_writers() as ids',
    );
    return rows[0]?.ids ?? [];
  }

  /**
   * Transactions that were writing when users were first watched may have run their triggers
   * before, and commit later: when they have ended, the users are told to look again.
   */
  #awaitWriters(client: Client, users: string[], writers: string[]): void {
    const deadline = Date.now() + writersMs;
    const ask = async (): Promise<void> => {
      if (this.#client !== client) return;
      const now = new Set(await this.#writers(client));
      if (Date.now() < deadline && writers.some((id) => now.has(id))) again();
      else for (const userId of users) this.#events.onLate(userId);
    };
    const again = (): void => {
      setTimeout(() => {
        ask().catch((error: unknown) => this.#lose(client, error));
      }, pollMs).unref();
    };
    again();
  }

  async #renew(): Promise<void> {
    const client = this.#client;
    if (client === undefined) return;
    for (const id of this.#watched) if (!this.#events.isWanted(id)) this.#watched.delete(id);
    const users = [...this.#watched];
    try {
      const lapsed = await this.#lease(client, users);
      // This process slept for minutes, or somebody emptied the table.
      if (lapsed.length > 0) throw new Error('leases have lapsed');
    } catch (error) {
      this.#lose(client, error);
    }
  }

  /** Everything that ends a connection ends here, once for each. */
  #lose(client: Client, error: unknown): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#watched.clear();
    client.end().catch(() => {});
    this.#log.warn({ error: messageOf(error) }, 'lost the listening connection');
    this.#events.onLost();
    this.#reconnect(100);
  }

  #reconnect(delayMs: number): void {
    this.#retry = setTimeout(() => {
      if (this.#isStopped) return;
      this.start().then(
        () => this.#log.info('listening again'),
        () => this.#reconnect(Math.min(delayMs * 2, 5_000)),
      );
    }, delayMs).unref();
  }
}
