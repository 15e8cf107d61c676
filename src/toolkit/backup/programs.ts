import { spawn } from 'node:child_process';
import { join } from 'node:path';
import process from 'node:process';
import { codeOf, EXIT, GwError } from '../../errors.ts';
import { parseUrl } from '../../postgres/urls.ts';
import { findInstallations } from '../../server/binaries.ts';
import { forLibpq } from '../../tls.ts';

/** PostgreSQL's own programs, which run in a terminal as they do here. */
export type ClientProgram = 'pg_dump' | 'pg_restore' | 'pg_dumpall' | 'psql';

/**
 * Where a client program is. One that is older than the server refuses to dump it.
 *
 * @param major of the server
 */
function programPath(program: ClientProgram, major: number): string {
  const fitting = findInstallations()
    .filter((installation) => installation.major >= major)
    .sort((one, other) => one.major - other.major);
  return fitting[0] === undefined ? program : join(fitting[0].bin, program);
}

/** A URL without its password, and the variable that has it: ps shows arguments to everybody. */
export function withoutPassword(url: string): { url: string; env: NodeJS.ProcessEnv } {
  const parsed = parseUrl(forLibpq(url));
  const password = decodeURIComponent(parsed.password);
  parsed.password = '';
  return { url: parsed.href, env: password === '' ? {} : { PGPASSWORD: password } };
}

export interface RunOptions {
  /** The server's major version. */
  major: number;
  /** The connection, which follows the arguments as --dbname. */
  url: string;
  /** Whether it connects at all; it does unless told otherwise. */
  connects?: boolean;
  /** Told each line that it says. */
  onLine?: (line: string) => void;
}

/**
 * Runs a client program to its end. It ends with this process.
 *
 * @returns what it printed
 * @throws GwError with what it said
 */
export async function runClient(
  program: ClientProgram,
  args: readonly string[],
  { major, url, connects = true, onLine }: RunOptions,
): Promise<string> {
  const target = withoutPassword(url);
  const child = spawn(
    programPath(program, major),
    [...args, ...(connects ? [`--dbname=${target.url}`] : [])],
    {
      env: { PATH: process.env.PATH, HOME: process.env.HOME, LC_ALL: 'C.UTF-8', ...target.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const end = (): void => void child.kill('SIGKILL');
  process.once('exit', end);
  let [output, rest] = ['', ''];
  const said: string[] = [];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      onLine?.(line);
      // With --verbose it tells of each object.
      if (/error|fatal|warning|detail|hint|query was/i.test(line)) said.push(line);
      if (said.length > 40) said.splice(0, 20);
    }
  });
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status) => resolve(status ?? 1));
    });
    if (code === 0) return output;
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    throw new GwError(`${program} of PostgreSQL ${major} or newer is not installed`, {
      hint: `apt-get install postgresql-client-${major}`,
      exitCode: EXIT.unavailable,
    });
  } finally {
    process.off('exit', end);
  }
  throw new GwError(`${program} failed:\n${[...said, rest].join('\n').trim()}`);
}
