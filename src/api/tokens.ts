import { errors as joseErrors, jwtVerify, SignJWT } from 'jose';
import { z } from 'zod';

/** Both ends of every token. Changing one signs everybody out. */
export const tokenIssuer = 'groundwork';
export const tokenAudience = 'groundwork';

/** All are required: a token without an end would live for ever. */
const claimsShape = z.object({
  sub: z.uuid(),
  sid: z.uuid(),
  exp: z.number().int(),
});

/** What an access token says: who, in which session, until when (seconds since 1970). */
export type Claims = z.infer<typeof claimsShape>;

export type TokenProblem = 'TOKEN_EXPIRED' | 'TOKEN_INVALID';

const keyOf = (secret: string): Uint8Array => new TextEncoder().encode(secret);

/**
 * Checks signature, algorithm, issuer, audience and expiry.
 *
 * @returns the claims, or why there are none
 */
export async function verifyAccessToken(
  token: string,
  secret: string,
): Promise<Claims | TokenProblem> {
  try {
    const { payload } = await jwtVerify(token, keyOf(secret), {
      algorithms: ['HS256'],
      issuer: tokenIssuer,
      audience: tokenAudience,
    });
    const claims = claimsShape.safeParse(payload);
    return claims.success ? claims.data : 'TOKEN_INVALID';
  } catch (error) {
    return error instanceof joseErrors.JWTExpired ? 'TOKEN_EXPIRED' : 'TOKEN_INVALID';
  }
}

/**
 * Checks the token of an Authorization header: "Bearer" and a JWT.
 *
 * @returns the claims, or why there are none
 */
export async function verifyAuthorization(
  header: string,
  secret: string,
): Promise<Claims | TokenProblem> {
  const token = /^Bearer ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)$/i.exec(header)?.[1];
  return token === undefined ? 'TOKEN_INVALID' : verifyAccessToken(token, secret);
}

/** Signs an access token as the API does for register() and login(). */
export function signAccessToken(claims: Claims, secret: string): Promise<string> {
  return new SignJWT({ sid: claims.sid })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(claims.sub)
    .setIssuer(tokenIssuer)
    .setAudience(tokenAudience)
    .setIssuedAt()
    .setExpirationTime(claims.exp)
    .sign(keyOf(secret));
}
