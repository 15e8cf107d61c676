import type { Command } from 'commander';

export function registerBaseline(program: Command): void {
  program
    .command('baseline')
    .description('write migrations/committed/ from the topics, until the first release')
    .option('--dry-run', 'say which files would change')
    .action(async (options: { dryRun?: boolean }) => {
      const { baselineChanges, writeBaseline } = await import('../migrations/baseline.ts');
      const { added, changed, removed } = baselineChanges();
      const lines = [
        ...added.map((name) => `added    ${name}`),
        ...changed.map((name) => `changed  ${name}`),
        ...removed.map((name) => `removed  ${name}`),
      ];
      process.stdout.write(
        `${lines.join('\n') || 'migrations/committed/ is what the topics make'}\n`,
      );
      if (options.dryRun === true || lines.length === 0) return;
      writeBaseline();
      process.stderr.write('a database that ran the old ones needs: npm run gw -- reset\n');
    });
}
