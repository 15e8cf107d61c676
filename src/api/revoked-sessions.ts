import type { Client } from 'pg';
import type { Listener } from '../postgres/listener.ts';

/** A little longer than an access token lives: afterwards its expiry refuses it. */
const rememberMs = 20 * 60_000;

/** So many are asked for at once. */
const most = 1_000;

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * Sessions that ended while their access tokens may still be alive. The database tells of
 * each by NOTIFY; a new connection first reads the recent ones, which may have been missed. A
 * request is checked in memory, without a round trip.
 *
 * Any role may send a NOTIFY, so what it says is looked up before it is believed.
 */
export class RevokedSessions {
  readonly #until = new Map<string, number>();
  readonly #listeners: ((sessionId: string) => void)[] = [];
  readonly #sweep: NodeJS.Timeout;
  readonly #listener: Listener;
  /** Told of, and not looked up yet. */
  readonly #told = new Set<string>();
  #isReading = false;

  /** @param listener not started yet */
  constructor(listener: Listener) {
    this.#listener = listener;
    this.#sweep = setInterval(() => this.#forgetOld(), 60_000).unref();
    listener.subscribe({
      channel: 'gw_session_revoked',
      onNotification: (sessionId) => this.#hear(sessionId),
      onConnected: (client) => this.#read(client, null),
    });
  }

  /** Has each session told that is newly known to have ended. */
  onRevoked(listener: (sessionId: string) => void): void {
    this.#listeners.push(listener);
  }

  /** Whether a session has ended. */
  has(sessionId: string): boolean {
    return this.#until.has(sessionId);
  }

  stop(): void {
    clearInterval(this.#sweep);
  }

  #hear(sessionId: string): void {
    if (!uuid.test(sessionId) || this.#until.has(sessionId)) return;
    this.#told.add(sessionId);
    if (!this.#isReading) void this.#lookUp();
  }

  /** Looks up what was told, all that has come meanwhile at once. */
  async #lookUp(): Promise<void> {
    this.#isReading = true;
    while (this.#told.size > 0) {
      const { client } = this.#listener;
      // The next connection reads all of them.
      if (client === undefined) this.#told.clear();
      else {
        const ids = [...this.#told].slice(0, most);
        for (const id of ids) this.#told.delete(id);
        await this.#read(client, ids).catch((error: unknown) => this.#listener.lose(client, error));
      }
    }
    this.#isReading = false;
  }

  async #read(client: Client, ids: string[] | null): Promise<void> {
    const { rows } = await client.query<{ id: string }>(
      'select id from app_private.recently_revoked_sessions($1) as id',
      [ids],
    );
    for (const { id } of rows) this.#remember(id);
  }

  #remember(sessionId: string): void {
    const isNews = !this.#until.has(sessionId);
    this.#until.set(sessionId, Date.now() + rememberMs);
    if (isNews) for (const listener of this.#listeners) listener(sessionId);
  }

  #forgetOld(): void {
    const now = Date.now();
    for (const [id, until] of this.#until) if (until < now) this.#until.delete(id);
  }
}
