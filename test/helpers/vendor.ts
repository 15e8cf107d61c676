import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Delivery {
  key: string;
  body: {
    to: { userId: string; name: string };
    content: string;
    messageType: string;
    html?: string;
  };
  headers: IncomingHttpHeaders;
  /** The body as it came. */
  text: string;
}

export interface Reply {
  status: number;
  body?: string;
  headers?: Record<string, string>;
}

/** The connection breaks, and nothing was answered. */
export const reset = 'reset';

export type Answer = Reply | typeof reset;

/** Somebody else's message service, as a real server on loopback. */
export class Vendor {
  /** Every request, in order of arrival. */
  readonly deliveries: Delivery[] = [];
  /** The key of every request that was answered with success. */
  readonly accepted: string[] = [];
  /** Whether it says what it has, at statusUrl. */
  tells = true;
  readonly #server = createServer((request, response) => {
    if (request.method === 'GET') {
      const key = decodeURIComponent((request.url ?? '').split('/').at(-1) ?? '');
      const status = !this.tells ? 501 : this.accepted.includes(key) ? 200 : 404;
      response.writeHead(status).end();
      return;
    }
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', async () => {
      const text = Buffer.concat(chunks).toString();
      const delivery: Delivery = {
        key: String(request.headers['idempotency-key']),
        body: JSON.parse(text) as Delivery['body'],
        headers: request.headers,
        text,
      };
      this.deliveries.push(delivery);
      const waiting = this.#waiting.splice(0);
      for (const wake of waiting) wake();
      const reply = await this.answer(delivery);
      if (reply === reset) {
        request.socket.resetAndDestroy();
        return;
      }
      const { status, body = '', headers = {} } = reply;
      // Whoever hung up meanwhile has not been answered.
      if (response.destroyed) return;
      if (status >= 200 && status < 300) this.accepted.push(delivery.key);
      response.writeHead(status, headers).end(body);
    });
  });
  #waiting: (() => void)[] = [];

  /** What it answers; a test replaces it. */
  answer: (delivery: Delivery) => Answer | Promise<Answer> = () => ({ status: 202, body: 'ok' });

  async start(): Promise<void> {
    // Node closes what is idle for 5 s, also under a worker that stands still: that is an attempt.
    this.#server.keepAliveTimeout = 120_000;
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/messages`;
  }

  /** For GW_DELIVERY_STATUS_URL. */
  get statusUrl(): string {
    return `${this.url}/{key}`;
  }

  keys(): string[] {
    return this.deliveries.map(({ key }) => key);
  }

  /** Resolves when this many requests have arrived. */
  async arrived(count: number): Promise<void> {
    while (this.deliveries.length < count) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
