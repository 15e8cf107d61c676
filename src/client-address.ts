import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import proxyaddr from 'proxy-addr';

/** Which proxies are believed when they say for whom they ask. */
export type Trust = (address: string, hop: number) => boolean;

/**
 * Reads a list of addresses, networks (10.0.0.0/8) and names (loopback, linklocal, uniquelocal).
 *
 * @throws TypeError for anything else
 */
export const readTrust = (text: string | undefined): Trust =>
  proxyaddr.compile((text ?? '').split(/[\s,]+/).filter((part) => part !== ''));

/**
 * Whose request it is: the nearest address in X-Forwarded-For that no trusted proxy has, or that of
 * the connection. What a client writes there itself is never believed.
 */
export function clientAddress(request: IncomingMessage, trust: Trust): string | undefined {
  const plain = (text: string | undefined) => text?.replace(/^::ffff:/, '').replace(/%.*$/, '');
  const address = plain(proxyaddr(request, trust));
  if (address !== undefined && isIP(address) > 0) return address;
  return plain(request.socket.remoteAddress);
}
