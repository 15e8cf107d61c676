import type { Sql, Transaction } from '../../src/postgres/connect.ts';

/** What register, login and refresh answer; every field is null when they refuse. */
export interface Session {
  userId: string;
  sessionId: string;
  /** Seconds since 1970 at which the access token ends. */
  exp: number;
  refreshToken: string;
}

/** A password that is neither too short nor too long. */
export const password = 'correct horse battery staple';

async function call(
  sql: Sql | Transaction,
  name: string,
  ...parameters: string[]
): Promise<Session> {
  const places = parameters.map((_, index) => `$${index + 1}`).join(', ');
  const [row] = await sql.unsafe<Session[]>(
    `select user_id as "userId", (access_token).sid as "sessionId",
      (access_token).exp::int as exp, refresh_token as "refreshToken"
    from app_public.${name}(${places})`,
    parameters,
  );
  return row as Session;
}

export const register = (sql: Transaction, email: string, secret = password): Promise<Session> =>
  call(sql, 'register', email, secret, 'Ann');

export const login = (sql: Transaction, email: string, secret = password): Promise<Session> =>
  call(sql, 'login', email, secret);

export const refresh = (sql: Sql | Transaction, token: string): Promise<Session> =>
  call(sql, 'refresh_session', token);
