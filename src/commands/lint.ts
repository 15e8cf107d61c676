import { join, relative } from 'node:path';
import process from 'node:process';
import type { Command } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { givenUrl } from './urls.ts';

const standardExceptions = join(projectRoot, 'sql', 'checks', 'lint-exceptions.json');

interface LintOptions {
  scratch?: boolean;
  url?: string;
  schema?: string[];
  excludeSchema?: string[];
  exposed?: string[];
  tenantColumn?: string;
  exceptions: string;
  migrations: boolean;
  strict?: boolean;
  json?: boolean;
}

/** Does work on the URL of the database that the options mean. */
async function onDatabase<Result>(
  options: LintOptions,
  progress: Progress,
  work: (url: string, variable: string) => Promise<Result>,
): Promise<Result> {
  if (options.url !== undefined) {
    const { url, variable } = givenUrl(options.url);
    return work(url, variable);
  }
  if (options.scratch !== true) {
    const { loadConfig } = await import('../config.ts');
    const { reachDatabase } = await import('../server/locate.ts');
    const { urls } = await reachDatabase(loadConfig());
    return work(urls.superuser ?? urls.owner, 'DATABASE_URL');
  }
  const { createMigrated } = await import('../migrations/scratch.ts');
  const { withScratch } = await import('../server/scratch.ts');
  return withScratch('gw_lint', async ({ superuserUrl }) => {
    let url = '';
    await progress.step('scratch', async () => {
      const { urls } = await createMigrated(superuserUrl, 'gw_lint');
      url = urls.superuser ?? urls.owner;
      return 'migrated';
    });
    return work(url, 'the scratch server');
  });
}

/** Prints what is wrong and sets the exit code. */
async function lint(options: LintOptions): Promise<void> {
  if (options.scratch === true && options.url !== undefined) {
    throw new GwError('--scratch and --url exclude each other', { exitCode: EXIT.usage });
  }
  const { checkNames, lintDatabase } = await import('../toolkit/lint/checks.ts');
  const { applyExceptions, formatFindings, readExceptions, unusedException } = await import(
    '../toolkit/lint/findings.ts'
  );
  const exceptions = readExceptions(options.exceptions);
  const progress = new Progress();
  const scope = {
    ...(options.schema === undefined ? {} : { schemas: options.schema }),
    ...(options.excludeSchema === undefined ? {} : { excludeSchemas: options.excludeSchema }),
    ...(options.exposed === undefined ? {} : { exposedSchemas: options.exposed }),
    ...(options.tenantColumn === undefined ? {} : { tenantColumn: options.tenantColumn }),
  };
  const found = await onDatabase(options, progress, (url, variable) =>
    lintDatabase(url, scope, variable),
  );
  // A URL may mean somebody else's database, which our migrations have not made.
  const withMigrations = options.migrations && options.url === undefined;
  if (withMigrations) {
    const { lintMigrations } = await import('../toolkit/lint/migrations.ts');
    found.push(...(await lintMigrations()));
  }
  const { remaining, unused } = applyExceptions(found, exceptions);
  // Only who looks everywhere can tell that an exception is not needed.
  const isComplete = withMigrations && Object.keys(scope).length === 0;
  const path = relative(projectRoot, options.exceptions);
  const findings = [
    ...remaining,
    ...(isComplete ? unused.map((each) => unusedException(each, path)) : []),
  ];
  print(options.json, findings, formatFindings(findings));
  progress.say(
    findings.length === 0 ? '✔' : '!',
    'lint',
    `${checkNames.length} checks${withMigrations ? ' and squawk' : ''}, ` +
      `${found.length - remaining.length} findings excepted`,
  );
  const fails = findings.some(({ level }) => options.strict === true || level === 'error');
  process.exitCode = fails ? EXIT.failure : EXIT.ok;
}

export function registerLint(program: Command): void {
  program
    .command('lint')
    .description('find faults of a schema and its migrations (exit 1 on errors)')
    .option('--scratch', 'on a scratch server with all migrations, as CI does')
    .option('--url <url>', 'on any PostgreSQL database, without its migrations')
    .option('--schema <name...>', 'only these schemas')
    .option(
      '--exclude-schema <name...>',
      'all but these schemas (default: cron graphile_migrate pgboss)',
    )
    .option('--exposed <name...>', 'schemas that an API serves (default: app_public)')
    .option('--tenant-column <name>', 'the column that says whose a row is (default: user_id)')
    .option('--exceptions <path>', 'a list of reviewed findings', standardExceptions)
    .option('--no-migrations', 'do not run squawk over the migrations')
    .option('--strict', 'exit 1 on warnings too')
    .option('--json', 'print JSON')
    .action(lint);
}
