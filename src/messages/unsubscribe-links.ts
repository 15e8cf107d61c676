import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** Who does not want which messages. */
export interface Unsubscription {
  userId: string;
  /** A type of app_private.message_types, when the link was made. */
  messageType: string;
}

/** Bytes of a user's id, at the start of a token. */
const idLength = 16;

/**
 * Makes and reads the tokens of unsubscribe links: user and message type, and an HMAC-SHA256
 * of both. The key is derived from the secret of access tokens (HKDF, RFC 5869) for this use
 * alone, so that neither kind of token is good for the other.
 *
 * Tokens do not expire. A link must work in an e-mail of last year, all that it can do is to
 * turn one type of message off, and a retry of a message says exactly the same.
 */
export class UnsubscribeTokens {
  readonly #key: Buffer;

  /** @param secret of access tokens */
  constructor(secret: string) {
    this.#key = Buffer.from(hkdfSync('sha256', secret, '', 'groundwork unsubscribe link', 32));
  }

  sign(userId: string, messageType: string): string {
    const id = Buffer.from(userId.replaceAll('-', ''), 'hex');
    const said = Buffer.concat([id, Buffer.from(messageType)]);
    return `${said.toString('base64url')}.${this.#mac(said).toString('base64url')}`;
  }

  /** What a token says, or undefined when it is not one of ours. */
  verify(token: string): Unsubscription | undefined {
    // A type has 1 to 40 letters.
    const [, first = '', second = ''] = /^([\w-]{23,75})\.([\w-]{43})$/.exec(token) ?? [];
    const said = Buffer.from(first, 'base64url');
    const mac = Buffer.from(second, 'base64url');
    if (said.length <= idLength || !timingSafeEqual(mac, this.#mac(said))) return undefined;
    const hex = said.subarray(0, idLength).toString('hex');
    const userId = hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    return { userId, messageType: said.subarray(idLength).toString() };
  }

  #mac(said: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(said).digest();
  }
}

/**
 * Makes the function that gives a message its link. Whether its type can be turned off says
 * the database, see app_private.claim_messages().
 *
 * @param publicUrl where users reach the API, without a slash at the end
 * @param secret of access tokens, the same as that of `gw serve`
 */
export function unsubscribeLinks(
  publicUrl: string,
  secret: string,
): (userId: string, messageType: string) => string {
  const tokens = new UnsubscribeTokens(secret);
  return (userId, messageType) =>
    `${publicUrl}/unsubscribe?token=${tokens.sign(userId, messageType)}`;
}
