import { afterAll, beforeAll } from 'vitest';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret } from './api.ts';
import type { TestDatabase } from './database.ts';
import { GwProcess } from './gw-process.ts';

export interface Served {
  /** Where GraphQL is. */
  readonly url: string;
  /** A new user's tokens, and id. */
  signUp(email: string): Promise<{ userId: string; accessToken: string; refreshToken: string }>;
}

/** Runs `gw serve` as in production, for clients that are not ours. */
export function useServed(
  db: TestDatabase,
  env: () => Record<string, string> = () => ({}),
): Served {
  let port = 0;
  let server: GwProcess;
  beforeAll(async () => {
    port = await randomPort();
    server = new GwProcess(['serve'], {
      DATABASE_URL: db.url('owner'),
      GW_AUTHENTICATOR_PASSWORD: new URL(db.url('authenticator')).password,
      GW_JWT_SECRET: jwtSecret,
      NODE_ENV: 'production',
      GW_LOG_LEVEL: 'warn',
      GW_PORT: String(port),
      GW_POOL_SIZE: '5',
      GW_DRAIN_SECONDS: '0',
      ...env(),
    });
    await server.ready();
  });
  afterAll(() => server?.stop());
  const url = () => `http://127.0.0.1:${port}/graphql`;
  return {
    get url() {
      return url();
    },
    async signUp(email) {
      const query = `mutation ($email: String!) {
        register(input: { email: $email, password: "correct horse", firstName: "Test" }) {
          result { userId accessToken refreshToken }
        }
      }`;
      const response = await fetch(url(), {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query, variables: { email } }),
      });
      const answer = (await response.json()) as {
        data?: { register: { result: Awaited<ReturnType<Served['signUp']>> } | null };
      };
      const result = answer.data?.register?.result;
      if (result === undefined) {
        throw new Error(`not registered: ${JSON.stringify(answer)}\n${server.output}`);
      }
      return result;
    },
  };
}
