import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';

export function registerOperations(program: Command): void {
  program
    .command('operations')
    .description('check that a list of persisted operations fits the schema')
    .argument('[file]', 'the list; GW_PERSISTED_OPERATIONS when it is left out')
    .option('--json', 'print one JSON object instead of text')
    .action(async (file: string | undefined, options: { json?: boolean }) => {
      const { buildSchema } = await import('postgraphile/graphql');
      const { checkOperations } = await import('../api/documents/check.ts');
      const { readOperations } = await import('../api/operations.ts');
      const path = file ?? loadConfig().GW_PERSISTED_OPERATIONS;
      if (path === undefined) {
        throw new GwError('there is no list of operations', {
          hint: 'Name its file, or set GW_PERSISTED_OPERATIONS.',
          exitCode: EXIT.usage,
        });
      }
      const operations = readOperations(path);
      const text = readFileSync(join(projectRoot, 'docs', 'schema.graphql'), 'utf8');
      const unfit = checkOperations(buildSchema(text), operations);
      const count = Object.keys(operations).length;
      if (options.json === true) {
        process.stdout.write(`${JSON.stringify({ operations: count, unfit }, null, 2)}\n`);
      } else {
        for (const { hash, name, problems } of unfit) {
          process.stdout.write(`✘  ${name ?? 'unnamed'}  ${hash}\n`);
          for (const problem of problems) process.stdout.write(`     ${problem}\n`);
        }
        const result =
          unfit.length === 0
            ? `✔  ${count} operations fit the schema`
            : `${unfit.length} of ${count} operations do not fit the schema`;
        process.stdout.write(`${result}\n`);
      }
      if (unfit.length > 0) process.exitCode = EXIT.failure;
    });
}
