import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { parse } from 'yaml';
import { CaptureFigures } from '../../src/cdc/figures.ts';
import { MeasuredPool } from '../../src/postgres/measured-pool.ts';
import { projectRoot } from '../../src/project.ts';
import { WorkerFigures } from '../../src/worker/figures.ts';
import { useApi } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';
import { promtool } from '../helpers/promtool.ts';

vi.setConfig({ testTimeout: patience(120_000) });

const db = useDatabase();
const api = useApi(db);
const folder = join('docs', 'deploy', 'prometheus');
const read = (...path: string[]): string => readFileSync(join(projectRoot, ...path), 'utf8');

interface Rule {
  alert?: string;
  record?: string;
  expr: string;
  annotations?: { runbook: string };
}
const { groups } = parse(read(folder, 'rules.yaml')) as { groups: { rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

test('the rules are right, and each alert comes when it should', async () => {
  expect(await promtool(['check', 'rules', join(folder, 'rules.yaml')])).toMatchObject({ code: 0 });
  const tried = await promtool(['test', 'rules', join(folder, 'rules.test.yaml')]);
  expect(tried, tried.output).toMatchObject({ code: 0 });
  const tests = read(folder, 'rules.test.yaml');
  for (const { alert } of rules) if (alert !== undefined) expect(tests).toContain(alert);
});

test('what the processes print is as Prometheus wants it', async () => {
  const scraped = await (await fetch(`${api.origin}/metrics`)).text();
  const pool = new MeasuredPool({ connectionString: db.url('worker'), silenceMs: 1_000 });
  const worker = await new WorkerFigures([{ name: 'http' }], pool).registry.metrics();
  const capture = await new CaptureFigures().registry.metrics();
  await pool.end();
  for (const text of [scraped, worker, capture]) {
    expect(await promtool(['check', 'metrics'], text)).toEqual({ code: 0, output: '' });
  }
});

/** The metrics that there are, by the reference. */
const metrics = new Set(
  [...read('docs', 'reference', 'metrics.md').matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name),
);

/** The names of metrics in an expression. */
const namesIn = (expr: string): string[] =>
  [...expr.matchAll(/\b(?:gw|nodejs|process)_\w+/g)].map(([name]) =>
    name.replace(/_(?:bucket|count|sum)$/, ''),
  );

test('rules and dashboard ask for figures that there are', () => {
  const records = new Set(rules.map(({ record }) => record));
  const dashboard = JSON.parse(read('docs', 'deploy', 'grafana', 'dashboard.json')) as {
    panels: { title: string; targets: { expr: string }[] }[];
  };
  const expressions = [
    ...rules.map(({ expr }) => expr),
    ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ];
  for (const expr of expressions) {
    for (const name of namesIn(expr)) expect(metrics, expr).toContain(name);
    for (const [name] of expr.matchAll(/groundwork:[\w:]+/g)) expect(records).toContain(name);
  }
  // Nothing that the processes say of themselves is left out of the dashboard without a reason.
  const shown = new Set(expressions.flatMap(namesIn));
  const unshown = [
    ...['gw_build_info', 'gw_graphql_operations_total', 'gw_graphql_failed_operations_total'],
    ...['gw_statement_duration_seconds', 'gw_measurements_waiting', 'gw_measurements_total'],
    ...['gw_pool_size', 'gw_pool_errors_total', 'gw_batch_messages', 'gw_capture_state'],
    ...['gw_messages_given_back_total', 'gw_capture_batch_seconds', 'gw_cron_failures'],
    ...['gw_capture_commit_age_seconds', 'gw_query_cache_hits_total'],
    ...['gw_query_cache_misses_total', 'gw_query_cache_hit_ratio'],
  ];
  const own = [...metrics].filter((name) => name?.startsWith('gw_'));
  expect(own.filter((name) => !shown.has(name ?? '')).sort()).toEqual(unshown.sort());
});

test('each alert has a runbook, and each runbook an alert', () => {
  const page = read('docs', 'how-to', 'runbooks.md');
  const headings = [...page.matchAll(/^### (\w+)$/gm)].map(([, name]) => name);
  const alerts = rules.flatMap(({ alert }) => alert ?? []);
  expect([...headings].sort()).toEqual([...alerts].sort());
  for (const { alert, annotations } of rules) {
    if (alert === undefined) continue;
    expect(annotations?.runbook).toBe(`docs/how-to/runbooks.md#${alert.toLowerCase()}`);
  }
});
