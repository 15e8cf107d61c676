import process from 'node:process';
import type { Command } from 'commander';
import { slotNameOf } from '../cdc/slot.ts';
import { type Config, loadConfig } from '../config.ts';
import { codeOf, EXIT } from '../errors.ts';
import { createLog, type Log, openProcessLog } from '../log.ts';
import { connectionError, withSql } from '../postgres/connect.ts';
import { databaseName } from '../postgres/urls.ts';
import { locateDatabase } from '../server/locate.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { formatRecord } from '../terminal/table.ts';
import {
  endWhenFenced,
  graceOf,
  openPort,
  sayReady,
  untilMigrated,
  untilStopped,
  waitHelp,
} from './process.ts';

interface Target {
  config: Config;
  url: string;
  slot: string;
  log: Log;
}

function target(): Target {
  const config = loadConfig();
  const { cdc: url } = locateDatabase(config).urls;
  const slot = config.GW_CDC_SLOT ?? slotNameOf(databaseName(url));
  return { config, url, slot, log: createLog('cdc', config.GW_LOG_LEVEL) };
}

/** Says what an error of the database means, with its address. */
function explain(error: unknown, url: string): never {
  throw codeOf(error) === undefined ? error : connectionError(error, url, 'DATABASE_URL');
}

async function consume({ wait = false }: { wait?: boolean }): Promise<void> {
  const { Consumer } = await import('../cdc/consumer.ts');
  const log = openProcessLog('cdc');
  const { config, url, slot } = target();
  log.level = config.GW_LOG_LEVEL;
  await untilMigrated(
    { url, forServer: wait, forAdoption: true, log },
    { host: config.GW_HOST, ports: [config.GW_METRICS_PORT] },
  );
  const consumer = new Consumer({
    url,
    slot,
    plugin: config.GW_CDC_PLUGIN,
    log,
    onConnected: () => sayReady(),
  });
  const { figures } = consumer;
  const open = await openPort(config, {
    metrics: () => figures.registry.metrics(),
    // Whoever answers has a loop that turns; another takes over from one that does not.
    isAlive: () => true,
    checks: () => figures.checks(),
  });
  const fence = await endWhenFenced(url, 'gw cdc fence', log).catch((error: unknown) =>
    explain(error, url),
  );
  const running = consumer.run().catch((error: unknown) => explain(error, url));
  const stop = async () => {
    await fence.stop();
    await consumer.stop();
  };
  await Promise.race([running, untilStopped(log, graceOf(config), stop)]);
  open?.close();
}

interface Status {
  slot_name: string;
  plugin: string;
  state: string;
  active: boolean;
  wal_status: string;
  lag_bytes: number | null;
  lag_seconds: number | null;
  held_bytes: number | null;
  applied_lsn: string | null;
  applied_at: Date | null;
  snapshot_lsn: string | null;
  snapshot_at: Date | null;
  snapshot_users: number | null;
  counted_users: number | null;
  remaining_seconds: number | null;
  recounts: number;
  error: string | null;
}

async function status({ json }: { json?: boolean }): Promise<void> {
  const { url, slot } = target();
  const rows = await withSql(
    url,
    (sql) => sql<Status[]>`
      select slot_name, plugin, state, active, wal_status,
        lag_bytes::double precision as lag_bytes, lag_seconds,
        held_bytes::double precision as held_bytes,
        safe_wal_size::double precision as safe_wal_size, applied_lsn, applied_at,
        snapshot_lsn, snapshot_at, snapshot_users::double precision as snapshot_users,
        counted_users::double precision as counted_users, remaining_seconds, recounts, error
      from ops.change_capture_status
      where slot_name = ${slot}`,
  ).catch((error: unknown) => explain(error, url));
  const [row] = rows;
  const nothing = `nothing has been captured with slot ${slot} yet\n`;
  print(json, row ?? null, row === undefined ? nothing : formatRecord(row));
  if (row?.state !== 'running') process.exitCode = EXIT.failure;
}

async function compare({ json, repair }: { json?: boolean; repair?: boolean }): Promise<void> {
  const { reconcile, resnapshot } = await import('../cdc/reconcile.ts');
  const { config, url, slot, log } = target();
  const options = { url, slot, log, plugin: config.GW_CDC_PLUGIN };
  const found = await reconcile(options).catch((error: unknown) => explain(error, url));
  const { lsn, rows, differences } = found;
  const repaired = repair === true && differences.length > 0 ? await resnapshot(options) : null;
  const many = differences.length === 0 ? 'no difference' : `${differences.length} differences`;
  const lines = [
    ...differences.map(
      ({ user_id, agg_date, measure, expected, found: is }) =>
        `${user_id} ${agg_date} ${measure}: ${is}, must be ${expected}`,
    ),
    `${many} in ${rows} rows at ${lsn}`,
    ...(repaired === null ? [] : [`repaired: counted anew at ${repaired}`]),
  ];
  print(json, { lsn, rows, differences, repaired }, `${lines.join('\n')}\n`);
  if (differences.length > 0) process.exitCode = EXIT.failure;
}

async function recount({ yes, dryRun }: { yes?: boolean; dryRun?: boolean }): Promise<void> {
  const { resnapshot } = await import('../cdc/reconcile.ts');
  const { config, url, slot, log } = target();
  if (dryRun) {
    process.stdout.write(
      `would count everything anew, and make slot ${slot} anew if it has lost something\n`,
    );
    return;
  }
  await confirm(`Count everything anew for slot ${slot}?`, yes);
  const lsn = await resnapshot({ url, slot, log, plugin: config.GW_CDC_PLUGIN }).catch(
    (error: unknown) => explain(error, url),
  );
  process.stdout.write(`counted anew at ${lsn}\n`);
}

export function registerCdc(program: Command): void {
  const cdc = program
    .command('cdc')
    .description('keep the dashboard current from the changes in the write-ahead log')
    .option('--wait', waitHelp)
    .action(consume);
  cdc
    .command('status')
    .description('print how far change capture is (exit 1 when no consumer runs)')
    .option('--json', 'print JSON')
    .action(status);
  cdc
    .command('reconcile')
    .description('compare the dashboard with the tables (exit 1 on a difference)')
    .option('--repair', 'when there is a difference, do as resnapshot does')
    .option('--json', 'print JSON')
    .action(compare);
  cdc
    .command('resnapshot')
    .description('take a new snapshot, and compute the dashboard from it')
    .option('--dry-run', 'say what would be done')
    .option('--yes', 'do not ask')
    .action(recount);
}
