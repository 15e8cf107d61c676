import { type ChildProcess, spawn } from 'node:child_process';
import {
  appendFileSync,
  chownSync,
  closeSync,
  existsSync,
  fchownSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import process from 'node:process';
import { codeOf, EXIT, GwError, messageOf } from '../errors.ts';
import { projectRoot } from '../project.ts';
import { isAlive } from './processes.ts';
import { checkoutName, stateDirectory } from './state.ts';

/** A PostgreSQL cluster of this checkout's own. */
export interface Cluster {
  bin: string;
  /** Holds `data/`, `log/`, and `start.log`: what the server says before it opens its log. */
  home: string;
}

/** PostgreSQL refuses to run as root, so root runs it as this user. */
export function postgresUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith('postgres:'));
  if (line === undefined) {
    throw new GwError('there is no user "postgres" to run the server as', {
      hint: "Debian's packages make it; otherwise: useradd --system postgres",
    });
  }
  const [, , uid, gid] = line.split(':');
  return { uid: Number(uid), gid: Number(gid) };
}

/**
 * Where a cluster lives. Root keeps it outside the checkout, which may lie in a folder that
 * the user postgres cannot enter.
 */
export function clusterHome(name = 'cluster'): string {
  return process.getuid?.() === 0
    ? join('/var/lib/groundwork', checkoutName(), name)
    : join(stateDirectory, name);
}

/**
 * Where a server lives that is thrown away: beside the cluster, or in GW_SCRATCH_DIR, which may be
 * a folder in memory.
 */
export function scratchHome(name: string): string {
  const folder = process.env.GW_SCRATCH_DIR;
  // A short path: the socket's has to fit.
  return folder ? join(resolve(folder), checkoutName().slice(-10), name) : clusterHome(name);
}

/**
 * The folder of the server's socket, by which pgBackRest connects. Undefined where the path would be
 * too long for one.
 */
export const socketDirectory = (cluster: Cluster): string | undefined => {
  const folder = join(cluster.home, 'socket');
  return folder.length + '/.s.PGSQL.65535.lock'.length < 107 ? folder : undefined;
};

export const dataDirectory = (cluster: Cluster): string => join(cluster.home, 'data');

/** Where the server logs: a file for each day of the week. */
export const logDirectory = (cluster: Cluster): string => join(cluster.home, 'log');
const startLog = (cluster: Cluster): string => join(cluster.home, 'start.log');

/** The server's log files, the newest last. */
function logFiles(cluster: Cluster): { file: string; changedAt: number }[] {
  if (!existsSync(logDirectory(cluster))) return [];
  return readdirSync(logDirectory(cluster))
    .map((name) => join(logDirectory(cluster), name))
    .map((file) => ({ file, changedAt: statSync(file).mtimeMs }))
    .sort((one, other) => one.changedAt - other.changedAt);
}

/**
 * Deletes logs that are about to be a week old. A running server empties a day's file when it
 * reaches that day; one that starts on that day appends to it.
 */
function deleteOldLogs(cluster: Cluster): void {
  const oldest = Date.now() - 6 * 24 * 3600 * 1000;
  for (const { file, changedAt } of logFiles(cluster)) {
    if (changedAt < oldest) rmSync(file, { force: true });
  }
}

const serverEnv = (cluster: Cluster): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  LC_ALL: 'C.UTF-8',
  TZ: 'UTC',
  HOME: cluster.home,
});

/** The last lines that the server logged. */
function logEnd(cluster: Cluster): string {
  const last = logFiles(cluster).at(-1);
  return [startLog(cluster), ...(last === undefined ? [] : [last.file])]
    .filter((file) => existsSync(file))
    .map((file) => readFileSync(file, 'utf8').trim().split('\n').slice(-12).join('\n'))
    .join('\n');
}

/** Those that run now. */
const programs = new Set<ChildProcess>();

/** Runs one of PostgreSQL's programs as the server's user; resolves with what it printed. It reads `input`. */
function run(
  cluster: Cluster,
  program: string,
  args: string[],
  input?: string,
): Promise<{ code: number; output: string }> {
  const child = spawn(join(cluster.bin, program), args, {
    ...postgresUser(),
    // The current folder may be one that the user may not enter.
    cwd: '/',
    env: serverEnv(cluster),
    stdio: 'pipe',
  });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  // One that has ended by now says why in what it printed.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  programs.add(child);
  return new Promise<{ code: number; output: string }>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  }).finally(() => programs.delete(child));
}

async function mustRun(cluster: Cluster, program: string, args: string[]): Promise<void> {
  const { code, output } = await run(cluster, program, args);
  if (code !== 0) throw new GwError(`${program} failed:\n${output.trim()}`);
}

/** Whether the data directory is complete. */
export const clusterExists = (cluster: Cluster): boolean =>
  existsSync(join(dataDirectory(cluster), 'PG_VERSION'));

/** The major version that made the data directory. */
export const clusterMajor = (cluster: Cluster): number =>
  Number(readFileSync(join(dataDirectory(cluster), 'PG_VERSION'), 'utf8'));

/**
 * Makes the folder that holds a cluster, for the server's user alone.
 *
 * @throws GwError when it cannot be made
 */
export function prepareHome(cluster: Cluster): void {
  const user = postgresUser();
  try {
    // The folders above must let the server's user through.
    mkdirSync(dirname(cluster.home), { recursive: true, mode: user ? 0o755 : 0o700 });
    mkdirSync(cluster.home, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new GwError(`cannot make the folder ${cluster.home}: ${codeOf(error)}`, {
      hint: 'Name a folder that can be made.',
      exitCode: EXIT.usage,
      cause: error,
    });
  }
  if (user) chownSync(cluster.home, user.uid, user.gid);
}

/**
 * Makes the data directory. It is built beside its place and renamed, so that a crash
 * leaves nothing that looks complete.
 *
 * @param settings lines for postgresql.conf after those of docker/postgresql.conf
 * @param isLasting whether it is to outlive a crash of the machine
 */
export async function createCluster(
  cluster: Cluster,
  superuserPassword: string,
  settings: string[],
  isLasting = true,
): Promise<void> {
  const user = postgresUser();
  const building = join(cluster.home, 'building');
  prepareHome(cluster);
  rmSync(building, { recursive: true, force: true });

  const passwordFile = join(cluster.home, 'initial-password');
  writeFileSync(passwordFile, `${superuserPassword}\n`, { mode: 0o600 });
  if (user) chownSync(passwordFile, user.uid, user.gid);
  try {
    await mustRun(cluster, 'initdb', [
      ...['-D', building, '-U', 'postgres', '--pwfile', passwordFile],
      ...['-A', 'scram-sha-256', '-E', 'UTF8', '--locale', 'C.UTF-8', '--data-checksums'],
      '--no-instructions',
      ...(isLasting ? [] : ['--no-sync']),
    ]);
  } finally {
    rmSync(passwordFile, { force: true });
  }

  const shared = readFileSync(join(projectRoot, 'docker', 'postgresql.conf'), 'utf8');
  appendFileSync(join(building, 'postgresql.conf'), `\n${shared}\n${settings.join('\n')}\n`);
  // Change capture connects to its database by name. The keyword "replication" stands for a base
  // backup and physical replication alone, with which a role reads every password's verifier.
  const access = join(building, 'pg_hba.conf');
  const refused = ['local replication gw_cdc', 'host replication gw_cdc all'];
  writeFileSync(
    access,
    `${refused.map((line) => `${line} reject\n`).join('')}${readFileSync(access, 'utf8')}`,
  );
  renameSync(building, dataDirectory(cluster));
}

/**
 * Gives the superuser of a stopped cluster another password. Whoever may run the server may do so: in
 * single-user mode nobody is asked for one.
 *
 * @param verifier as scramVerifier() makes it
 */
export async function resetSuperuser(cluster: Cluster, verifier: string): Promise<void> {
  const { code, output } = await run(
    cluster,
    'postgres',
    ['--single', '-D', dataDirectory(cluster), 'postgres'],
    `alter role postgres password '${verifier}'\n`,
  );
  if (code === 0 && !/\b(ERROR|FATAL|PANIC):/.test(output)) return;
  throw new GwError(`the cluster in ${dataDirectory(cluster)} cannot be taken over`, {
    hint: 'It was made by an earlier checkout in this folder. Start afresh: npm run gw -- db reset',
  });
}

/** The port of the running server, or undefined when none runs on this data directory. */
export function runningPort(cluster: Cluster): number | undefined {
  let lines: string[];
  try {
    lines = readFileSync(join(dataDirectory(cluster), 'postmaster.pid'), 'utf8').split('\n');
  } catch {
    return undefined;
  }
  return isAlive(Number(lines[0]), /postgres/) ? Number(lines[3]) || undefined : undefined;
}

/**
 * Whether the running server's program is not the one on disk any more, as after an update: what it
 * loads from now on does not fit to it.
 */
export function wasReplaced(cluster: Cluster): boolean {
  const pid = serverPid(cluster);
  if (pid === undefined) return false;
  try {
    return readlinkSync(`/proc/${pid}/exe`).endsWith(' (deleted)');
  } catch {
    // No /proc here.
    return false;
  }
}

/**
 * Servers of 2026 load an output plugin only when it is listed; older ones refuse to start with the
 * setting. An update brings it to a cluster that was made before, so each start looks.
 */
async function pluginOptions(cluster: Cluster): Promise<string[]> {
  const name = 'output_plugin_libraries';
  const own = readFileSync(join(dataDirectory(cluster), 'postgresql.conf'), 'utf8');
  if (new RegExp(`^\\s*${name}\\b`, 'm').test(own)) return [];
  const { output } = await run(cluster, 'postgres', ['--describe-config']);
  if (!output.includes(name)) return [];
  return ['-c', `${name}=pgoutput, test_decoding, wal2json`];
}

/** The process id of the running server. */
export function serverPid(cluster: Cluster): number | undefined {
  if (runningPort(cluster) === undefined) return undefined;
  const file = join(dataDirectory(cluster), 'postmaster.pid');
  return Number(readFileSync(file, 'utf8').split('\n')[0]);
}

/** What the server says of itself in its pid file: "starting", "ready", … */
function serverState(cluster: Cluster): string {
  try {
    const file = join(dataDirectory(cluster), 'postmaster.pid');
    return readFileSync(file, 'utf8').split('\n')[7]?.trim() ?? '';
  } catch {
    return '';
  }
}

/** For the server's user alone: clients of ours connect by address. */
function makeSocketDirectory(cluster: Cluster): string | undefined {
  const folder = socketDirectory(cluster);
  if (folder === undefined) return undefined;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const user = postgresUser();
  if (user) chownSync(folder, user.uid, user.gid);
  return folder;
}

/**
 * Starts the server and waits until it accepts connections. It is a child of this process,
 * so that nobody else has to collect it, but lives on when this process ends.
 *
 * @throws GwError with the end of the server's log
 */
export async function startCluster(cluster: Cluster, port: number): Promise<void> {
  const pidFile = join(dataDirectory(cluster), 'postmaster.pid');
  if (existsSync(pidFile) && runningPort(cluster) === undefined) rmSync(pidFile, { force: true });
  const user = postgresUser();
  deleteOldLogs(cluster);
  const options = await pluginOptions(cluster);
  const log = openSync(startLog(cluster), 'w', 0o600);
  if (user) fchownSync(log, user.uid, user.gid);
  const child = spawn(
    join(cluster.bin, 'postgres'),
    [
      ...['-D', dataDirectory(cluster), '-c', `port=${port}`, '-c', 'listen_addresses=127.0.0.1'],
      ...['-c', `unix_socket_directories=${makeSocketDirectory(cluster) ?? ''}`],
      ...options,
    ],
    { ...user, cwd: '/', env: serverEnv(cluster), detached: true, stdio: ['ignore', log, log] },
  );
  closeSync(log);
  child.unref();
  let failure: string | undefined;
  child.once('error', (error) => {
    failure = messageOf(error);
  });
  child.once('exit', (code, signal) => {
    failure = `it ended with ${signal ?? code}`;
  });
  const deadline = Date.now() + 60_000;
  while (serverState(cluster) !== 'ready') {
    if (failure !== undefined || Date.now() > deadline) {
      throw new GwError(`PostgreSQL did not start: ${failure ?? 'it takes more than 60 s'}`, {
        hint: `The end of its log, ${logDirectory(cluster)}:\n${logEnd(cluster)}`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/** Stops the server: cleanly when that takes less than 3 seconds, else at once. */
export async function stopCluster(cluster: Cluster): Promise<void> {
  if (runningPort(cluster) === undefined) return;
  const stop = (mode: string, seconds: string) =>
    run(cluster, 'pg_ctl', ['-D', dataDirectory(cluster), '-m', mode, '-w', '-t', seconds, 'stop']);
  const { code } = await stop('fast', '3');
  // Write-ahead log makes this safe: the next start replays it.
  if (code !== 0) await stop('immediate', '10');
}

/**
 * Ends the server as a crash would and deletes everything, before it returns: for the last
 * moment of this process, when nothing can be waited for. What initdb has begun ends too.
 */
export function discardCluster(cluster: Cluster): void {
  for (const child of programs) child.kill('SIGTERM');
  let pid: number | undefined;
  try {
    const file = join(dataDirectory(cluster), 'postmaster.pid');
    pid = Number(readFileSync(file, 'utf8').split('\n')[0]) || undefined;
  } catch {
    // None has started.
  }
  if (isAlive(pid, /postgres/)) process.kill(pid as number, 'SIGQUIT');
  const isEnding = () => isAlive(pid, /postgres/) || [...programs].some(({ pid }) => isAlive(pid));
  const deadline = Date.now() + 5_000;
  while (isEnding() && Date.now() < deadline) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
  // What a program started may still write for a moment.
  rmSync(cluster.home, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  removeCluster(cluster);
}

/** Deletes the data directory and the log. */
export function removeCluster(cluster: Cluster): void {
  rmSync(cluster.home, { recursive: true, force: true });
  try {
    // The checkout's own folder, when this was the last cluster in it.
    if (process.getuid?.() === 0) rmdirSync(dirname(cluster.home));
  } catch {
    // There is another.
  }
}
