import process from 'node:process';
import { Command } from 'commander';
import { registerAudit } from './commands/audit.ts';
import { registerBaseline } from './commands/baseline.ts';
import { registerCdc } from './commands/cdc.ts';
import { registerCheck } from './commands/check.ts';
import { registerConfig } from './commands/config.ts';
import { registerDb } from './commands/db.ts';
import { registerDigests } from './commands/digests.ts';
import { registerEnv } from './commands/env.ts';
import { registerLint } from './commands/lint.ts';
import { registerMessages } from './commands/messages.ts';
import { registerMigrate } from './commands/migrate.ts';
import { registerProve } from './commands/prove.ts';
import { registerReport } from './commands/report.ts';
import { registerSchema } from './commands/schema.ts';
import { registerSeed } from './commands/seed.ts';
import { registerServe } from './commands/serve.ts';
import { registerToken } from './commands/token.ts';
import { registerUp } from './commands/up.ts';
import { registerWorker } from './commands/worker.ts';
import { unknownVariables } from './config.ts';
import { EXIT } from './errors.ts';

const services = new Set(['serve', 'worker', 'cdc']);

/** All commands of `gw`, built but not run, so that tests and documentation can walk them. */
export function buildProgram(): Command {
  const program = new Command('gw')
    .description('Groundwork: a database-first PostgreSQL backend and its toolkit')
    .showHelpAfterError()
    .exitOverride((error) => {
      process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
    });

  program.hook('preAction', (_, command) => {
    // Processes say it in their log.
    if (services.has(command.name())) return;
    for (const { name, nearest } of unknownVariables()) {
      const meant = nearest === undefined ? '' : `; did you mean ${nearest}?`;
      process.stderr.write(`warning: nobody reads ${name}${meant}\n`);
    }
  });

  for (const register of [
    registerUp,
    registerServe,
    registerWorker,
    registerCdc,
    registerMessages,
    registerMigrate,
    registerBaseline,
    registerDb,
    registerSeed,
    registerDigests,
    registerEnv,
    registerConfig,
    registerToken,
    registerSchema,
    registerLint,
    registerProve,
    registerReport,
    registerCheck,
    registerAudit,
  ]) {
    register(program);
  }
  return program;
}
