import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/**
 * Headers by which a proxy says that it asks for somebody else: there is no end of their names. A
 * proxy that adds none cannot be told from a process of this machine.
 */
const forwarding =
  /forward|^via$|client-?ip|real-?ip|remote-?addr|remote-?ip|originating|^cf-|proxy/;

/**
 * Whether somebody may read the metrics: with a token, who knows it; without one, who asks
 * from this machine and not through a proxy.
 */
export function mayReadMetrics(request: IncomingMessage, token: string | undefined): boolean {
  if (token !== undefined) {
    const given = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    return timingSafeEqual(digest(given), digest(token));
  }
  const address = request.socket.remoteAddress ?? '';
  return (
    /^(::ffff:)?127\.|^::1$/.test(address) &&
    !Object.keys(request.headers).some((name) => forwarding.test(name))
  );
}
