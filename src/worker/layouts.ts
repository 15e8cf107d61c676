import type { Pool } from 'pg';
import type { Message } from './channels/channel.ts';

/** The HTML around messages, by its id. It never changes: each is read once. */
export class Layouts {
  readonly #pool: Pool;
  readonly #known = new Map<number, string>();

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Gives each message that needs one its layout. */
  async add<Given extends Message>(messages: readonly Given[]): Promise<Given[]> {
    const wanted = new Set(messages.map(({ layout_id: id }) => id ?? 0));
    const missing = [...wanted].filter((id) => id !== 0 && !this.#known.has(id));
    if (missing.length > 0) {
      const { rows } = await this.#pool.query<{ id: number; html: string }>(
        'select id, html from app_private.message_layouts where id = any ($1)',
        [missing],
      );
      for (const { id, html } of rows) this.#known.set(id, html);
    }
    return messages.map((message) => ({
      ...message,
      layout: message.layout_id == null ? undefined : this.#known.get(message.layout_id),
    }));
  }
}
