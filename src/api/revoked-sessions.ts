import type { Listener } from '../postgres/listener.ts';

/** A little longer than an access token lives: afterwards its expiry refuses it. */
const rememberMs = 20 * 60_000;

/**
 * Sessions that ended while their access tokens may still be alive. The database tells of
 * each by NOTIFY; a new connection first reads the recent ones, which may have been missed. A
 * request is checked in memory, without a round trip.
 */
export class RevokedSessions {
  readonly #until = new Map<string, number>();
  readonly #listeners: ((sessionId: string) => void)[] = [];
  readonly #sweep: NodeJS.Timeout;

  /** @param listener not started yet */
  constructor(listener: Listener) {
    this.#sweep = setInterval(() => this.#forgetOld(), 60_000).unref();
    listener.subscribe({
      channel: 'gw_session_revoked',
      onNotification: (sessionId) => this.#remember(sessionId),
      onConnected: async (client) => {
        const { rows } = await client.query<{ id: string }>(
          'select id from app_private.recently_revoked_sessions() as id',
        );
        for (const { id } of rows) this.#remember(id);
      },
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
