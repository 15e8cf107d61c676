import process from 'node:process';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { withApproval } from '../messages/approvals.ts';
import * as changes from '../messages/changes.ts';
import {
  boundFilters,
  explained,
  type Filters,
  findUser,
  parseCount,
  parseDate,
  parseInstant,
  parseType,
  parseUuid,
  withFilters,
} from '../messages/filters.ts';
import * as queries from '../messages/queries.ts';
import { type Sql, type Transaction, withSql } from '../postgres/connect.ts';
import { asOperator } from '../postgres/operator.ts';
import { takenBack } from '../postgres/taken-back.ts';
import { reachDatabase } from '../server/locate.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { registerApprovals } from './message-approvals.ts';
import { registerHolds } from './message-holds.ts';

interface Json {
  json?: boolean;
}
interface ChangeOptions extends Json {
  dryRun?: boolean;
  yes?: boolean;
}

async function onDatabase<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result> {
  const config = loadConfig();
  const { urls } = await reachDatabase(config);
  return explained(() =>
    withSql(urls.owner, (sql) => withApproval(sql, work), {
      connection: asOperator(config, 'gw messages'),
    }),
  );
}

/** Asks with what a dry run finds, does it, and says what was done and what refused. */
async function change(
  options: ChangeOptions,
  words: { question: (count: number) => string; done: string },
  work: (sql: Sql | Transaction) => Promise<changes.Group[]>,
): Promise<void> {
  const groups = await onDatabase(async (sql) => {
    if (options.dryRun === true || options.yes !== true) {
      const found = await takenBack(sql, work);
      const count = changes.countDone(found);
      if (options.dryRun === true || count === 0) return found;
      await confirm(words.question(count));
    }
    return work(sql);
  });
  const refused = changes.countRefused(groups);
  const done = options.dryRun === true ? `would be ${words.done}` : words.done;
  print(
    options.json,
    { dryRun: options.dryRun === true, messages: changes.countDone(groups), refused, groups },
    groups.length === 0 ? 'no message matches\n' : changes.formatGroups(groups, done),
  );
  // Nothing to do is an answer that a script should see.
  process.exitCode = groups.length === 0 || refused > 0 ? EXIT.failure : EXIT.ok;
}

/** What a person has to say, lest all that ever failed is meant. */
function requireFilter(filters: Filters): void {
  const { status, type, date, user, since, message } = filters;
  if ([status, type, date, user, since, message].some((value) => value !== undefined)) return;
  throw new GwError('which messages?', {
    hint: 'Name at least one of --status, --type, --date, --user, --since, --message.',
    exitCode: EXIT.usage,
  });
}

const withConsent = (command: Command): Command =>
  command
    .option('--dry-run', 'say what would be done')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON');

function parseChange(text: string, before: Record<string, string | null> = {}) {
  const [, name, value] = /^([a-z_]+)=(.*)$/.exec(text) ?? [];
  if (name === undefined) {
    throw new InvalidArgumentError('Such as timezone=Europe/Paris, or birthday_date= for none.');
  }
  return { ...before, [name]: value === '' ? null : (value ?? null) };
}

function parseLimit(text: string): number | null {
  if (text === 'none') return null;
  const limit = Number(text);
  if (text.trim() !== '' && Number.isFinite(limit)) return limit;
  throw new InvalidArgumentError('A number of messages a second, 0 to stop, or none.');
}

function registerQueries(messages: Command): void {
  messages
    .command('explain')
    .description('explain why a message was, will be, or was not sent')
    .argument('<user>', 'id or e-mail of the user')
    .argument('<type>', 'type of the message, such as BIRTHDAY', parseType)
    .argument('<date>', 'local date of the occasion', parseDate)
    .option('--json', 'print JSON')
    .action((user: string, type: string, date: string, options: Json) =>
      onDatabase(async (sql) => {
        const steps = await queries.explain(sql, await findUser(sql, user), type, date);
        print(options.json, steps, queries.formatSteps(steps));
        // An id that nobody has leaves nothing to explain.
        process.exitCode = steps.length > 1 ? EXIT.ok : EXIT.failure;
      }),
    );

  withFilters(messages.command('list'))
    .description('list messages, the latest first; of the last 7 days unless a filter says when')
    .option('--limit <n>', 'how many messages at most', parseCount, 50)
    .option('--json', 'print JSON')
    .action((options: Filters & Json & { limit: number }) =>
      onDatabase(async (sql) => {
        const rows = await queries.list(sql, boundFilters(options), options.limit);
        print(options.json, rows, queries.formatList(rows));
        if (rows.length === options.limit && options.json !== true) {
          process.stderr.write(`only the latest ${options.limit}; more with --limit\n`);
        }
      }),
    );

  messages
    .command('simulate')
    .description('count what the rules would send, by hour and zone; nothing is sent')
    .option(
      '--from <instant>',
      'begin: 2026-12-24, or 2026-12-24T18:00 in UTC (default: now)',
      parseInstant,
    )
    .option(
      '--to <instant>',
      'end, up to 400 days after the begin (default: a day after it)',
      parseInstant,
    )
    .option('--user <id or e-mail>', 'only messages to this user, to the second')
    .option(
      '--if <name=value>',
      'show what this change of the user would alter; may be repeated',
      parseChange,
    )
    .option('--json', 'print JSON')
    .action(
      (
        options: Json & {
          from?: Date;
          to?: Date;
          user?: string;
          if?: Record<string, string | null>;
        },
      ) =>
        onDatabase(async (sql) => {
          const from = options.from ?? new Date();
          const to = options.to ?? new Date(from.getTime() + 86_400_000);
          const userId = options.user === undefined ? null : await findUser(sql, options.user);
          const rows = await queries.simulate(sql, { from, to }, userId, options.if ?? {});
          print(options.json, rows, queries.formatSimulated(rows));
        }),
    );

  messages
    .command('channels')
    .description('print the limits and circuit breakers of the channels')
    .option('--json', 'print JSON')
    .action((options: Json) =>
      onDatabase(async (sql) => {
        const rows = await queries.channels(sql);
        print(options.json, rows, queries.formatChannels(rows));
      }),
    );
}

function registerChanges(messages: Command): void {
  withConsent(messages.command('replan'))
    .description('apply the present rules, zones and tzdata to messages that are not sent yet')
    .option('--user <id or e-mail>', 'only this user')
    .option('--zone <name>', 'only users in this zone')
    .action((options: ChangeOptions & { user?: string; zone?: string }) =>
      onDatabase(async (sql) => {
        const userId = options.user === undefined ? null : await findUser(sql, options.user);
        const scope = { userId, zone: options.zone ?? null };
        const dryRun = options.dryRun === true;
        const moved = dryRun ? await changes.findMoved(sql, scope) : [];
        if (!dryRun) await confirm('Replan what has not gone out?', options.yes);
        let done: changes.Replanned | undefined;
        await new Progress(options.json).step('replan', async (note) => {
          done = await changes.replan(sql, scope, dryRun, (users) => note(`${users} users`));
          return `${done.users} users`;
        });
        const counts = { zones: 0, users: 0, changes: 0, ...done };
        print(
          options.json,
          { dryRun, ...counts, ...(dryRun ? { moved } : {}) },
          `${moved.length === 0 ? '' : changes.formatMoved(moved)}` +
            `${dryRun ? 'would be: ' : ''}` +
            `${counts.changes} changes for ${counts.users} users; ${counts.zones} new zones\n`,
        );
      }),
    );

  withConsent(withFilters(messages.command('redrive')))
    .description('send FAILED and EXPIRED messages again, or those of --status')
    .option('--even-unknown', 'also messages that may have been delivered: these may arrive twice')
    .action((options: Filters & ChangeOptions & { evenUnknown?: boolean }) => {
      requireFilter(options);
      const filters = boundFilters(options);
      const evenUnknown = options.evenUnknown === true;
      const question = (count: number) => `Send ${count} messages again?`;
      return change(options, { question, done: 'sent again' }, (sql) =>
        changes.redrive(sql, filters, evenUnknown),
      );
    });

  withConsent(withFilters(messages.command('cancel')))
    .description('cancel messages that are not sent yet; they are not planned again')
    .requiredOption('--reason <text>', 'why; gw messages explain shows it')
    .action((options: Filters & ChangeOptions & { reason: string }) => {
      requireFilter(options);
      const filters = boundFilters(options);
      const question = (count: number) => `Cancel ${count} messages?`;
      return change(options, { question, done: 'canceled' }, (sql) =>
        changes.cancel(sql, filters, options.reason),
      );
    });

  messages
    .command('resend')
    .description('send a copy of a message that was sent, to the present address of the user')
    .argument('<user>', 'id or e-mail of the user')
    .requiredOption('--message <id>', 'the message', parseUuid)
    .requiredOption('--reason <text>', 'why; the audit log keeps it')
    .action((user: string, options: { message: string; reason: string }) =>
      onDatabase(async (sql) => {
        const id = await findUser(sql, user);
        const copy = await changes.resend(sql, id, options.message, options.reason);
        process.stdout.write(`message ${copy} is a copy, and is sent\n`);
      }),
    );

  messages
    .command('resolve')
    .description('record whether an UNKNOWN message was delivered, as the receiver says')
    .requiredOption('--message <id>', 'the message', parseUuid)
    .addOption(
      new Option('--as <outcome>', 'sent or failed')
        .choices(['sent', 'failed'])
        .makeOptionMandatory(),
    )
    .action((options: { message: string; as: string }) =>
      onDatabase(async (sql) => {
        const outcome = options.as.toUpperCase();
        await changes.resolve(sql, options.message, outcome);
        process.stdout.write(`message ${options.message} is ${outcome}\n`);
      }),
    );

  messages
    .command('limit')
    .description('limit how many messages a second all workers together send through a channel')
    .argument('<channel>', 'name of the channel, as gw messages channels prints it')
    .argument('<per second>', 'messages a second; 0 stops the channel; none: no limit', parseLimit)
    .option('--domain <name>', 'only to the addresses of a domain, such as example.com')
    .action((channel: string, limit: number | null, { domain }: { domain?: string }) =>
      onDatabase(async (sql) => {
        await changes.limitChannel(sql, channel, limit, domain ?? null);
        process.stdout.write(
          `${domain === undefined ? channel : `${channel} to ${domain}`}: ${limit === null ? 'no limit' : limit === 0 ? 'stopped' : `${limit} messages a second`}\n`,
        );
      }),
    );
}

export function registerMessages(program: Command): void {
  const messages = program
    .command('messages')
    .description('explain, list and change the messages to users');
  registerQueries(messages);
  registerChanges(messages);
  registerHolds(messages, onDatabase);
  registerApprovals(messages, onDatabase);
}
