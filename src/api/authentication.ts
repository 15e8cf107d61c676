import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendError } from '../http.ts';
import type { RevokedSessions } from './revoked-sessions.ts';
import type { Telemetry } from './telemetry/telemetry.ts';
import { type Claims, verifyAuthorization } from './tokens.ts';

export interface AuthenticationOptions {
  jwtSecret: string;
  revoked: RevokedSessions;
  telemetry: Telemetry;
}

/** Who asks: verified before any database work, and remembered for as long as the request. */
export class Authentication {
  readonly #options: AuthenticationOptions;
  readonly #claims = new WeakMap<IncomingMessage, Claims>();

  constructor(options: AuthenticationOptions) {
    this.#options = options;
  }

  /** What the token of a request says; undefined for an anonymous one. */
  claimsOf(request: IncomingMessage): Claims | undefined {
    return this.#claims.get(request);
  }

  /** Verifies the token, if there is one; false when the request was answered. */
  async check(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const { jwtSecret, revoked, telemetry } = this.#options;
    const header = request.headers.authorization;
    if (header === undefined) return true;
    const verified = await verifyAuthorization(header, jwtSecret);
    if (typeof verified !== 'string' && !revoked.has(verified.sid)) {
      this.#claims.set(request, verified);
      const info = telemetry.infoOf(request);
      if (info !== undefined) {
        info.userId = verified.sub;
        info.sessionId = verified.sid;
      }
      return true;
    }
    const code = verified === 'TOKEN_EXPIRED' ? 'TOKEN_EXPIRED' : 'TOKEN_INVALID';
    telemetry.addError(code);
    response.setHeader('www-authenticate', 'Bearer error="invalid_token"');
    sendError(
      response,
      401,
      code,
      code === 'TOKEN_EXPIRED'
        ? 'the access token has expired; exchange the refresh token, without this header'
        : 'the access token is not valid, or its session has ended',
    );
    return false;
  }
}
