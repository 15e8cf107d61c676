import { lineWidth } from './output.ts';
import { oneLine } from './values.ts';

export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  /** Figures are aligned to the right. */
  isNumber?: boolean;
  /** May be cut when the line is too narrow; the widest such column first. */
  isFlexible?: boolean;
}

export interface TableOptions {
  /** How many characters a line may have; as many as the terminal shows unless given. */
  width?: number;
  /** Draws a line below the titles. */
  hasRule?: boolean;
}

const gap = '  ';
/** No column is cut below this. */
const narrowest = 8;

/** The widths of columns that are no wider than they need, and together fit into a line. */
function widthsOf<Row>(columns: Column<Row>[], lines: string[][], total: number): number[] {
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  const flexible = columns.flatMap(({ isFlexible }, at) => (isFlexible === true ? [at] : []));
  const room = total - gap.length * (widths.length - 1);
  let excess = widths.reduce((sum, width) => sum + width, 0) - room;
  for (; excess > 0; excess -= 1) {
    const widest = Math.max(...flexible.map((at) => widths[at] ?? 0));
    if (widest <= narrowest) break;
    const at = flexible.find((each) => widths[each] === widest) ?? 0;
    widths[at] = widest - 1;
  }
  return widths;
}

/** Cuts a name in its middle: names that are alike differ at their ends. */
function cut(text: string, width: number): string {
  if (text.length <= width) return text;
  const tail = text.includes(' ') ? 0 : Math.floor((width - 1) / 2);
  return `${text.slice(0, width - 1 - tail)}…${text.slice(text.length - tail)}`;
}

/** Rows as aligned lines below a line of titles. */
export function formatTable<Row>(
  rows: readonly Row[],
  columns: Column<Row>[],
  { width = lineWidth(), hasRule = false }: TableOptions = {},
): string {
  const titles = columns.map(({ title }) => title);
  const cells = rows.map((row) => columns.map(({ value }) => oneLine(value(row))));
  const widths = widthsOf(columns, [titles, ...cells], width);
  const line = (texts: string[]): string =>
    columns
      .map(({ isNumber }, at) => {
        const size = widths[at] ?? 0;
        const shown = cut(texts[at] ?? '', size);
        return isNumber === true ? shown.padStart(size) : shown.padEnd(size);
      })
      .join(gap)
      .trimEnd();
  const rule = hasRule ? [widths.map((size) => '─'.repeat(size)).join(gap)] : [];
  return `${[line(titles), ...rule, ...cells.map(line)].join('\n')}\n`;
}

/**
 * Texts in aligned columns without titles. The last text of a row may have several lines,
 * which stay below each other.
 *
 * @param width how many characters a line may have, when long texts are to be broken
 */
export function formatColumns(rows: readonly (readonly string[])[], width = Infinity): string {
  const count = Math.max(...rows.map((row) => row.length), 1) - 1;
  const widths = Array.from({ length: count }, (_, at) =>
    Math.max(...rows.map((row) => row[at]?.length ?? 0)),
  );
  const indent = widths.reduce((sum, size) => sum + size + gap.length, 0);
  return rows
    .map((row) => {
      const first = widths.map((size, at) => (row[at] ?? '').padEnd(size) + gap).join('');
      const last = (row[count] ?? '').split('\n').map((line) => wrap(line, width, indent));
      return `${first}${last.join(`\n${' '.repeat(indent)}`)}\n`;
    })
    .join('');
}

/** One row as a line for each of its values. */
export const formatRecord = (record: object): string =>
  formatColumns(
    Object.entries(record).map(([name, value]) => [
      name,
      value instanceof Date ? value.toISOString() : String(value ?? '-'),
    ]),
  );

/**
 * A text in lines of at most so many characters, cut at spaces; lines after the first are
 * indented.
 */
export function wrap(text: string, width: number, indent: number): string {
  const lines: string[] = [];
  let rest = text;
  const room = Math.max(width - indent, 20);
  while (rest.length > room) {
    const space = rest.lastIndexOf(' ', room);
    const end = space > 0 ? space : room;
    lines.push(rest.slice(0, end));
    rest = rest.slice(end).trimStart();
  }
  lines.push(rest);
  return lines.join(`\n${' '.repeat(indent)}`);
}
