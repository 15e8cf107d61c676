import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Somebody else's message service, which remembers what it has got. */
export interface TrialReceiver {
  /** For GW_DELIVERY_URL. */
  url: string;
  /** Where it says what it has. */
  statusUrl: string;
  /** The keys of what it accepted, repetitions included. */
  accepted: string[];
  close(): Promise<void>;
}

/**
 * Starts a receiver on loopback that keeps no keys: a message that comes twice is two messages.
 *
 * @param answerMs how long it thinks
 */
export async function startReceiver(answerMs: number): Promise<TrialReceiver> {
  const accepted: string[] = [];
  const known = new Set<string>();
  const server = createServer((request, response) => {
    if (request.method === 'GET') {
      const key = decodeURIComponent((request.url ?? '').split('/').at(-1) ?? '');
      response.writeHead(known.has(key) ? 200 : 404).end();
      return;
    }
    request.resume();
    request.once('end', () => {
      const key = String(request.headers['idempotency-key']);
      accepted.push(key);
      known.add(key);
      setTimeout(() => response.writeHead(202).end(), answerMs);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/messages`;
  return {
    url,
    statusUrl: `${url}/{key}`,
    accepted,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
