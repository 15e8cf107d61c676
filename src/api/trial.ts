import { randomBytes, randomUUID } from 'node:crypto';
import { createLog } from '../log.ts';
import type { Database } from '../postgres/urls.ts';
import type { ServedApi } from '../toolkit/prove/graphql-client.ts';
import { startApi } from './server.ts';
import { signAccessToken } from './tokens.ts';

/** Serves a database's API on a free port, with a secret of its own, for `gw prove` to try. */
export async function startTrialApi(database: Database): Promise<ServedApi> {
  const jwtSecret = randomBytes(32).toString('hex');
  const { port, close } = await startApi({
    authenticatorUrl: database.urls.authenticator,
    jwtSecret,
    host: '127.0.0.1',
    port: 0,
    poolSize: 2,
    log: createLog('prove', 'silent'),
  });
  return {
    url: `http://127.0.0.1:${port}/graphql`,
    tokenOf: (sub) => {
      const exp = Math.floor(Date.now() / 1000) + 600;
      return signAccessToken({ sub, sid: randomUUID(), exp }, jwtSecret);
    },
    close,
  };
}
