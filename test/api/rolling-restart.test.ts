import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret } from '../helpers/api.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { BareSocket } from '../helpers/live.ts';
import { patience } from '../helpers/patience.ts';

vi.setConfig({ testTimeout: patience(120_000) });

const db = useDatabase();
let token = '';
let userId = '';

/** One process of several behind a balancer. */
class Replica {
  readonly port: number;
  process: GwProcess;
  /** What the balancer knows. */
  isReady = true;

  constructor(port: number) {
    this.port = port;
    this.process = this.#start();
  }

  async restart(): Promise<number | null> {
    const code = await this.process.stop();
    this.process = this.#start();
    await this.process.ready();
    return code;
  }

  #start(): GwProcess {
    return new GwProcess(['serve'], {
      DATABASE_URL: db.url('owner'),
      GW_AUTHENTICATOR_PASSWORD: new URL(db.url('authenticator')).password,
      GW_JWT_SECRET: jwtSecret,
      GW_PORT: String(this.port),
      GW_DRAIN_SECONDS: '2',
      GW_POOL_SIZE: '3',
    });
  }
}

let replicas: Replica[] = [];

async function post(port: number, query: string, dispatcher: Agent, headers = {}): Promise<string> {
  const { statusCode, body } = await request(`http://127.0.0.1:${port}/graphql`, {
    method: 'POST',
    dispatcher,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
    body: JSON.stringify({ query }),
  });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`${statusCode}: ${text}`);
  return text;
}

const readyz = async ({ port }: Replica, dispatcher?: Agent): Promise<[number, string]> => {
  const url = `http://127.0.0.1:${port}/readyz`;
  const { statusCode, body } = await request(url, dispatcher === undefined ? {} : { dispatcher });
  return [statusCode, await body.text()];
};

beforeAll(async () => {
  ({ id: userId } = await createUser(db.as('owner')));
  const exp = Math.floor(Date.now() / 1000) + 600;
  token = await signAccessToken({ sub: userId, sid: randomUUID(), exp }, jwtSecret);
  for (let count = 0; count < 3; count += 1) replicas.push(new Replica(await randomPort()));
  await Promise.all(replicas.map(({ process }) => process.ready()));
}, patience(60_000));

afterAll(async () => {
  await Promise.all(replicas.map(({ process }) => process.kill()));
  replicas = [];
});

test('restarting one after the other fails no request, with keep-alive and without', async () => {
  let isOver = false;
  const failures: string[] = [];
  let answered = 0;
  const health = new Agent({ headersTimeout: 1_000 });
  const balancer = Promise.all(
    replicas.map(async (replica) => {
      while (!isOver) {
        replica.isReady = await readyz(replica, health).then(
          ([status]) => status === 200,
          () => false,
        );
        await sleep(100);
      }
    }),
  );
  const clients = [false, false, false, true, true].map(async (isShort, index) => {
    const agent = new Agent({ connections: 4 });
    const headers = isShort ? { connection: 'close' } : {};
    for (let turn = index; !isOver; turn += 1) {
      const ready = replicas.filter(({ isReady }) => isReady);
      const { port } = ready[turn % ready.length] ?? replicas[0] ?? { port: 0 };
      const query =
        turn % 4 === 0
          ? 'mutation { createTask(input: { task: { title: "During a restart" } }) { task { rowId } } }'
          : '{ viewer { rowId } }';
      await post(port, query, agent, headers).then(
        (text) => {
          answered += 1;
          if (text.includes('errors')) failures.push(text);
        },
        (error: unknown) => failures.push(String(error)),
      );
      await sleep(5);
    }
    await agent.close();
  });
  for (const replica of replicas) {
    expect(await replica.restart()).toBe(0);
    // The balancer sends it requests again.
    await vi.waitUntil(() => replica.isReady, patience(10_000));
    await sleep(300);
  }
  isOver = true;
  await Promise.all([balancer, ...clients]);
  expect(failures).toEqual([]);
  expect(answered).toBeGreaterThan(500);
  const [made] = await db.as('owner')`
    select count(*)::integer as count from app_public.tasks where user_id = ${userId}`;
  expect(made?.count).toBeGreaterThan(100);
});

test('what runs at SIGTERM is answered, and sockets are told to come back one after the other', async () => {
  const [replica] = replicas as [Replica];
  const sql = db.as('owner');
  const [task] = await sql<{ id: string }[]>`
    insert into app_public.tasks (user_id, title) values (${userId}, 'Locked') returning id`;
  const sockets = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const socket = new BareSocket(replica.port);
      await socket.signIn(token);
      return socket;
    }),
  );
  const agent = new Agent();
  const asked = Date.now();
  const closings = sockets.map(async ({ closed }) => ({
    ...(await closed),
    at: Date.now() - asked,
  }));
  let answer: Promise<string> | undefined;
  let stopped: Promise<number | null> | undefined;
  await sql.begin(async (inner) => {
    await inner`select from app_public.tasks where id = ${task?.id ?? ''} for update`;
    answer = post(
      replica.port,
      `mutation { updateTask(input: { rowId: "${task?.id}",
        patch: { title: "Written" } }) { task { title } } }`,
      agent,
    );
    answer.catch(() => {});
    await vi.waitUntil(async () => {
      const [waiting] = await db.as('superuser')`
        select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
      return waiting !== undefined;
    });
    stopped = replica.process.stop();
    // Not ready, and still answering.
    await vi.waitUntil(async () => (await readyz(replica))[0] === 503);
    expect((await readyz(replica))[1]).toContain('is about to end');
    expect(await post(replica.port, '{ viewer { rowId } }', agent)).toContain(userId);
    // Longer than it drains.
    await sleep(3_000);
  });
  expect(await answer).toContain('Written');
  expect(await stopped).toBe(0);
  const ended = await Promise.all(closings);
  expect(new Set(ended.map(({ code }) => code))).toEqual(new Set([1001]));
  const moments = ended.map(({ at }) => at).sort((one, other) => one - other);
  expect((moments.at(-1) ?? 0) - (moments[0] ?? 0)).toBeGreaterThan(1_000);
  replicas.splice(0, 1);
});
