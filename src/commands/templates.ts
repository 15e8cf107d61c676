import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import process from 'node:process';
import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../config.ts';
import { EXIT, GwError, messageOf } from '../errors.ts';
import { isAddress } from '../mailbox.ts';
import { withApproval } from '../messages/approvals.ts';
import { explained, findUser, parseInstant, parseType } from '../messages/filters.ts';
import * as templates from '../messages/templates.ts';
import { type Sql, withSql } from '../postgres/connect.ts';
import { asOperator } from '../postgres/operator.ts';
import { takenBack } from '../postgres/taken-back.ts';
import { reachDatabase } from '../server/locate.ts';
import { paths } from '../server/state.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import type { Message } from '../worker/channels/channel.ts';

interface Json {
  json?: boolean;
}
interface PreviewOptions extends Json {
  user: string;
  payload?: unknown;
}
interface DraftOptions extends Json {
  subject: string;
  body?: string;
  html?: string;
  layout: string;
}
interface PublishOptions extends Json {
  percent: number;
  at?: Date;
  dryRun?: boolean;
  yes?: boolean;
}

async function onDatabase<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result> {
  const config = loadConfig();
  const { urls } = await reachDatabase(config);
  return explained(() =>
    withSql(urls.owner, (sql) => withApproval(sql, work), {
      connection: asOperator(config, 'gw templates'),
    }),
  );
}

function parseVersion(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('The number of a version, as gw templates list prints it.');
}

function parsePercent(text: string): number {
  const percent = Number(text);
  if (Number.isInteger(percent) && percent >= 1 && percent <= 100) return percent;
  throw new InvalidArgumentError('A whole number from 1 to 100.');
}

function parseLocale(text: string): string {
  if (/^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|\d{3}))?$/.test(text)) return text;
  throw new InvalidArgumentError('A tag such as en, pt-BR or zh-Hant.');
}

function parsePayload(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidArgumentError('A JSON object, such as {"place": "Paris"}.');
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8')
      .replace(/\r\n/g, '\n')
      .trimEnd();
  } catch (error) {
    throw new GwError(`cannot read ${file}: ${messageOf(error)}`, { exitCode: EXIT.usage });
  }
}

function textFrom(html: string | undefined): Promise<string> {
  if (html !== undefined) return templates.textOf(html);
  throw new GwError('what does it say?', {
    hint: 'Name a file: --body, --html, or both.',
    exitCode: EXIT.usage,
  });
}

function requireVersion(versions: templates.Version[], number: number): templates.Version {
  const found = versions.find(({ version }) => version === number);
  if (found !== undefined) return found;
  throw new GwError(`there is no version ${number}`, {
    hint: 'See: gw templates list',
    exitCode: EXIT.usage,
  });
}

async function publish(wanted: templates.Publication, options: PublishOptions): Promise<void> {
  const { type, locale, version, percent } = wanted;
  const { at, json, dryRun = false } = options;
  await onDatabase(async (sql) => {
    const what = `version ${version} of ${type} in ${locale}`;
    if (at !== undefined && at > new Date()) {
      // Whether it can be published at all is known now.
      await takenBack(sql, (transaction) => templates.tryPublishing(transaction, wanted));
      if (!dryRun) await templates.publishLater(sql, wanted, at);
      const text = `${what} ${dryRun ? 'would be' : 'is'} published at ${at.toISOString()}\n`;
      return print(json, { dryRun, type, locale, version, percent, at }, text);
    }
    let changed = 0;
    if (dryRun || options.yes !== true) {
      changed = await takenBack(sql, (transaction) => templates.tryPublishing(transaction, wanted));
      if (!dryRun) await confirm(`Publish ${what}, and rewrite ${changed} planned messages?`);
    }
    if (!dryRun) {
      await new Progress(json).step('publish', async (note) => {
        changed = await templates.publish(sql, wanted, (count) => note(`${count} messages`));
        return `${changed} messages`;
      });
    }
    const done = dryRun ? 'would be published' : 'is published';
    print(
      json,
      { dryRun, type, locale, version, percent, messages: changed },
      `${what} ${done}; ${changed} planned messages ${dryRun ? 'would be ' : ''}written anew\n`,
    );
  });
}

/** What a user would read, as the worker would send it. */
const asMessage = (type: string, read: templates.Preview, key: string, to: string): Message => ({
  ...{ job_id: '', message_id: key, user_id: '', attempt: 0, was_attempted: false },
  scheduled_send_time: new Date().toISOString(),
  ...{ message_type: type, delivery_date: new Date().toISOString().slice(0, 10) },
  ...{ email: to, full_name: to, is_optional: false, idempotency_key: key },
  message_subject: read.subject,
  message_content: read.body,
  message_html: read.html,
  layout: read.layout ?? undefined,
  locale: read.locale,
});

/** Sends what a user would read to another address, through the channel of the worker. */
async function sendTest(
  type: string,
  { user, to, payload = {} }: PreviewOptions & { to: string },
): Promise<void> {
  if (!isAddress(to)) {
    throw new GwError(`"${to}" is not an e-mail address`, { exitCode: EXIT.usage });
  }
  const { openChannel } = await import('../worker/channels/open.ts');
  const read = await onDatabase(async (sql) =>
    templates.preview(sql, type, await findUser(sql, user), payload),
  );
  const channel = openChannel(loadConfig(), paths.outbox);
  const key = `test:${randomUUID()}`;
  try {
    const subject = `[test] ${read.subject}`;
    const [attempt] = await channel.deliver([asMessage(type, { ...read, subject }, key, to)]);
    if (attempt?.status !== 'SENT') {
      throw new GwError(`not sent: ${attempt?.error ?? 'no answer'}`, {
        ...(attempt?.body === undefined ? {} : { hint: `It answered: ${attempt.body}` }),
        exitCode: EXIT.failure,
      });
    }
    process.stdout.write(`sent through ${channel.description}\n`);
  } finally {
    await channel.close();
  }
}

function registerDrafts(command: Command): void {
  command
    .command('draft')
    .description('make a version that is not in force yet')
    .argument('<type>', 'type of the message, such as BIRTHDAY', parseType)
    .argument('<locale>', 'language, such as en or pt-BR', parseLocale)
    .requiredOption('--subject <text>', 'the subject')
    .option('--body <file>', 'a file with the text; - for standard input')
    .option('--html <file>', 'a file with HTML for mail; the text is made of it unless given')
    .option('--layout <name>', 'the HTML around it', 'standard')
    .option('--json', 'print JSON')
    .action((type: string, locale: string, options: DraftOptions) =>
      onDatabase(async (sql) => {
        const html = options.html === undefined ? undefined : readText(options.html);
        const body = options.body === undefined ? await textFrom(html) : readText(options.body);
        const { subject, layout } = options;
        const version = await templates.draft(sql, type, locale, { subject, body, html, layout });
        print(options.json, { type, locale, version }, `version ${version} is made\n`);
      }),
    );

  command
    .command('layout')
    .description('make a layout: the HTML around messages, which new versions take')
    .argument('<name>', 'such as standard')
    .requiredOption('--html <file>', 'a file with the document; - for standard input')
    .option('--json', 'print JSON')
    .action((name: string, options: Json & { html: string }) =>
      onDatabase(async (sql) => {
        const id = await templates.makeLayout(sql, name, readText(options.html));
        print(options.json, { name, id }, `layout ${name} is number ${id}\n`);
      }),
    );
}

export function registerTemplates(program: Command): void {
  const command = program
    .command('templates')
    .description('list, try and publish what messages say');

  command
    .command('list')
    .description('print each template, its version in force, and languages without a text')
    .argument('[type]', 'only of this type, such as BIRTHDAY', parseType)
    .option('--json', 'print JSON')
    .action((type: string | undefined, options: Json) =>
      onDatabase(async (sql) => {
        const rows = await templates.listTemplates(sql, type ?? null);
        print(options.json, rows, templates.formatTemplates(rows));
      }),
    );

  command
    .command('diff')
    .description('print what differs between two versions of a template')
    .argument('<type>', 'type of the message, such as BIRTHDAY', parseType)
    .argument('<locale>', 'language, such as en or pt-BR', parseLocale)
    .argument('[from]', 'the first version (default: the one in force)', parseVersion)
    .argument('[to]', 'the second (default: the latest)', parseVersion)
    .action((type: string, locale: string, from?: number, to?: number) =>
      onDatabase(async (sql) => {
        const versions = await templates.versionsOf(sql, type, locale);
        const one = from ?? (await templates.inForce(sql, type, locale))?.version ?? 1;
        const other = to ?? versions[0]?.version ?? 1;
        const text = templates.formatDiff(
          requireVersion(versions, one),
          requireVersion(versions, other),
        );
        process.stdout.write(text);
      }),
    );

  registerDrafts(command);

  const withUser = (each: Command): Command =>
    each
      .argument('<type>', 'type of the message, such as BIRTHDAY', parseType)
      .requiredOption('--user <id or e-mail>', 'as this user would read it')
      .option('--payload <json>', 'what the application says of an event', parsePayload);

  withUser(command.command('preview'))
    .description('print what a user would read')
    .option('--html', 'print the HTML document that mail shows')
    .option('--json', 'print JSON')
    .action((type: string, options: PreviewOptions & { html?: boolean }) =>
      onDatabase(async (sql) => {
        const id = await findUser(sql, options.user);
        const read = await templates.preview(sql, type, id, options.payload ?? {});
        if (options.html === true) {
          const { documentOf } = await import('../worker/channels/document.ts');
          process.stdout.write(documentOf(asMessage(type, read, `preview:${randomUUID()}`, '')));
          return;
        }
        const head = `${read.locale}, version ${read.version}`;
        print(options.json, read, `${head}\n\nSubject: ${read.subject}\n\n${read.body}\n`);
      }),
    );

  withUser(command.command('send-test'))
    .description('send what a user would read to an address of yours')
    .requiredOption('--to <address>', 'where it goes')
    .action(sendTest);

  const withConsent = (each: Command): Command =>
    each
      .option('--dry-run', 'say how many messages would be written anew')
      .option('--yes', 'do not ask')
      .option('--json', 'print JSON');

  withConsent(command.command('publish'))
    .description('put a version into force, and write it into what is planned')
    .argument('<type>', 'type of the message, such as BIRTHDAY', parseType)
    .argument('<locale>', 'language, such as en or pt-BR', parseLocale)
    .argument('<version>', 'its number', parseVersion)
    .option('--at <instant>', 'when: 2026-12-24T18:00 (UTC); at once unless given', parseInstant)
    .option('--percent <n>', 'try it with so many of 100 users', parsePercent, 100)
    .action((type: string, locale: string, version: number, options: PublishOptions) =>
      publish({ type, locale, version, percent: options.percent }, options),
    );

  withConsent(command.command('rollback'))
    .description('put the version before the one in force into force again')
    .argument('<type>', 'type of the message, such as BIRTHDAY', parseType)
    .argument('<locale>', 'language, such as en or pt-BR', parseLocale)
    .action(async (type: string, locale: string, options: PublishOptions) => {
      const version = await onDatabase(async (sql) => {
        const now = await templates.inForce(sql, type, locale);
        const before = now?.previous_version ?? null;
        if (before !== null) return before;
        throw new GwError('there is no version before the one in force', {
          hint: 'See: gw templates list',
          exitCode: EXIT.usage,
        });
      });
      await publish({ type, locale, version, percent: 100 }, options);
    });
}
