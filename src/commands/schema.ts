import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { Command } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import type { Difference } from '../migrations/compare.ts';
import { projectRoot } from '../project.ts';
import { Progress } from '../terminal/progress.ts';

/** The API as frontends read it without running anything. */
const graphqlFile = join(projectRoot, 'docs', 'schema.graphql');

/** The first line in which two texts differ, for a message. */
function firstDifference(committed: string, made: string): string {
  const [old, now] = [committed.split('\n'), made.split('\n')];
  const index = now.findIndex((line, i) => line !== old[i]);
  const at = index === -1 ? now.length : index;
  return `line ${at + 1}\n  committed: ${old[at] ?? '(end)'}\n  now:       ${now[at] ?? '(end)'}`;
}

const shownDifferences = 10;

function refuseDifferences(found: Difference[], isReleased: boolean): never {
  const none = '(not there)';
  const lines = found
    .slice(0, shownDifferences)
    .map(
      ({ object, place, committed, fixtures }) =>
        `  ${object}${place === undefined ? '' : `  ${place}`}\n` +
        `    migrations: ${committed ?? none}\n    topics:     ${fixtures ?? none}`,
    );
  if (found.length > shownDifferences) lines.push(`  and ${found.length - shownDifferences} more`);
  throw new GwError(
    `migrations/committed/ and migrations/fixtures/schema.sql make different databases\n${lines.join('\n')}`,
    {
      hint: isReleased
        ? 'A change is a migration and the same edit in its topic: make the one that is missing.'
        : 'Run: npm run gw -- baseline',
      exitCode: EXIT.failure,
    },
  );
}

export function registerSchema(program: Command): void {
  program
    .command('schema')
    .description(
      'compare the migrations with the topics and docs/schema.graphql, and check functions',
    )
    .option('--write', 'write docs/schema.graphql')
    .action(async (options: { write?: boolean }) => {
      const { createMigrated } = await import('../migrations/scratch.ts');
      const { createFromFixtures } = await import('../migrations/fixtures.ts');
      const { differences, sideOf } = await import('../migrations/compare.ts');
      const { firstRelease } = await import('../migrations/baseline.ts');
      const { checkFunctions } = await import('../migrations/plpgsql-check.ts');
      const { requireBinaries, withScratch } = await import('../server/scratch.ts');
      const { dumpGraphql } = await import('../api/print-schema.ts');
      const progress = new Progress();
      const bin = await requireBinaries();
      // pg_cron lives where functions are checked: its jobs would change what is compared.
      await withScratch('gw_functions', async (scratch) => {
        const database = await createMigrated(scratch.superuserUrl, 'gw_schema');
        await progress.step('topics', async () => {
          const present = await createFromFixtures(scratch.superuserUrl, 'gw_topics');
          const committed = await sideOf(bin, database.urls.superuser ?? '');
          const found = differences(committed, await sideOf(bin, present.urls.superuser ?? ''));
          if (found.length > 0) refuseDifferences(found, firstRelease() !== undefined);
          return `make what the migrations make: ${committed.objects.size} objects`;
        });
        const name = relative(projectRoot, graphqlFile);
        await progress.step(name, async () => {
          const made = await dumpGraphql(database);
          if (options.write === true) {
            writeFileSync(graphqlFile, made);
            return 'written';
          }
          const committed = existsSync(graphqlFile) ? readFileSync(graphqlFile, 'utf8') : '';
          if (committed === made) return 'is what the migrations make';
          throw new GwError(`${name} is stale at ${firstDifference(committed, made)}`, {
            hint: 'Run: npm run gw -- schema --write',
            exitCode: EXIT.failure,
          });
        });
        await progress.step('functions', async () => {
          const findings = await checkFunctions(scratch.superuserUrl, 'gw_functions', 'gw_schema');
          if (findings.length === 0) return 'plpgsql_check finds nothing';
          const lines = findings.map(
            (found) => `  ${found.function}:${found.line ?? ''} ${found.level}: ${found.message}`,
          );
          throw new GwError(`plpgsql_check found:\n${lines.join('\n')}`);
        });
      });
    });
}
