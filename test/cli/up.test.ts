import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * The whole system in one terminal, as a stranger runs it: one story in the order in which
 * it happens, on a cluster and ports of its own. It waits for pg_cron's full minute once.
 */
const checkout = new Checkout();
const squatters: Server[] = [];

type Pids = Record<string, number>;
const pids = (): Pids => checkout.json<Pids>('.groundwork', 'pids.json');

/** Whether a process runs. One that ended and that init has not collected does not. */
function isAlive(pid: number | undefined): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3) !== 'Z';
  } catch {
    return false;
  }
}

type Up = ChildProcess & { output: () => string };

async function start(): Promise<Up> {
  const up = checkout.start(['up']);
  await eventually(async () => {
    if (up.exitCode !== null) throw new Error(up.output());
    return up.output().includes('Ctrl-C stops everything');
  }, 60_000);
  return up;
}

const origin = (up: Up): string => /GraphiQL +(http:\S+)\//.exec(up.output())?.[1] ?? '';
const tokenIn = (up: Up): string => /Token of \S+ +(\S+)/.exec(up.output())?.[1] ?? '';

async function query(up: Up, document: string, token?: string): Promise<unknown> {
  const response = await fetch(`${origin(up)}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify({ query: document }),
  });
  return response.json();
}

async function stop(up: Up, signal: NodeJS.Signals): Promise<Pids> {
  const running = pids();
  up.kill(signal);
  await once(up, 'exit');
  return running;
}

let first: Up;

beforeAll(async () => {
  // Somebody else has the default ports.
  for (const port of [5432, 5678]) {
    const squatter = createServer();
    squatter.on('error', () => {});
    squatter.listen(port, '127.0.0.1');
    squatters.push(squatter);
  }
  first = await start();
}, patience(90_000));

afterAll(async () => {
  await checkout.remove();
  for (const squatter of squatters) squatter.close();
}, patience(60_000));

test('npm start, from nothing to messages delivered', { timeout: patience(240_000) }, async () => {
  // GraphQL answers, on a port that was free, and so does its console.
  const { apiPort, postgresPort } = checkout.json<{ apiPort: number; postgresPort: number }>(
    '.groundwork',
    'state.json',
  );
  expect(apiPort).not.toBe(5678);
  expect(postgresPort).not.toBe(5432);
  expect(origin(first)).toBe(`http://127.0.0.1:${apiPort}`);
  expect(await query(first, '{ viewer { email } }', tokenIn(first))).toEqual({
    data: { viewer: { email: 'demo1@example.com' } },
  });
  expect(await (await fetch(`${origin(first)}/`)).text()).toMatch(/graphiql|ruru/i);
  const ready = await fetch(`${origin(first)}/readyz`);
  expect(ready.status).toBe(200);
  expect(await ready.json()).toEqual({
    ready: true,
    checks: { database: 'ok', migrations: 'ok', role: 'ok', worker: 'ok', cdc: 'ok' },
  });
  expect(Object.keys(pids()).sort()).toEqual(['api', 'cdc', 'postgres', 'up', 'worker']);
  for (const name of ['secrets.json', 'pids.json', 'state.json']) {
    expect(statSync(checkout.path('.groundwork', name)).mode & 0o077, name).toBe(0);
  }

  // A second start in the same checkout is refused, and says by whom.
  const second = await checkout.run(['up']);
  expect(second.code).toBe(2);
  expect(second.stderr).toContain(`process ${pids().up}`);

  // A child that dies is started again, and said.
  const before = pids().worker;
  process.kill(before as number, 'SIGKILL');
  await eventually(async () => /worker +is back/.test(first.output()));
  expect(first.output()).toMatch(/worker +died \(SIGKILL\)/);
  expect(pids().worker).not.toBe(before);
  // One that dies again and again is started later each time.
  expect(first.output()).toContain('starting it again in 0.5 s');
  process.kill(pids().worker as number, 'SIGKILL');
  await eventually(async () => (first.output().match(/worker +is back/g) ?? []).length === 2);
  expect(first.output()).toContain('starting it again in 1 s');

  // One that hangs is ended, and started again.
  const hanging = pids().api as number;
  process.kill(hanging, 'SIGSTOP');
  await eventually(async () => ![undefined, hanging].includes(pids().api), 60_000);
  expect(first.output()).toMatch(/api +does not answer for 15 s/);
  // One that only takes long to start is not: a busy machine would never see it work.
  const starting = pids().api as number;
  process.kill(starting, 'SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 16_000));
  process.kill(starting, 'SIGCONT');
  await eventually(async () => /api +is back/.test(first.output()), 60_000);
  expect(pids().api).toBe(starting);

  // The dashboard follows the tasks.
  const created = `mutation { createTask(input: { task: { title: "Follow" } }) { clientMutationId } }`;
  const day = '{ userDashboardAggregates { nodes { tasksCreated } } }';
  const dashboard = async () => JSON.stringify(await query(first, day, tokenIn(first)));
  const dayBefore = await dashboard();
  await query(first, created, tokenIn(first));
  await eventually(async () => (await dashboard()) !== dayBefore);

  // The scripts' commands.
  const token = await checkout.run(['token', '--email', 'demo2@example.com']);
  expect(await query(first, '{ viewer { email } }', token.stdout.trim())).toEqual({
    data: { viewer: { email: 'demo2@example.com' } },
  });
  const refused = await checkout.run(['token', '--email', 'demo2@example.com'], {
    NODE_ENV: 'production',
  });
  expect(refused).toMatchObject({ code: 2, stdout: '' });
  const url = await checkout.run(['db', 'url', '--role', 'readonly']);
  expect(url.stdout).toMatch(/^postgres:\/\/gw_readonly:[^@]+@127\.0\.0\.1:\d+\/groundwork\n$/);
  const status = await checkout.run(['status', '--json']);
  expect(status).toMatchObject({
    code: 0,
    stdout: '{"pending":[],"conflict":null,"uncommitted":false}\n',
  });

  // A migration that is being written shows in the API without a restart.
  const current = checkout.path('migrations', 'current', '0001-flag.sql');
  const watch = checkout.start(['watch']);
  const runs = () => (watch.output().match(/Finished \(/g) ?? []).length;
  await eventually(async () => watch.output().includes('watching') && runs() === 1);
  writeFileSync(
    current,
    `alter table app_public.tasks drop column if exists flag;
     alter table app_public.tasks add column flag text;
     grant select (flag) on app_public.tasks to app_user;
     comment on column app_public.tasks.flag is 'A flag.';\n`,
  );
  await eventually(async () => {
    const answer = await query(first, '{ __type(name: "Task") { fields { name } } }');
    return JSON.stringify(answer).includes('"flag"');
  });
  await eventually(async () => runs() === 2);
  // Files that are saved together run once.
  const title = checkout.path('migrations', 'fixtures', 'functions', 'flag_title.sql');
  writeFileSync(title, "comment on column app_public.tasks.flag is 'The flag.';\n");
  writeFileSync(current, `${readFileSync(current, 'utf8')}--!include functions/flag_title.sql\n`);
  await eventually(async () => runs() === 3);
  // An error in it is shown where it was written, and nothing stops.
  writeFileSync(current, 'select 1;\n\ncreate table app_public.x (id uuid, nope typo);\n');
  await eventually(async () => /code: 42704/.test(watch.output()));
  expect(runs()).toBe(3);
  expect(watch.output()).toContain('--> migrations/current/0001-flag.sql:3:');
  expect(watch.output()).toMatch(/3 \| create table .*\n +\| +\^\n/);
  rmSync(current);
  await stop(watch, 'SIGTERM');

  // The demo users whose birthday it is today get their messages, each exactly once.
  const { sql, end } = await (async () => {
    const { connect } = await import('../../src/postgres/connect.ts');
    const pool = connect((await checkout.run(['db', 'url', '--role', 'owner'])).stdout.trim());
    return { sql: pool, end: () => pool.end() };
  })();
  const [due] = await sql`
    select count(*)::integer as users from app_public.users
    where app_hidden.month_day(birthday_date)
        = app_hidden.month_day((now() at time zone timezone)::date)
      and (now() at time zone timezone)::time between time '09:00' and time '20:30'`;
  expect(due?.users).toBeGreaterThanOrEqual(20);
  // The demo data's history of messages is older.
  const isNew = sql`scheduled_send_time > now() - interval '12 hours'`;
  await eventually(async () => checkout.outbox().length >= due?.users, 90_000);
  await eventually(async () => {
    const [left] = await sql`
      select count(*)::integer as rows from app_public.message_logs
      where scheduled_send_time <= now() and status <> 'SENT' and ${isNew}`;
    return left?.rows === 0;
  });
  const keys = checkout.outbox().map(({ idempotencyKey }) => idempotencyKey);
  expect(new Set(keys).size).toBe(keys.length);
  // The link in a message leads to this API.
  const link = checkout.outbox()[0]?.unsubscribeUrl ?? '';
  expect(link.startsWith(`${origin(first)}/unsubscribe?token=`)).toBe(true);
  expect((await fetch(link)).status).toBe(200);
  const sent = await sql<{ key: string }[]>`
    select idempotency_key as key from app_public.message_logs
    where status = 'SENT' and ${isNew}`;
  expect(keys.sort()).toEqual(sent.map(({ key }) => key).sort());
  await end();

  // Stopped by a signal, nothing is left of it.
  const running = await stop(first, 'SIGTERM');
  expect(first.exitCode).toBe(0);
  for (const name of ['api', 'worker', 'cdc', 'up'])
    expect(isAlive(running[name]), name).toBe(false);
  expect((await checkout.run(['db', 'status', '--json'])).code).toBe(3);
  expect(() => pids()).toThrow('ENOENT');

  // Started again: the same cluster, the same port. Killed outright: children end by
  // themselves, and the next start carries on.
  const again = await start();
  expect(origin(again)).toBe(`http://127.0.0.1:${apiPort}`);
  expect(again.output()).not.toMatch(/demo data|created/);
  expect(isAlive(pids().api)).toBe(true);
  const orphans = await stop(again, 'SIGKILL');
  const last = await start();
  for (const name of ['api', 'worker', 'cdc', 'up'])
    expect(isAlive(orphans[name]), name).toBe(false);
  expect(origin(last)).toBe(`http://127.0.0.1:${apiPort}`);

  // A reset stops what works on the database, and starts it again.
  const stale = pids();
  const reset = await checkout.run(['reset', '--yes']);
  expect(reset.code, reset.stderr).toBe(0);
  const names = ['api', 'worker', 'cdc'];
  await eventually(async () => names.every((name) => pids()[name]));
  for (const name of names) expect(pids()[name], name).not.toBe(stale[name]);
  await eventually(
    async () => (await fetch(`${origin(last)}/readyz`).catch(() => undefined))?.status === 200,
    30_000,
  );
  expect(last.output()).not.toMatch(/ died /);
  await stop(last, 'SIGINT');
  expect(last.exitCode).toBe(0);
  expect((await checkout.run(['db', 'status', '--json'])).code).toBe(3);
});
