import { describe, expect, test } from 'vitest';
import { formatCsv, formatRows } from '../../src/terminal/rows.ts';
import { formatColumns, formatRecord, formatTable, wrap } from '../../src/terminal/table.ts';
import { bar, humanBytes, humanSeconds, sparkline } from '../../src/terminal/values.ts';

describe('a table', () => {
  const columns = [
    { title: 'name', value: (row: string[]) => row[0] ?? '', isFlexible: true },
    { title: 'n', value: (row: string[]) => row[1] ?? '', isNumber: true },
  ];

  test('is as wide as it needs, with figures to the right', () => {
    expect(
      formatTable(
        [
          ['a\nb', '1'],
          ['c', '100'],
        ],
        columns,
        { width: 80 },
      ),
    ).toBe('name    n\na b     1\nc     100\n');
  });

  test('cuts flexible columns to fit the line', () => {
    const lines = formatTable([['abcdefghijklmnop', '100']], columns, { width: 15 }).split('\n');
    expect(lines[1]).toBe('abcde…mnop  100');
  });

  test('has texts that are broken at spaces', () => {
    expect(wrap('one two three four five six', 24, 4)).toBe('one two three four\n    five six');
  });
});

describe('aligned columns', () => {
  test('keep the lines of the last text below each other', () => {
    const rows = [
      ['error', 'duplicate-index', 'is there twice\ndrop it'],
      ['warning', 'x', 'one two three four five'],
    ];
    expect(formatColumns(rows)).toBe(
      'error    duplicate-index  is there twice\n' +
        '                          drop it\n' +
        'warning  x                one two three four five\n',
    );
    expect(formatColumns(rows, 46)).toMatch(/one two three four\n {26}five\n$/);
    expect(formatColumns([])).toBe('');
  });

  test('show the values of a row, a dash for none', () => {
    const record = { state: 'running', applied_at: new Date(0), error: null };
    expect(formatRecord(record)).toBe(
      'state       running\napplied_at  1970-01-01T00:00:00.000Z\nerror       -\n',
    );
  });
});

describe('rows of a report', () => {
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
    for (const line of formatRows({ columns, rows }, 40).split('\n')) {
      expect(line.length).toBeLessThanOrEqual(40);
    }
    expect(formatRows({ columns, rows }, 40)).toMatch(/app_partit\S*…\S*202611 +ab c +2\.00 kB\n$/);
    expect(formatRows({ columns, rows: [] }, 40)).toBe('(no rows)\n');
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
