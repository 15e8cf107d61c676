import { createHmac } from 'node:crypto';
import { Agent, request } from 'undici';
import { RunningTime } from '../../postgres/silence.ts';
import { outgoingHeaders } from '../../tracing.ts';
import { type Attempt, type Channel, type Message, payloadOf, Unanswered } from './channel.ts';
import { credentialsOf, describeDestination } from './destination.ts';
import { fromError, fromResponse, readStart } from './outcomes.ts';

export interface HttpOptions {
  /** The vendor; http unless given. */
  name?: string;
  /** How many calls are in flight at once, on as many kept-alive connections. */
  concurrency: number;
  timeoutMs: number;
  /** Signs each request; the bytes that the receiver knows too. */
  secret?: Buffer | undefined;
}

/**
 * Posts each message as JSON. The Idempotency-Key header is the same for every attempt, so
 * that a receiver can drop repetitions; so is the body. With a secret, requests are signed as
 * https://www.standardwebhooks.com says: HMAC-SHA256 of "id.timestamp.body".
 */
export class HttpChannel implements Channel {
  readonly name: string;
  readonly description: string;
  readonly concurrency: number;
  readonly messagesPerCall = 1;
  readonly #url: URL;
  readonly #timeout: number;
  readonly #secret: Buffer | undefined;
  readonly #authorization: Record<string, string>;
  readonly #agent: Agent;

  constructor(url: string, options: HttpOptions) {
    this.#url = new URL(url);
    this.name = options.name ?? 'http';
    this.description = describeDestination(url);
    const given = credentialsOf(this.#url);
    this.#url.username = '';
    this.#url.password = '';
    this.#authorization = given
      ? { authorization: `Basic ${Buffer.from(`${given.user}:${given.pass}`).toString('base64')}` }
      : {};
    this.concurrency = options.concurrency;
    this.#timeout = options.timeoutMs;
    this.#secret = options.secret;
    this.#agent = new Agent({
      connections: options.concurrency,
      pipelining: 1,
      connectTimeout: options.timeoutMs,
      // Each call has its own time, see #post().
      headersTimeout: 0,
      bodyTimeout: 0,
    });
  }

  deliver(messages: readonly Message[]): Promise<Attempt[]> {
    return Promise.all(messages.map((message) => this.#post(message)));
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #post(message: Message): Promise<Attempt> {
    const body = JSON.stringify(payloadOf(message));
    const late = new AbortController();
    const time = new RunningTime(this.#timeout, () => late.abort(new Unanswered()));
    try {
      const response = await request(this.#url, {
        method: 'POST',
        dispatcher: this.#agent,
        signal: late.signal,
        headers: {
          'content-type': 'application/json',
          'idempotency-key': message.idempotency_key,
          ...this.#authorization,
          ...this.#signature(message.idempotency_key, body),
          ...outgoingHeaders(),
        },
        body,
      });
      const { statusCode, headers } = response;
      return fromResponse(statusCode, await readStart(response.body), headers);
    } catch (error) {
      return fromError(error, this.#timeout);
    } finally {
      time.stop();
    }
  }

  #signature(id: string, body: string): Record<string, string> {
    if (this.#secret === undefined) return {};
    const timestamp = String(Math.floor(Date.now() / 1000));
    const hmac = createHmac('sha256', this.#secret).update(`${id}.${timestamp}.${body}`);
    return {
      'webhook-id': id,
      'webhook-timestamp': timestamp,
      'webhook-signature': `v1,${hmac.digest('base64')}`,
    };
  }
}
