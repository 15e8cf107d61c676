import process from 'node:process';

/** `npm run bench -- <name>`: runs test/bench/<name>.ts. */
const [name = ''] = process.argv.slice(2);
if (!/^[a-z][a-z-]*$/.test(name) || name === 'run') {
  process.stderr.write('usage: npm run bench -- <name>, a file of test/bench\n');
  process.exit(2);
}
const { run } = (await import(`./${name}.ts`)) as { run: () => Promise<void> };
await run();
