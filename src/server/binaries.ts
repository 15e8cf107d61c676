import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import process from 'node:process';
import { GwError } from '../errors.ts';
import { projectRoot } from '../project.ts';

/** What Groundwork needs of a PostgreSQL installation, as extension control files. */
const neededExtensions = [
  'pgcrypto',
  'btree_gin',
  'pg_cron',
  'pg_stat_statements',
  'vector',
  'plpgsql_check',
];

export interface Installation {
  /** The directory of initdb, postgres, pg_ctl. */
  bin: string;
  major: number;
  missing: string[];
  /** Extensions that it has, in a version that something better replaces. */
  outdated: string[];
}

/** Every PostgreSQL ≥ 15 on this machine, newest first, with what each one lacks. */
export function findInstallations(): Installation[] {
  const debian = '/usr/lib/postgresql';
  const directories = new Set<string>();
  if (existsSync(debian)) {
    for (const version of readdirSync(debian)) directories.add(join(debian, version, 'bin'));
  }
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    if (directory !== '' && existsSync(join(directory, 'pg_config'))) directories.add(directory);
  }
  const found: Installation[] = [];
  for (const bin of directories) {
    if (!existsSync(join(bin, 'initdb')) || !existsSync(join(bin, 'postgres'))) continue;
    const version = spawnSync(join(bin, 'postgres'), ['--version'], { encoding: 'utf8' });
    const major = Number(/\) (\d+)/.exec(version.stdout ?? '')?.[1] ?? 0);
    if (major < 15) continue;
    const share = shareDirectory(bin);
    const missing = neededExtensions.filter(
      (name) => !existsSync(join(share, 'extension', `${name}.control`)),
    );
    const outdated = isOldPgCron(share) ? ['pg_cron'] : [];
    found.push({ bin, major, missing, outdated });
  }
  return found.sort(
    (a, b) =>
      a.missing.length - b.missing.length ||
      a.outdated.length - b.outdated.length ||
      b.major - a.major,
  );
}

/**
 * Until 1.5 the background workers of pg_cron wait for each other: one long job holds up all others
 * (https://github.com/citusdata/pg_cron/issues/200).
 */
function isOldPgCron(share: string): boolean {
  try {
    const control = readFileSync(join(share, 'extension', 'pg_cron.control'), 'utf8');
    return /^default_version\s*=\s*'1\.[0-4]\b/m.test(control);
  } catch {
    return false;
  }
}

/**
 * The installation to use, completed where that is possible. What is outdated stays: to replace it
 * is for whoever runs docker/provision.sh.
 *
 * @returns undefined when none is complete and this user cannot complete one
 * @throws GwError when completing it fails
 */
export async function requireInstallation(
  note: (text: string) => void,
): Promise<{ installation: Installation; wasInstalled: boolean } | undefined> {
  const [best] = findInstallations();
  if (best?.missing.length === 0) return { installation: best, wasInstalled: false };
  if (!canProvision()) return undefined;
  const bin = await provision(note);
  const installed = findInstallations().find((installation) => installation.bin === bin);
  if (installed === undefined) throw new GwError(`there is no PostgreSQL in ${bin}`);
  return { installation: installed, wasInstalled: true };
}

function shareDirectory(bin: string): string {
  const asked = spawnSync(join(bin, 'pg_config'), ['--sharedir'], { encoding: 'utf8' });
  if (asked.status === 0) return asked.stdout.trim();
  return join('/usr/share/postgresql', /\/(\d+)\/bin$/.exec(bin)?.[1] ?? '');
}

/** Whether docker/provision.sh can work here. */
function canProvision(): boolean {
  return process.getuid?.() === 0 && /^(12|13)$/.test(debianMajor()) && hasApt();
}

const hasApt = (): boolean => spawnSync('apt-get', ['--version']).status === 0;

/**
 * Installs PostgreSQL and its extensions with Debian's packages.
 *
 * @returns the directory of the binaries
 * @throws GwError with what the script said
 */
async function provision(note: (text: string) => void): Promise<string> {
  const child = spawn('bash', [join(projectRoot, 'docker', 'provision.sh')], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    note(text.trim().split('\n').at(-1) ?? '');
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve(status ?? 1));
  });
  if (code !== 0) {
    throw new GwError(`PostgreSQL could not be installed:\n${said.trim()}`, {
      hint: 'docker/provision.sh can be run by itself, as root.',
    });
  }
  return output.trim().split('\n').at(-1) ?? '';
}

/** What a person can do who has neither root nor PostgreSQL. */
export function manualInstallation(): string {
  const version = debianMajor() === '12' ? '15' : '17';
  const packages = ['', '-cron', '-wal2json', '-plpgsql-check']
    .map((part) => `postgresql-${version}${part}`)
    .join(' ');
  const extra = version === '15' ? '' : ` postgresql-${version}-pgvector`;
  return [
    'One of these makes a database available:',
    `  sudo bash docker/provision.sh        (or: sudo apt-get install ${packages}${extra})`,
    '  export POSTGRES_PASSWORD=$(openssl rand -hex 24) && docker compose up -d db' +
      ' && export DATABASE_URL=postgres://postgres:$POSTGRES_PASSWORD@127.0.0.1:5432/groundwork',
    '  export DATABASE_URL=postgres://superuser:password@host:5432/database',
  ].join('\n');
}

/** "12" on Debian 12; empty elsewhere, Debian's derivatives included. */
function debianMajor(): string {
  try {
    const release = readFileSync('/etc/os-release', 'utf8');
    return /^ID=debian$/m.test(release) ? (/^VERSION_ID="?(\d+)/m.exec(release)?.[1] ?? '') : '';
  } catch {
    return '';
  }
}

/** The directory above `bin`, and what is old there, for messages. */
export const installationName = ({ major, bin, outdated }: Installation): string =>
  `PostgreSQL ${major} in ${dirname(bin)}` +
  (outdated.length === 0 ? '' : `, with an old ${outdated.join(', ')}: run docker/provision.sh`);
