import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIPv6 } from 'node:net';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { sendError } from '../http.ts';

/** Requests within a minute; 0 for no limit. */
export interface RateOptions {
  /** Of one address, without a token. */
  anonymous: number;
  /** Fields that sign in, of one address. */
  signIn: number;
  /** Of one user, in this process. */
  user: number;
}

export type RateKind = keyof RateOptions;

/** What is left, as it was after the latest request. */
interface Count {
  limit: number;
  left: number;
  resetSeconds: number;
  isOver: boolean;
}

/** Those of one site have one number: an IPv6 client has 2⁶⁴ addresses. */
const networkOf = (address: string): string =>
  isIPv6(address) ? `${address.split('::', 1)[0]?.split(':').slice(0, 4).join(':')}::/64` : address;

/** How often users and addresses ask, within a minute, in this process. */
export class Rates {
  readonly #limiters: Record<RateKind, RateLimiterMemory | undefined>;

  constructor(options: RateOptions) {
    const make = (points: number): RateLimiterMemory | undefined =>
      points === 0 ? undefined : new RateLimiterMemory({ points, duration: 60 });
    this.#limiters = {
      anonymous: make(options.anonymous),
      signIn: make(options.signIn),
      user: make(options.user),
    };
  }

  /**
   * Counts a request, or several.
   *
   * @param of a user's id, or an address
   * @returns undefined where there is no limit
   */
  async count(kind: RateKind, of: string, requests = 1): Promise<Count | undefined> {
    const limiter = this.#limiters[kind];
    if (limiter === undefined) return undefined;
    const shown = (result: RateLimiterRes, isOver: boolean): Count => ({
      limit: limiter.points,
      left: Math.max(0, result.remainingPoints),
      resetSeconds: Math.ceil(result.msBeforeNext / 1_000),
      isOver,
    });
    try {
      const key = kind === 'user' ? of : networkOf(of);
      return shown(await limiter.consume(key, requests), false);
    } catch (refused) {
      if (refused instanceof RateLimiterRes) return shown(refused, true);
      throw refused;
    }
  }

  /** Counts a request and says so in its headers; false when it was refused. */
  async admit(kind: RateKind, of: string, response: ServerResponse): Promise<boolean> {
    const count = await this.count(kind, of);
    if (count === undefined) return true;
    response.setHeader('ratelimit-limit', count.limit);
    response.setHeader('ratelimit-remaining', count.left);
    response.setHeader('ratelimit-reset', count.resetSeconds);
    if (!count.isOver) return true;
    response.setHeader('retry-after', count.resetSeconds);
    sendError(response, 429, 'RATE_LIMITED', tooOften(kind, count.limit));
    return false;
  }
}

/** What a caller is told who asks too often. */
export const tooOften = (kind: RateKind, limit: number): string =>
  kind === 'signIn'
    ? `an address may sign in, or try to, ${limit} times in a minute`
    : `${kind === 'user' ? 'a user' : 'an address'} may ask ${limit} times in a minute`;

/** Counts the fields of an operation that sign in; the seconds to wait when there were too many. */
export type CountSignIns = (
  request: IncomingMessage,
  fields: number,
) => Promise<{ message: string; seconds: number } | undefined>;
