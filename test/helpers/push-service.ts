import {
  createDecipheriv,
  createECDH,
  createPublicKey,
  type ECDH,
  hkdfSync,
  randomBytes,
  verify,
} from 'node:crypto';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A browser that may show notifications: its keys, and where its service takes them. */
export interface Browser {
  address: string;
  p256dh: string;
  auth: string;
  keys: ECDH;
}

export interface Notice {
  path: string;
  headers: IncomingHttpHeaders;
  body: Buffer;
}

/** A push service of browsers (RFC 8030), as a real server on loopback. */
export class PushService {
  readonly notices: Notice[] = [];
  /** What it answers; a test replaces it. */
  answer: (notice: Notice) => number = () => 201;
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const notice = {
        path: request.url ?? '',
        headers: request.headers,
        body: Buffer.concat(chunks),
      };
      this.notices.push(notice);
      const status = this.answer(notice);
      response.writeHead(status, { location: `/message/${this.notices.length}` }).end();
    });
  });

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** As PushManager.subscribe() makes one. */
  browser(name: string): Browser {
    const keys = createECDH('prime256v1');
    return {
      address: `${this.origin}/push/${name}`,
      p256dh: keys.generateKeys('base64url'),
      auth: randomBytes(16).toString('base64url'),
      keys,
    };
  }

  /** What the browser shows. */
  read(browser: Browser): Record<string, unknown>[] {
    return this.notices
      .filter(({ path }) => browser.address.endsWith(path))
      .map(({ body }) => JSON.parse(decrypt(body, browser)) as Record<string, unknown>);
  }

  /** Who signed a notice (RFC 8292), or undefined: the audience, and the subject. */
  signerOf({ headers }: Notice, publicKey: string): { aud: string; sub: string } | undefined {
    const [, token = '', key] =
      /^vapid t=([^,]+), ?k=(\S+)$/.exec(headers.authorization ?? '') ?? [];
    const point = Buffer.from(publicKey, 'base64url');
    const signer = createPublicKey({
      format: 'jwk',
      key: {
        kty: 'EC',
        crv: 'P-256',
        x: point.subarray(1, 33).toString('base64url'),
        y: point.subarray(33).toString('base64url'),
      },
    });
    const [header = '', claims = '', signature = ''] = token.split('.');
    const isGenuine = verify(
      'sha256',
      Buffer.from(`${header}.${claims}`),
      { key: signer, dsaEncoding: 'ieee-p1363' },
      Buffer.from(signature, 'base64url'),
    );
    if (key !== publicKey || !isGenuine) return undefined;
    return JSON.parse(Buffer.from(claims, 'base64url').toString()) as { aud: string; sub: string };
  }
}

/** As a browser reads what was encrypted for it (RFC 8291, RFC 8188). */
function decrypt(body: Buffer, { keys, auth, p256dh }: Browser): string {
  const salt = body.subarray(0, 16);
  const end = 21 + (body[20] ?? 0);
  const sender = body.subarray(21, end);
  const derive = (secret: Buffer, by: Buffer, info: Buffer, length: number): Buffer =>
    Buffer.from(hkdfSync('sha256', secret, by, info, length));
  const receiver = Buffer.from(p256dh, 'base64url');
  const secret = derive(
    keys.computeSecret(sender),
    Buffer.from(auth, 'base64url'),
    Buffer.concat([Buffer.from('WebPush: info\0'), receiver, sender]),
    32,
  );
  const key = derive(secret, salt, Buffer.from('Content-Encoding: aes128gcm\0'), 16);
  const nonce = derive(secret, salt, Buffer.from('Content-Encoding: nonce\0'), 12);
  const decipher = createDecipheriv('aes-128-gcm', key, nonce);
  decipher.setAuthTag(body.subarray(-16));
  const padded = Buffer.concat([decipher.update(body.subarray(end, -16)), decipher.final()]);
  return padded.subarray(0, padded.lastIndexOf(2)).toString('utf8');
}
