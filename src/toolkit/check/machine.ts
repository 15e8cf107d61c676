import { access, constants, readFile, readlink, statfs } from 'node:fs/promises';
import { codeOf } from '../../errors.ts';
import type { Transaction } from '../../postgres/connect.ts';
import { checkRepositories } from '../backup/pitr.ts';
import type { HealthFinding } from './health.ts';

type Answer = HealthFinding[] | { needs: string };

interface Server {
  pid: number;
  directory: string;
  warning: number;
  critical: number;
}

/**
 * Whether a backend is a process of this machine: then its data directory is on a disk of
 * ours. An address would not tell: a tunnel's end is on loopback too.
 */
async function isHere(pid: number): Promise<boolean> {
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return line.startsWith('postgres: ');
}

const elsewhere = {
  needs: 'to run on the server’s own machine: it cannot be seen from here',
};

/**
 * How full the volume of the data directory is, asked of the file system: SQL cannot see it.
 *
 * @returns a finding, nothing, or why it cannot be seen
 */
async function checkDisk(sql: Transaction): Promise<Answer> {
  const [server] = await sql<Server[]>`
    select pg_backend_pid() as pid, current_setting('data_directory') as directory,
      coalesce(nullif(current_setting('health.disk_warning', true), ''), '0.80')::float8
        as warning,
      coalesce(nullif(current_setting('health.disk_critical', true), ''), '0.90')::float8
        as critical
    where pg_has_role('pg_read_all_settings', 'usage')`;
  if (server === undefined) return { needs: 'role pg_read_all_settings' };
  if (!(await isHere(server.pid))) return elsewhere;
  try {
    const { blocks, bavail, bfree, bsize } = await statfs(server.directory);
    // What root alone may still use is not free for the server.
    const used = (blocks - bfree) / (blocks - bfree + bavail);
    if (used < server.warning) return [];
    return [
      {
        name: 'disk-free',
        level: used >= server.critical ? 'critical' : 'warning',
        object: '',
        detail: `the volume of ${server.directory} is ${Math.floor(used * 100)} % full, ${bavail * bsize} bytes are free`,
        remediation: 'See: gw report table-sizes, bloat, replication-slots; or enlarge the volume.',
      },
    ];
  } catch (error) {
    return { needs: `to see ${server.directory} (${codeOf(error) ?? 'refused'})` };
  }
}

/**
 * Whether a package of PostgreSQL was updated under the running server: what is fixed on the
 * disk is not fixed in it, and it loads libraries of another version than its own.
 *
 * @returns a finding, nothing, or why it cannot be seen
 */
async function checkProgram(sql: Transaction): Promise<Answer> {
  const [server] = await sql<{ pid: number; version: string }[]>`
    select pg_backend_pid() as pid, current_setting('server_version') as version`;
  if (server === undefined || !(await isHere(server.pid))) return elsewhere;
  try {
    const program = await readlink(`/proc/${server.pid}/exe`);
    if (!program.endsWith(' (deleted)')) return [];
    return [
      {
        name: 'server-program',
        level: 'warning',
        object: '',
        detail: `the server runs ${server.version}, and its program on the disk was replaced`,
        remediation: 'Restart the server; here: npm run gw -- db start',
      },
    ];
  } catch (error) {
    return { needs: `to run as root or as the server’s user (${codeOf(error) ?? 'refused'})` };
  }
}

/**
 * Whether the archive of the log has what a restore needs: asked of pgBackRest, by the configuration that
 * the server archives with.
 *
 * @returns findings, or why it cannot be seen
 */
async function checkArchive(sql: Transaction): Promise<Answer> {
  const [server] = await sql<{ pid: number; command: string }[]>`
    select pg_backend_pid() as pid, current_setting('archive_command') as command
    where pg_has_role('pg_read_all_settings', 'usage')`;
  if (server === undefined) return { needs: 'role pg_read_all_settings' };
  const config = /^pgbackrest --config=(\S+) /.exec(server.command)?.[1];
  if (config === undefined) return { needs: 'an archive that gw backup pitr setup has made' };
  if (!(await isHere(server.pid))) return elsewhere;
  try {
    await access(config, constants.R_OK);
  } catch (error) {
    return { needs: `to read ${config} (${codeOf(error) ?? 'refused'})` };
  }
  const { findings } = await checkRepositories(config);
  return findings.map((finding) => ({ name: 'archive', ...finding }));
}

/** Checks that ask the machine, and not the database. */
export const machineChecks: Record<string, (sql: Transaction) => Promise<Answer>> = {
  archive: checkArchive,
  'disk-free': checkDisk,
  'server-program': checkProgram,
};
