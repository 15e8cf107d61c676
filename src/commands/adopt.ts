import { type Command, Option } from 'commander';
import { type Config, loadConfig } from '../config.ts';
import { EXIT, GwError } from '../errors.ts';
import { adopt, type Choice, choices, formatPlan, rehearse } from '../messages/adoption.ts';
import { explained } from '../messages/filters.ts';
import {
  httpReceiver,
  outboxReceiver,
  type Receiver,
  silentReceiver,
} from '../messages/receiver.ts';
import { withSql } from '../postgres/connect.ts';
import { reachDatabase } from '../server/locate.ts';
import { paths } from '../server/state.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';

interface Options {
  reason?: string;
  unknown: Choice;
  dryRun?: boolean;
  yes?: boolean;
  json?: boolean;
}

/** Whom to ask what it has got. */
function receiverOf(config: Config): Receiver {
  const { GW_DELIVERY_STATUS_URL: template, GW_DELIVERY_URL: url } = config;
  if (template !== undefined) {
    const { GW_DELIVERY_CONCURRENCY: concurrency, GW_DELIVERY_TIMEOUT_MS: timeoutMs } = config;
    return httpReceiver(template, { concurrency, timeoutMs });
  }
  return (url ?? 'file:') === 'file:' ? outboxReceiver(paths.outbox) : silentReceiver;
}

async function run(options: Options): Promise<void> {
  const { reason, unknown: choice, dryRun = false } = options;
  if (!dryRun && reason === undefined) {
    throw new GwError('why is the copy adopted?', {
      hint: 'Say it with --reason: the audit log keeps it. Or see what would happen with --dry-run.',
      exitCode: EXIT.usage,
    });
  }
  const config = loadConfig();
  const { urls, description } = await reachDatabase(config);
  const progress = new Progress(options.json);
  const receiver = receiverOf(config);
  await explained(() =>
    withSql(urls.owner, async (sql) => {
      let plan: Awaited<ReturnType<typeof rehearse>>;
      await progress.step('messages', async (note) => {
        plan = await rehearse(sql, receiver, choice, (answered, of) =>
          note(`${answered} of ${of} asked`),
        );
        if (plan === undefined) return 'this is no copy';
        return `${plan.receipts.size} in doubt, asked ${receiver.description}`;
      });
      if (plan === undefined) {
        print(options.json, { adopted: false, reason: null, groups: [] }, '');
        return;
      }
      const { groups } = plan;
      const text = formatPlan(plan);
      if (!dryRun) {
        if (options.yes !== true) process.stderr.write(text);
        await confirm(
          `Is the original stopped for good, and is ${description} to work in its place?`,
          options.yes,
        );
        await adopt(sql, plan, choice, reason ?? '');
      }
      const done = dryRun ? '' : 'Adopted. Start gw worker and gw cdc.\n';
      print(options.json, { adopted: !dryRun, reason: plan.reason, groups }, `${text}${done}`);
    }),
  );
}

export function registerAdopt(program: Command): void {
  program
    .command('adopt')
    .description('let a copy work in the place of the original, sending nothing twice')
    .option('--reason <text>', 'why, for the audit log')
    .addOption(
      new Option(
        '--unknown <what>',
        'what becomes of messages of which nobody can tell whether they were sent',
      )
        .choices([...choices])
        .default('hold'),
    )
    .option('--dry-run', 'say what would be sent, and what not')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .action(run);
}
