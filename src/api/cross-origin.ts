import type { IncomingMessage, ServerResponse } from 'node:http';
import cors from 'cors';
import type { Origins } from '../origins.ts';

/** Browsers keep a preflight's response no longer than this, in seconds. */
const preflightSeconds = 7_200;

/** What a page may read of a response beside its body. */
const exposedHeaders = [
  'x-request-id',
  'retry-after',
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
];

/** Says in its headers who may read a response; true when that is all, as of a preflight. */
export type CrossOrigin = (request: IncomingMessage, response: ServerResponse) => boolean;

/**
 * Lets pages of other origins read what a route answers (CORS). No cookie is ever read, so none
 * is allowed; a token is sent by a page that has it.
 */
export function crossOrigin(allows: Origins): CrossOrigin {
  const handle = cors({
    origin: (origin, callback) => callback(null, origin !== undefined && allows(origin)),
    methods: ['GET', 'POST'],
    exposedHeaders,
    maxAge: preflightSeconds,
    optionsSuccessStatus: 204,
  });
  return (request, response) => {
    let isAnswered = true;
    // A cache must not give to one origin what was answered to another, allowed or not.
    response.setHeader('vary', 'Origin');
    handle(request, response, () => {
      isAnswered = false;
    });
    return isAnswered;
  };
}
