import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { Pool } from 'undici';
import { type Api, startApi } from '../../src/api/server.ts';
import { signAccessToken } from '../../src/api/tokens.ts';
import { createLog } from '../../src/log.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { startScratch } from '../../src/server/scratch.ts';

/*
 * What recording costs: an API that records nothing against the same with the default share
 * and with everything, in short rounds that take turns.
 */
const pairs = 40;
const roundMs = 500;
const connections = 8;
const jwtSecret = 'a secret of the bench, with more than 32 characters';

const variants = { off: undefined, default: 0.05, everything: 1 } as const;
type Variant = keyof typeof variants;
const names = Object.keys(variants) as Variant[];

interface Running {
  child: ChildProcess;
  client: Pool;
}

async function startVariant(authenticatorUrl: string, variant: Variant): Promise<Api> {
  const sample = variants[variant];
  return startApi({
    authenticatorUrl,
    jwtSecret,
    host: '127.0.0.1',
    port: 0,
    poolSize: connections,
    log: createLog('api', 'warn'),
    ...(sample === undefined ? {} : { metrics: { sample, slowMs: 250 } }),
  });
}

/** The child: serves all variants until it is told to stop. */
async function serve(authenticatorUrl: string): Promise<void> {
  const apis: Api[] = [];
  for (const variant of names) apis.push(await startVariant(authenticatorUrl, variant));
  process.send?.(apis.map(({ port }) => port));
  process.on('message', async (asked) => {
    if (asked === 'cpu') {
      const { user, system } = process.cpuUsage();
      process.send?.(user + system);
    } else {
      await Promise.all(apis.map((api) => api.close()));
      process.disconnect();
    }
  });
}

/** One process for all: two would differ in more than what they record. */
async function start(authenticatorUrl: string): Promise<Record<Variant, Running>> {
  const child = fork(fileURLToPath(import.meta.url), ['serve', authenticatorUrl]);
  const [ports] = (await once(child, 'message')) as [number[]];
  const running = names.map((name, index) => {
    const client = new Pool(`http://127.0.0.1:${ports[index]}`, { connections });
    return [name, { child, client }];
  });
  return Object.fromEntries(running) as Record<Variant, Running>;
}

/** Microseconds of processor time that a child has used. */
async function cpu(child: ChildProcess): Promise<number> {
  child.send('cpu');
  const [used] = (await once(child, 'message')) as [number];
  return used;
}

interface Round {
  /** Answers in a second. */
  rate: number;
  /** Microseconds of processor time an answer, the database's not included. */
  cpu: number;
}

async function load({ child, client }: Running, body: string, token: string): Promise<Round> {
  const before = await cpu(child);
  const began = performance.now();
  let answers = 0;
  const ask = async (): Promise<void> => {
    while (performance.now() - began < roundMs) {
      const response = await client.request({
        path: '/graphql',
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
        body,
      });
      const text = await response.body.text();
      if (response.statusCode !== 200 || text.includes('"errors"')) throw new Error(text);
      answers += 1;
    }
  };
  await Promise.all(Array.from({ length: connections }, ask));
  const rate = (answers * 1000) / (performance.now() - began);
  return { rate, cpu: ((await cpu(child)) - before) / answers };
}

const median = (numbers: number[]): number => {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle - 0.5)] ?? 0) + (sorted[Math.ceil(middle - 0.5)] ?? 0)) / 2;
};

/** Off and on take turns in the order ABBA, so that neither always follows the other. */
async function compare(
  title: string,
  query: string,
  on: Exclude<Variant, 'off'>,
  running: Record<Variant, Running>,
  token: string,
): Promise<void> {
  const body = JSON.stringify({ query });
  for (const name of ['off', on] as const) await load(running[name], body, token);
  const rates: number[] = [];
  const processor: number[] = [];
  for (let pair = 0; pair < pairs; pair += 1) {
    const took: Partial<Record<Variant, Round>> = {};
    for (const name of pair % 2 === 0 ? (['off', on] as const) : ([on, 'off'] as const)) {
      took[name] = await load(running[name], body, token);
    }
    rates.push((took[on]?.rate ?? 0) / (took.off?.rate ?? 0));
    processor.push((took[on]?.cpu ?? 0) / (took.off?.cpu ?? 0));
  }
  process.stdout.write(
    `${title}: recording ${on} (${variants[on]}) / off: throughput ratio` +
      ` ${median(rates).toFixed(3)}, processor time of the API a request` +
      ` ${median(processor).toFixed(3)} (median of ${pairs} pairs)\n`,
  );
}

export async function run(): Promise<void> {
  process.env.GRAPHILE_ENV ??= 'production';
  const scratch = await startScratch('gw_bench');
  let running: Record<Variant, Running> | undefined;
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_bench');
    const [session] = await withSql(
      urls.owner,
      (sql) => sql<{ user_id: string; id: string }[]>`
        with made as (
          insert into app_public.users (email, first_name)
          values ('bench@example.com', 'Bench') returning id
        )
        select id as user_id, gen_random_uuid() as id from made`,
    );
    const token = await signAccessToken(
      {
        sub: session?.user_id ?? '',
        sid: session?.id ?? '',
        exp: Math.floor(Date.now() / 1000) + 3600,
      },
      jwtSecret,
    );
    running = await start(urls.authenticator);
    for (const on of ['default', 'everything'] as const) {
      await compare('hello, no SQL', '{ __typename }', on, running, token);
      await compare('hello, one statement', '{ viewer { firstName } }', on, running, token);
    }
  } finally {
    if (running !== undefined) {
      const { child } = running.off;
      await Promise.all(Object.values(running).map(({ client }) => client.destroy()));
      child.send('stop');
      await once(child, 'exit');
    }
    await scratch.stop();
  }
}

if (process.argv[2] === 'serve') await serve(process.argv[3] ?? '');
