import { open } from 'node:fs/promises';
import { messageOf } from '../../errors.ts';
import { writtenKeys } from '../../messages/receiver.ts';
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
      // By an earlier attempt, whose worker died before it said so.
      const doubtful = messages.filter(({ was_attempted }) => was_attempted);
      const keys = new Set(doubtful.map(({ idempotency_key }) => idempotency_key));
      const written = await writtenKeys(this.#path, keys);
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
}
