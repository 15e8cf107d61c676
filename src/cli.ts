import process from 'node:process';
import { EXIT, GwError } from './errors.ts';
import { buildProgram } from './program.ts';

// Read by PostGraphile when it is loaded, which the commands do later.
process.env.GRAPHILE_ENV ??= process.env.NODE_ENV === 'production' ? 'production' : 'development';

// Whoever reads our output may stop reading, like head does.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

// Started through src/bootstrap.mjs or directly: the arguments follow the script either way.
try {
  await buildProgram().parseAsync(process.argv);
} catch (error) {
  if (!(error instanceof GwError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  if (error.hint !== undefined) {
    process.stderr.write(`hint: ${error.hint.split('\n').join('\n      ')}\n`);
  }
  process.exit(error.exitCode);
}
