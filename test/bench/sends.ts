import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import process from 'node:process';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMigrated } from '../../src/migrations/scratch.ts';
import { connect, type Sql } from '../../src/postgres/connect.ts';
import type { Database } from '../../src/postgres/urls.ts';
import { projectRoot } from '../../src/project.ts';
import { startScratch } from '../../src/server/scratch.ts';
import { cpuOf, median } from './measure.ts';

/*
 * How fast due messages drain against a receiver on loopback: `gw worker` and a floor written
 * by hand, in turns, each on the same rows of the same tables.
 */
const messages = 20_000;
const rounds = 5;

interface Figures {
  perSecond: number;
  /** Milliseconds from being due to being sent. */
  p50: number;
  p99: number;
  /** Milliseconds of CPU for 1,000 messages. */
  workerCpu: number;
  databaseCpu: number;
  /** Bytes of write-ahead log for one message, from the queue on; without full pages. */
  walBytes: number;
  /** The share of the updates of message_logs that touched no index. */
  hotRatio: number;
}

function start(script: string, args: string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  return fork(script, args, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, ...env },
  });
}

/** The same users' messages of today, planned and due this moment. */
async function prepare(owner: Sql): Promise<void> {
  await owner`truncate app_public.message_logs, app_private.message_ledger, pgboss.job`;
  await owner`
    insert into app_public.message_logs (user_id, id, message_type, delivery_date,
      message_subject, message_content, scheduled_send_time, idempotency_key)
    select id, gen_random_uuid(), 'BIRTHDAY', current_date, 'Happy birthday',
      'Hey, ' || first_name || ', it''s your birthday! Have a great day.',
      -- Not before the sender is told.
      now() + interval '1 hour', id || ':BIRTHDAY:' || current_date
    from app_public.users`;
  await owner`vacuum analyze app_public.message_logs`;
  await owner`vacuum analyze pgboss.job`;
}

/** What counts on in the server; updates are told a second late. */
async function counters(owner: Sql): Promise<{ lsn: string; updates: number; hot: number }> {
  await sleep(1_500);
  const [row] = await owner`
    select pg_current_wal_lsn()::text as lsn, sum(n_tup_upd)::float as updates,
      sum(n_tup_hot_upd)::float as hot
    from pg_stat_user_tables where relname ~ '^message_logs_'`;
  return row as { lsn: string; updates: number; hot: number };
}

async function drain(
  owner: Sql,
  sender: ChildProcess,
  release: () => Promise<unknown>,
): Promise<Figures> {
  const [{ pid = 0 } = {}] = await owner`
    select pg_read_file('postmaster.pid')::text as file,
      split_part(pg_read_file('postmaster.pid'), chr(10), 1)::integer as pid`;
  const counted = await counters(owner);
  // Planning and queueing are not what is measured.
  await release();
  const before = { worker: cpuOf(sender.pid ?? 0), database: cpuOf(pid) };
  const [{ started } = {}] = await owner`select clock_timestamp() as started`;
  for (;;) {
    const [left] = await owner`
      select from app_public.message_logs
      where status in ('QUEUED', 'SENDING', 'RETRYING') or status = 'SCHEDULED' limit 1`;
    if (left === undefined) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const after = { worker: cpuOf(sender.pid ?? 0), database: cpuOf(pid) };
  const now = await counters(owner);
  const [wal] = await owner`
    select pg_wal_lsn_diff(${now.lsn}, ${counted.lsn})::float as bytes`;
  const [row] = await owner`
    select count(*)::integer as sent,
      extract(epoch from max(actual_send_time) - ${started})::float as seconds,
      percentile_cont(array[0.5, 0.99]) within group (
        order by extract(epoch from actual_send_time - ${started}) * 1000) as late
    from app_public.message_logs where status = 'SENT'`;
  if (row?.sent !== messages) throw new Error(`${row?.sent} of ${messages} were sent`);
  return {
    perSecond: messages / row.seconds,
    p50: row.late[0],
    p99: row.late[1],
    workerCpu: ((after.worker - before.worker) / messages) * 1000,
    databaseCpu: ((after.database - before.database) / messages) * 1000,
    walBytes: wal?.bytes / messages,
    hotRatio: (now.hot - counted.hot) / (now.updates - counted.updates),
  };
}

async function gwWorker(owner: Sql, database: Database, vendorUrl: string): Promise<Figures> {
  const worker = start(join(projectRoot, 'src', 'cli.ts'), ['worker'], {
    NODE_ENV: 'test',
    DATABASE_URL: database.urls.owner,
    GW_DELIVERY_URL: vendorUrl,
    GW_LOG_LEVEL: 'warn',
  });
  await once(worker, 'message');
  // Nothing is queued yet.
  await owner`update app_public.message_logs set scheduled_send_time = now()`;
  const figures = await drain(owner, worker, () => owner`select app_private.queue_due_messages()`);
  worker.kill('SIGTERM');
  await once(worker, 'exit');
  return figures;
}

async function floor(owner: Sql, database: Database, vendorUrl: string): Promise<Figures> {
  const sender = start(join(import.meta.dirname, 'sends-floor.ts'), [
    database.urls.owner,
    vendorUrl,
  ]);
  await once(sender, 'message');
  const figures = await drain(
    owner,
    sender,
    () => owner`update app_public.message_logs set scheduled_send_time = now()`,
  );
  sender.kill('SIGKILL');
  await once(sender, 'exit');
  return figures;
}

function print(name: string, all: readonly Figures[]): void {
  const middle = (key: keyof Figures, digits = 0) =>
    median(all.map((figures) => figures[key])).toFixed(digits);
  process.stdout.write(
    `${name.padEnd(12)} ${middle('perSecond').padStart(7)} messages/s   late p50 ${middle('p50')} ms` +
      `, p99 ${middle('p99')} ms   CPU of 1,000: sender ${middle('workerCpu')} ms` +
      `, database ${middle('databaseCpu')} ms   a message: ${middle('walBytes')} bytes of WAL` +
      `, ${middle('hotRatio', 2)} of its updates HOT\n`,
  );
}

/** Prints the medians of both and their ratio. */
export async function run(): Promise<void> {
  const scratch = await startScratch('gw_cron');
  const vendor = start(join(import.meta.dirname, 'vendor.ts'), []);
  try {
    const [port] = await once(vendor, 'message');
    const vendorUrl = `http://127.0.0.1:${port}/messages`;
    const database = await createMigrated(scratch.superuserUrl, 'gw_bench');
    const owner = connect(database.urls.superuser ?? '', { max: 2 });
    await owner`
      insert into app_public.users (email, first_name, birthday_date)
      select number || '@example.com', 'Name' || number,
        ('1988' || to_char(now() at time zone 'UTC', '-MM-DD'))::date
      from generate_series(1, ${messages}) as number`;
    await owner`analyze`;
    const figures = { worker: [] as Figures[], floor: [] as Figures[] };
    for (let round = 0; round < rounds; round += 1) {
      await prepare(owner);
      figures.floor.push(await floor(owner, database, vendorUrl));
      await prepare(owner);
      figures.worker.push(await gwWorker(owner, database, vendorUrl));
      const [ours = 0, theirs = 1] = [figures.worker, figures.floor].map(
        (list) => list.at(-1)?.perSecond,
      );
      process.stderr.write(
        `round ${round + 1} of ${rounds}: worker ${ours.toFixed(0)}/s, floor ${theirs.toFixed(0)}/s\n`,
      );
    }
    print('gw worker', figures.worker);
    print('floor', figures.floor);
    const ratios = figures.worker.map(
      ({ perSecond }, index) => perSecond / (figures.floor[index]?.perSecond ?? 1),
    );
    process.stdout.write(`ratio        ${median(ratios).toFixed(2)} (median of ${rounds})\n`);
    await owner.end();
  } finally {
    vendor.disconnect();
    await scratch.stop();
  }
}
