import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { measureSlowness, patience } from './helpers/patience.ts';

// Times are those of a quick machine that does nothing else.
process.env.GW_TEST_SLOWNESS ??= String(measureSlowness());

const root = fileURLToPath(new URL('..', import.meta.url));

export default defineConfig({
  root,
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/helpers/global-setup.ts'],
    // Every file has a database of its own. Some wait most of the time: four fill two cores.
    fileParallelism: true,
    maxWorkers: 4,
    // Files leave nothing behind in their process, so the next one need not load all anew.
    isolate: false,
    // Tests must not depend on their order. Files start with the largest.
    sequence: { shuffle: { tests: true, files: false } },
    testTimeout: patience(30_000),
    hookTimeout: patience(60_000),
    reporters: [['default', { summary: false }]],
  },
});
