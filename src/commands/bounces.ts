import { readdir, readFile, rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import process from 'node:process';
import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../config.ts';
import { codeOf, EXIT, GwError, messageOf } from '../errors.ts';
import { explained } from '../messages/filters.ts';
import { ReturnPaths } from '../messages/return-path.ts';
import { type ReturnedEvent, readReturnedMail } from '../messages/returned-mail.ts';
import { type Sql, type Transaction, withSql } from '../postgres/connect.ts';
import { takenBack } from '../postgres/taken-back.ts';
import { reachDatabase } from '../server/locate.ts';
import { readSecrets } from '../server/state.ts';
import { print } from '../terminal/output.ts';

interface Options {
  maildir?: string;
  dryRun?: boolean;
  json?: boolean;
}

/** A mail, and what makes it read. */
interface Mail {
  name: string;
  content: Buffer;
  done: () => Promise<void>;
}

interface Outcome {
  applied: number;
  known: number;
  /** Reports that say nothing of use, or of a message that is gone. */
  ignored: number;
  /** Mail that is no report about a message of ours: name and why. */
  others: { mail: string; problem: string }[];
}

/** Bytes; a report returns headers, or a message of ours. */
const maxMail = 10_000_000;

/** So many reports are stored in a transaction. */
const batchSize = 200;

async function readStdin(): Promise<Buffer> {
  if (process.stdin.isTTY) {
    throw new GwError('which mail?', {
      hint: 'Give a mail on standard input, or --maildir.',
      exitCode: EXIT.usage,
    });
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > maxMail) {
      throw new GwError(`a mail has at most ${maxMail} bytes`, { exitCode: EXIT.usage });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The unread mail of a maildir; one that was read is moved to cur/, as its format wants. */
async function* maildirOf(folder: string): AsyncGenerator<Mail> {
  const inbox = join(folder, 'new');
  const entries = await readdir(inbox, { withFileTypes: true }).catch((error: unknown) => {
    throw new GwError(`cannot read ${inbox}: ${messageOf(error)}`, {
      hint: 'A maildir has the folders new, cur and tmp.',
      exitCode: EXIT.usage,
    });
  });
  const names = entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
  for (const name of names.sort()) {
    const path = join(inbox, name);
    const content = await readFile(path).catch((error: unknown) => {
      // Another process has read it meanwhile.
      if (codeOf(error) === 'ENOENT') return undefined;
      throw error;
    });
    if (content === undefined) continue;
    const read = join(folder, 'cur', `${basename(name)}:2,S`);
    const done = (): Promise<void> =>
      rename(path, read).catch((error: unknown) => {
        if (codeOf(error) !== 'ENOENT') throw error;
      });
    yield { name, content: content.subarray(0, maxMail), done };
  }
}

async function* stdinMail(): AsyncGenerator<Mail> {
  yield { name: '-', content: await readStdin(), done: async () => {} };
}

async function store(sql: Sql | Transaction, events: readonly ReturnedEvent[]) {
  const [row] = await sql<Pick<Outcome, 'applied' | 'known' | 'ignored'>[]>`
    select applied, known, ignored
    from app_private.apply_returned_mail(${sql.json(events as never)})`;
  return row ?? { applied: 0, known: 0, ignored: 0 };
}

async function run(options: Options): Promise<void> {
  const { maildir, dryRun = false } = options;
  const config = loadConfig();
  if (config.GW_MAIL_BOUNCES === undefined) {
    throw new GwError('GW_MAIL_BOUNCES is not set', {
      hint: 'It is the address to which mail is returned, the same as for gw worker.',
      exitCode: EXIT.usage,
    });
  }
  const paths = new ReturnPaths(config.GW_MAIL_BOUNCES, config.GW_JWT_SECRET ?? readSecrets().jwt);
  const { urls } = await reachDatabase(config);
  const done: Outcome = { applied: 0, known: 0, ignored: 0, others: [] };
  await explained(() =>
    withSql(urls.worker, async (sql) => {
      // Before any mail is taken from anybody: that the database takes reports.
      await takenBack(sql, (transaction) => store(transaction, []));
      let batch: { mail: Mail; event?: ReturnedEvent }[] = [];
      const flush = async (): Promise<void> => {
        const events = batch.flatMap(({ event }) => (event === undefined ? [] : [event]));
        if (events.length > 0) {
          const told = await (dryRun
            ? takenBack(sql, (transaction) => store(transaction, events))
            : store(sql, events));
          done.applied += told.applied;
          done.known += told.known;
          done.ignored += told.ignored;
        }
        // Stored first: a mail that is read twice counts once.
        if (!dryRun) for (const { mail } of batch) await mail.done();
        batch = [];
      };
      for await (const mail of maildir === undefined ? stdinMail() : maildirOf(maildir)) {
        const read = await readReturnedMail(mail.content, paths);
        if ('problem' in read) {
          done.others.push({ mail: mail.name, problem: read.problem });
          batch.push({ mail });
        } else {
          batch.push({ mail, event: read });
        }
        if (batch.length >= batchSize) await flush();
      }
      await flush();
    }),
  );
  const lines = [
    ...done.others.map(({ mail, problem }) => `${mail}: ${problem}`),
    `${dryRun ? 'would be: ' : ''}${done.applied} new, ${done.known} known, ` +
      `${done.ignored} of no use, ${done.others.length} no reports`,
  ];
  print(options.json, { dryRun, ...done }, `${lines.join('\n')}\n`);
}

export function registerBounces(program: Command): void {
  program
    .command('bounces')
    .description('read returned mail and spam reports, and suppress addresses that take no mail')
    .option(
      '--maildir <folder>',
      'read its new mail; without it, one mail on standard input',
      (text) => {
        if (text !== '') return text;
        throw new InvalidArgumentError('A folder with new, cur and tmp.');
      },
    )
    .option('--dry-run', 'say what would be stored; the mail stays new')
    .option('--json', 'print JSON')
    .action(run);
}
