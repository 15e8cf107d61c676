import { stripVTControlCharacters } from 'node:util';

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

/** An instant to the second: `2026-12-24 18:00:00Z`; empty for none. */
export const stamp = (at: Date | null): string =>
  at === null ? '' : `${at.toISOString().slice(0, 19).replace('T', ' ')}Z`;

/** A text without line breaks, and without what would move the cursor. */
export const oneLine = (text: string): string =>
  stripVTControlCharacters(text).replace(/\p{Cc}+/gu, ' ');

/** OID of the type date. */
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
  return String(value);
}
