import { Client } from 'pg';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';

/** How often the server is asked whether it is still there. */
const beatMs = 5_000;

/** Who hears of one channel. */
export interface Subscriber {
  /** At most 63 bytes. */
  channel: string;
  onNotification(payload: string): void;
  /**
   * Called on each new connection, when it listens: the place to read what was missed. A
   * connection for which it rejects is given up.
   */
  onConnected?(client: Client): Promise<void>;
  /** Notifications may be missed from now on, until the next onConnected(). */
  onLost?(): void;
}

export interface ListenerOptions {
  url: string;
  /** What pg_stat_activity shows. */
  applicationName: string;
  log: Log;
}

/**
 * The one connection of a process that listens, for all its channels. When it breaks it says
 * so at once, and is made again for as long as it takes; postgres.js would give up after one
 * refusal. LISTEN needs a session of its own: no transaction pooler.
 */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #subscribers: Subscriber[] = [];
  readonly #beat: NodeJS.Timeout;
  #client: Client | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isBeating = false;
  #isStopped = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#beat = setInterval(() => void this.#ask(), beatMs).unref();
  }

  /** The connection, while every channel is listened to on it. */
  get client(): Client | undefined {
    return this.#client;
  }

  /** Adds a channel. Before start(). */
  subscribe(subscriber: Subscriber): void {
    this.#subscribers.push(subscriber);
  }

  /** Starts listening. Rejects when the database cannot be reached. */
  async start(): Promise<void> {
    const client = new Client({
      connectionString: this.#options.url,
      application_name: this.#options.applicationName,
      connectionTimeoutMillis: 5_000,
      query_timeout: 5_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
    });
    client.on('error', (error) => this.lose(client, error));
    client.on('end', () => this.lose(client, new Error('the connection ended')));
    client.on('notification', ({ channel, payload = '' }) => {
      for (const each of this.#subscribers) {
        if (each.channel === channel) each.onNotification(payload);
      }
    });
    try {
      await client.connect();
      for (const { channel } of this.#subscribers) {
        await client.query(`listen ${client.escapeIdentifier(channel)}`);
      }
      for (const each of this.#subscribers) await each.onConnected?.(client);
    } catch (error) {
      client.end().catch(() => {});
      throw error;
    }
    if (this.#isStopped) await client.end();
    else this.#client = client;
  }

  /** Gives a connection up. Everything that ends one ends here, once for each. */
  lose(client: Client, error: unknown): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    client.end().catch(() => {});
    this.#options.log.warn({ error: messageOf(error) }, 'lost the listening connection');
    for (const each of this.#subscribers) each.onLost?.();
    this.#reconnect(100);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#beat);
    clearTimeout(this.#retry);
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => {});
  }

  /** A peer that is gone without a word shows only when it is asked. */
  async #ask(): Promise<void> {
    const client = this.#client;
    if (client === undefined || this.#isBeating) return;
    this.#isBeating = true;
    await client.query('select').catch((error: unknown) => this.lose(client, error));
    this.#isBeating = false;
  }

  #reconnect(delayMs: number): void {
    const { log } = this.#options;
    this.#retry = setTimeout(() => {
      if (this.#isStopped) return;
      this.start().then(
        () => log.info('listening again'),
        (error: unknown) => {
          log.debug({ error: messageOf(error) }, 'cannot listen yet');
          this.#reconnect(Math.min(delayMs * 2, 5_000));
        },
      );
    }, delayMs).unref();
  }
}
