import { expect, inject, test } from 'vitest';
import { withSql } from '../../src/postgres/connect.ts';
import { databaseName } from '../../src/postgres/urls.ts';
import { useApi } from '../helpers/api.ts';
import { expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';
import { planDue } from '../helpers/messages.ts';
import { eventually } from '../helpers/wait.ts';

const token = 'a-token-of-the-tests';
const db = useDatabase();
const api = useApi(db);
const guarded = useApi(db, 'silent', { metrics: { sample: 0, slowMs: 1000, token } });
const apart = useApi(db, 'silent', { metrics: { sample: 0, slowMs: 1000, port: 0 } });

const scrape = async (): Promise<string> => (await fetch(`${api.origin}/metrics`)).text();

/** The value of a series, labels as Prometheus writes them. */
function figure(text: string, series: string): number | undefined {
  const line = text.split('\n').find((each) => each.startsWith(`${series} `));
  return line === undefined
    ? undefined
    : Number(line.slice(series.length + 1).replace('Inf', 'Infinity'));
}

/** Figures of the database are up to five seconds old. */
const eventuallyIs = (series: string, isRight: (value: number) => boolean): Promise<true> =>
  eventually(async () => {
    const value = figure(await scrape(), series);
    return value !== undefined && isRight(value) ? true : undefined;
  }, 15_000);

test('/metrics has every figure that is promised', async () => {
  const text = await scrape();
  for (const name of [
    'gw_http_requests_total',
    'gw_graphql_operations_total',
    'gw_graphql_errors_total',
    'gw_graphql_duration_seconds',
    'gw_statement_duration_seconds',
    'gw_pool_connections',
    'gw_measurements_total',
    'gw_database_up',
    'gw_queue_jobs',
    'gw_queue_oldest_seconds',
    'gw_messages',
    'gw_message_lateness_seconds',
    'gw_partition_months_ahead',
    'gw_backup_age_seconds',
    'gw_query_cache_hits_total',
    'gw_alerts_open',
    'gw_database_connections',
    'process_cpu_seconds_total',
    'nodejs_eventloop_lag_seconds',
  ]) {
    expect(text).toMatch(new RegExp(`^# TYPE ${name} (counter|gauge|histogram)$`, 'm'));
  }
  expect(figure(text, 'gw_database_up')).toBe(1);
  expect(figure(text, 'gw_backup_age_seconds')).toBe(Number.POSITIVE_INFINITY);
  expect(
    figure(text, 'gw_partition_months_ahead{table="app_private.performance_metrics"}'),
  ).toBeGreaterThan(5);
});

test('operations and errors are counted by type and code', async () => {
  await api.register('counted@example.com');
  const login =
    'mutation { login(input: { email: "counted@example.com", password: "wrong" }) { result { userId } } }';
  await api.query(login);
  await api.query('{ nothing }');
  await api.query('{ viewer { email } }', {}, 'not.a.token');
  await eventuallyIs('gw_graphql_errors_total{code="INVALID_CREDENTIALS"}', (n) => n === 1);
  const text = await scrape();
  expect(figure(text, 'gw_graphql_errors_total{code="GRAPHQL_VALIDATION_FAILED"}')).toBe(1);
  expect(figure(text, 'gw_graphql_errors_total{code="TOKEN_INVALID"}')).toBe(1);
  expect(figure(text, 'gw_http_requests_total{path="/graphql",status="401"}')).toBe(1);
  const mutations = figure(text, 'gw_graphql_operations_total{type="mutation"}') ?? 0;
  expect(mutations).toBeGreaterThanOrEqual(2);
  const timed = [
    ...text.matchAll(/^gw_graphql_duration_seconds_count\{type="mutation".*\} (\d+)$/gm),
  ];
  expect(timed.reduce((sum, [, count]) => sum + Number(count), 0)).toBe(mutations);
});

test('queues, messages and alerts are those of the database', async () => {
  const owner = db.as('owner');
  await planDue(owner, 3);
  await owner`
    update app_public.message_logs set scheduled_send_time = now() - interval '2 hours'`;
  await owner`select ops.raise_alert('metrics-test', '', 'critical', 'made up')`;
  await eventuallyIs('gw_alerts_open{level="critical"}', (n) => n === 1);
  const text = await scrape();
  expect(figure(text, 'gw_queue_jobs{queue="message-send",state="ready"}')).toBe(3);
  const oldest = figure(text, 'gw_queue_oldest_seconds{queue="message-send",state="ready"}') ?? 0;
  expect(oldest).toBeGreaterThanOrEqual(60);
  expect(oldest).toBeLessThan(180);
  expect(figure(text, 'gw_messages{type="BIRTHDAY",status="QUEUED"}')).toBe(3);
  expect(figure(text, 'gw_messages{type="BIRTHDAY",status="SENT"}')).toBe(0);
  expect(figure(text, 'gw_messages{type="DIGEST",status="QUEUED"}')).toBe(0);
  expect(figure(text, 'gw_message_lateness_seconds')).toBeGreaterThanOrEqual(7200);

  // What is over is not late, and what quiet hours hold neither.
  const over = ['CANCELED', 'EXPIRED', 'QUEUED'];
  await owner`
    update app_public.message_logs
    set status = (${over}::text[])[position], error_message = 'held until the morning'
    from (
      select id, row_number() over () as position from app_public.message_logs
    ) as numbered
    where numbered.id = message_logs.id`;
  await eventuallyIs('gw_message_lateness_seconds', (seconds) => seconds === 0);
  const after = await scrape();
  for (const status of over) {
    expect(figure(after, `gw_messages{type="BIRTHDAY",status="${status}"}`)).toBe(1);
  }
});

test("no tenant's data is in a label", async () => {
  const { userId, accessToken } = await api.register('labelled@example.com');
  await api.query('query labelledOperation { viewer { email } }', {}, accessToken);
  await fetch(`${api.origin}/labelled@example.com`);
  await eventuallyIs('gw_http_requests_total{path="other",status="404"}', (n) => n > 0);
  const text = await scrape();
  expect(text).not.toMatch(/labelled/i);
  expect(text).not.toContain(userId);
  expect(text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/);
});

test('however often it is scraped, the database is asked once in five seconds', async () => {
  const sql = db.as('superuser');
  const calls = async (): Promise<number> => {
    const [row] = await sql`
      select coalesce(sum(calls), 0)::integer as calls from pg_stat_statements
      where dbid = (select oid from pg_database where datname = current_database())
        and query like '%from ops.metrics_of_fleet(%' and query not like '%pg_stat_statements%'`;
    return row?.calls;
  };
  const before = await calls();
  await Promise.all(Array.from({ length: 100 }, scrape));
  expect((await calls()) - before).toBeLessThanOrEqual(1);
});

test('with a token, only who knows it reads them', async () => {
  const status = async (authorization?: string): Promise<number> =>
    (
      await fetch(`${guarded.origin}/metrics`, {
        headers: authorization === undefined ? {} : { authorization },
      })
    ).status;
  expect(await status()).toBe(403);
  expect(await status('Bearer something else')).toBe(403);
  expect(await status(`Bearer ${token}x`)).toBe(403);
  expect(await status(`Bearer ${token}`)).toBe(200);
});

test('without a token, only this machine reads them, and no proxy for somebody else', async () => {
  for (const headers of [{ 'x-forwarded-for': '203.0.113.7' }, { forwarded: 'for=203.0.113.7' }]) {
    expect((await fetch(`${api.origin}/metrics`, { headers })).status).toBe(403);
  }
  expect((await fetch(`${api.origin}/metrics`)).status).toBe(200);
});

test('with a port of their own, they are not at the API', async () => {
  expect((await fetch(`${apart.origin}/metrics`)).status).toBe(404);
  const own = `http://127.0.0.1:${apart.api.metricsPort}`;
  expect(await (await fetch(`${own}/metrics`)).text()).toContain('gw_database_up 1');
  expect((await fetch(`${own}/graphql`)).status).toBe(404);
});

test('ops.metrics() is for the API and monitoring only', async () => {
  const call = `select * from ops.metrics()`;
  await rolledBack(db.as('monitor'), async (sql) => {
    expect((await sql.unsafe(call)).length).toBeGreaterThan(20);
  });
  await rolledBack(db.as('superuser'), async (sql) => {
    for (const role of ['app_user', 'app_anonymous', 'gw_readonly', 'gw_worker']) {
      await sql.unsafe(`set local role ${role}`);
      await expectRefusal(sql, '42501', (inner) => inner.unsafe(call));
      await sql`reset role`;
    }
  });
});

test('while the database is away, figures of the process are still answered', async () => {
  const name = databaseName(db.url('owner'));
  const allow = (allowed: boolean) =>
    withSql(inject('superuserUrl'), async (sql) => {
      await sql`alter database ${sql(name)} with allow_connections ${sql.unsafe(String(allowed))}`;
      // Those that come after it is open again are not meant.
      if (!allowed)
        await sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
    });
  await allow(false);
  try {
    await eventuallyIs('gw_database_up', (n) => n === 0);
    const text = await scrape();
    expect(text).toContain('process_cpu_seconds_total');
    expect(text).not.toContain('gw_queue_jobs{');
    expect(text).not.toContain(name);
  } finally {
    await allow(true);
  }
  await eventuallyIs('gw_database_up', (n) => n === 1);
});
