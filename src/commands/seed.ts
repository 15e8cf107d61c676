import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { seed } from '../migrations/seed.ts';
import { reachDatabase } from '../server/locate.ts';
import { print } from '../terminal/output.ts';

function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= 10_000_000) return count;
  throw new InvalidArgumentError('a whole number from 1 to 10000000');
}

export function registerSeed(program: Command): void {
  program
    .command('seed')
    .description('add demo users (demo1@example.com, …) with tasks, up to a number of them')
    .option('--users <n>', 'how many users there are afterwards', parseCount, 100)
    .option('--json', 'print JSON')
    .action(async (options: { users: number; json?: boolean }) => {
      const config = loadConfig();
      if (config.NODE_ENV === 'production') {
        throw new GwError('demo data, with a password that everybody knows, in production?', {
          hint: 'Unset NODE_ENV if this is not production.',
          exitCode: EXIT.usage,
        });
      }
      const { urls } = await reachDatabase(config);
      const started = Date.now();
      const added = await seed(urls.owner, options.users);
      const seconds = (Date.now() - started) / 1000;
      print(
        options.json,
        { ...added, seconds },
        `added ${added.users} users and ${added.tasks} tasks in ${seconds.toFixed(1)} s\n`,
      );
    });
}
