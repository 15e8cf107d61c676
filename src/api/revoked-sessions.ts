import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { connect, type Sql } from '../postgres/connect.ts';

/** A little longer than an access token lives: afterwards its expiry refuses it. */
const rememberMs = 20 * 60_000;

/** How late a session's end is known when NOTIFY did not arrive. */
const pollMs = 5_000;

/**
 * Sessions that ended while their access tokens may still be alive. The database tells of
 * each by NOTIFY, and recent ones are read again every few seconds: a listener that could not
 * reconnect would otherwise be deaf, and say nothing of it. A request is checked in memory, without a round trip.
 */
export class RevokedSessions {
  readonly #until = new Map<string, number>();
  readonly #listeners: ((sessionId: string) => void)[] = [];
  readonly #sql: Sql;
  readonly #log: Log;
  readonly #sweep: NodeJS.Timeout;
  readonly #poll: NodeJS.Timeout;

  constructor(authenticatorUrl: string, log: Log) {
    // LISTEN needs a session of its own; a transaction pooler would lose it.
    this.#sql = connect(authenticatorUrl, {
      max: 2,
      connection: { application_name: 'gw-api-listen' },
    });
    this.#log = log;
    this.#sweep = setInterval(() => this.#forgetOld(), 60_000).unref();
    this.#poll = setInterval(() => {
      // The database is away; the next time tells what was missed.
      this.#readRecent().catch(() => {});
    }, pollMs).unref();
  }

  /** Starts listening. Rejects when the database cannot be reached. */
  async start(): Promise<void> {
    await this.#sql.listen(
      'gw_session_revoked',
      (sessionId) => this.#remember(sessionId),
      () => {
        this.#readRecent().catch((error: unknown) => {
          this.#log.error({ error: messageOf(error) }, 'cannot read revoked sessions');
        });
      },
    );
    await this.#readRecent();
  }

  /** Has each session told that is newly known to have ended. */
  onRevoked(listener: (sessionId: string) => void): void {
    this.#listeners.push(listener);
  }

  /** Whether a session has ended. */
  has(sessionId: string): boolean {
    return this.#until.has(sessionId);
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweep);
    clearInterval(this.#poll);
    await this.#sql.end({ timeout: 1 });
  }

  async #readRecent(): Promise<void> {
    const rows = await this.#sql<{ id: string }[]>`
      select id from app_private.recently_revoked_sessions() as id`;
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
