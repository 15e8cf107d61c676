import { spawn } from 'node:child_process';
import { once } from 'node:events';
import process from 'node:process';
import { expect, test } from 'vitest';
import { patience } from '../helpers/patience.ts';

/** Runs a script that has a watchdog; lines of it go to stdout. */
function run(script: string) {
  const module = new URL('../../src/watchdog.ts', import.meta.url).href;
  const text = `const { startWatchdog } = await import('${module}');
    process.on('SIGTERM', () => { console.log('heard'); process.exit(0); });
    const stop = startWatchdog('api');
    ${script}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', text], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const said = (line: string) =>
    new Promise<void>((resolve) =>
      child.stdout.on('data', (data) => String(data).includes(line) && resolve()),
    );
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal, stderr }));
  return { child, said, ended };
}

const hang = `console.log('hangs'); for (;;) {}`;

test('a process whose event loop stands still ends, also when it is asked to', {
  timeout: patience(30_000),
}, async () => {
  const { child, said, ended } = run(`setTimeout(() => { ${hang} }, 500);`);
  await said('hangs');
  const began = performance.now();
  child.kill('SIGTERM');
  const { signal, stderr } = await ended;
  expect(signal).toBe('SIGKILL');
  expect(performance.now() - began).toBeLessThan(patience(5_000));
  // A line for whoever reads the log.
  const line = stderr.split('\n').find((each) => each.startsWith('{"level":60'));
  expect(JSON.parse(line ?? '{}')).toMatchObject({
    name: 'api',
    pid: child.pid,
    msg: 'the event loop stood still for 4.5 s: the process ends',
  });
});

test('a process that works, or was stopped as a whole, goes on', {
  timeout: patience(30_000),
}, async () => {
  const { child, said, ended } = run(`
    const block = (ms) => { const until = Date.now() + ms; while (Date.now() < until); };
    setInterval(() => { block(700); console.log('works'); }, 50);`);
  await said('works');
  child.kill('SIGSTOP');
  await new Promise((resolve) => setTimeout(resolve, 6_000));
  child.kill('SIGCONT');
  await said('works');
  await said('works');
  child.kill('SIGTERM');
  expect(await ended).toMatchObject({ code: 0, signal: null });
});
