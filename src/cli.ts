import process from 'node:process';
import { Command } from 'commander';
import { registerCdc } from './commands/cdc.ts';
import { registerCheck } from './commands/check.ts';
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
import { EXIT, GwError } from './errors.ts';

// Read by PostGraphile when it is loaded, which the commands do later.
process.env.GRAPHILE_ENV ??= process.env.NODE_ENV === 'production' ? 'production' : 'development';

// Whoever reads our output may stop reading, like head does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

const program = new Command('gw')
  .description('Groundwork: a database-first PostgreSQL backend and its toolkit')
  .showHelpAfterError()
  .exitOverride((error) => {
    process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage);
  });

for (const register of [
  registerUp,
  registerServe,
  registerWorker,
  registerCdc,
  registerMessages,
  registerMigrate,
  registerDb,
  registerSeed,
  registerDigests,
  registerEnv,
  registerToken,
  registerSchema,
  registerLint,
  registerProve,
  registerReport,
  registerCheck,
]) {
  register(program);
}

// Started through src/bootstrap.mjs or directly: the arguments follow the script either way.
try {
  await program.parseAsync(process.argv);
} catch (error) {
  if (!(error instanceof GwError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  if (error.hint !== undefined) {
    process.stderr.write(`hint: ${error.hint.split('\n').join('\n      ')}\n`);
  }
  process.exit(error.exitCode);
}
