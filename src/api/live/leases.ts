import type { Client } from 'pg';
import type { Log } from '../../log.ts';
import type { Listener } from '../../postgres/listener.ts';
import { type Notification, parseNotification } from './events.ts';

/** How often leases of two minutes are renewed. */
const renewMs = 30_000;

/** How long a writer that was there before a watch is waited for. */
const writersMs = 60_000;
const pollMs = 200;

export interface LeaseEvents {
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
 * The users whose changes the database tells this process of. It does so for two minutes
 * after it was asked, so each user is asked for again while somebody wants to hear.
 */
export class Leases {
  readonly #listener: Listener;
  readonly #events: LeaseEvents;
  readonly #watched = new Set<string>();
  readonly #queue = new Set<string>();
  readonly #renewal: NodeJS.Timeout;
  #queued: Promise<void> | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(listener: Listener, log: Log, events: LeaseEvents, everyMs: number = renewMs) {
    this.#listener = listener;
    this.#events = events;
    this.#renewal = setInterval(() => void this.#renew(), everyMs).unref();
    listener.subscribe({
      channel: 'gw_live',
      onNotification: (payload) => {
        const notification = parseNotification(payload);
        if (notification === undefined) log.warn('a notification of gw_live is not readable');
        else events.onNotification(notification);
      },
      onLost: () => {
        this.#watched.clear();
        events.onLost();
      },
    });
  }

  get isUp(): boolean {
    return this.#listener.client !== undefined;
  }

  /**
   * Has the database tell of a user's changes from now on.
   *
   * @throws when the database is away
   */
  async watch(userId: string): Promise<void> {
    if (this.#watched.has(userId)) return;
    // Requests that arrive while a response is awaited are sent together: after a restart
    // thousands of sockets come back at once.
    this.#queue.add(userId);
    this.#queued ??= this.#running = this.#running.catch(() => {}).then(() => this.#watchQueued());
    await this.#queued;
  }

  stop(): void {
    clearInterval(this.#renewal);
  }

  #connection(): Client {
    const { client } = this.#listener;
    if (client === undefined) throw away();
    return client;
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
      if (this.#listener.client !== client) return;
      const now = new Set(await this.#writers(client));
      if (Date.now() < deadline && writers.some((id) => now.has(id))) again();
      else for (const userId of users) this.#events.onLate(userId);
    };
    const again = (): void => {
      setTimeout(() => {
        ask().catch((error: unknown) => this.#listener.lose(client, error));
      }, pollMs).unref();
    };
    again();
  }

  async #renew(): Promise<void> {
    const client = this.#listener.client;
    if (client === undefined) return;
    for (const id of this.#watched) if (!this.#events.isWanted(id)) this.#watched.delete(id);
    const users = [...this.#watched];
    try {
      const lapsed = await this.#lease(client, users);
      // This process slept for minutes, or somebody emptied the table.
      if (lapsed.length > 0) throw new Error('leases have lapsed');
    } catch (error) {
      this.#listener.lose(client, error);
    }
  }
}
