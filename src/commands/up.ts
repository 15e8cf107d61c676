import process from 'node:process';
import type { Command } from 'commander';
import { type Config, loadConfigOf } from '../config.ts';
import { messageOf } from '../errors.ts';
import { migrate, migrationUrls } from '../migrations/run.ts';
import { isEmpty, seed } from '../migrations/seed.ts';
import { withSql } from '../postgres/connect.ts';
import { fencedText } from '../postgres/fence.ts';
import type { Database } from '../postgres/urls.ts';
import { canCapture, hasCron, wakeCron } from '../server/bootstrap.ts';
import { runningPort, serverPid, startCluster } from '../server/cluster.ts';
import { localCluster } from '../server/locate.ts';
import { choosePort } from '../server/ports.ts';
import { removePids } from '../server/processes.ts';
import { provideDatabase } from '../server/provide.ts';
import { stopDatabase } from '../server/restart.ts';
import { paths, readSecrets, readState, updateState } from '../server/state.ts';
import { Progress } from '../terminal/progress.ts';
import { formatColumns } from '../terminal/table.ts';
import { releaseLock, takeLock } from '../up/lock.ts';
import { watchPause } from '../up/pause.ts';
import { Supervisor } from '../up/supervisor.ts';
import { describeDestination } from '../worker/channels/destination.ts';
import { graceOf, stopDeadline } from './process.ts';
import { makeDevelopmentToken } from './token.ts';

const demoUser = 'demo1@example.com';

/** Resolves with whether pg_cron is there. */
async function prepare(config: Config, database: Database, progress: Progress): Promise<boolean> {
  await progress.step('migrations', async (note) => {
    const count = await migrate(migrationUrls(database), { say: note });
    return count === 0 ? 'up to date' : `${count} ran`;
  });
  if (config.NODE_ENV !== 'production' && (await isEmpty(database.urls.owner))) {
    await progress.step('demo data', async () => {
      const { users, tasks } = await seed(database.urls.owner, 100);
      return `${users} users, ${tasks} tasks`;
    });
  }
  const cron = await hasCron(database.urls.owner);
  if (!cron) {
    progress.say('!', 'pg_cron', 'is not in this database: no message will be planned.');
    progress.say(' ', '', 'Set shared_preload_libraries and cron.database_name, and restart it.');
  }
  return cron;
}

/** Starts the server again when it dies; a local cluster has nobody else to do it. */
function watchCluster(supervisor: Supervisor, progress: Progress): NodeJS.Timeout {
  let busy = false;
  return setInterval(async () => {
    const cluster = localCluster();
    const { postgresPort } = readState();
    if (busy || cluster === undefined || postgresPort === undefined) return;
    if (runningPort(cluster) !== undefined) return;
    busy = true;
    progress.say('!', 'PostgreSQL', 'died; starting it again');
    await startCluster(cluster, postgresPort)
      .then(() => {
        supervisor.setFixed('postgres', serverPid(cluster) ?? 0);
        progress.say('✔', 'PostgreSQL', 'is back');
      })
      .catch((error: unknown) => progress.say('✖', 'PostgreSQL', messageOf(error)));
    busy = false;
  }, 1_000);
}

/** Where the API is, seen from this machine. */
function originOf({ GW_HOST: host }: Config, apiPort: number): string {
  const name = host === '0.0.0.0' ? '127.0.0.1' : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${apiPort}`;
}

async function printSummary(config: Config, database: Database, apiPort: number): Promise<void> {
  const origin = originOf(config, apiPort);
  const rows: [string, string][] = [
    ['GraphQL', `${origin}/graphql`],
    ['GraphiQL', `${origin}/`],
    [
      'Database',
      database.source === 'url' ? `${database.description} (DATABASE_URL)` : database.urls.owner,
    ],
    [
      'Messages go to',
      config.GW_DELIVERY_URL === undefined || config.GW_DELIVERY_URL === 'file:'
        ? paths.outbox
        : describeDestination(config.GW_DELIVERY_URL),
    ],
  ];
  if (config.NODE_ENV !== 'production') {
    const secret = config.GW_JWT_SECRET ?? readSecrets().jwt;
    const token = await makeDevelopmentToken(database.urls.owner, demoUser, secret).catch(() => '');
    if (token !== '') rows.push([`Token of ${demoUser}`, token]);
  }
  const indented = rows.map(([name, value]) => [`  ${name}`, value]);
  process.stdout.write(`\n${formatColumns(indented)}\n`);
  process.stderr.write('  Ctrl-C stops everything.\n');
}

/** What this command started, and has to stop. */
interface Started {
  ownsServer: boolean;
  watch?: NodeJS.Timeout;
  pause?: NodeJS.Timeout;
  supervisor?: Supervisor;
}

/** Resolves with why everything is to stop, when it is. */
const stopRequest = (): Promise<string> =>
  new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => resolve(signal));
    }
    // npm killed with SIGKILL cannot tell us; its going shows as a new parent.
    const parent = process.ppid;
    if (process.env.npm_lifecycle_event) {
      setInterval(() => process.ppid !== parent && resolve('npm is gone'), 500).unref();
    }
  });

/** Why the database is a copy that nobody has adopted; undefined when it is none. */
const fenceOf = (database: Database): Promise<string | undefined> =>
  withSql(database.urls.owner, async (sql) => {
    const [row] = await sql<{ reason: string | null }[]>`select ops.fence_reason() as reason`;
    return row?.reason ?? undefined;
  });

/**
 * Starts API, worker and cdc: the last one only where changes can be captured, and nothing but the
 * API on a copy that nobody has adopted.
 */
async function startProcesses(
  { config, database, apiPort }: { config: Config; database: Database; apiPort: number },
  supervisor: Supervisor,
  progress: Progress,
): Promise<void> {
  const captures = await canCapture(database.urls.owner);
  if (!captures) {
    progress.say('!', 'cdc', 'wal_level is not logical: the dashboard will not be kept current.');
    progress.say(' ', '', "ALTER SYSTEM SET wal_level = 'logical', and restart the server.");
  }
  const reason = await fenceOf(database);
  if (reason !== undefined) {
    progress.say('!', 'fence', fencedText(reason));
    progress.say(' ', '', 'Nothing but the API runs, which only reads. To let it work: gw adopt.');
  }
  const background = reason !== undefined ? [] : captures ? ['worker', 'cdc'] : ['worker'];
  const isProduction = config.NODE_ENV === 'production';
  const env = {
    GW_PORT: String(apiPort),
    GW_SUPERVISED_PROCESSES: background.join(','),
    // Real users would be sent to their own machines.
    ...(config.GW_PUBLIC_URL === undefined && !isProduction
      ? { GW_PUBLIC_URL: originOf(config, apiPort) }
      : {}),
  };
  const watchSchema = isProduction ? [] : ['--watch'];
  await progress.step('processes', async () => {
    await Promise.all([
      supervisor.start({
        name: 'api',
        args: ['serve', ...watchSchema],
        env,
        health: `${originOf(config, apiPort)}/healthz`,
      }),
      // One port, and that is the API's.
      ...background.map((name) =>
        supervisor.start({ name, args: [name], env: { ...env, GW_METRICS_PORT: '' } }),
      ),
    ]);
    return `${['api', ...background].join(', ').replace(/, (\w+)$/, ' and $1')} ${background.length === 0 ? 'runs' : 'run'}`;
  });
}

/** Starts all of it. What has started so far stands in `started`, also when a step fails. */
async function start(
  config: Config,
  progress: Progress,
  adopted: boolean,
  started: Started,
): Promise<void> {
  const provided = await provideDatabase(config, progress);
  const { database } = provided;
  started.ownsServer = provided.started || (adopted && database.source !== 'url');
  const cron = await prepare(config, database, progress);

  const apiPort = await choosePort({
    asked: config.GW_PORT,
    variable: 'GW_PORT',
    remembered: readState().apiPort,
    standard: 5678,
    host: config.GW_HOST,
  });
  updateState({ apiPort });
  const cluster = database.source === 'local' && started.ownsServer ? localCluster() : undefined;
  const postgres = cluster && serverPid(cluster);
  const supervisor = new Supervisor(
    { up: process.pid, ...(postgres === undefined ? {} : { postgres }) },
    (mark, name, text) => progress.say(mark, name, text),
  );
  started.supervisor = supervisor;
  await startProcesses({ config, database, apiPort }, supervisor, progress);
  // By now its scheduler has started.
  if (cron) await wakeCron(database.urls.owner);
  if (cluster !== undefined) started.watch = watchCluster(supervisor, progress);
  started.pause = watchPause(supervisor, (mark, name, text) => progress.say(mark, name, text));
  await printSummary(config, database, apiPort);
}

async function stop(
  { ownsServer, watch, pause, supervisor }: Started,
  graceMs: number,
): Promise<void> {
  clearInterval(watch);
  clearInterval(pause);
  await supervisor?.stop(stopDeadline(graceMs) + 1_000);
  if (ownsServer) await stopDatabase();
  removePids();
  releaseLock();
}

async function up(): Promise<void> {
  const config = loadConfigOf(['serve', 'worker']);
  const progress = new Progress();
  const stopRequested = stopRequest();
  const { adopted } = await takeLock(progress);

  // A signal while starting ends the start too, at the next step's end.
  const started: Started = { ownsServer: false };
  const running = start(config, progress, adopted, started);
  const failure = running.then(
    () => new Promise<never>(() => {}),
    (error: unknown) => ({ error }),
  );
  const end = await Promise.race([stopRequested.then((why) => ({ why })), failure]);
  if ('error' in end) {
    await stop(started, graceOf(config));
    throw end.error;
  }
  process.stderr.write(`\n  …  stopping       (${end.why})\n`);
  const patience = new Promise((resolve) => setTimeout(resolve, 1_000));
  await Promise.race([running.catch(() => {}), patience]);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => started.supervisor?.kill());
  }
  await stop(started, graceOf(config));
  process.stderr.write('  ✔  stopped        nothing is left running\n');
  process.exit(0);
}

export function registerUp(program: Command): void {
  program
    .command('up')
    .description('database, migrations, demo data, API, worker and cdc in one terminal (npm start)')
    .action(up);
}
