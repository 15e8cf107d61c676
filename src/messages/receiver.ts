import { createReadStream, existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import { Agent, request } from 'undici';

/** Whether the receiver has got a message; "unknown" when it cannot be asked, or does not say. */
export type Receipt = 'delivered' | 'not delivered' | 'unknown';

export interface Receiver {
  /** What is said of it. */
  description: string;
  /** What it knows of each key. `onAnswer` is told how many it has answered for. */
  ask(keys: readonly string[], onAnswer?: (answered: number) => void): Promise<Receipt[]>;
}

/** Nobody can be asked: e-mail, or a service that keeps no record. */
export const silentReceiver: Receiver = {
  description: 'nobody: GW_DELIVERY_STATUS_URL is not set',
  ask: async (keys) => keys.map(() => 'unknown'),
};

const tries = 3;

/** So many questions in a row that nobody answers, and no more are asked. */
const patience = 100;

/**
 * Asks a service over HTTP, a message a request: 2xx means that it has it, 404 that it does
 * not. One that is away is asked again; one that stays so is given up.
 */
export function httpReceiver(
  template: string,
  { concurrency, timeoutMs }: { concurrency: number; timeoutMs: number },
): Receiver {
  const { username, password } = new URL(template);
  const given = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const headers = username === '' ? {} : { authorization: `Basic ${btoa(given)}` };
  async function receiptOf(key: string, dispatcher: Agent): Promise<Receipt> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const url = new URL(template.replaceAll('{key}', encodeURIComponent(key)));
        [url.username, url.password] = ['', ''];
        const response = await request(url, {
          dispatcher,
          headers,
          signal: AbortSignal.timeout(timeoutMs),
        });
        await response.body.dump();
        const { statusCode: status } = response;
        if (status >= 200 && status < 300) return 'delivered';
        if (status === 404) return 'not delivered';
        if (![429, 500, 502, 503, 504].includes(status)) return 'unknown';
      } catch {
        // As if it had answered 503.
      }
      if (attempt === tries) return 'unknown';
      await sleep(500 * attempt);
    }
  }
  return {
    description: new URL(template).origin,
    async ask(keys, onAnswer) {
      const limit = pLimit(concurrency);
      const dispatcher = new Agent({ connections: concurrency });
      let [answered, unanswered] = [0, 0];
      try {
        return await Promise.all(
          keys.map((key) =>
            limit(async () => {
              if (unanswered >= patience) return 'unknown';
              const receipt = await receiptOf(key, dispatcher);
              unanswered = receipt === 'unknown' ? unanswered + 1 : 0;
              answered += 1;
              onAnswer?.(answered);
              return receipt;
            }),
          ),
        );
      } finally {
        await dispatcher.destroy();
      }
    },
  };
}

/** Which of these keys stand in the outbox of a worker whose channel is a file. */
export async function writtenKeys(path: string, wanted: ReadonlySet<string>): Promise<Set<string>> {
  const written = new Set<string>();
  if (wanted.size === 0 || !existsSync(path)) return written;
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Infinity });
  for await (const line of lines) {
    const key = /^\{"idempotencyKey":"([^"]+)"/.exec(line)?.[1];
    if (key !== undefined && wanted.has(key)) written.add(key);
  }
  return written;
}

/** Reads the outbox. One that is not here says nothing. */
export const outboxReceiver = (path: string): Receiver => ({
  description: path,
  async ask(keys) {
    if (!existsSync(path)) return keys.map(() => 'unknown');
    const written = await writtenKeys(path, new Set(keys));
    return keys.map((key) => (written.has(key) ? 'delivered' : 'not delivered'));
  },
});
