import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { expect, test } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { projectRoot } from '../../src/project.ts';
import { jwtSecret } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { readPage } from '../helpers/reference.ts';
import { useServed } from '../helpers/served.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const api = useServed(db);

/** The page's script, begun with an access token that ends soon. */
function follow(refreshToken: string, accessToken: string) {
  const [, script = ''] = /```js\n([\s\S]*?)```/.exec(readPage('live')) ?? [];
  const started = script.replace('let accessToken;', `let accessToken = '${accessToken}';`);
  if (started === script) throw new Error('the script does not begin as it did');
  const cache = join(projectRoot, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'live-'));
  writeFileSync(join(folder, 'live.mjs'), started);
  const child = spawn(process.execPath, [join(folder, 'live.mjs'), api.url, refreshToken]);
  const seen = { output: '', exitCode: undefined as number | null | undefined };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      seen.output += text;
    });
  }
  child.once('exit', (code) => {
    seen.exitCode = code;
  });
  return {
    seen,
    stop() {
      child.kill();
      rmSync(folder, { recursive: true });
    },
  };
}

const change = async (userId: string, title: string) =>
  db.as('owner')`insert into app_public.tasks (user_id, title) values (${userId}, ${title})`;

test('the script of the page goes on when its token expires, and ends when its session does', {
  timeout: patience(120_000),
}, async () => {
  const { userId, refreshToken } = await api.signUp('live@example.com');
  const [session] = await db.as('superuser')<{ id: string }[]>`
    select id from app_private.sessions where user_id = ${userId}`;
  const sid = session?.id ?? randomUUID();
  const exp = Math.floor(Date.now() / 1000) + 3;
  const client = follow(refreshToken, await signAccessToken({ sub: userId, sid, exp }, jwtSecret));
  try {
    await eventually(async () => client.seen.output.includes('4403 token expired'), 10_000);
    await eventually(async () => {
      await change(userId, 'after it expired');
      return client.seen.output.includes('"title":"after it expired"');
    }, 10_000);
    const valid = { sub: userId, sid, exp: exp + 600 };
    await fetch(api.url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: `Bearer ${await signAccessToken(valid, jwtSecret)}`,
      },
      body: '{"query":"mutation { logout(input: {}) { clientMutationId } }"}',
    });
    await eventually(async () => client.seen.output.includes('4401 session ended'));
    await eventually(async () => client.seen.exitCode !== undefined);
    expect(client.seen.output.match(/4403/g)).toHaveLength(1);
  } catch (error) {
    throw new Error(`the script said: ${client.seen.output}`, { cause: error });
  } finally {
    client.stop();
  }
});
