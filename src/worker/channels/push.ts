import { createECDH, createHash } from 'node:crypto';
import { Agent, request } from 'undici';
import webpush from 'web-push';
import { messageOf } from '../../errors.ts';
import { RunningTime } from '../../postgres/silence.ts';
import { type Attempt, type Channel, type Endpoint, type Message, Unanswered } from './channel.ts';
import { fromError, fromResponse, readStart } from './outcomes.ts';

export interface PushOptions {
  /** How many calls are in flight at once. */
  concurrency: number;
  timeoutMs: number;
  /** A private key of P-256, 32 bytes in base64url. */
  key: string;
  /** Whom a push service writes to when something is wrong: mailto: or https:. */
  subject: string;
}

/** So long a push service keeps a notification for a browser that is away, in seconds. */
const timeToLive = 12 * 3_600;

/** A push service takes 4,096 bytes (RFC 8030), of which encryption needs some. */
const maxPayload = 3_900;

/** The public key by which browsers know who signs with a private key. */
export function publicKeyOf(privateKey: string): string {
  const curve = createECDH('prime256v1');
  curve.setPrivateKey(Buffer.from(privateKey, 'base64url'));
  return curve.getPublicKey('base64url');
}

/**
 * Shows a message in each browser that its user has registered (Web Push, RFC 8030), encrypted
 * for it (RFC 8291) and signed (VAPID, RFC 8292). It is sent when one browser's service takes
 * it; those that are gone are forgotten.
 */
export class PushChannel implements Channel {
  readonly name = 'push';
  readonly description = 'push services of browsers';
  readonly concurrency: number;
  readonly messagesPerCall = 1;
  readonly publicKey: string;
  readonly #options: PushOptions;
  readonly #agent: Agent;

  constructor(options: PushOptions) {
    this.#options = options;
    this.concurrency = options.concurrency;
    this.publicKey = publicKeyOf(options.key);
    this.#agent = new Agent({ pipelining: 1, connectTimeout: options.timeoutMs });
  }

  deliver(messages: readonly Message[]): Promise<Attempt[]> {
    return Promise.all(messages.map((message) => this.#show(message)));
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }

  async #show(message: Message): Promise<Attempt> {
    const endpoints = message.endpoints ?? [];
    const shown = await Promise.all(
      endpoints.map(async (endpoint) => ({
        id: endpoint.id,
        attempt: await this.#post(endpoint, message),
      })),
    );
    const gone = shown.filter(({ attempt }) => isGone(attempt)).map(({ id }) => id);
    const rest = shown.map(({ attempt }) => attempt).filter((attempt) => !isGone(attempt));
    const told = rest.find(({ status }) => status === 'SENT') ??
      rest.find(({ is_uncertain }) => is_uncertain) ??
      // That a browser is gone says nothing of the sender: no code.
      rest[0] ?? { status: 'REFUSED', stage: 'gone', error: 'no browser takes it any more' };
    return { ...told, ...(gone.length > 0 ? { gone } : {}) };
  }

  async #post({ address, keys }: Endpoint, message: Message): Promise<Attempt> {
    const { timeoutMs, key, subject } = this.#options;
    let details: webpush.RequestDetails;
    try {
      details = webpush.generateRequestDetails(
        { endpoint: address, keys: { p256dh: keys?.p256dh ?? '', auth: keys?.auth ?? '' } },
        noticeOf(message),
        {
          vapidDetails: { subject, publicKey: this.publicKey, privateKey: key },
          TTL: timeToLive,
          // A repeated attempt replaces the notification that a browser has not shown yet.
          topic: topicOf(message),
        },
      );
    } catch (error) {
      // Keys of which no point of the curve can be made: nobody could read it.
      return { status: 'REFUSED', stage: 'gone', error: messageOf(error) };
    }
    const late = new AbortController();
    const time = new RunningTime(timeoutMs, () => late.abort(new Unanswered()));
    try {
      const { statusCode, headers, body } = await request(details.endpoint, {
        method: 'POST',
        dispatcher: this.#agent,
        signal: late.signal,
        headers: details.headers as Record<string, string>,
        body: details.body,
      });
      return fromResponse(statusCode, await readStart(body), headers);
    } catch (error) {
      return fromError(error, timeoutMs);
    } finally {
      time.stop();
    }
  }
}

const isGone = ({ code, stage }: Attempt): boolean =>
  code === 404 || code === 410 || stage === 'gone';

const topicOf = ({ idempotency_key: key }: Message): string =>
  createHash('sha256').update(key).digest('base64url').slice(0, 32);

/** What the page's service worker gets, as JSON; a long text is cut. */
export function noticeOf(message: Message): string {
  const notice = {
    title: message.message_subject,
    body: message.message_content,
    lang: message.locale ?? 'en',
    tag: topicOf(message),
    data: { messageId: message.message_id, messageType: message.message_type },
  };
  const characters = [...notice.body];
  let text = JSON.stringify(notice);
  while (Buffer.byteLength(text) > maxPayload && characters.length > 0) {
    // At most 6 bytes a character in JSON's escapes, at least 1.
    characters.length -= Math.max(1, Math.ceil((Buffer.byteLength(text) - maxPayload) / 6));
    text = JSON.stringify({ ...notice, body: `${characters.join('').trimEnd()}…` });
  }
  return text;
}
