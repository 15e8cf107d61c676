import process from 'node:process';
import { setTimeout as wait } from 'node:timers/promises';
import type { Command } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import { lineWidth, print } from '../terminal/output.ts';
import { formatColumns } from '../terminal/table.ts';
import { monitorUrl } from './urls.ts';

interface ReportOptions {
  url?: string;
  param: string[];
  csv?: boolean;
  json?: boolean;
  watch?: string | true;
}

type Files = typeof import('../postgres/sql-files.ts');
/** One report's part of what is printed. */
type Section = {
  name: string;
  title: string;
  result: import('../postgres/sql-files.ts').FileResult;
};

/** The JSON of one round: the rows of the only report, or those of each by its name. */
function plain(sections: Section[], isAll: boolean): unknown {
  const values = sections.map(({ name, result }) => [
    name,
    'needs' in result ? { needs: result.needs } : result.rows,
  ]);
  return isAll ? Object.fromEntries(values) : values[0]?.[1];
}

/** The text of one round. */
async function render(sections: Section[], isAll: boolean, csv: boolean): Promise<string> {
  const { formatCsv, formatRows } = await import('../terminal/rows.ts');
  const mark = csv ? '# ' : '';
  return sections
    .map(({ name, title, result }) => {
      const head = isAll ? `${mark}${name}: ${title}\n` : '';
      if ('needs' in result) return `${head}${mark}not here: needs ${result.needs}\n`;
      return head + (csv ? formatCsv(result) : formatRows(result, lineWidth()));
    })
    .join('\n');
}

function list({ readSqlFiles }: Files, json: boolean | undefined): void {
  const files = readSqlFiles('reports');
  const rows = files.map(({ name, title, params }) => {
    const shown = params.map((each) => `${each.name}=${each.fallback}`).join(' ');
    return [name, shown === '' ? title : `${title}\n--param ${shown}`];
  });
  const described = files.map(({ text: _, every: __, ...rest }) => rest);
  print(json, described, formatColumns(rows));
}

/** Prints reports, once or until stopped. */
async function report(name: string | undefined, options: ReportOptions): Promise<void> {
  const usage = (message: string, hint?: string): GwError =>
    new GwError(message, { exitCode: EXIT.usage, ...(hint === undefined ? {} : { hint }) });
  if (options.csv === true && options.json === true) {
    throw usage('--csv and --json exclude each other');
  }
  const files = await import('../postgres/sql-files.ts');
  if (name === undefined) return list(files, options.json);
  const all = files.readSqlFiles('reports');
  const isAll = name === 'all';
  const wanted = isAll ? all : all.filter((file) => file.name === name);
  if (wanted.length === 0) {
    throw usage(
      `there is no report "${name}"`,
      `There are: all, ${all.map((each) => each.name).join(', ')}`,
    );
  }
  const seconds = options.watch === true ? 2 : Number(options.watch ?? 0);
  if (options.watch !== undefined && !(seconds >= 0.1 && seconds <= 86_400)) {
    throw usage('--watch takes seconds');
  }
  const params = files.parseParams(
    options.param,
    isAll ? [] : wanted.flatMap((file) => file.params),
  );
  const { url, variable } = monitorUrl(options.url);

  const once = (): Promise<Section[]> =>
    files.readOnly(url, variable, async (sql) => {
      await files.setParams(sql, 'report', params);
      const sections: Section[] = [];
      for (const file of wanted) {
        const result = await files.runSqlFile(sql, file);
        sections.push({ name: file.name, title: file.title, result });
      }
      return sections;
    });

  const stop = new AbortController();
  if (options.watch !== undefined) {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  }
  for (;;) {
    const sections = await once();
    const [only] = sections;
    if (!isAll && only !== undefined && 'needs' in only.result) {
      throw new GwError(`${name} is not here: needs ${only.result.needs}`);
    }
    const csv = options.csv === true;
    const text = await render(sections, isAll, csv);
    const clear = process.stdout.isTTY ? '\u001b[2J\u001b[H' : '';
    const head =
      options.watch === undefined || csv ? '' : `${clear}${name}, ${new Date().toISOString()}\n\n`;
    print(options.json, plain(sections, isAll), head + text);
    if (options.watch === undefined) return;
    await wait(seconds * 1000, undefined, { signal: stop.signal }).catch(() => {});
    if (stop.signal.aborted) return;
  }
}

const collect = (value: string, before: string[]): string[] => [...before, value];

export function registerReport(program: Command): void {
  program
    .command('report')
    .argument('[name]', 'name of the report, or all')
    .description('run a report; without a name, list the reports')
    .option('--url <url>', 'of any PostgreSQL database (default: ours, as gw_monitor)')
    .option('--param <name=value>', 'a parameter of the report; may be repeated', collect, [])
    .option('--watch [seconds]', 'repeat until Ctrl-C, every 2 seconds unless given')
    .option('--csv', 'print CSV: raw bytes and seconds')
    .option('--json', 'print JSON: raw bytes and seconds')
    .action(report);
}
