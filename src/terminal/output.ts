import process from 'node:process';

/** How many characters fit into a line: the terminal's, else enough for any log. */
export const lineWidth = (): number =>
  Math.max(process.stdout.columns ?? (Number(process.env.COLUMNS) || 160), 40);

/**
 * Prints what a command found, to stdout.
 *
 * @param json the command's --json: data as one line of JSON, else the text
 */
export function print(json: boolean | undefined, data: unknown, text: string): void {
  process.stdout.write(json === true ? `${JSON.stringify(data)}\n` : text);
}
