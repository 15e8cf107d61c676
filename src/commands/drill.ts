import { type Command, InvalidArgumentError } from 'commander';
import { EXIT, GwError } from '../errors.ts';
import { print } from '../terminal/output.ts';
import { Progress } from '../terminal/progress.ts';
import { formatRecord } from '../terminal/table.ts';
import { humanBytes, humanSeconds } from '../terminal/values.ts';

interface Options {
  users: number;
  messages: number;
  seconds: number;
  json?: boolean;
}

function parseCount(text: string): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number from 1 to 9999999.');
}

async function run({ json, ...options }: Options): Promise<void> {
  const { drill } = await import('../drill/drill.ts');
  const report = await drill({ ...options, progress: new Progress(json) });
  const text = formatRecord({
    database: humanBytes(report.bytes),
    'time to recover (RTO)': humanSeconds(report.rtoSeconds),
    'the same for 10 GB':
      report.secondsFor10Gb === null
        ? 'cannot tell from so little'
        : `${humanSeconds(report.secondsFor10Gb)}, at the same rate`,
    'loss in time (RPO)': humanSeconds(report.rpoSeconds),
    'rows lost': `${report.rowsLost} of ${report.rowsAcknowledged} that were acknowledged`,
    'copy was fenced': report.fenced ?? 'NO',
    'sent while fenced': report.sentWhileFenced,
    'messages due': report.messagesDue,
    'sent before the loss': report.messagesSentBefore,
    'sent twice': report.messagesDoubled,
    'never sent': report.messagesLost,
    'full backup': humanSeconds(report.backupSeconds),
  });
  print(json, report, text);
  if (report.isWell) return;
  throw new GwError('the drill failed: see what was lost, doubled, or not fenced', {
    hint: 'Nothing but scratch servers was touched.',
    exitCode: EXIT.failure,
  });
}

export function registerDrill(program: Command): void {
  program
    .command('drill')
    .description('lose a server under load, on scratch servers, and recover it (exit 1: a loss)')
    .option('--users <n>', 'demo users; 40,000 make 1 GB', parseCount, 300)
    .option('--messages <n>', 'messages that are due', parseCount, 1_000)
    .option('--seconds <n>', 'how long is written and sent before the loss', parseCount, 40)
    .option('--json', 'print JSON')
    .action(run);
}
