import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { Agent, request } from 'undici';
import { afterEach, expect, test, vi } from 'vitest';
import { projectRoot } from '../../src/project.ts';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';

vi.setConfig({ testTimeout: patience(60_000) });

const db = useDatabase();
let child: ChildProcess | undefined;

afterEach(() => {
  child?.kill('SIGKILL');
});

/** An API whose log goes into something that nobody reads. */
async function serve(kind: 'pipe' | 'socket'): Promise<{ pid: number; origin: string }> {
  const port = await randomPort();
  const command = [process.execPath, join(projectRoot, 'src', 'cli.ts'), 'serve'];
  const env = {
    ...process.env,
    NODE_ENV: 'test',
    DATABASE_URL: db.url('owner'),
    GW_AUTHENTICATOR_PASSWORD: new URL(db.url('authenticator')).password,
    GW_JWT_SECRET: jwtSecret,
    GW_PORT: String(port),
    GW_LOG_LEVEL: 'info',
  };
  // Node gives its children sockets; a shell gives a pipe.
  child =
    kind === 'socket'
      ? spawn(command[0] ?? '', command.slice(1), { env, stdio: ['ignore', 'ignore', 'pipe'] })
      : spawn('bash', ['-c', `exec ${command.join(' ')} 2> >(exec sleep 600)`], {
          env,
          stdio: 'ignore',
        });
  const origin = `http://127.0.0.1:${port}`;
  await vi.waitUntil(
    () =>
      fetch(`${origin}/readyz`).then(
        ({ status }) => status === 200,
        () => false,
      ),
    { timeout: patience(20_000) },
  );
  return { pid: child.pid ?? 0, origin };
}

test.each(['pipe', 'socket'] as const)(
  'a reader of the log that stalls stalls nothing else: a %s',
  async (kind) => {
    const { origin } = await serve(kind);
    const agent = new Agent({ connections: 16 });
    const get = async (path: string) => {
      const { statusCode, body } = await request(`${origin}${path}`, { dispatcher: agent });
      return { statusCode, text: await body.text() };
    };
    // Far more than a pipe and the memory for it hold.
    for (let round = 0; round < 60; round += 1) {
      const answers = await Promise.all(Array.from({ length: 100 }, () => get('/nowhere')));
      expect(new Set(answers.map(({ statusCode }) => statusCode))).toEqual(new Set([404]));
    }
    expect((await get('/healthz')).statusCode).toBe(200);
    const { text } = await get('/metrics');
    const [, dropped] = /^gw_log_lines_dropped_total (\d+)$/m.exec(text) ?? [];
    expect(Number(dropped)).toBeGreaterThan(0);
    const exit = once(child as ChildProcess, 'exit');
    child?.kill('SIGTERM');
    expect(await exit).toEqual([0, null]);
  },
);

test('what ends a process is said in JSON', async () => {
  const url = new URL(db.url('owner'));
  url.password = 'wrong';
  for (const [env, code] of [
    [{ GW_PORT: 'many' }, 2],
    [{ DATABASE_URL: url.href, GW_AUTHENTICATOR_PASSWORD: 'certainly wrong' }, 3],
  ] as const) {
    const failing = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), 'serve'], {
      env: { ...process.env, NODE_ENV: 'test', GW_PORT: String(await randomPort()), ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let text = '';
    failing.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
    expect((await once(failing, 'close'))[0]).toBe(code);
    const lines = text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as object);
    expect(lines.at(-1)).toMatchObject({ level: 60, exit_code: code, hint: expect.any(String) });
    expect(text).not.toContain('certainly wrong');
  }
});
