import type { ServerResponse } from 'node:http';
import Negotiator from 'negotiator';

const jsonTypes = ['application/json', 'application/graphql-response+json'];

/**
 * Which JSON a client takes. One that names the second type reads a response by it whatever its
 * status is, and may pass over the body of an error of the first.
 */
const jsonType = ({ req }: ServerResponse): string =>
  new Negotiator(req).mediaType(jsonTypes) ?? 'application/json';

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': `${jsonType(response)}; charset=utf-8`,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
  });
  response.end(text);
}

/** An error in the form that GraphQL has for it. */
export function sendError(
  response: ServerResponse,
  status: number,
  code: string,
  message: string,
): void {
  sendJson(response, status, { errors: [{ message, extensions: { code } }] });
}
