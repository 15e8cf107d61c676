import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { signAccessToken } from '../../src/api/tokens.ts';
import { randomPort } from '../../src/server/ports.ts';
import { jwtSecret } from '../helpers/api.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { GwProcess } from '../helpers/gw-process.ts';
import { hurryQueue, planOne } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

vi.setConfig({ testTimeout: patience(60_000) });

interface Span {
  name: string;
  kind: number;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  links?: { traceId: string }[];
  attributes: { key: string; value: object }[];
}

const db = useDatabase();
const vendor = new Vendor();
/** A collector of OpenTelemetry, as far as we speak with one: OTLP over HTTP, in JSON. */
const spans: Span[] = [];
const services = new Set<string>();
const collector = createServer((request, response) => {
  let text = '';
  request.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  request.on('end', () => {
    const { resourceSpans } = JSON.parse(text) as {
      resourceSpans: {
        resource: { attributes: { key: string; value: { stringValue?: string } }[] };
        scopeSpans: { spans: Span[] }[];
      }[];
    };
    for (const { resource, scopeSpans } of resourceSpans) {
      const name = resource.attributes.find(({ key }) => key === 'service.name');
      services.add(name?.value.stringValue ?? '');
      for (const scope of scopeSpans) spans.push(...scope.spans);
    }
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  });
});
let processes: GwProcess[] = [];

beforeAll(async () => {
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
  await vendor.start();
  await hurryQueue(db.as('owner'));
});
afterEach(async () => {
  await Promise.all(processes.map((each) => each.kill()));
  processes = [];
  spans.length = 0;
  vendor.deliveries.length = 0;
});
afterAll(async () => {
  collector.close();
  await vendor.stop();
});

const collect = () => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
  OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
  OTEL_BSP_SCHEDULE_DELAY: '100',
});

async function start(args: string[], env: Record<string, string>): Promise<GwProcess> {
  const started = new GwProcess(args, {
    DATABASE_URL: db.url('owner'),
    GW_AUTHENTICATOR_PASSWORD: new URL(db.url('authenticator')).password,
    GW_WORKER_PASSWORD: new URL(db.url('worker')).password,
    GW_JWT_SECRET: jwtSecret,
    GW_DELIVERY_URL: vendor.url,
    GW_LOG_LEVEL: 'info',
    ...env,
  });
  processes.push(started);
  await started.ready();
  return started;
}

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const callerSpan = '00f067aa0ba902b7';

async function ask(port: number, query: string, token: string): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      authorization: `Bearer ${token}`,
      traceparent: `00-${traceId}-${callerSpan}-01`,
    },
    body: JSON.stringify({ query }),
  });
}

const tokenOf = (sub: string) =>
  signAccessToken({ sub, sid: randomUUID(), exp: Math.floor(Date.now() / 1000) + 600 }, jwtSecret);

test('a request is a span in the trace of its caller, with what it plans, executes and asks', async () => {
  const port = await randomPort();
  const api = await start(['serve'], { GW_PORT: String(port), ...collect() });
  const { id, email } = await createUser(db.as('owner'), { first_name: 'Secretname' });
  const response = await ask(port, '{ viewer { email firstName } }', await tokenOf(id));
  expect(response.headers.get('traceresponse')).toContain(traceId);
  expect(await api.stop()).toBe(0);
  expect(services).toContain('groundwork-api');

  const mine = spans.filter((span) => span.traceId === traceId);
  const server = mine.find(({ kind }) => kind === 2);
  expect(server).toMatchObject({ name: 'query viewer', parentSpanId: callerSpan });
  const byName = (name: RegExp) => mine.find((span) => name.test(span.name));
  expect(byName(/^graphql execute$/)?.parentSpanId).toBe(server?.spanId);
  expect(byName(/^graphql plan$/)).toBeDefined();
  const statement = byName(/^select app_public\./);
  expect(statement).toMatchObject({ kind: 3 });
  // The log has the same trace, and no span a value.
  expect(api.output).toContain(`"trace_id":"${traceId}"`);
  const all = JSON.stringify(spans);
  for (const value of [email, 'Secretname', id]) expect(all).not.toContain(value);
});

test('a delivery goes on with the trace of what caused it, out to the receiver', async () => {
  const worker = await start(['worker'], collect());
  const sql = db.as('owner');
  await sql.begin(async (inner) => {
    await inner`select set_config('app.traceparent', ${`00-${traceId}-${callerSpan}-01`}, true)`;
    await planOne(inner);
  });
  await vendor.arrived(1);
  expect(await worker.stop()).toBe(0);
  await eventually(async () => spans.some(({ name }) => name === 'deliver http'));
  const call = spans.find(({ name }) => name === 'deliver http');
  expect(call).toMatchObject({ traceId, parentSpanId: callerSpan, kind: 3 });
  const batch = spans.find(({ name }) => name === 'message-send');
  expect(call?.links).toMatchObject([{ traceId: batch?.traceId }]);
  expect(vendor.deliveries[0]?.headers.traceparent).toBe(`00-${traceId}-${call?.spanId}-01`);
});

test('without its variables nothing is collected, and nothing goes out', async () => {
  const worker = await start(['worker'], {});
  await planOne(db.as('owner'));
  await vendor.arrived(1);
  expect(await worker.stop()).toBe(0);
  expect(vendor.deliveries[0]?.headers.traceparent).toBeUndefined();
  expect(spans).toEqual([]);
});

test('the line of a slow request has the ids by which pg_stat_statements knows its statements', async () => {
  const port = await randomPort();
  const api = await start(['serve'], { GW_PORT: String(port), GW_METRICS_SLOW_MS: '100' });
  const { id } = await createUser(db.as('owner'));
  const token = await tokenOf(id);
  let answer: Promise<Response> | undefined;
  const [goal] = await db.as('owner')<{ id: string }[]>`
    insert into app_public.goals (user_id, title) values (${id}, 'Slow') returning id`;
  await db.as('owner').begin(async (sql) => {
    await sql`select from app_public.goals where id = ${goal?.id ?? ''} for update`;
    const where = `rowId: "${goal?.id}"`;
    answer = ask(
      port,
      `mutation { updateGoal(input: { ${where}, patch: { title: "Slower" } }) { goal { title } } }`,
      token,
    );
    // Slow from when it waits, which the first request of a process does late.
    await eventually(async () => {
      const rows = await db.as('superuser')`
        select from pg_stat_activity
        where datname = current_database() and usename = 'gw_authenticator'
          and wait_event_type = 'Lock'`;
      return rows.length > 0;
    });
    await new Promise((resolve) => setTimeout(resolve, 600));
  });
  expect((await answer)?.status).toBe(200);
  const line = await eventually(async () =>
    api.output
      .split('\n')
      .filter((each) => each.includes('"query_ids"'))
      .map((each) => JSON.parse(each) as { query_ids: string[]; ms: number })
      .at(0),
  );
  expect(line.ms).toBeGreaterThan(500);
  const [found] = await db.as('superuser')`
    select query from pg_stat_statements where queryid = ${line.query_ids[0] ?? '0'}::bigint limit 1`;
  expect(found?.query).toContain('"goals"');
});
