import type { IncomingMessage } from 'node:http';

/**
 * The body as it was sent, or undefined when it is longer than allowed. What is left of it
 * then is not read: the connection is to be closed after the response.
 *
 * @param maxBytes how long it may be
 */
export async function readBody(
  request: IncomingMessage,
  maxBytes: number,
): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) return undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  // Not "for await": leaving that loop would destroy the socket before it is answered.
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > maxBytes) {
        request.pause();
        resolve(undefined);
      } else {
        chunks.push(chunk);
      }
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', reject);
  });
}
