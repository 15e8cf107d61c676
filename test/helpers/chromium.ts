import { execFile } from 'node:child_process';
import process from 'node:process';
import { promisify } from 'node:util';
import { type Browser, chromium } from 'playwright-core';

const run = promisify(execFile);

const installed = async (): Promise<string | undefined> => {
  const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];
  const found = await run('sh', [
    '-c',
    names.map((name) => `command -v ${name}`).join(' || '),
  ]).catch(() => undefined);
  return found?.stdout.trim();
};

/** The path of the machine's Chromium; it is installed where that can be done. */
async function findChromium(): Promise<string> {
  const found = await installed();
  if (found !== undefined) return found;
  if (process.getuid?.() === 0) {
    const install = () =>
      run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], {
        env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      });
    await install().catch(async () => {
      await run('apt-get', ['update', '-qq']);
      await install();
    });
  }
  const path = await installed();
  if (path === undefined)
    throw new Error('this test needs Chromium: sudo apt-get install chromium');
  return path;
}

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: await findChromium(),
    // A container gives it no sandbox of its own and little shared memory.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}
