import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLog } from '../../src/log.ts';
import { roleNames } from '../../src/postgres/roles.ts';
import { projectRoot } from '../../src/project.ts';
import { jwtSecret } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { planDue } from '../helpers/messages.ts';
import { patience } from '../helpers/patience.ts';
import { logEverything, serverLog } from '../helpers/server-log.ts';
import { sign } from '../helpers/stripe.ts';
import { Vendor } from '../helpers/vendor.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const vendor = new Vendor();
const webhookSecret = 'whsec_a_secret_of_the_tests';
const children: ChildProcess[] = [];
const output: Record<string, string> = { serve: '', worker: '' };
let origin = '';

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** A process as `gw up` starts it, whose log says all that it can. */
async function start(command: 'serve' | 'worker', env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), command], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: {
      ...process.env,
      NODE_ENV: 'test',
      DATABASE_URL: db.url('owner'),
      GW_LOG_LEVEL: 'trace',
      GW_METRICS_SAMPLE: '1',
      ...env,
    },
  });
  children.push(child);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output[command] += text;
    });
  }
  await once(child, 'message');
}

beforeAll(async () => {
  await vendor.start();
  // The log of the server says all that it can, too.
  await logEverything(db.as('superuser'), roleNames);
  const port = await freePort();
  origin = `http://127.0.0.1:${port}`;
  await start('serve', {
    GW_PORT: String(port),
    GW_JWT_SECRET: jwtSecret,
    GW_STRIPE_WEBHOOK_SECRET: webhookSecret,
  });
  await start('worker', { GW_DELIVERY_URL: vendor.url });
});

afterAll(async () => {
  for (const child of children) {
    child.kill('SIGTERM');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  await vendor.stop();
});

async function gql(query: string, variables: object = {}, token?: string) {
  const response = await fetch(`${origin}/graphql`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify({ query, variables }),
  });
  return (await response.json()) as {
    data?: Record<string, Record<string, Record<string, string>>>;
    errors?: { extensions: { code: string } }[];
  };
}

const traceId = randomUUID().replaceAll('-', '');
const email = 'ada.lovelace@secrets.example';
const password = 'correct horse battery staple';

type Line = Record<string, unknown> & { msg?: string };
const lines = (command: string): Line[] =>
  (output[command] ?? '').split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line) as Line];
    } catch {
      return [];
    }
  });

test('a day of a user leaves no secret in any log', { timeout: patience(90_000) }, async () => {
  const secrets = new Set<string>([
    email,
    encodeURIComponent(email),
    password,
    webhookSecret,
    jwtSecret,
  ]);
  const keep = (text: string | undefined): string => {
    expect(text).toBeTruthy();
    secrets.add(String(text));
    return String(text);
  };

  // Registers, signs in, mistypes a password.
  const registered = await gql(
    `mutation Join($email: String!, $password: String!) {
      register(input: { email: $email, password: $password, firstName: "Ada" }) {
        result { userId accessToken refreshToken }
      }
    }`,
    { email, password },
  );
  const { result } = registered.data?.register ?? {};
  const token = keep(result?.accessToken);
  keep(result?.refreshToken);
  const login = await gql(
    `mutation { login(input: { email: "${email}", password: "${password}" }) {
      result { accessToken refreshToken } } }`,
  );
  keep(login.data?.login?.result?.accessToken);
  keep(login.data?.login?.result?.refreshToken);
  const wrong = await gql(
    `mutation { login(input: { email: "${email}", password: "${keep('wrong-pass-1')}" }) {
      result { accessToken } } }`,
  );
  expect(wrong.errors?.[0]?.extensions.code).toBe('INVALID_CREDENTIALS');
  await gql('mutation { refreshSession(input: { refreshToken: "rt" }) { result { userId } } }');
  await fetch(`${origin}/graphql?query=${encodeURIComponent(`{ a(b: "${keep('in-the-url')}") }`)}`);
  await fetch(`${origin}/reset/${encodeURIComponent(email)}`);
  await fetch(`${origin}/graphql`, {
    method: 'POST',
    headers: { authorization: `Bearer ${keep('eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl')}` },
  });

  // Works, and fails in every way that a database has.
  const title = keep('Divorce lawyer at four');
  const tasks = `mutation ($title: String!, $status: TaskStatus) {
    createTask(input: { task: { title: $title, status: $status } }) { task { rowId } } }`;
  expect((await gql(tasks, { title }, token)).errors).toBeUndefined();
  expect((await gql(tasks, { title, status: 'nonsense' }, token)).errors?.length).toBe(1);
  const again = await gql(
    `mutation ($email: String!) {
      register(input: { email: $email, password: "another pass", firstName: "A" }) {
        result { userId } } }`,
    { email },
  );
  expect(again.errors?.[0]?.extensions.code).toBe('UNIQUE_VIOLATION');
  await gql('query ($id: UUID!) { task(rowId: $id) { title } }', { id: keep('not-a-uuid') }, token);

  // An error that nobody foresaw is logged whole; what PostgreSQL quotes in it is not.
  await db.as('superuser').unsafe(`
    create function public.fail_for_test() returns trigger language plpgsql as $$
    begin
      raise exception 'cannot keep "%"', new.title
        using errcode = 'P0001', detail = 'Failing row contains ' || new.title || '.',
          hint = new.title;
    end $$;
    create trigger _999_fail before insert on app_public.goals
      for each row execute function public.fail_for_test();
  `);
  const masked = await gql(
    'mutation ($title: String!) { createGoal(input: { goal: { title: $title } }) { goal { rowId } } }',
    { title: keep(`leave for ${email}`) },
    token,
  );
  expect(masked.errors?.[0]?.extensions.code).toBe('INTERNAL');

  // Stripe's webhook: with a bad signature, and with an event that cannot be applied.
  const post = (body: string, signature: string) =>
    fetch(`${origin}/webhooks/stripe`, {
      method: 'POST',
      headers: { 'stripe-signature': signature },
      body,
    });
  const body = JSON.stringify({ id: 1, object: 'event', email, note: keep('body-of-the-event') });
  expect((await post(body, sign(body, 'whsec_of_somebody_else'))).status).toBe(400);
  expect((await post(body, sign(body, webhookSecret))).status).not.toBe(200);

  // A message that is sent, one that is refused, and a vendor that says what it was given.
  const owner = db.as('owner');
  await owner`
    update app_private.message_templates set body = ${'Dearest {{full_name}}, be well'}`;
  const [sent, refused] = await planDue(owner, 2);
  for (const user of [sent, refused]) keep(user?.email);
  secrets.add('be well');
  vendor.answer = ({ body: message }) => ({
    status: message.to.userId === refused?.id ? 422 : 200,
    body: `echo: ${JSON.stringify(message)}`,
  });
  await eventually(async () => {
    const rows = await owner`
      select status from app_public.message_logs where status in ('SENT', 'FAILED')`;
    return rows.length === 2;
  }, 40_000);
  // One that the worker cannot mark: PostgreSQL's words quote the message.
  await db.as('superuser').unsafe(`
    create function public.fail_sending_for_test() returns trigger language plpgsql as $$
    begin
      raise exception 'cannot send "%"', new.message_content using errcode = '22023',
        detail = new.message_content;
    end $$;
    create trigger _999_fail before update on app_public.message_logs
      for each row when (new.status = 'SENDING') execute function public.fail_sending_for_test();
  `);
  await planDue(owner, 1);
  await eventually(async () => lines('worker').some(({ msg }) => msg === 'batch failed'));
  await eventually(async () => lines('worker').some(({ msg }) => msg === 'batch done'));
  await eventually(async () => lines('serve').some(({ path }) => path === '/webhooks/stripe'));

  for (const [process, text] of Object.entries(output)) {
    expect(text.length).toBeGreaterThan(100);
    for (const secret of secrets) {
      expect(text.includes(secret), `${process} has ${secret}`).toBe(false);
    }
  }

  // The server logged each of these statements, and none of their values.
  const ofServer = await serverLog(db.as('superuser'));
  expect(/app_public"?\."?login"?\(/.test(ofServer)).toBe(true);
  for (const secret of secrets) expect(ofServer.includes(secret), `server: ${secret}`).toBe(false);

  // The metrics of all that hold none either.
  await eventually(async () => {
    const rows = await db.as('superuser')`
      select from app_private.performance_metrics where metric_name = 'mutation createGoal'`;
    return rows.length > 0;
  });
  const [metrics] = await db.as('superuser')`
    select string_agg(m::text, ' ') as text from app_private.performance_metrics as m`;
  for (const secret of secrets) expect(metrics?.text.includes(secret), secret).toBe(false);

  // What logs are for is there: one line a request, with its ids.
  const requests = lines('serve').filter(({ msg }) => msg === 'request');
  const line = requests.find(({ operation }) => operation === 'Join');
  expect(line).toMatchObject({
    method: 'POST',
    path: '/graphql',
    status: 200,
    type: 'mutation',
    trace_id: traceId,
    request_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    ms: expect.any(Number),
  });
  expect(requests.find(({ operation }) => operation === 'createTask')).toMatchObject({
    user_id: result?.userId,
  });
  expect(new Set(requests.map(({ request_id }) => request_id)).size).toBe(requests.length);
  const error = lines('serve').find(({ msg }) => msg === 'masked error');
  const failed = requests.find(({ operation }) => operation === 'createGoal');
  expect(error).toMatchObject({
    request_id: failed?.request_id,
    trace_id: traceId,
    err: { code: 'P0001', message: 'cannot keep "…"' },
  });
  expect(failed).toMatchObject({ codes: ['INTERNAL'] });
  expect(failed).not.toHaveProperty('err');
});

describe('a log line', () => {
  const written = (write: (log: ReturnType<typeof createLog>) => void): string => {
    let text = '';
    const stream = new Writable({
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        done();
      },
    });
    write(createLog('test', 'trace', stream));
    return text;
  };

  test('never has what PostgreSQL says of rows and parameters', () => {
    const error = Object.assign(new Error('invalid input syntax for type uuid: "the value"'), {
      code: '22P02',
      detail: 'Key (email)=(the value) already exists.',
      where: "unnamed portal parameter $1 = 'the value'",
      internalQuery: "select 'the value'",
      query: "insert into t values ('the value')",
      parameters: ['the value'],
      constraint: 'users_email_key_where_open',
    });
    const text = written((log) => {
      log.error({ err: error }, 'one');
      log.error({ error }, 'two');
      log.error({ err: new Error('outer', { cause: error }) }, 'three');
      log.error(error, 'four');
    });
    expect(text).not.toContain('the value');
    expect(text.match(/users_email_key_where_open/g)).toHaveLength(4);
    expect(text.match(/22P02/g)).toHaveLength(4);
  });

  test('has no address, token or password of a URL, wherever it stands', () => {
    const text = written((log) =>
      log.error(
        {
          error: `no route to ada@example.com with Bearer abc.def and eyJhbGciOi.eyJzdWIi.sig at postgres://gw:hunter22@db/x`,
          err: new Error('450 <ada@example.com> is unknown'),
        },
        'failed',
      ),
    );
    expect(text).not.toMatch(/ada@|abc\.def|eyJ|hunter22/);
    expect(text).toContain('no route to [redacted]');
  });
});
