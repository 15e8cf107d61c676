import process from 'node:process';
import { type Command, InvalidArgumentError } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import * as messages from '../messages/approvals.ts';
import type { Sql } from '../postgres/connect.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';

type OnDatabase = <Result>(work: (sql: Sql) => Promise<Result>) => Promise<Result>;

function parseRequest(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('The number of a request, as gw messages approvals prints it.');
}

/** Registers what a second person does with large changes. */
export function registerApprovals(command: Command, onDatabase: OnDatabase): void {
  command
    .command('approvals')
    .description('print large changes that somebody has asked to make')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) =>
      onDatabase(async (sql) => {
        const rows = await messages.approvals(sql);
        print(options.json, rows, messages.formatApprovals(rows));
      }),
    );

  command
    .command('approve')
    .description('approve a large change that another person has asked to make')
    .argument('<request>', 'its number, as gw messages approvals prints it', parseRequest)
    .option('--yes', 'do not ask')
    .action((id: number, options: { yes?: boolean }) =>
      onDatabase(async (sql) => {
        const asked = (await messages.approvals(sql)).filter((row) => row.id === id);
        if (asked.length === 0) {
          throw new GwError(`there is no request ${id} of the last day that waits`, {
            hint: 'See: gw messages approvals',
            exitCode: EXIT.usage,
          });
        }
        process.stderr.write(messages.formatApprovals(asked));
        await confirm('Approve it?', options.yes);
        await messages.approve(sql, id);
        process.stdout.write(`request ${id} is approved: it can be made once, within a day\n`);
      }),
    );
}
