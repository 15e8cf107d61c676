import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { codeOf, EXIT, GwError } from '../../errors.ts';
import { clusterHome, postgresUser } from '../../server/cluster.ts';

/** The name under which pgBackRest knows the server. */
export const stanza = 'groundwork';

/** Where pgBackRest's settings are: `--config`, or beside the cluster of this checkout. */
export const configPath = (asked: string | undefined): string =>
  asked ?? join(clusterHome('pitr'), 'pgbackrest.conf');

export interface PitrSettings {
  /** Of the server, which runs on this machine. */
  dataDirectory: string;
  port: number;
  socketDirectory: string;
  user: string;
  /** Of a file of its log. */
  segmentBytes: number;
  /** A folder; a second one is off-site. */
  repositories: string[];
  /** Full backups that are kept, and differential ones. */
  keepFull: number;
  keepDiff: number;
  /** How much log may wait for a repository that does not answer, before it is dropped. */
  queueMax: string;
  /** Further lines for the section [global], such as those of an S3 repository. */
  more: string[];
}

/** Encrypts a repository; whoever loses it loses the backups. */
export const newKey = (): string => randomBytes(36).toString('base64');

/** The key that a configuration has, so that a second set-up keeps it. */
export function keyOf(config: string): string | undefined {
  if (!existsSync(config)) return undefined;
  return /^repo1-cipher-pass=(.+)$/m.exec(readFileSync(config, 'utf8'))?.[1];
}

/** Bytes of a file of the log, which is set when a server is made; 16 MB is the usual size. */
export const segmentBytesOf = (config: string): number =>
  Number(/^# wal_segment_size=(\d+)$/m.exec(readFileSync(config, 'utf8'))?.[1] ?? 16_777_216);

function textOf(settings: PitrSettings, key: string, folder: string): string {
  const { repositories, more } = settings;
  const lines = repositories.flatMap((path, at) => [
    `repo${at + 1}-path=${path}`,
    `repo${at + 1}-retention-full=${settings.keepFull}`,
    `repo${at + 1}-retention-diff=${settings.keepDiff}`,
    `repo${at + 1}-cipher-type=aes-256-cbc`,
    `repo${at + 1}-cipher-pass=${key}`,
    `repo${at + 1}-bundle=y`,
  ]);
  return `# Written by gw backup pitr setup. It has the key: keep a copy where the backups are not.
# wal_segment_size=${settings.segmentBytes}
[global]
${lines.join('\n')}
${more.join('\n')}
start-fast=y
process-max=2
compress-type=gz
compress-level=1
archive-push-queue-max=${settings.queueMax}
archive-timeout=60
log-level-console=error
log-level-stderr=error
log-level-file=detail
log-path=${join(folder, 'log')}
lock-path=${join(folder, 'lock')}
spool-path=${join(folder, 'spool')}

[${stanza}]
pg1-path=${settings.dataDirectory}
pg1-port=${settings.port}
pg1-socket-path=${settings.socketDirectory}
pg1-user=${settings.user}
`;
}

/** Makes a folder that is the server's user's alone. */
function makeFolder(path: string): void {
  const user = postgresUser();
  try {
    mkdirSync(path, { recursive: true, mode: 0o750 });
    if (user) chownSync(path, user.uid, user.gid);
  } catch (error) {
    throw new GwError(`cannot make the folder ${path}: ${codeOf(error)}`, {
      hint: 'Name a folder that can be made.',
      exitCode: EXIT.usage,
      cause: error,
    });
  }
}

/** Writes the configuration, which the server's user reads: it archives the log. */
export function writeConfig(config: string, settings: PitrSettings, key: string): void {
  const folder = dirname(config);
  const user = postgresUser();
  if (user) mkdirSync(dirname(folder), { recursive: true, mode: 0o755 });
  for (const name of ['', 'log', 'lock', 'spool']) makeFolder(join(folder, name));
  for (const path of settings.repositories) makeFolder(path);
  writeFileSync(config, textOf(settings, key, folder), { mode: 0o600 });
  if (user) chownSync(config, user.uid, user.gid);
}

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs pgBackRest, as the user that the server runs as.
 *
 * @param password of the server's superuser, for the commands that connect
 * @throws GwError when it is not installed
 */
export async function pgbackrest(
  config: string,
  command: string,
  args: readonly string[] = [],
  password?: string,
): Promise<Ran> {
  if (!existsSync(config)) {
    throw new GwError(`there is no ${config}`, {
      hint: 'Set point-in-time recovery up first: gw backup pitr setup',
      exitCode: EXIT.usage,
    });
  }
  const options = args.filter((arg) => arg.startsWith('--'));
  const paths = args.filter((arg) => !arg.startsWith('--'));
  const child = spawn(
    'pgbackrest',
    [`--config=${config}`, `--stanza=${stanza}`, ...options, command, ...paths],
    {
      ...postgresUser(),
      cwd: '/',
      env: {
        PATH: process.env.PATH,
        HOME: '/',
        LC_ALL: 'C.UTF-8',
        TZ: 'UTC',
        ...(password === undefined ? {} : { PGPASSWORD: password }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const end = (): void => void child.kill('SIGKILL');
  process.once('exit', end);
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status) => resolve(status ?? 1));
    });
    return { code, stdout, stderr };
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    throw new GwError('pgBackRest is not installed', {
      hint: 'apt-get install pgbackrest',
      exitCode: EXIT.unavailable,
    });
  } finally {
    process.off('exit', end);
  }
}

/** What pgBackRest says of a failure, without its prefixes. */
export const saidBy = ({ stdout, stderr }: Ran): string =>
  (stderr.trim() || stdout.trim())
    .split('\n')
    .map((line) => line.replace(/^(\S+ \S+ )?P\d+ +/, ''))
    .join('\n');

/** As pgbackrest(), and throws a GwError when it fails. */
export async function mustRun(
  config: string,
  command: string,
  args: readonly string[] = [],
  password?: string,
): Promise<string> {
  const ran = await pgbackrest(config, command, args, password);
  if (ran.code === 0) return ran.stdout;
  throw new GwError(`pgBackRest ${command} failed:\n${saidBy(ran)}`, {
    hint: /\[029\]|\[041\]|cipher/i.test(saidBy(ran))
      ? 'Is the key (repo1-cipher-pass) that of the repository?'
      : 'gw backup pitr check says more.',
  });
}
