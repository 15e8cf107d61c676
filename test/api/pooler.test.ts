import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret, useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { findProgram } from '../helpers/debian.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const one = useApi(db, 'silent', { poolSize: 1 });
const folder = mkdtempSync(join(tmpdir(), 'groundwork-pooler-'));
let program: string;
const poolers: ChildProcess[] = [];

beforeAll(async () => {
  program = await findProgram(['pgbouncer'], 'pgbouncer');
  chmodSync(folder, 0o777);
}, patience(120_000));
afterAll(() => {
  for (const pooler of poolers) pooler.kill();
  rmSync(folder, { recursive: true });
});

/** PgBouncer in front of the test's server; returns the URL of gw_authenticator through it. */
async function startPooler(mode: 'session' | 'transaction'): Promise<URL> {
  const [url, port] = [new URL(db.url('authenticator')), await randomPort()];
  const file = join(folder, `${mode}.ini`);
  writeFileSync(
    file,
    `[databases]
* = host=${url.hostname} port=${url.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${join(folder, 'users.txt')}
pool_mode = ${mode}
ignore_startup_parameters = extra_float_digits
`,
  );
  writeFileSync(
    join(folder, 'users.txt'),
    `"${url.username}" "${decodeURIComponent(url.password)}"\n`,
  );
  // It does not run as root.
  const user = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  poolers.push(spawn(program, ['-q', ...user, file], { stdio: 'ignore' }));
  await eventually(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(true));
        socket.on('error', () => resolve(false)).unref();
        socket.on('connect', () => socket.end());
      }),
  );
  url.port = String(port);
  url.hostname = '127.0.0.1';
  return url;
}

async function serve(url: URL): Promise<GwProcess> {
  const owner = new URL(db.url('owner'));
  owner.host = url.host;
  const port = await randomPort();
  return new GwProcess(['serve'], {
    DATABASE_URL: owner.href,
    GW_AUTHENTICATOR_PASSWORD: decodeURIComponent(url.password),
    GW_JWT_SECRET: jwtSecret,
    GW_PORT: String(port),
  });
}

test('a pooler in transaction mode is refused with a sentence, one in session mode is not', {
  timeout: patience(60_000),
}, async () => {
  const refused = await serve(await startPooler('transaction'));
  await refused.ended();
  expect(refused.exitCode).toBe(2);
  expect(refused.output).toMatch(
    /error: there is a pooler in transaction mode at 127\.0\.0\.1:\d+/,
  );
  expect(refused.output).toContain('pool_mode = session');
  expect(refused.output).not.toContain(jwtSecret);
  const served = await serve(await startPooler('session'));
  await served.ready();
  // It was told to stop as soon as it was ready, and stopped in order.
  expect(await served.stop()).toBe(0);
});

const settings = '{ userSetting { theme } }';

test('a statement that the server has forgotten is prepared again', async () => {
  const { accessToken } = await one.register('forgotten@example.com');
  await db.as('superuser').unsafe(`
    create function app_private.tg_forget() returns trigger language plpgsql as
      $$ begin execute 'deallocate all'; return new; end $$;
    create trigger _999_forget before insert on app_public.goals for each row
      execute function app_private.tg_forget()`);
  const goal = (title: string) =>
    `mutation { createGoal(input: { goal: { title: "${title}" } }) { goal { title } } }`;
  for (let n = 0; n < 3; n += 1) {
    expect(await one.codes(settings, {}, accessToken)).toEqual([]);
    // The first of them has it prepared; the next ones find it gone.
    expect(await one.codes(goal(`goal ${n}`), {}, accessToken)).toEqual([]);
  }
  const [row] = await db.as('owner')`select count(*)::int as goals from app_public.goals`;
  expect(row?.goals).toBe(3);
});

test('a statement whose result the schema has changed is prepared again', async () => {
  const { accessToken } = await one.register('changed@example.com');
  const lists = '{ lists { nodes { name } } }';
  const make = 'mutation { createList(input: { list: { name: "kept" } }) { clientMutationId } }';
  expect(await one.codes(make, {}, accessToken)).toEqual([]);
  for (const type of ['varchar(20)', 'varchar(30)', 'text']) {
    for (let n = 0; n < 2; n += 1) {
      const { data, errors } = await one.query(lists, {}, accessToken);
      expect(errors, type).toEqual([]);
      expect(data).toEqual({ lists: { nodes: [{ name: 'kept' }] } });
    }
    await db.as('owner').unsafe(`alter table app_public.lists alter column name type ${type}`);
  }
  expect(await one.codes(lists, {}, accessToken)).toEqual([]);
});
