import { createReadStream, existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { messageOf } from '../../errors.ts';
import { type Attempt, type Channel, type Message, payloadOf } from './channel.ts';

/**
 * Appends one JSON line a message to a file: the channel of development. It keeps the
 * promise that it asks of others: a key that stands in the file is not written again.
 */
export class FileChannel implements Channel {
  readonly name = 'file';
  readonly description: string;
  readonly concurrency = 1;
  readonly messagesPerCall = 1000;
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
    this.description = path;
  }

  async deliver(messages: readonly Message[]): Promise<Attempt[]> {
    try {
      const written = await this.#findWritten(messages);
      const lines = messages
        .filter(({ idempotency_key }) => !written.has(idempotency_key))
        .map((message) =>
          JSON.stringify({ ...payloadOf(message), sentAt: new Date().toISOString() }),
        );
      if (lines.length > 0) {
        const file = await open(this.#path, 'a', 0o600);
        try {
          // One write: appended whole, also when other workers append.
          await file.write(`${lines.join('\n')}\n`);
          await file.datasync();
        } finally {
          await file.close();
        }
      }
      return messages.map(() => ({ status: 'SENT' }));
    } catch (error) {
      const text = messageOf(error);
      return messages.map(() => ({ status: 'RETRYING', error: text }));
    }
  }

  async close(): Promise<void> {}

  /** Keys that an earlier attempt, whose worker died before it said so, has written. */
  async #findWritten(messages: readonly Message[]): Promise<Set<string>> {
    const doubtful = new Set(
      messages.filter(({ was_attempted }) => was_attempted).map((m) => m.idempotency_key),
    );
    const written = new Set<string>();
    if (doubtful.size === 0 || !existsSync(this.#path)) return written;
    const lines = createInterface({ input: createReadStream(this.#path), crlfDelay: Infinity });
    for await (const line of lines) {
      const key = /^\{"idempotencyKey":"([^"]+)"/.exec(line)?.[1];
      if (key !== undefined && doubtful.has(key)) written.add(key);
    }
    return written;
  }
}
