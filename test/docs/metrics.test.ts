import { afterAll, beforeAll, expect, test } from 'vitest';
import { CaptureFigures } from '../../src/cdc/figures.ts';
import { MeasuredPool } from '../../src/postgres/measured-pool.ts';
import { WorkerFigures } from '../../src/worker/figures.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, readTable } from '../helpers/reference.ts';

const db = useDatabase();
const api = useApi(db);

interface Metric {
  metric: string;
  type: string;
  labels: string;
  means: string;
}

/** The metrics in Prometheus' text form, with the labels of their series. */
function metricsIn(text: string): Metric[] {
  const helps = [...text.matchAll(/^# HELP (\w+) (.*)$/gm)];
  return helps.map(([, name = '', means = '']) => {
    const [, type = ''] = new RegExp(`^# TYPE ${name} (\\w+)$`, 'm').exec(text) ?? [];
    const series = new RegExp(`^${name}(?:_bucket)?(?:\\{(.*)\\})? \\S+$`, 'gm');
    const labels = [...text.matchAll(series)].flatMap(([, all = '']) =>
      [...all.matchAll(/(\w+)="/g)].map(([, label = '']) => label),
    );
    const own = new Set(labels.filter((label) => label !== 'le'));
    return { metric: code(name), type, labels: [...own].map(code).join(', '), means };
  });
}

// Change capture that has run: its figures need a slot.
const slot = `gw_metrics_${process.pid}`;
beforeAll(async () => {
  await db.as('superuser')`select pg_create_logical_replication_slot(${slot}, 'pgoutput')`;
  await db.as('superuser')`
    insert into ops.change_capture (slot_name, plugin, state, applied_lsn, committed_at)
    values (${slot}, 'pgoutput', 'stopped', '0/1', now())`;
});
afterAll(() => db.as('superuser')`select pg_drop_replication_slot(${slot})`);

/** What an API prints that has answered requests. */
async function scrape(): Promise<Metric[]> {
  await db.as('owner')`select setval('app_private.query_cache_hits', 1)`;
  await api.query('{ viewer { email } }');
  await api.query('{ nothing }');
  await api.query(
    'mutation { refreshSession(input: { refreshToken: "none" }) { result { userId } } }',
  );
  return metricsIn(await (await fetch(`${api.origin}/metrics`)).text());
}

test('every metric of the process is in the reference', async () => {
  const own = (await scrape()).filter(({ metric }) => metric.startsWith('`gw_'));
  const source = await functionOfMetrics();
  const ofProcess = own.filter(({ metric }) => !source.includes(`'${bare(metric)}'`));
  expectTable(
    'metrics',
    'Metrics of the process',
    ofProcess.filter(({ metric }) => metric !== '`gw_database_up`').map(asRow),
  );
});

test('every metric of the database is in the reference', async () => {
  const source = await functionOfMetrics();
  const printed = (await scrape()).filter(
    ({ metric }) => metric === '`gw_database_up`' || source.includes(`'${bare(metric)}'`),
  );
  // Not printed here: pg_cron is in another database. The function has its words.
  const [, means = ''] =
    /'gw_cron_failures', jsonb_build_object\('job',[^']*'([^']+)'/.exec(source) ?? [];
  const cron = { metric: '`gw_cron_failures`', type: 'gauge', labels: '`job`', means };
  expectTable('metrics', 'Metrics of the database', [...printed, cron].map(asRow));

  const named = [...source.matchAll(/'(gw_\w+)'/g)].map(([, name = '']) => name);
  const shown = readTable('metrics', 'Metrics of the database').map(({ metric = '' }) =>
    bare(metric),
  );
  expect([...new Set(named), 'gw_database_up'].sort()).toEqual(shown.sort());
});

test('every metric of the other processes is in the reference', async () => {
  const pool = new MeasuredPool({ connectionString: db.url('worker'), silenceMs: 1_000 });
  const worker = new WorkerFigures([{ name: 'http' }], pool);
  await worker.call('http', 1, async () => [{ status: 'SENT' }]);
  const shared = /^`(gw_pool|gw_build|gw_log)/;
  for (const [name, registry] of [
    ['gw worker', worker.registry],
    ['gw cdc', new CaptureFigures().registry],
  ] as const) {
    const own = metricsIn(await registry.metrics()).filter(
      ({ metric }) => metric.startsWith('`gw_') && !shared.test(metric),
    );
    expectTable('metrics', `Metrics of ${name}`, own.map(asRow));
  }
  await pool.end();
});

test('every metric of Node is in the reference', async () => {
  const others = (await scrape()).filter(({ metric }) => !metric.startsWith('`gw_'));
  // Labels are left out: some series appear only after a collection of garbage, say.
  const rows = others.map(({ metric, type, means }) => ({ metric, type, means }));
  expectTable('metrics', 'Metrics of Node', rows);
});

const bare = (name: string): string => name.replaceAll('`', '');
const asRow = ({ metric, type, labels, means }: Metric) => ({ metric, type, labels, means });

async function functionOfMetrics(): Promise<string> {
  const [row] = await db.as('owner')<{ source: string }[]>`
    select string_agg(prosrc, E'\\n') as source from pg_proc
    where pronamespace = 'ops'::regnamespace and proname ~ 'metrics$'`;
  return row?.source ?? '';
}

test('what /readyz looks at is in the reference', async () => {
  const answer = await fetch(`${api.origin}/readyz`);
  const { checks } = (await answer.json()) as { checks: Record<string, string> };
  // Under `gw up`, while a disk is full, and at the end.
  const elsewhere = ['worker', 'cdc', 'supervisor', 'disk', 'process'];
  expectTable(
    'metrics',
    'Health',
    [...Object.keys(checks), ...elsewhere].map((name) => ({ check: code(name) })),
  );
});
