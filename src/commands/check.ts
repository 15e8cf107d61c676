import process from 'node:process';
import { inspect } from 'node:util';
import type { Command } from 'commander';
import { EXIT, expectedOrFault, GwError } from '../errors.ts';
import { print } from '../terminal/output.ts';
import { monitorUrl } from './urls.ts';

/** What Nagios, Icinga and their kin read; the only command with codes of its own. */
const codes = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const;

interface CheckOptions {
  url?: string;
  param: string[];
  json?: boolean;
}

async function run(names: string[], options: CheckOptions): Promise<void> {
  const { checkHealth, formatHealth, healthNames, healthParams } = await import(
    '../toolkit/check/health.ts'
  );
  const { parseParams } = await import('../postgres/sql-files.ts');
  const unknown = names.find((name) => !healthNames().includes(name));
  if (unknown !== undefined) {
    throw new GwError(`there is no check "${unknown}"`, {
      hint: `There are: ${healthNames().join(', ')}`,
      exitCode: EXIT.usage,
    });
  }
  const params = parseParams(options.param, healthParams());
  const { url, variable } = monitorUrl(options.url);
  const health = await checkHealth(url, variable, params, names.length === 0 ? undefined : names);
  print(options.json, health, formatHealth(health));
  process.exitCode = codes[health.status];
}

/** Prints how the database is; what keeps us from knowing is UNKNOWN. */
async function check(names: string[], options: CheckOptions): Promise<void> {
  try {
    await run(names, options);
  } catch (error) {
    // Exit code 1 would be a warning.
    const { message, hint } = expectedOrFault(error);
    print(options.json, { status: 'unknown', error: message }, `UNKNOWN: ${message}\n`);
    if (hint !== undefined) process.stderr.write(`hint: ${hint}\n`);
    if (process.env.GW_DEBUG === '1') process.stderr.write(`${inspect(error)}\n`);
    process.exitCode = codes.unknown;
  }
}

const collect = (value: string, before: string[]): string[] => [...before, value];

export function registerCheck(program: Command): void {
  program
    .command('check')
    .argument('[name...]', 'only these checks (default: all)')
    .description('check the health of the database (exit 1 warning, 2 critical, 3 cannot tell)')
    .option('--url <url>', 'of any PostgreSQL database (default: ours, as gw_monitor)')
    .option('--param <name=value>', 'a threshold; may be repeated', collect, [])
    .option('--json', 'print JSON')
    .action(check);
}
