import { stripVTControlCharacters } from 'node:util';

/** What a query returned. */
export interface Rows {
  /** `type` is the OID of the type. */
  columns: { name: string; type: number }[];
  rows: Record<string, unknown>[];
}

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Bytes as people say them, in steps of 1024 as PostgreSQL has them: `12 MB`. */
export function humanBytes(bytes: number): string {
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${bytes < 0 ? '-' : ''}${value.toFixed(digits)} ${units[unit]}`;
}

/** Seconds as people say them, in the two largest units: `3 d 4 h`, `1.2 s`, `35 ms`. */
export function humanSeconds(seconds: number): string {
  const sign = seconds < 0 ? '-' : '';
  const value = Math.abs(seconds);
  if (value === 0) return '0 s';
  if (value < 0.9995) return `${sign}${Number((value * 1000).toPrecision(2))} ms`;
  if (value < 59.95) return `${sign}${Number(value.toPrecision(3))} s`;
  const total = Math.round(value);
  const parts: [number, string][] = [
    [Math.floor(total / 86_400), 'd'],
    [Math.floor(total / 3_600) % 24, 'h'],
    [Math.floor(total / 60) % 60, 'min'],
    [total % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return sign + shown.map(([count, unit]) => `${count} ${unit}`).join(' ');
}

const eighths = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/** A share (0 to 1) as a bar of at most so many cells; what is over 1 is full. */
export function bar(share: number, cells = 10): string {
  const filled = Math.round(Math.min(Math.max(share, 0), 1) * cells * 8);
  return ('█'.repeat(Math.floor(filled / 8)) + (eighths[filled % 8] ?? '')).padEnd(cells);
}

const steps = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/** Numbers as a line of blocks, the largest one full; the last 40 of them. */
export function sparkline(values: number[]): string {
  const shown = values.slice(-40);
  const top = Math.max(...shown, 0);
  return shown
    .map((value) => (top === 0 ? steps[0] : steps[Math.round((Math.max(value, 0) / top) * 7)]))
    .join('');
}

const dateType = 1082;

/** What a terminal shows of a value; which unit it has, the column's name says. */
export function humanValue(name: string, type: number, value: unknown): string {
  if (value === null || value === undefined) return '';
  if (value instanceof Date) {
    const text = value.toISOString();
    return type === dateType ? text.slice(0, 10) : text.slice(0, 16).replace('T', ' ');
  }
  if (Array.isArray(value)) return sparkline(value.map(Number));
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value === 'number') {
    if (/(^|_)bytes$/.test(name)) return humanBytes(value);
    if (/(^|_)seconds$/.test(name)) return humanSeconds(value);
    const percent = `${(value * 100).toFixed(1)} %`;
    if (name === 'share') return `${bar(value)} ${percent.padStart(7)}`;
    if (/_(ratio|share)$/.test(name)) return percent;
    return value.toLocaleString('en-US');
  }
  // A query's text may hold what would move the cursor.
  return stripVTControlCharacters(String(value)).replace(/\p{Cc}+/gu, ' ');
}

const gap = 2;
const narrowest = 8;

/** Widths that fit: the widest columns are cut first, none below eight characters. */
function widthsThatFit(wanted: number[], total: number): number[] {
  const widths = [...wanted];
  const room = total - gap * (widths.length - 1);
  let excess = widths.reduce((sum, width) => sum + width, 0) - room;
  while (excess > 0) {
    const widest = Math.max(...widths);
    if (widest <= narrowest) break;
    widths[widths.indexOf(widest)] = widest - 1;
    excess -= 1;
  }
  return widths;
}

/** A name is cut in its middle: its end is what tells it from its like. */
function cut(text: string, width: number): string {
  if (text.length <= width) return text;
  const tail = text.includes(' ') ? 0 : Math.floor((width - 1) / 2);
  return `${text.slice(0, width - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/**
 * Rows as a table that fits so many characters; numbers to the right.
 *
 * @param width of the terminal
 */
export function formatTable({ columns, rows }: Rows, width: number): string {
  if (rows.length === 0) return '(no rows)\n';
  const heads = columns.map(({ name }) =>
    name.replace(/_(bytes|seconds)$/, '').replaceAll('_', ' '),
  );
  const cells = rows.map((row) =>
    columns.map(({ name, type }) => humanValue(name, type, row[name])),
  );
  const isRight = columns.map(
    ({ name }) => name !== 'share' && rows.some((row) => typeof row[name] === 'number'),
  );
  const wanted = columns.map((_, at) =>
    Math.max(heads[at]?.length ?? 0, ...cells.map((row) => row[at]?.length ?? 0)),
  );
  const widths = widthsThatFit(wanted, width);
  const line = (texts: string[]): string =>
    texts
      .map((text, at) => {
        const shown = cut(text, widths[at] ?? 0);
        return isRight[at] ? shown.padStart(widths[at] ?? 0) : shown.padEnd(widths[at] ?? 0);
      })
      .join(' '.repeat(gap))
      .trimEnd()
      .slice(0, width);
  const rule = widths
    .map((each) => '─'.repeat(each))
    .join(' '.repeat(gap))
    .slice(0, width);
  return `${[line(heads), rule, ...cells.map(line)].join('\n')}\n`;
}

/** Rows as RFC 4180 has them, raw: bytes, seconds, ISO times. */
export function formatCsv({ columns, rows }: Rows): string {
  const field = (value: unknown): string => {
    if (value === null || value === undefined) return '';
    const text =
      value instanceof Date
        ? value.toISOString()
        : Array.isArray(value)
          ? JSON.stringify(value)
          : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => columns.map(({ name }) => field(row[name])).join(','));
  return `${[columns.map(({ name }) => name).join(','), ...lines].join('\n')}\n`;
}
