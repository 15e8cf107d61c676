import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import {
  bar,
  formatCsv,
  formatTable,
  humanBytes,
  humanSeconds,
  sparkline,
} from '../../src/terminal/format.ts';
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
      expect.stringMatching(/^bloat +tables with room/m),
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

describe('what people read', () => {
  test('bytes and seconds in units', () => {
    expect([0, 1023, 1024, 1536, 10_485_760, 1023.6 * 1024, -2048].map(humanBytes)).toEqual([
      ...['0 B', '1023 B', '1.00 kB', '1.50 kB', '10.0 MB', '1.00 MB', '-2.00 kB'],
    ]);
    expect([0, 0.0352, 1.234, 59.96, 61, 3_600, 90_000, -5].map(humanSeconds)).toEqual([
      ...['0 s', '35 ms', '1.23 s', '1 min', '1 min 1 s', '1 h', '1 d 1 h', '-5 s'],
    ]);
  });

  test('shares as bars and histories as lines', () => {
    expect([bar(0), bar(0.5), bar(2), bar(0.0125)]).toEqual([
      ...[' '.repeat(10), `█████${' '.repeat(5)}`, '█'.repeat(10), `▏${' '.repeat(9)}`],
    ]);
    expect([sparkline([0, 7, 3.5]), sparkline([0, 0]), sparkline([])]).toEqual(['▁█▅', '▁▁', '']);
  });

  test('a table whose widest columns are cut, without control characters', () => {
    const columns = [
      { name: 'table_name', type: 25 },
      { name: 'query', type: 25 },
      { name: 'total_bytes', type: 20 },
    ];
    const rows = [
      {
        table_name: 'app_partitions.message_logs_p202611',
        query: 'a\u001b[2Jb\nc',
        total_bytes: 2048,
      },
    ];
    for (const line of formatTable({ columns, rows }, 40).split('\n')) {
      expect(line.length).toBeLessThanOrEqual(40);
    }
    expect(formatTable({ columns, rows }, 40)).toMatch(
      /app_partit\S*…\S*202611 +ab c +2\.00 kB\n$/,
    );
    expect(formatTable({ columns, rows: [] }, 40)).toBe('(no rows)\n');
  });

  test('CSV that a spreadsheet reads', () => {
    const columns = [
      { name: 'a', type: 25 },
      { name: 'b', type: 25 },
    ];
    const rows = [
      { a: 'say "x", twice\n', b: null },
      { a: [1, 2], b: new Date(0) },
    ];
    expect(formatCsv({ columns, rows })).toBe(
      'a,b\n"say ""x"", twice\n",\n"[1,2]",1970-01-01T00:00:00.000Z\n',
    );
  });
});
