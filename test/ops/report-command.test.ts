import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { Checkout } from '../helpers/checkout.ts';
import { useDatabase } from '../helpers/database.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();

describe('gw report', () => {
  let checkout: Checkout;
  beforeAll(() => {
    checkout = new Checkout();
  });
  afterAll(() => checkout.remove());
  const report = (...args: string[]) => checkout.run(['report', ...args]);
  const ours = (...args: string[]) => report(...args, '--url', db.url('monitor'));

  test('lists reports with their parameters, and all of them at once', async () => {
    const list = await report();
    expect([list.code, list.stdout]).toEqual([
      0,
      expect.stringMatching(/^bloat +tables with unused space/m),
    ]);
    const all = await ours('all', '--json');
    expect(all.code).toBe(0);
    const answers = JSON.parse(all.stdout) as Record<string, unknown>;
    expect(answers['cron-history']).toEqual({ needs: 'cron.job' });
    expect(Array.isArray(answers['table-sizes'])).toBe(true);
  });

  test('prints a table that fits, or raw CSV or JSON', async () => {
    const table = await checkout.run(
      ['report', 'table-sizes', '--param', 'limit=3', '--url', db.url('monitor')],
      { COLUMNS: '70' },
    );
    const lines = table.stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(5);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(70);
    expect(table.stdout).toMatch(/kB/);
    const csv = await ours('table-sizes', '--param', 'limit=1', '--csv');
    expect(csv.stdout).toMatch(/^table_name,rows,heap_bytes,.*\n[a-z_.]+,\d*,\d+,\d+,/);
    const json = await ours('table-sizes', '--param', 'limit=1', '--json');
    expect(JSON.parse(json.stdout)).toMatchObject([{ heap_bytes: expect.any(Number) }]);
  });

  test('ends with 1 when it is not here, 2 when there is no such, 3 when the database is away', async () => {
    const absent = await report('job-queues', '--url', inject('superuserUrl'));
    expect([absent.code, absent.stderr]).toEqual([
      1,
      expect.stringContaining('job-queues is not here: needs pgboss.queue'),
    ]);
    expect((await ours('no-such')).code).toBe(2);
    expect((await ours('table-sizes', '--param', 'limit=many')).code).toBe(2);
    expect((await ours('policies', '--param', 'schema=(')).code).toBe(2);
    expect((await report('locks', '--url', 'postgres://x@127.0.0.1:1/x')).code).toBe(3);
  });

  test('watches until it is stopped', async () => {
    const child = checkout.start([
      ...['report', 'locks', '--watch', '0.2', '--json'],
      ...['--url', db.url('monitor')],
    ]);
    await eventually(async () => child.output().match(/\]\n/g)?.length === 3);
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
  });
});
