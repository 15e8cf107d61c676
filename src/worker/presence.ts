import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { errorText, type Log } from '../log.ts';
import type { Channel } from './channels/channel.ts';

/** The first part of the advisory lock that a worker holds; the second is its key. */
const lockClass = 26_488;

/** How often the server is asked whether it is still there. */
const beatMs = 3_000;

/**
 * The session that says that a worker lives. Its jobs are its own while the session is there; when
 * it breaks, there are a few seconds to have it again before others get them. Nothing is begun
 * meanwhile.
 */
export class Presence {
  readonly #url: string;
  readonly #channel: Channel;
  readonly #log: Log;
  #client: Client | undefined;
  #key = 0;
  #sessions = 0;
  #isStopped = false;
  #beat: NodeJS.Timeout | undefined;
  #waiting: (() => void)[] = [];

  private constructor(url: string, channel: Channel, log: Log) {
    this.#url = url;
    this.#channel = channel;
    this.#log = log;
  }

  /** @throws when the database cannot be reached */
  static async begin(url: string, channel: Channel, log: Log): Promise<Presence> {
    const presence = new Presence(url, channel, log);
    await presence.#connect();
    return presence;
  }

  /** Which worker this is. Another than before, when it was taken for dead. */
  get key(): number {
    return this.#key;
  }

  /** How many sessions there were. The server of a later one may know less than that before. */
  get sessions(): number {
    return this.#sessions;
  }

  /** Whether what was taken under a key is still this worker's. */
  has(key: number): boolean {
    return this.#client !== undefined && this.#key === key;
  }

  /** Resolves when the session is there, or never will be. */
  async here(): Promise<void> {
    while (this.#client === undefined && !this.#isStopped) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Ends the session: what it still had is given to others. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#beat);
    const client = this.#client;
    this.#client = undefined;
    this.#wake();
    await Promise.race([client?.end(), sleep(500, undefined, { ref: false })]).catch(() => {});
  }

  async #connect(): Promise<void> {
    const client = new Client({
      connectionString: this.#url,
      application_name: 'gw-worker-session',
      connectionTimeoutMillis: 5_000,
      query_timeout: 5_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
    });
    client.on('error', (error) => this.#lose(client, error));
    client.on('end', () => this.#lose(client, new Error('the connection ended')));
    try {
      await client.connect();
      if (this.#key === 0 || !(await this.#resume(client))) {
        const { rows } = await client.query<{ key: number }>(
          'select app_private.begin_send_worker($1, $2) as key',
          [this.#channel.name, this.#channel.publicKey ?? null],
        );
        this.#key = rows[0]?.key ?? 0;
      }
    } catch (error) {
      client.end().catch(() => {});
      throw error;
    }
    if (this.#isStopped) {
      await client.end();
      return;
    }
    this.#client = client;
    this.#sessions += 1;
    clearInterval(this.#beat);
    this.#beat = setInterval(() => void this.#ask(client), beatMs).unref();
    this.#wake();
  }

  /**
   * Has the same lock again, ending the session that the server may still take for ours.
   *
   * @returns false when others have its jobs by now
   */
  async #resume(client: Client): Promise<boolean> {
    for (let attempt = 0; attempt < 20; attempt += 1) {
      const { rows } = await client.query<{ known: boolean; locked: boolean }>(
        `select key is not null as known,
           case when key is not null then pg_try_advisory_lock($1, $2) end as locked
         from (values ($2::integer)) as wanted (wanted_key)
         left join app_private.send_workers on key = wanted_key`,
        [lockClass, this.#key],
      );
      if (rows[0]?.known !== true) return false;
      if (rows[0].locked) return true;
      await client.query(
        `select pg_terminate_backend(pid) from pg_locks
         where locktype = 'advisory' and granted and (classid, objid, objsubid) = ($1, $2, 2)
           and database = (select oid from pg_database where datname = current_database())`,
        [lockClass, this.#key],
      );
      await sleep(50);
    }
    return false;
  }

  #lose(client: Client, error: unknown): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    clearInterval(this.#beat);
    client.end().catch(() => {});
    this.#log.warn({ error: errorText(error) }, 'lost the session of this worker');
    void this.#again();
  }

  async #again(): Promise<void> {
    const before = this.#key;
    for (let pause = 100; !this.#isStopped; pause = Math.min(pause * 2, 1_000)) {
      try {
        await this.#connect();
        if (this.#key === before) this.#log.info('has its session again');
        else this.#log.warn('was taken for dead: what it had is others now');
        return;
      } catch (error) {
        this.#log.debug({ error: errorText(error) }, 'cannot have its session yet');
        await sleep(pause);
      }
    }
  }

  async #ask(client: Client): Promise<void> {
    await client.query('select').catch((error: unknown) => this.#lose(client, error));
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
