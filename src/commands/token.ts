import type { Command } from 'commander';
import { signAccessToken } from '../api/tokens.ts';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { audit } from '../postgres/audit.ts';
import { withSql } from '../postgres/connect.ts';
import { reachDatabase } from '../server/locate.ts';
import { readSecrets } from '../server/state.ts';

/**
 * Starts a session for a user, without a password, and signs an access token for it.
 *
 * @param hours how long the token lives
 * @throws GwError when nobody has that address
 */
export async function makeDevelopmentToken(
  ownerUrl: string,
  email: string,
  secret: string,
  hours = 12,
): Promise<string> {
  const session = await withSql(ownerUrl, async (sql) => {
    const [row] = await sql<{ sub: string; sid: string }[]>`
      select (session.access_token).sub, (session.access_token).sid
      from app_public.users
      cross join lateral app_private.start_session(users.id) as session
      where lower(users.email) = lower(${email})
        and users.deleted_at is null`;
    if (row !== undefined) {
      await audit(sql, 'token.issued', { user_id: row.sub, session_id: row.sid, hours });
    }
    return row;
  });
  if (session === undefined) {
    throw new GwError(`no user has the e-mail ${email}`, {
      hint: 'Demo users are demo1@example.com, demo2@example.com, …: npm run gw -- seed',
    });
  }
  const exp = Math.floor(Date.now() / 1000) + hours * 3600;
  return signAccessToken({ ...session, exp }, secret);
}

export function registerToken(program: Command): void {
  program
    .command('token')
    .description('print an access token for a user, valid for 12 hours (development only)')
    .requiredOption('--email <address>', 'the user')
    .action(async (options: { email: string }) => {
      const config = loadConfig();
      if (config.NODE_ENV === 'production') {
        throw new GwError('development tokens are refused when NODE_ENV=production', {
          hint: 'Sign in with the login mutation.',
          exitCode: EXIT.usage,
        });
      }
      const { urls } = await reachDatabase(config);
      const secret = config.GW_JWT_SECRET ?? readSecrets().jwt;
      process.stdout.write(`${await makeDevelopmentToken(urls.owner, options.email, secret)}\n`);
    });
}
