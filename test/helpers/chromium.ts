import { type Browser, chromium } from 'playwright-core';
import { findProgram } from './debian.ts';

const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];

/** Opens the machine's Chromium, without a window. */
export async function openBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: await findProgram(names, 'chromium'),
    // A container gives it no sandbox of its own and little shared memory.
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}
