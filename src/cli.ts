import process from 'node:process';
import { inspect } from 'node:util';
import { EXIT, expectedOrFault, explainError, formatError } from './errors.ts';
import { logOfProcess } from './process-log.ts';
import { buildProgram } from './program.ts';

// Read by PostGraphile when it is loaded, which the commands do later.
process.env.GRAPHILE_ENV ??= process.env.NODE_ENV === 'production' ? 'production' : 'development';

// Whoever reads our output may stop reading, like head does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

/** Says what went wrong and ends. */
function fail(error: unknown): never {
  const said = expectedOrFault(error);
  const log = logOfProcess();
  if (log === undefined || log.level === 'silent' || process.stderr.isTTY)
    process.stderr.write(formatError(said));
  else {
    const fault = explainError(error) === undefined ? { err: error } : {};
    log.fatal({ hint: said.hint, exit_code: said.exitCode, ...fault }, said.message);
  }
  if (process.env.GW_DEBUG === '1') process.stderr.write(`${inspect(said.cause ?? said)}\n`);
  process.exit(said.exitCode);
}

// Such as a connection that breaks while nobody waits for an answer.
process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);

// Started through src/bootstrap.mjs or directly: the arguments follow the script either way.
try {
  const program = await buildProgram(process.argv[2]);
  await program.parseAsync(process.argv);
} catch (error) {
  fail(error);
}
