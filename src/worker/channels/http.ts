import { Agent, request } from 'undici';
import { codeOf, messageOf } from '../../errors.ts';
import { type Attempt, type Channel, type Message, payloadOf } from './channel.ts';

const maxBody = 4096;

/** Client errors that time may cure: timeout, conflict, too early, too many. */
const curable = new Set([408, 409, 425, 429]);

/**
 * Posts each message as JSON. The Idempotency-Key header is the same for every attempt, so
 * that a receiver can drop repetitions.
 *
 * @param concurrency how many calls are in flight at once, on as many kept-alive connections
 */
export class HttpChannel implements Channel {
  readonly description: string;
  readonly #url: URL;
  readonly #timeout: number;
  readonly #agent: Agent;

  constructor(url: string, options: { concurrency: number; timeoutMs: number }) {
    this.#url = new URL(url);
    this.description = this.#url.origin;
    this.#timeout = options.timeoutMs;
    this.#agent = new Agent({
      connections: options.concurrency,
      pipelining: 1,
      connectTimeout: options.timeoutMs,
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
    });
  }

  deliver(messages: readonly Message[]): Promise<Attempt[]> {
    return Promise.all(messages.map((message) => this.#post(message)));
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #post(message: Message): Promise<Attempt> {
    try {
      const response = await request(this.#url, {
        method: 'POST',
        dispatcher: this.#agent,
        headers: {
          'content-type': 'application/json',
          'idempotency-key': message.idempotency_key,
        },
        body: JSON.stringify(payloadOf(message)),
      });
      const body = await readStart(response.body);
      const code = response.statusCode;
      if (code >= 200 && code < 300) return { status: 'SENT', code, body };
      const status = code >= 500 || curable.has(code) ? 'RETRYING' : 'FAILED';
      return { status, code, body, error: `the receiver answered ${code}` };
    } catch (error) {
      const text = `${codeOf(error) ?? 'error'}: ${messageOf(error)} (${this.#timeout} ms allowed)`;
      return { status: 'RETRYING', error: text };
    }
  }
}

/** The first 4 KB of an answer, cut at a character; the rest is read and dropped. */
async function readStart(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream) {
    if (length < maxBody) chunks.push(chunk);
    length += chunk.length;
  }
  // A stream decoder leaves out a character that the cut went through. PostgreSQL's text
  // holds no NUL.
  return new TextDecoder()
    .decode(Buffer.concat(chunks).subarray(0, maxBody - 3), { stream: true })
    .replaceAll('\0', '');
}
