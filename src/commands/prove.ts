import { type Command, Option } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import type { Report } from '../toolkit/prove/report.ts';

interface Options {
  scratch?: boolean;
  url?: string;
  only?: 'sql' | 'graphql';
  json?: boolean;
  declared?: string;
  object?: RegExp;
  ownerColumn: string;
  users: string;
}

/** Proves a database that is made for it, or one that is given. */
async function proved(options: Options): Promise<Report> {
  const { startTrialApi } = await import('../api/trial.ts');
  const { databaseName } = await import('../postgres/urls.ts');
  const { createMigrated } = await import('../migrations/scratch.ts');
  const { databaseAt, withScratch } = await import('../server/scratch.ts');
  const { proveOptions, readDeclared } = await import('../toolkit/prove/options.ts');
  const { prove } = await import('../toolkit/prove/prove.ts');
  const settings = proveOptions({
    ownerColumn: options.ownerColumn,
    usersTable: options.users,
    objects: options.object,
    ...(options.declared === undefined ? {} : { declared: readDeclared(options.declared) }),
  });
  if (options.url !== undefined) {
    const { audit } = await import('../postgres/audit.ts');
    const report = await prove(
      databaseAt(options.url, databaseName(options.url)),
      startTrialApi,
      settings,
      options.only,
    );
    await audit(options.url, 'prove.ran', { tried: report.tried, is_clean: report.isClean });
    return report;
  }
  return withScratch('gw_prove', async ({ superuserUrl }) =>
    prove(await createMigrated(superuserUrl, 'gw_prove'), startTrialApi, settings, options.only),
  );
}

export function registerProve(program: Command): void {
  program
    .command('prove')
    .description("try to reach one user's rows as another: tables, views, functions, GraphQL")
    .addOption(new Option('--scratch', 'in a new database on a scratch server').default(true))
    .option('--url <url>', "in a database that may be written to, by a superuser's URL")
    .addOption(new Option('--only <part>', 'only sql, or only graphql').choices(['sql', 'graphql']))
    .option(
      '--object <pattern>',
      'only objects whose names match this regular expression',
      (text) => new RegExp(text),
    )
    .option('--owner-column <name>', 'the column that says whose a row is', 'user_id')
    .option('--users <table>', 'the table of users', 'app_public.users')
    .option('--declared <file>', 'intended exceptions (default: sql/prove/declared.json)')
    .option('--json', 'print what was tried and found as JSON')
    .action(async (options: Options) => {
      const { formatReport } = await import('../toolkit/prove/report.ts');
      const progress = new Progress(options.json === true);
      const started = Date.now();
      const report = await proved(options);
      const objects = [...report.objects.values()];
      const { findings, stale, tried } = report;
      const bad = findings.filter(({ mark }) => mark !== 'declared');
      print(
        options.json,
        { clean: report.isClean, tried, objects, findings, stale },
        formatReport(report),
      );
      const seconds = ((Date.now() - started) / 1000).toFixed(1);
      const what = `${objects.length} objects, ${tried} attempts (${seconds} s)`;
      if (report.isClean) return progress.say('✔', 'prove', `${what}: no leak`);
      const names = [...new Set(bad.map(({ object }) => object))];
      const faults = [
        ...(names.length > 0
          ? [`${names.length} leak or cannot be proved: ${names.join(', ')}`]
          : []),
        ...stale.map(({ object, by }) => `declaration matches nothing: ${object}, by ${by}`),
      ];
      throw new GwError(`${what}: ${faults.join('; ')}`, {
        hint: 'An intended exception is declared, with its reason, in sql/prove/declared.json.',
        exitCode: EXIT.failure,
      });
    });
}
