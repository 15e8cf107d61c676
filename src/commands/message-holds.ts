import process from 'node:process';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import { parseInstant, parseType } from '../messages/filters.ts';
import * as messages from '../messages/holds.ts';
import type { Sql } from '../postgres/connect.ts';
import { takenBack } from '../postgres/taken-back.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';

type OnDatabase = <Result>(work: (sql: Sql) => Promise<Result>) => Promise<Result>;

interface HoldFlags extends messages.HoldOptions {
  all?: boolean;
  json?: boolean;
}

interface ReleaseFlags {
  send?: boolean;
  skip?: boolean;
  nextMorning?: boolean;
  dryRun?: boolean;
  yes?: boolean;
  json?: boolean;
}

function parseHold(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('The number of a hold, as gw messages holds prints it.');
}

/** What a person has to say, lest all is stopped by a slip. */
function requireScope({ all, type, channel, zone }: HoldFlags): void {
  const isLimited = [type, channel, zone].some((value) => value !== undefined);
  if (isLimited !== (all === true)) return;
  throw new GwError(isLimited ? 'all messages, or only some?' : 'which messages?', {
    hint: 'Name --type, --channel or --zone, or else --all.',
    exitCode: EXIT.usage,
  });
}

const afterwards = ({ send, skip, nextMorning }: ReleaseFlags) => {
  const chosen = [
    ...(send === true ? (['send'] as const) : []),
    ...(skip === true ? (['skip'] as const) : []),
    ...(nextMorning === true ? (['next-morning'] as const) : []),
  ];
  const [only] = chosen;
  if (only !== undefined && chosen.length === 1) return only;
  throw new GwError('what becomes of what it held?', {
    hint: 'Say one of --send, --skip, --next-morning.',
    exitCode: EXIT.usage,
  });
};

const questions = {
  send: 'Send them now?',
  skip: 'Leave them out for good?',
  'next-morning': "Send them at the users' next send time?",
};

/** Registers what stops messages, and lets them go: holds, and suppressed addresses. */
export function registerHolds(command: Command, onDatabase: OnDatabase): void {
  command
    .command('hold')
    .description('stop messages from being sent, until they are released')
    .option('--type <type>', 'only messages of this type, such as BIRTHDAY', parseType)
    .option('--channel <name>', 'only messages through this channel, such as smtp')
    .option('--zone <name>', 'only messages to users in this time zone')
    .option('--all', 'all messages')
    .option('--until <instant>', 'when it ends by itself: 2026-12-24T18:00 (UTC)', parseInstant)
    .requiredOption('--reason <text>', 'why; gw messages explain shows it')
    .option('--json', 'print JSON')
    .action((options: HoldFlags) => {
      requireScope(options);
      return onDatabase(async (sql) => {
        const id = await messages.hold(sql, options);
        print(options.json, { hold: id }, `hold ${id} is in force\n`);
      });
    });

  command
    .command('release')
    .description('end a hold')
    .argument('<hold>', 'its number, as gw messages holds prints it', parseHold)
    .option('--send', 'send what it held now')
    .option('--skip', 'leave what it held out for good')
    .option('--next-morning', "send what it held at the users' next send time")
    .option('--dry-run', 'say how many messages it holds')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .action((id: number, options: ReleaseFlags) => {
      const then = afterwards(options);
      return onDatabase(async (sql) => {
        const dryRun = options.dryRun === true;
        let count = 0;
        if (dryRun || options.yes !== true) {
          count = await takenBack(sql, (transaction) => messages.release(transaction, id, then));
          if (!dryRun) await confirm(`Hold ${id} holds ${count} messages. ${questions[then]}`);
        }
        if (!dryRun) count = await messages.release(sql, id, then);
        const done = dryRun ? 'would be released' : 'is released';
        print(
          options.json,
          { dryRun, hold: id, then, messages: count },
          `hold ${id} ${done}: ${count} messages, ${then}\n`,
        );
      });
    });

  command
    .command('holds')
    .description('print the holds in force')
    .option('--json', 'print JSON')
    .action((options: { json?: boolean }) =>
      onDatabase(async (sql) => {
        const rows = await messages.holds(sql);
        print(options.json, rows, messages.formatHolds(rows));
      }),
    );

  command
    .command('suppression')
    .description('print whether messages are sent to an e-mail address')
    .argument('<address>', 'the e-mail address')
    .option('--json', 'print JSON')
    .action((address: string, options: { json?: boolean }) =>
      onDatabase(async (sql) => {
        const row = await messages.suppressionOf(sql, address);
        print(options.json, row, messages.describeSuppression(row));
      }),
    );

  command
    .command('suppress')
    .description('send nothing more to an e-mail address')
    .argument('<address>', 'the e-mail address')
    .requiredOption('--reason <text>', 'why; gw messages explain shows it')
    .action((address: string, options: { reason: string }) =>
      onDatabase(async (sql) => {
        await messages.suppress(sql, address, options.reason);
        process.stdout.write('nothing more is sent there\n');
      }),
    );

  command
    .command('lift')
    .description('send messages again to an e-mail address that was suppressed')
    .argument('<address>', 'the e-mail address')
    .addOption(new Option('--reason <text>', 'why; the audit log keeps it').makeOptionMandatory())
    .option('--type <type>', 'only that from which the address was unsubscribed, such as BIRTHDAY')
    .action((address: string, options: { reason: string; type?: string }) =>
      onDatabase(async (sql) => {
        await messages.lift(sql, address, options.reason, options.type);
        const what = options.type === undefined ? 'messages' : `messages of type ${options.type}`;
        process.stdout.write(`${what} are sent there again\n`);
      }),
    );
}
