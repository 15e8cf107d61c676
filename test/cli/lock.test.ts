import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import process from 'node:process';
import { afterAll, afterEach, expect, test } from 'vitest';
import { isAlive } from '../../src/server/processes.ts';
import { Checkout } from '../helpers/checkout.ts';
import { patience } from '../helpers/patience.ts';

const checkout = new Checkout();
const children: ChildProcess[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (!child.kill('SIGKILL')) continue;
    await once(child, 'exit');
  }
  rmSync(checkout.path('.groundwork'), { recursive: true, force: true });
});
afterAll(() => checkout.remove());

/** Runs a script in the checkout, under a command line like that of `gw`. */
function run(script: string) {
  const file = checkout.path('cli.ts');
  writeFileSync(file, script);
  const child = spawn(process.execPath, [file, 'up'], {
    cwd: checkout.folder,
    env: checkout.env(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  let output = '';
  child.stdout.on('data', (data) => {
    output += data;
  });
  const ended = once(child, 'exit').then(() => output);
  const said = async (text: string): Promise<void> => {
    while (!output.includes(text)) {
      if (child.exitCode !== null) throw new Error(`it ended and said: ${output}`);
      await Promise.race([once(child.stdout, 'data'), ended]);
    }
  };
  return { child, said, ended };
}

const take = `
  const { takeLock } = await import('./src/up/lock.ts');
  try {
    await takeLock({ say: (...words) => console.log(...words) });
    console.log('has it');
    setInterval(() => {}, 1_000);
  } catch (error) {
    console.log(error.message);
  }`;

test('of two gw up in a checkout the second gives up, and says who has it', {
  timeout: patience(30_000),
}, async () => {
  const first = run(take);
  await first.said('has it');
  const second = run(take);
  const output = await Promise.race([
    second.ended,
    second.said('has it').then(() => 'has it, too'),
  ]);
  expect(output).toContain(`it runs already, as process ${first.child.pid}`);
  first.child.kill('SIGKILL');
  await first.ended;
});

test('what a killed gw up left behind is ended, however little it listens', {
  timeout: patience(30_000),
}, async () => {
  const left = run(
    `process.on('SIGTERM', () => {}); setInterval(() => {}, 1_000); console.log('here');`,
  );
  await left.said('here');
  mkdirSync(checkout.path('.groundwork'), { recursive: true });
  writeFileSync(
    checkout.path('.groundwork', 'pids.json'),
    JSON.stringify({ worker: left.child.pid }),
  );
  const next = run(take);
  await next.said('has it');
  // Its parent, which is this test, may not have been told yet.
  await left.ended;
  expect(isAlive(left.child.pid)).toBe(false);
});
