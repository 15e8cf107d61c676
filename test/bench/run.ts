import { existsSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

/*
 * npm run bench -- <name>: runs test/bench/<name>.ts, whose run() makes a server of its own
 * and prints figures, each with the floor that was measured beside it: the machine decides
 * the figures, the ratio less so.
 */
const [name = ''] = process.argv.slice(2);
const file = join(import.meta.dirname, `${name}.ts`);
if (!/^[a-z][a-z0-9-]*$/.test(name) || name === 'run' || !existsSync(file)) {
  process.stderr.write('error: name a benchmark: npm run bench -- sends\n');
  process.exit(2);
}
const { run } = (await import(file)) as { run: () => Promise<void> };
await run();
