import { SignJWT } from 'jose';
import { describe, expect, test } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { jwtSecret, type Session, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';

const db = useDatabase();
const api = useApi(db);

const viewer = '{ viewer { rowId email isGuest } }';
const inSeconds = (seconds: number): number => Math.floor(Date.now() / 1000) + seconds;
const claimsOf = (token: string) =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
    sub: string;
    sid: string;
    exp: number;
  };

/** Asks until the API has heard of a revocation, which travels by NOTIFY. */
async function untilRefused(token: string): Promise<string[]> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const codes = await api.codes(viewer, {}, token);
    if (codes.length > 0) return codes;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return [];
}

describe('access tokens', () => {
  test('a registered user is who the token says', async () => {
    const session = await api.register('who@example.com');
    const { data } = await api.query(viewer, {}, session.accessToken);
    expect(data).toEqual({
      viewer: { rowId: session.userId, email: 'who@example.com', isGuest: false },
    });
    const { exp } = claimsOf(session.accessToken);
    expect(exp).toBeGreaterThan(inSeconds(14 * 60));
    expect(exp).toBeLessThanOrEqual(inSeconds(15 * 60 + 5));
  });

  test('without a token there is no viewer', async () => {
    expect(await api.query(viewer)).toMatchObject({ data: { viewer: null }, errors: [] });
  });

  test('an expired token is refused with a code of its own, before any database work', async () => {
    const { sub, sid } = claimsOf((await api.register('late@example.com')).accessToken);
    const expired = await signAccessToken({ sub, sid, exp: inSeconds(-1) }, jwtSecret);
    const answer = await api.query(viewer, {}, expired);
    expect(answer.status).toBe(401);
    expect(answer.errors[0]?.extensions.code).toBe('TOKEN_EXPIRED');
    expect(answer.data).toBeUndefined();
  });

  test('a token that was tampered with is refused', async () => {
    const a = await api.register('tamper-a@example.com');
    const b = await api.register('tamper-b@example.com');
    const [header, , signature] = b.accessToken.split('.');
    const swapped = [header, a.accessToken.split('.')[1], signature].join('.');
    expect(await api.codes(viewer, {}, swapped)).toEqual(['TOKEN_INVALID']);
    // The first character of the signature, all of whose bits count.
    const flipped = `${signature?.startsWith('A') ? 'B' : 'A'}${signature?.slice(1)}`;
    const altered = [header, b.accessToken.split('.')[1], flipped].join('.');
    expect(await api.codes(viewer, {}, altered)).toEqual(['TOKEN_INVALID']);
  });

  test('a token signed otherwise is refused: another secret, no algorithm, another audience or issuer, no end', async () => {
    const { sub, sid } = claimsOf((await api.register('forge@example.com')).accessToken);
    const exp = inSeconds(600);
    const elsewhere = await signAccessToken({ sub, sid, exp }, `${jwtSecret}!`);
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = { sub, sid, exp, aud: 'groundwork', iss: 'groundwork' };
    const unsigned = `${part({ alg: 'none' })}.${part(claims)}.`;
    const signed = (more: Record<string, unknown>): Promise<string> =>
      new SignJWT({ ...claims, ...more })
        .setProtectedHeader({ alg: 'HS256' })
        .sign(new TextEncoder().encode(jwtSecret));
    expect(await api.codes(viewer, {}, await signed({}))).toEqual([]);
    const others = await Promise.all(
      [
        { aud: 'another product' },
        { aud: undefined },
        { iss: 'another product' },
        { iss: undefined },
        { exp: undefined },
        { sub: undefined },
        { sid: undefined },
      ].map(signed),
    );
    for (const token of [elsewhere, unsigned, ...others, 'x', `${unsigned}x`]) {
      expect(await api.codes(viewer, {}, token)).toEqual(['TOKEN_INVALID']);
    }
  });

  test('claims that are not ids never reach the database', async () => {
    const token = await new SignJWT({ sid: "x'; drop table app_public.users; --" })
      .setProtectedHeader({ alg: 'HS256' })
      .setSubject('nobody')
      .setIssuer('groundwork')
      .setAudience('groundwork')
      .setExpirationTime(inSeconds(600))
      .sign(new TextEncoder().encode(jwtSecret));
    expect(await api.codes(viewer, {}, token)).toEqual(['TOKEN_INVALID']);
  });
});

describe('signing in', () => {
  const login = `mutation ($email: String!, $password: String!) {
    login(input: { email: $email, password: $password }) { result { userId accessToken } }
  }`;

  test('works with the right password, in any case of the e-mail', async () => {
    const { userId } = await api.register('Case@Example.com');
    const { data } = await api.query<{ login: { result: Session } }>(login, {
      email: 'case@example.COM',
      password: 'correct horse',
    });
    expect(data.login.result.userId).toBe(userId);
  });

  test('a wrong password and an unknown e-mail get the same answer, and the try is counted', async () => {
    const { userId } = await api.register('guess@example.com');
    const wrong = await api.query(login, { email: 'guess@example.com', password: 'wrong' });
    const unknown = await api.query(login, { email: 'nobody@example.com', password: 'wrong' });
    expect(wrong).toEqual(unknown);
    expect(wrong.errors[0]).toMatchObject({ extensions: { code: 'INVALID_CREDENTIALS' } });
    const [row] = await db.as('owner')`
      select failed_attempts from app_private.user_secrets where user_id = ${userId}`;
    expect(row?.failed_attempts).toBe(1);
  });

  test('the refusal comes also when no field of the result is asked for', async () => {
    const bare =
      'mutation { login(input: { email: "x@y.zz", password: "p" }) { clientMutationId } }';
    expect(await api.codes(bare)).toEqual(['INVALID_CREDENTIALS']);
  });
});

describe('sessions', () => {
  const refresh = `mutation ($token: String!) {
    refreshSession(input: { refreshToken: $token }) { result { accessToken refreshToken } }
  }`;

  test('a refresh token is exchanged once; used again, it ends the session everywhere', async () => {
    const first = await api.register('rotate@example.com');
    const { data } = await api.query<{ refreshSession: { result: Session } }>(refresh, {
      token: first.refreshToken,
    });
    const second = data.refreshSession.result;
    expect(second.refreshToken).not.toBe(first.refreshToken);
    expect((await api.query(viewer, {}, second.accessToken)).errors).toEqual([]);

    expect(await api.codes(refresh, { token: first.refreshToken })).toEqual([
      'INVALID_REFRESH_TOKEN',
    ]);
    // The thief's and the owner's tokens alike: who is who cannot be told.
    expect(await untilRefused(second.accessToken)).toEqual(['TOKEN_INVALID']);
    expect(await api.codes(refresh, { token: second.refreshToken })).toEqual([
      'INVALID_REFRESH_TOKEN',
    ]);
  });

  test('logout ends the access token too, and only that session', async () => {
    const one = await api.register('logout@example.com');
    const { data } = await api.query<{ login: { result: Session } }>(
      `mutation { login(input: { email: "logout@example.com", password: "correct horse" }) {
        result { accessToken } } }`,
    );
    const other = data.login.result;
    const { data: ended } = await api.query(
      'mutation { logout(input: {}) { result } }',
      {},
      one.accessToken,
    );
    expect(ended).toEqual({ logout: { result: 1 } });
    expect(await untilRefused(one.accessToken)).toEqual(['TOKEN_INVALID']);
    expect((await api.query(viewer, {}, other.accessToken)).errors).toEqual([]);
  });

  test('a guest who upgrades keeps tasks and session', async () => {
    const { data } = await api.query<{ continueAsGuest: { result: Session } }>(
      'mutation { continueAsGuest(input: {}) { result { userId accessToken } } }',
    );
    const guest = data.continueAsGuest.result;
    await api.query(
      'mutation { createTask(input: { task: { title: "mine" } }) { task { title } } }',
      {},
      guest.accessToken,
    );
    const upgrade = `mutation { upgradeGuest(input: {
      email: "upgraded@example.com", password: "correct horse", firstName: "Up" }) {
        result { rowId email isGuest tasks { nodes { title } } } } }`;
    expect(await api.query(upgrade, {}, guest.accessToken)).toMatchObject({
      data: {
        upgradeGuest: {
          result: {
            rowId: guest.userId,
            email: 'upgraded@example.com',
            isGuest: false,
            tasks: { nodes: [{ title: 'mine' }] },
          },
        },
      },
    });
    expect(await api.codes(upgrade, {}, guest.accessToken)).toEqual(['NOT_A_GUEST']);
  });
});
