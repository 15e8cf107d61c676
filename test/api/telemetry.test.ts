import { randomUUID } from 'node:crypto';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { MeasuredPool } from '../../src/postgres/measured-pool.ts';
import { parseTraceparent } from '../../src/trace.ts';
import { FileChannel } from '../../src/worker/channels/file.ts';
import { startWorker } from '../../src/worker/worker.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const all = useApi(db);
const slowOnly = useApi(db, 'silent', { metrics: { sample: 0, slowMs: 300 } });
const tiny = useApi(db, 'silent', { metrics: { sample: 1, slowMs: 1000, capacity: 3 } });

interface Row {
  metric_type: string;
  metric_name: string;
  duration_ms: number;
  user_id: string | null;
  session_id: string | null;
  request_id: string;
  endpoint: string;
  query_hash: string;
  user_agent: string;
  ip_address: string;
  metadata: { codes?: string[] };
}

const recorded = (requestId: string): Promise<Row[]> =>
  db.as('superuser')<Row[]>`
    select * from app_private.performance_metrics
    where request_id = ${requestId} order by metric_type, "timestamp"`;

async function send(
  origin: string,
  query: string,
  options: { token?: string; headers?: Record<string, string>; variables?: object } = {},
) {
  const requestId = randomUUID();
  const response = await fetch(`${origin}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-request-id': requestId,
      ...(options.token === undefined ? {} : { authorization: `Bearer ${options.token}` }),
      ...options.headers,
    },
    body: JSON.stringify({ query, variables: options.variables ?? {} }),
  });
  return { requestId, headers: response.headers, text: await response.text() };
}

test('each operation and each statement is recorded: whose, what, how long, and no value', async () => {
  const { accessToken, userId } = await all.register('recorded@example.com');
  const ask = (title: string) =>
    send(
      all.origin,
      `query Mine { viewer { email } searchTasks(query: "${title}") { nodes { title } } }`,
      { token: accessToken, headers: { 'user-agent': 'a browser' } },
    );
  const { requestId } = await ask('secret plan');
  const rows = await eventually(async () => {
    const found = await recorded(requestId);
    return found.some(({ metric_type }) => metric_type === 'api') && found;
  });
  const [operation, ...statements] = rows as [Row, ...Row[]];
  expect(operation).toMatchObject({
    metric_type: 'api',
    metric_name: 'query Mine',
    user_id: userId,
    endpoint: '/graphql',
    user_agent: 'a browser',
    ip_address: '127.0.0.1',
  });
  expect(operation.session_id).toMatch(/^[0-9a-f-]{36}$/);
  expect(operation.query_hash).toMatch(/^[0-9a-f]{64}$/);
  expect(statements.length).toBeGreaterThanOrEqual(2);
  expect(statements.map(({ metric_name }) => metric_name)).toContain(
    'select app_public.search_tasks',
  );
  for (const { metric_type, user_id, duration_ms } of statements) {
    expect([metric_type, user_id]).toEqual(['query', userId]);
    expect(duration_ms).toBeLessThanOrEqual(operation.duration_ms);
  }
  expect(JSON.stringify(rows)).not.toMatch(/secret plan|recorded@/);

  // Another literal, the same operation.
  const again = await ask('other plan');
  const [other] = await eventually(async () => {
    const found = await recorded(again.requestId);
    return found[0]?.metric_type === 'api' && found;
  });
  expect(other?.query_hash).toBe(operation.query_hash);
});

test('what failed is recorded with its code', async () => {
  const { requestId } = await send(
    all.origin,
    'mutation { login(input: { email: "nobody@example.com", password: "wrong" }) { result { userId } } }',
  );
  const [row] = await eventually(async () => {
    const found = await recorded(requestId);
    return found[0]?.metric_type === 'api' && found;
  });
  expect(row).toMatchObject({
    metric_name: 'mutation login',
    user_id: null,
    metadata: { codes: ['INVALID_CREDENTIALS'] },
  });
});

test('with a share of 0 only what is slow is recorded', async () => {
  const { accessToken: token } = await slowOnly.register('slow@example.com');
  // The first one of its kind is planned, which may be slow.
  const quick = await eventually(async () => {
    const began = performance.now();
    const answer = await send(slowOnly.origin, '{ tasks { totalCount } }', { token });
    return performance.now() - began < 200 && answer;
  });
  const gate = await db.as('owner').reserve();
  await gate`begin`;
  await gate`lock table app_public.goals in access exclusive mode`;
  const asked = send(slowOnly.origin, '{ goals { nodes { title } } }', { token });
  await eventually(async () => {
    const [row] = await db.as('superuser')`
      select from pg_locks where not granted and relation = 'app_public.goals'::regclass`;
    return row !== undefined;
  });
  await gate`select pg_sleep(0.4)`;
  await gate`commit`;
  gate.release();
  const slow = await asked;
  const rows = await eventually(async () => {
    const found = await recorded(slow.requestId);
    return found.length > 1 && found;
  });
  expect(rows.map(({ metric_name }) => metric_name)).toEqual([
    'query goals',
    'select app_public.goals',
  ]);
  expect(await recorded(quick.requestId)).toEqual([]);
});

test('a full buffer drops and counts; no request waits for it', async () => {
  const { accessToken: token } = await tiny.register('full@example.com');
  const gate = await db.as('owner').reserve();
  await gate`begin`;
  await gate`lock table app_private.performance_metrics in access exclusive mode`;
  for (let i = 0; i < 20; i += 1) {
    const began = performance.now();
    const { text } = await send(tiny.origin, '{ viewer { email } }', { token });
    expect(text).toContain('full@example.com');
    expect(performance.now() - began).toBeLessThan(2_000);
  }
  const dropped = async (): Promise<number> => {
    const text = await (await fetch(`${tiny.origin}/metrics`)).text();
    return Number(/^gw_measurements_total\{outcome="dropped"\} (\d+)$/m.exec(text)?.[1]);
  };
  expect(await dropped()).toBeGreaterThan(10);
  await gate`rollback`;
  gate.release();
  // What waited is written, and there is room again.
  await eventually(async () => {
    const text = await (await fetch(`${tiny.origin}/metrics`)).text();
    return /^gw_measurements_waiting 0$/m.test(text);
  });
  const { requestId } = await send(tiny.origin, '{ viewer { email } }', { token });
  await eventually(async () => (await recorded(requestId)).length > 0);
});

test.each(['api', 'worker'])('samples of the pool of %s are kept', async (name) => {
  const [sample] = await eventually(async () => {
    const rows = await db.as('superuser')`
      select * from app_private.connection_pool_stats where pool_name = ${name}
        and total_connections > 0`;
    return rows.length > 0 && rows;
  }, 25_000);
  expect(sample?.total_connections).toBe(sample?.active_connections + sample?.idle_connections);
  expect(sample).toMatchObject({ waiting_connections: 0, connection_errors: 0 });
  expect(Number(sample?.avg_connection_time_ms)).toBeGreaterThanOrEqual(0);
});

test('a sample says who waits for a connection, for how long, and how many got none', async () => {
  const options = { connectionString: db.url('authenticator'), max: 1, silenceMs: 5_000 };
  const pool = new MeasuredPool({ ...options, connectionTimeoutMillis: 200 });
  pool.on('error', () => {});
  try {
    const client = await pool.connect();
    const waiting = pool.connect();
    expect(pool.sample()).toMatchObject({ total: 1, active: 1, idle: 0, waiting: 1 });
    await expect(waiting).rejects.toThrow(/timeout/);
    const sample = pool.sample();
    expect(sample).toMatchObject({ waiting: 0, errors: 1 });
    expect(sample.maxMs).toBeGreaterThanOrEqual(199);
    client.release();
    expect(pool.sample()).toMatchObject({ active: 0, idle: 1, avgMs: null, errors: 0 });
    await pool.query('select 1');
    expect(pool.sample().avgMs).toBeLessThan(1_000);
  } finally {
    await pool.end();
  }
});

test("a request keeps the caller's trace and id, or gets its own", async () => {
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  const traced = await send(all.origin, '{ __typename }', { headers: { traceparent } });
  expect(traced.headers.get('x-request-id')).toBe(traced.requestId);
  const span = parseTraceparent(traced.headers.get('traceresponse') ?? '');
  expect(span).toMatchObject({ traceId: '4bf92f3577b34da6a3ce929d0e0e4736', flags: '01' });
  expect(span?.spanId).not.toBe('00f067aa0ba902b7');

  const headers = {
    traceparent: `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
    'x-request-id': 'a b',
  };
  const other = await send(all.origin, '{ __typename }', { headers });
  expect(other.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  const made = parseTraceparent(other.headers.get('traceresponse') ?? '');
  expect(made?.traceId).not.toBe('0'.repeat(32));
});

const lines: { msg?: string; trace_ids?: string[]; trace_id?: string; request_id?: string }[] = [];
const stream = new Writable({
  write(chunk: Buffer, _encoding, done) {
    lines.push(JSON.parse(chunk.toString()));
    done();
  },
});
let worker: Awaited<ReturnType<typeof startWorker>>;
beforeAll(async () => {
  worker = await startWorker({
    workerUrl: db.url('worker'),
    channel: new FileChannel('/dev/null'),
    log: createLog('worker', 'trace', stream),
  });
});
afterAll(() => worker?.close());

test('a trace goes from the request over the job that its transaction inserts to the worker', async () => {
  // What any function does that queues a job for a user's change.
  await db.as('superuser').unsafe(`
    create function public.queue_for_test() returns trigger
    language plpgsql security definer as $$
    begin
      insert into pgboss.job (name, data)
      values ('message-send', jsonb_build_object(
        'user_id', new.user_id, 'message_id', new.id, 'scheduled_send_time', now(),
        'traceparent', app_hidden.current_traceparent()));
      return null;
    end $$;
    create trigger _999_queue after insert on app_public.goals
      for each row execute function public.queue_for_test();
  `);
  const { accessToken: token } = await all.register('traced@example.com');
  const traceId = randomUUID().replaceAll('-', '');
  const { headers } = await send(
    all.origin,
    'mutation { createGoal(input: { goal: { title: "Trace" } }) { goal { rowId } } }',
    { token, headers: { traceparent: `00-${traceId}-00f067aa0ba902b7-01` } },
  );
  const [job] = await db.as('superuser')`
    select data ->> 'traceparent' as traceparent from pgboss.job
    where data ->> 'traceparent' like ${`%${traceId}%`}`;
  expect(job?.traceparent).toBe(headers.get('traceresponse'));
  await eventually(async () => lines.some(({ trace_ids }) => trace_ids?.includes(traceId)));
});

test('a session that sets no trace, or a wrong one, gives its jobs none', async () => {
  await db.as('owner').begin(async (sql) => {
    const current = async () =>
      (await sql`select app_hidden.current_traceparent() as traceparent`)[0]?.traceparent;
    expect(await current()).toBeNull();
    await sql`select set_config('app.traceparent', 'ada@example.com', true)`;
    expect(await current()).toBeNull();
  });
});
