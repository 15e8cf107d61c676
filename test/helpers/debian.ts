import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';

const run = promisify(execFile);

const find = async (names: readonly string[]): Promise<string | undefined> => {
  const commands = names.map((name) => `command -v ${name}`).join(' || ');
  const path = `${process.env.PATH}:/usr/sbin`;
  const found = await run('sh', ['-c', commands], { env: { ...process.env, PATH: path } }).catch(
    () => undefined,
  );
  return found?.stdout.trim();
};

/** Runs apt-get; of several tests that install something, one after the other does. */
export const aptGet = (args: readonly string[], cwd?: string) =>
  run('flock', ['--timeout', '300', join(tmpdir(), 'groundwork-apt.lock'), 'apt-get', ...args], {
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    ...(cwd === undefined ? {} : { cwd }),
  });

/**
 * The path of a program that the machine has under one of these names, or that its package brings:
 * it is installed where that can be done.
 */
export async function findProgram(
  names: readonly string[],
  debianPackage: string,
): Promise<string> {
  const found = await find(names);
  if (found !== undefined) return found;
  if (process.getuid?.() === 0) {
    const install = () =>
      aptGet(['install', '-y', '-qq', '--no-install-recommends', debianPackage]);
    await install().catch(async () => {
      await aptGet(['update', '-qq']);
      await install();
    });
  }
  const path = await find(names);
  if (path !== undefined) return path;
  throw new Error(`this test needs ${names[0]}: sudo apt-get install ${debianPackage}`);
}
