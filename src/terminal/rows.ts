import { type Column, formatTable } from './table.ts';
import { humanValue } from './values.ts';

/** What a query returned. */
export interface Rows {
  /** `type` is the OID of the type. */
  columns: { name: string; type: number }[];
  rows: Record<string, unknown>[];
}

/**
 * Rows as a table with units that people read. What does not fit into the line is cut off at
 * the right, after every column was made narrow.
 *
 * @param width how many characters a line may have
 */
export function formatRows({ columns, rows }: Rows, width: number): string {
  if (rows.length === 0) return '(no rows)\n';
  const shown = columns.map(
    ({ name, type }): Column<Record<string, unknown>> => ({
      title: name.replace(/_(bytes|seconds)$/, '').replaceAll('_', ' '),
      value: (row) => humanValue(name, type, row[name]),
      isNumber: name !== 'share' && rows.some((row) => typeof row[name] === 'number'),
      isFlexible: true,
    }),
  );
  const lines = formatTable(rows, shown, { width, hasRule: true }).split('\n');
  return lines.map((line) => line.slice(0, width)).join('\n');
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
