import process from 'node:process';

export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  /** Figures are aligned to the right. */
  isNumber?: boolean;
  /** May be cut when the terminal is too narrow; the widest such column first. */
  isFlexible?: boolean;
}

/** How many characters fit into a line: the terminal's, else enough for any log. */
export const lineWidth = (): number =>
  process.stdout.isTTY ? Math.max(process.stdout.columns, 40) : 160;

const cut = (text: string, width: number): string =>
  text.length <= width ? text : `${text.slice(0, Math.max(width - 1, 0))}…`;

/** The widths of columns that are no wider than need be, and together fit into a line. */
function widthsOf<Row>(columns: Column<Row>[], cells: string[][], line: number): number[] {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...cells.map((row) => row[index]?.length ?? 0)),
  );
  const total = () => widths.reduce((sum, width) => sum + width + 2, -2);
  for (let excess = total() - line; excess > 0; excess = total() - line) {
    const widest = columns
      .map((column, index) => ({ index, width: column.isFlexible ? (widths[index] ?? 0) : 0 }))
      .sort((a, b) => b.width - a.width)[0];
    if (widest === undefined || widest.width <= 8) break;
    widths[widest.index] = Math.max(8, widest.width - excess);
  }
  return widths;
}

/**
 * Rows as aligned lines under a line of titles.
 *
 * @param line how many characters a line may have
 */
export function formatTable<Row>(
  rows: readonly Row[],
  columns: Column<Row>[],
  line = lineWidth(),
): string {
  const cells = rows.map((row) =>
    columns.map(({ value }) => value(row).replaceAll(/\s+/g, ' ').trim()),
  );
  const widths = widthsOf(columns, cells, line);
  const print = (texts: string[]): string =>
    texts
      .map((text, index) => {
        const width = widths[index] ?? 0;
        const shown = cut(text, width);
        return columns[index]?.isNumber === true ? shown.padStart(width) : shown.padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return [columns.map(({ title }) => title), ...cells].map((row) => `${print(row)}\n`).join('');
}

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
