import { createHash, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';

/** Which message a returned mail is about, as its address says. */
export interface ReturnedMessage {
  userId: string;
  /** The first 8 bytes of the SHA-256 of the message's idempotency key, as hexadecimal. */
  keyHash: string;
  /** The day on which it was due, in UTC: 2026-12-24. */
  day: string;
}

/** Of RFC 4648's, in lower case: mail servers may change the case of an address. */
const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';

const [userLength, hashLength, dayLength, macLength] = [16, 8, 2, 8];
const saidLength = userLength + hashLength + dayLength;
/** Characters of a token. */
const tokenLength = Math.ceil(((saidLength + macLength) * 8) / 5);

/** What the name before the @ may have, so that the whole has 64 characters (RFC 5321). */
export const longestReturnName = 64 - 1 - tokenLength;

const dayMs = 86_400_000;

function encode(bytes: Buffer): string {
  let text = '';
  let [bits, value] = [0, 0];
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(value >> bits) & 31];
    }
  }
  return bits === 0 ? text : text + alphabet[(value << (5 - bits)) & 31];
}

function decode(text: string): Buffer {
  const bytes: number[] = [];
  let [bits, value] = [0, 0];
  for (const letter of text) {
    value = ((value << 5) | alphabet.indexOf(letter)) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((value >> bits) & 255);
    }
  }
  return Buffer.from(bytes);
}

/**
 * Makes and reads return paths: an address for each message, to which mail servers return what
 * they cannot deliver. It says whose message it was, signed, so that nobody can have another's
 * address suppressed by a forged return. The key is derived from the secret of access tokens
 * (HKDF, RFC 5869) for this use alone.
 */
export class ReturnPaths {
  readonly #key: Buffer;
  readonly #name: string;
  readonly #domain: string;

  /**
   * @param address to which the tokens are added: bounce@example.com
   * @param secret of access tokens
   */
  constructor(address: string, secret: string) {
    const at = address.lastIndexOf('@');
    this.#name = address.slice(0, at);
    this.#domain = address.slice(at + 1);
    this.#key = Buffer.from(hkdfSync('sha256', secret, '', 'groundwork return path', 32));
  }

  /** The return path of a message. @param due ISO 8601 */
  addressOf(userId: string, idempotencyKey: string, due: string): string {
    const day = Buffer.alloc(dayLength);
    day.writeUInt16BE(Math.floor(Date.parse(due) / dayMs));
    const said = Buffer.concat([
      Buffer.from(userId.replaceAll('-', ''), 'hex'),
      createHash('sha256').update(idempotencyKey).digest().subarray(0, hashLength),
      day,
    ]);
    const token = encode(Buffer.concat([said, this.#mac(said)]));
    return `${this.#name}+${token}@${this.#domain}`;
  }

  /** The first return path of ours in a text, such as the headers of a mail. */
  find(text: string): ReturnedMessage | undefined {
    const quoted = this.#name.replace(/[^\w]/g, '\\$&');
    const pattern = new RegExp(`${quoted}\\+([a-z2-7]{${tokenLength}})@`, 'gi');
    for (const [, token = ''] of text.matchAll(pattern)) {
      const bytes = decode(token.toLowerCase());
      const said = bytes.subarray(0, saidLength);
      const mac = bytes.subarray(saidLength);
      if (mac.length !== macLength || !timingSafeEqual(mac, this.#mac(said))) continue;
      const hex = said.subarray(0, userLength).toString('hex');
      const day = said.readUInt16BE(userLength + hashLength);
      return {
        userId: hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
        keyHash: said.subarray(userLength, userLength + hashLength).toString('hex'),
        day: new Date(day * dayMs).toISOString().slice(0, 10),
      };
    }
    return undefined;
  }

  #mac(said: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(said).digest().subarray(0, macLength);
  }
}
