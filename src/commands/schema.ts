import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Command } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';
import { Progress } from '../terminal/progress.ts';

/** The first line in which two texts differ, for a message. */
function firstDifference(committed: string, made: string): string {
  const [old, now] = [committed.split('\n'), made.split('\n')];
  const index = now.findIndex((line, i) => line !== old[i]);
  const at = index === -1 ? now.length : index;
  return `line ${at + 1}\n  committed: ${old[at] ?? '(end)'}\n  now:       ${now[at] ?? '(end)'}`;
}

export function registerSchema(program: Command): void {
  program
    .command('schema')
    .description(
      'check functions and docs/schema.graphql against the migrations, on a scratch server',
    )
    .option('--write', 'write docs/schema.graphql')
    .action(async (options: { write?: boolean }) => {
      const { createMigrated } = await import('../migrations/scratch.ts');
      const { startScratch } = await import('../server/scratch.ts');
      const { checkFunctions, schemaFiles } = await import('../migrations/compare.ts');
      const { dumpGraphql } = await import('../api/print-schema.ts');
      const progress = new Progress();
      const scratch = await startScratch('gw_schema');
      try {
        const database = await createMigrated(scratch.superuserUrl, 'gw_schema');
        const made = [[schemaFiles.graphql, await dumpGraphql(database)]] as const;
        for (const [path, text] of made) {
          const name = relative(projectRoot, path);
          await progress.step(name, async () => {
            if (options.write === true) {
              writeFileSync(path, text);
              return 'written';
            }
            const committed = existsSync(path) ? readFileSync(path, 'utf8') : '';
            if (committed === text) return 'is what the migrations make';
            throw new GwError(`${name} is stale at ${firstDifference(committed, text)}`, {
              hint: 'Run: npm run gw -- schema --write',
              exitCode: EXIT.failure,
            });
          });
        }
        await progress.step('functions', async () => {
          const findings = await checkFunctions(database);
          if (findings.length === 0) return 'plpgsql_check finds nothing';
          const lines = findings.map(
            (found) => `  ${found.function}:${found.line ?? ''} ${found.level}: ${found.message}`,
          );
          throw new GwError(`plpgsql_check found:\n${lines.join('\n')}`);
        });
      } finally {
        await scratch.stop();
      }
    });
}
