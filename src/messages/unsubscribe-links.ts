import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** What can be unsubscribed from; the place is what a token says. Only ever add to it. */
const messageTypes = ['BIRTHDAY', 'ANNIVERSARY', 'DIGEST'] as const;

export type MessageType = (typeof messageTypes)[number];

/** Who does not want which messages. */
export interface Unsubscription {
  userId: string;
  messageType: MessageType;
}

/** Bytes of a token: a uuid, and a message type. */
const length = 17;

/**
 * Makes and reads the tokens of unsubscribe links: user and message type, and an HMAC-SHA256
 * of both. The key is derived from the secret of access tokens (HKDF, RFC 5869) for this use
 * alone, so that neither kind of token is good for the other.
 *
 * They do not expire. A link must work in a letter of last year, all that it can do is to
 * turn one kind of message off, and a message that is sent again says exactly the same.
 */
export class UnsubscribeTokens {
  readonly #key: Buffer;

  /** @param secret of access tokens */
  constructor(secret: string) {
    this.#key = Buffer.from(hkdfSync('sha256', secret, '', 'groundwork unsubscribe link', 32));
  }

  /** A token, or undefined for a type of message that cannot be unsubscribed from. */
  sign(userId: string, messageType: string): string | undefined {
    const type = (messageTypes as readonly string[]).indexOf(messageType);
    if (type === -1) return undefined;
    const said = Buffer.concat([Buffer.from(userId.replaceAll('-', ''), 'hex'), Buffer.of(type)]);
    return `${said.toString('base64url')}.${this.#mac(said).toString('base64url')}`;
  }

  /** What a token says, or undefined when it is not one of ours. */
  verify(token: string): Unsubscription | undefined {
    const [, first = '', second = ''] = /^([\w-]{23})\.([\w-]{43})$/.exec(token) ?? [];
    const said = Buffer.from(first, 'base64url');
    const mac = Buffer.from(second, 'base64url');
    const messageType = messageTypes[said.at(-1) ?? -1];
    if (said.length !== length || !timingSafeEqual(mac, this.#mac(said))) return undefined;
    if (messageType === undefined) return undefined;
    const hex = said.subarray(0, -1).toString('hex');
    const userId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    return { userId, messageType };
  }

  #mac(said: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(said).digest();
  }
}

/**
 * Makes the function that gives each message its link.
 *
 * @param publicUrl where users reach the API, without a slash at the end
 * @param secret of access tokens, the same as that of `gw serve`
 */
export function unsubscribeLinks(
  publicUrl: string,
  secret: string,
): (userId: string, messageType: string) => string | undefined {
  const tokens = new UnsubscribeTokens(secret);
  return (userId, messageType) => {
    const token = tokens.sign(userId, messageType);
    return token === undefined ? undefined : `${publicUrl}/unsubscribe?token=${token}`;
  };
}
