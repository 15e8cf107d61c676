import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { Pool } from 'undici';
import { signAccessToken } from '../../src/api/tokens.ts';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { withSql } from '../../src/postgres/connect.ts';
import { projectRoot } from '../../src/project.ts';
import { randomPort } from '../../src/server/ports.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { cpuOf, median } from './measure.ts';

/*
 * What spans cost: `gw serve` without OpenTelemetry, sending every span, and sending those of a
 * twentieth of the requests, in short rounds that take turns.
 */
const rounds = 30;
const roundMs = 500;
const connections = 8;
const jwtSecret = 'a secret of the bench, with more than 32 characters';

interface Running {
  child: ChildProcess;
  client: Pool;
}

const variants = {
  off: {},
  everything: { OTEL_TRACES_SAMPLER: 'always_on' },
  twentieth: { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.05' },
} satisfies Record<string, Record<string, string>>;
type Variant = keyof typeof variants;

async function start(env: Record<string, string>): Promise<Running> {
  const port = await randomPort();
  const child = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), 'serve'], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    env: { ...process.env, GW_LOG_LEVEL: 'warn', GW_PORT: String(port), ...env },
  });
  await once(child, 'message');
  return { child, client: new Pool(`http://127.0.0.1:${port}`, { connections }) };
}

/** Requests in a second, and milliseconds of CPU for 1,000. */
async function load({ child, client }: Running, token: string): Promise<[number, number]> {
  const before = cpuOf(child.pid ?? 0);
  const began = performance.now();
  let answers = 0;
  const ask = async (): Promise<void> => {
    while (performance.now() - began < roundMs) {
      const { statusCode, body } = await client.request({
        path: '/graphql',
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
        body: '{"query":"{ viewer { firstName } }"}',
      });
      const text = await body.text();
      if (statusCode !== 200) throw new Error(text);
      answers += 1;
    }
  };
  await Promise.all(Array.from({ length: connections }, ask));
  const rate = (answers * 1_000) / (performance.now() - began);
  return [rate, ((cpuOf(child.pid ?? 0) - before) / answers) * 1_000];
}

/** Prints the medians of each variant, and their ratios to the one without spans. */
export async function run(): Promise<void> {
  const scratch = await startScratch('gw_bench');
  let received = 0;
  const collector = createServer((request, response) => {
    request.on('data', (chunk: Buffer) => {
      received += chunk.length;
    });
    request.on('end', () => response.end());
  });
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
  const running: [Variant, Running][] = [];
  try {
    const { urls } = await createMigrated(scratch.superuserUrl, 'gw_bench');
    const [user] = await withSql(
      urls.owner,
      (sql) => sql<{ id: string }[]>`
        insert into app_public.users (email, first_name) values ('bench@example.com', 'Bench')
        returning id`,
    );
    const exp = Math.floor(Date.now() / 1_000) + 3_600;
    const token = await signAccessToken({ sub: user?.id ?? '', sid: randomUUID(), exp }, jwtSecret);
    const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
    for (const [name, env] of Object.entries(variants) as [Variant, Record<string, string>][]) {
      const otel = name === 'off' ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, ...env };
      const base = { NODE_ENV: 'test', DATABASE_URL: urls.owner, GW_JWT_SECRET: jwtSecret };
      const password = { GW_AUTHENTICATOR_PASSWORD: new URL(urls.authenticator).password };
      running.push([name, await start({ ...base, ...password, ...otel })]);
    }
    const figures = new Map(running.map(([name]) => [name, [] as [number, number][]]));
    for (const [, each] of running) await load(each, token);
    for (let round = 0; round < rounds; round += 1) {
      const turn = round % 2 === 0 ? running : running.toReversed();
      for (const [name, each] of turn) figures.get(name)?.push(await load(each, token));
    }
    const of = (name: Variant, column: 0 | 1) =>
      (figures.get(name) ?? []).map((row) => row[column]);
    for (const [name] of running) {
      const ratio = (column: 0 | 1) =>
        median(of(name, column).map((value, index) => value / (of('off', column)[index] ?? 1)));
      process.stdout.write(
        `${name.padEnd(10)} ${median(of(name, 0)).toFixed(0)} requests/s (ratio ${ratio(0).toFixed(2)})` +
          `, CPU of 1,000: ${median(of(name, 1)).toFixed(0)} ms (ratio ${ratio(1).toFixed(2)})\n`,
      );
    }
    process.stdout.write(`the collector was sent ${(received / 1e6).toFixed(1)} MB\n`);
  } finally {
    for (const [, { child, client }] of running) {
      await client.destroy();
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    collector.close();
    collector.closeAllConnections();
    await scratch.stop();
  }
}
