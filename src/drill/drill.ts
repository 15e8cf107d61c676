import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { adopt, rehearse } from '../messages/adoption.ts';
import { httpReceiver } from '../messages/receiver.ts';
import { createMigrated } from '../migrations/scratch.ts';
import { seed } from '../migrations/seed.ts';
import { withSql } from '../postgres/connect.ts';
import type { Database } from '../postgres/urls.ts';
import { projectRoot } from '../project.ts';
import { scratchHome } from '../server/cluster.ts';
import { randomPort } from '../server/ports.ts';
import { type Scratch, startScratch } from '../server/scratch.ts';
import { readSecrets } from '../server/state.ts';
import type { Progress } from '../terminal/progress.ts';
import { humanBytes, humanSeconds } from '../terminal/values.ts';
import { runBackup, setUp } from '../toolkit/backup/pitr.ts';
import { discard, fenceOf, type Recovered, recover } from '../toolkit/backup/recover.ts';
import { startReceiver, type TrialReceiver } from './receiver.ts';
import { startStream, type Written } from './stream.ts';

export interface DrillOptions {
  /** Demo users, which make the size. */
  users: number;
  /** Messages that are due. */
  messages: number;
  /** How long is written before the disaster. */
  seconds: number;
  progress: Progress;
}

/** What a disaster costs. */
export interface DrillReport {
  /** Of the database when it was backed up. */
  bytes: number;
  backupSeconds: number;
  /** From the loss of the server until its copy was adopted, in seconds. */
  rtoSeconds: number;
  /** How old the newest row was that is left, at the moment of the loss, in seconds. */
  rpoSeconds: number;
  rowsAcknowledged: number;
  rowsLost: number;
  /** Why the copy did nothing before it was adopted; null is a fault. */
  fenced: string | null;
  /** Sent by the copy before it was adopted: any is a fault. */
  sentWhileFenced: number;
  messagesDue: number;
  messagesSentBefore: number;
  messagesDoubled: number;
  messagesLost: number;
  /** What it would take for 10 GB, by the rate of this one; null: too small to tell. */
  secondsFor10Gb: number | null;
  isWell: boolean;
}

const name = 'gw_drill';

function startWorker(database: Database, url: string): ChildProcess {
  return spawn(process.execPath, [join(projectRoot, 'src', 'cli.ts'), 'worker'], {
    cwd: projectRoot,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: {
      ...process.env,
      NODE_ENV: 'test',
      GW_LOG_LEVEL: 'silent',
      DATABASE_URL: database.urls.owner,
      GW_WORKER_PASSWORD: decodeURIComponent(new URL(database.urls.worker).password),
      GW_DELIVERY_URL: url,
      GW_DELIVERY_CONCURRENCY: '8',
    },
  });
}

async function killed(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** Users whose birthday it is, to be told one after the other while the server is written to. */
async function makeDue(ownerUrl: string, { messages, seconds }: DrillOptions): Promise<void> {
  await withSql(ownerUrl, async (sql) => {
    await sql`
      insert into app_public.users (email, first_name, birthday_date, send_time)
      select 'drill' || number || '@example.com', 'Drill',
        ('1988' || to_char(at, '-MM-DD'))::date, date_trunc('second', at)::time
      from generate_series(1, ${messages}::integer) as number
      cross join lateral (
        select now() at time zone 'UTC'
          + make_interval(secs => ${seconds}::float8 * number / ${messages})
      ) as moment (at)`;
    await sql`select app_private.plan_due_messages()`;
  });
}

const atPort = (database: Database, port: number): Database => {
  const move = (text: string): string => {
    const url = new URL(text);
    url.port = String(port);
    return url.href;
  };
  const urls = Object.fromEntries(
    Object.entries(database.urls).map(([role, url]) => [role, move(url)]),
  );
  return { ...database, urls: urls as unknown as Database['urls'] };
};

interface Stage {
  folder: string;
  config: string;
  primary: Scratch;
  database: Database;
  receiver: TrialReceiver;
  bytes: number;
  backupSeconds: number;
}

/** A server with data, an archive and a full backup. */
async function prepare(options: DrillOptions, folder: string): Promise<Stage> {
  const { users, progress } = options;
  const config = join(folder, 'conf', 'pgbackrest.conf');
  const receiver = await startReceiver(20);
  const primary = await startScratch(name, {
    topic: 'drill',
    settings: [
      'archive_mode = on',
      "archive_command = '/bin/true'",
      'fsync = on',
      'synchronous_commit = on',
      'full_page_writes = on',
    ],
  });
  const database = await createMigrated(primary.superuserUrl, name);
  let bytes = 0;
  await progress.step('data', async () => {
    await seed(database.urls.owner, users);
    const [row] = await withSql(
      database.urls.owner,
      (sql) => sql<{ bytes: number }[]>`
        select pg_database_size(current_database())::float8 as bytes`,
    );
    bytes = row?.bytes ?? 0;
    return `${humanBytes(bytes)} of ${users} users`;
  });
  const began = Date.now();
  await progress.step('backup', async () => {
    await setUp({
      config,
      url: primary.superuserUrl,
      repositories: [join(folder, 'repo')],
      keepFull: 1,
      keepDiff: 1,
      queueMax: '4GiB',
      more: [],
      replace: false,
      restart: async () => false,
    });
    await runBackup(config, 'full', primary.superuserUrl, undefined);
    return 'full';
  });
  const backupSeconds = (Date.now() - began) / 1_000;
  await makeDue(database.urls.owner, options);
  return { folder, config, primary, database, receiver, bytes, backupSeconds };
}

/** Writes and sends for a while, and then loses the machine. */
async function disaster(
  { primary, database, receiver }: Stage,
  { seconds, progress }: DrillOptions,
): Promise<{ written: Written; lostAt: Date; sentBefore: number }> {
  let result: { written: Written; lostAt: Date; sentBefore: number } | undefined;
  await progress.step('disaster', async () => {
    const stream = await startStream(database.urls.owner);
    const worker = startWorker(database, receiver.url);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
    const lostAt = new Date();
    // The machine is gone, and the worker with it.
    await Promise.all([primary.kill(), killed(worker)]);
    const written = { ...(await stream.stop()) };
    result = { written, lostAt, sentBefore: receiver.accepted.length };
    return `after ${humanSeconds(seconds)}: ${written.rows} rows were acknowledged, ${receiver.accepted.length} messages sent`;
  });
  return result as NonNullable<typeof result>;
}

/** Resolves when every message that is due has an end. */
async function untilSettled(ownerUrl: string): Promise<void> {
  await withSql(ownerUrl, async (sql) => {
    for (let second = 0; second < 120; second += 1) {
      await sql`select app_private.plan_due_messages()`;
      const rows = await sql`
        select from app_public.message_logs where stage = 'open' and scheduled_send_time <= now()
        limit 1`;
      if (rows.length === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  });
}

/** What is left of the stream. A copy of before it began has nothing of it. */
const rowsLeft = (ownerUrl: string) =>
  withSql(ownerUrl, async (sql) => {
    const [found] = await sql`select to_regclass('ops.drill_rows') is not null as exists`;
    if (found?.exists !== true) return { rows: 0, last: null };
    const [row] = await sql<{ rows: number; last: Date | null }[]>`
      select count(*)::integer as rows, max(at) as last from ops.drill_rows`;
    return row ?? { rows: 0, last: null };
  });

/** The keys of the messages that somebody was to get by now. */
const dueKeys = (ownerUrl: string) =>
  withSql(ownerUrl, async (sql) => {
    const rows = await sql<{ key: string }[]>`
      select idempotency_key as key from app_public.message_logs
      where scheduled_send_time <= now() and status in ('SENT', 'UNKNOWN', 'FAILED')
        and scheduled_send_time > now() - interval '1 hour'`;
    return rows.map(({ key }) => key);
  });

/**
 * The whole disaster, on servers of its own: a server that writes and sends is lost; its archive is
 * restored, the copy must do nothing, is adopted, and goes on. Then what was acknowledged is compared
 * with what is there.
 */
export async function drill(options: DrillOptions): Promise<DrillReport> {
  const { progress } = options;
  // Sockets have short paths.
  const folder = mkdtempSync(join(tmpdir(), 'gw-drill-'));
  // The server's user must come through.
  chmodSync(folder, 0o755);
  const scratchBefore = process.env.GW_SCRATCH_DIR;
  process.env.GW_SCRATCH_DIR = folder;
  let stage: Stage | undefined;
  let recovered: Recovered | undefined;
  let worker: ChildProcess | undefined;
  try {
    stage = await prepare(options, folder);
    const { config, database, receiver } = stage;
    const { written, lostAt, sentBefore } = await disaster(stage, options);

    recovered = await recover({
      config,
      target: { kind: 'latest' },
      home: scratchHome(`scratch-${process.pid}-drilled`),
      replace: false,
      dryRun: false,
      port: await randomPort(),
      user: 'postgres',
      password: readSecrets().superuser,
      progress,
    });
    const port = Number(new URL(recovered?.superuserUrl ?? '').port);
    const copy = atPort(database, port);
    const fenced = await fenceOf(copy.urls.owner);
    worker = startWorker(copy, receiver.url);
    const sentWhileFenced = receiver.accepted.length - sentBefore;
    await progress.step('adopt', async () =>
      withSql(copy.urls.owner, async (sql) => {
        const asked = httpReceiver(receiver.statusUrl, { concurrency: 32, timeoutMs: 5_000 });
        const plan = await rehearse(sql, asked, 'hold');
        if (plan === undefined) return 'it is no copy';
        await adopt(sql, plan, 'hold', 'gw drill');
        const said = plan.groups.map(({ fate, messages }) => `${messages} ${fate}`);
        return said.join(', ') || 'no message is in doubt';
      }),
    );
    const rtoSeconds = (Date.now() - lostAt.getTime()) / 1_000;
    await progress.step('messages', async () => {
      await untilSettled(copy.urls.owner);
      return `${receiver.accepted.length} were sent in all`;
    });
    const left = await rowsLeft(copy.urls.owner);
    const due = await dueKeys(copy.urls.owner);
    const sent = new Set(receiver.accepted);
    const report = {
      bytes: stage.bytes,
      backupSeconds: stage.backupSeconds,
      rtoSeconds,
      rpoSeconds: Math.max(
        (written.lastAt.getTime() - (left.last ?? written.firstAt).getTime()) / 1_000,
        0,
      ),
      rowsAcknowledged: written.rows,
      rowsLost: Math.max(written.rows - left.rows, 0),
      fenced,
      sentWhileFenced,
      messagesDue: due.length,
      messagesSentBefore: sentBefore,
      messagesDoubled: receiver.accepted.length - sent.size,
      messagesLost: due.filter((key) => !sent.has(key)).length,
      secondsFor10Gb:
        stage.bytes < 500 * 1_024 ** 2 ? null : (rtoSeconds * 10 * 1_024 ** 3) / stage.bytes,
    };
    return {
      ...report,
      isWell:
        fenced !== null &&
        sentWhileFenced === 0 &&
        report.messagesDoubled === 0 &&
        report.messagesLost === 0 &&
        report.rpoSeconds < 60,
    };
  } finally {
    await killed(worker);
    if (recovered !== undefined) await discard(recovered);
    await stage?.receiver.close();
    await stage?.primary.stop();
    if (scratchBefore === undefined) delete process.env.GW_SCRATCH_DIR;
    else process.env.GW_SCRATCH_DIR = scratchBefore;
    rmSync(folder, { recursive: true, force: true });
  }
}
