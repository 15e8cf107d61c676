import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { measureSlowness, patience } from './helpers/patience.ts';

// Times are those of a quick machine that does nothing else.
process.env.GW_TEST_SLOWNESS ??= String(measureSlowness());

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Those that take longest by themselves: begun last, each would run on alone. One that computes is
 * followed by one that waits.
 */
const longest = [
  ...['docs/tutorial', 'worker/alive', 'cli/up', 'worker/failover', 'cli/failures'],
  ...['db/operations/cron', 'cdc/reconcile', 'worker/recovery', 'cdc/killed', 'worker/shutdown'],
  ...['cli/migration-failures', 'worker/chaos', 'cli/schema', 'cdc/lease', 'ops/superuser'],
  ...['api/rolling-restart', 'ops/prove', 'cli/messages', 'cli/migration-conflicts'],
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const place = ({ moduleId }: TestSpecification): number => {
      const found = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return found === -1 ? longest.length : found;
    };
    // Among the others the larger come first.
    const sorted = (await super.sort(files)).sort((one, other) => place(one) - place(other));
    // Where the first failure ends the run, the shortest does most.
    return this.ctx.config.bail ? sorted.reverse() : sorted;
  }
}

/** What measures how long others wait runs when nothing else does. */
const alone = ['test/api/hostile.test.ts'];

export default defineConfig({
  root,
  test: {
    globalSetup: ['test/helpers/global-setup.ts'],
    // Every file has a database of its own. Some only wait: three fill two cores.
    maxWorkers: 3,
    projects: [
      {
        extends: true,
        test: {
          name: 'together',
          include: ['test/**/*.test.ts'],
          exclude: alone,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { name: 'alone', include: alone, maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
    ],
    // Files leave nothing behind in their process, so the next one need not load all anew.
    isolate: false,
    // Tests must not depend on their order.
    sequence: { sequencer: LongestFirst, shuffle: { tests: true, files: false } },
    testTimeout: patience(30_000),
    hookTimeout: patience(60_000),
    reporters: [['default', { summary: false }]],
  },
});
