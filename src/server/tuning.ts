import { chownSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';

/** What the settings of a server are computed from. */
export interface Machine {
  /** Of the machine, or of the container, in bytes. */
  ram: number;
  cores: number;
  /** The size of all databases, in bytes. */
  database: number;
  connections: number;
  /** Tables, indexes and their partitions; undefined where nobody knows yet. */
  relations?: number;
}

export interface Setting {
  name: string;
  /** As postgresql.conf takes it. */
  value: string;
  why: string;
}

const mb = 2 ** 20;
const gb = 2 ** 30;

const between = (least: number, value: number, most: number): number =>
  Math.min(Math.max(value, least), most);

const megabytes = (bytes: number): string => `${Math.floor(bytes / mb)}MB`;

/**
 * The settings that depend on the machine, for a server that has it to itself but for the processes
 * of Groundwork. The shares of memory are those of PostgreSQL's own documentation ("Resource
 * Consumption") and of PGTune for mixed work (https://pgtune.leopard.in.ua).
 */
export function settingsFor(machine: Machine): Setting[] {
  const { ram, cores, database, connections, relations = 0 } = machine;
  const shared = Math.max(ram / 4, 32 * mb);
  const vacuums = between(3, Math.ceil(cores / 2), 8);
  const gathered = between(0, Math.floor(cores / 2), 4);
  // A lock table has room for this many relations in as many transactions at once.
  const locks = 2 ** Math.ceil(Math.log2(Math.max((relations * 4) / connections, 128)));
  return [
    {
      name: 'shared_buffers',
      value: megabytes(shared),
      why: 'a quarter of the memory; the rest caches files',
    },
    {
      name: 'effective_cache_size',
      value: megabytes((ram * 3) / 4),
      why: 'what the planner may hope to find in memory; nothing is taken',
    },
    {
      name: 'work_mem',
      value: megabytes(between(4 * mb, (ram - shared) / (connections * 4), 64 * mb)),
      why: 'for each sort and hash: every connection may need several',
    },
    {
      name: 'maintenance_work_mem',
      value: megabytes(between(64 * mb, ram / 16, 2 * gb)),
      why: 'for each vacuum and index that is built',
    },
    {
      name: 'max_wal_size',
      value: megabytes(between(4 * gb, database / 4, 32 * gb)),
      why: 'checkpoints by time, not forced by a bulk load',
    },
    {
      name: 'max_slot_wal_keep_size',
      value: megabytes(between(4 * gb, database / 2, 64 * gb)),
      why: 'what change capture may fall behind; as much must be free on the disk',
    },
    { name: 'wal_compression', value: 'on', why: 'full-page images are most of the log' },
    { name: 'effective_io_concurrency', value: '200', why: 'an SSD reads many pages at once' },
    {
      name: 'max_worker_processes',
      value: String(Math.max(24, cores + 16)),
      why: 'jobs of pg_cron, parallel workers and the launchers',
    },
    { name: 'max_parallel_workers', value: String(Math.max(cores, 2)), why: 'one a core' },
    {
      name: 'max_parallel_workers_per_gather',
      value: String(gathered),
      why: 'a report leaves half of the cores to requests',
    },
    {
      name: 'max_parallel_maintenance_workers',
      value: String(gathered),
      why: 'an index that is built leaves half of the cores too',
    },
    {
      name: 'autovacuum_max_workers',
      value: String(vacuums),
      why: 'partitions are vacuumed one by one',
    },
    {
      name: 'autovacuum_vacuum_cost_limit',
      value: String(200 * vacuums),
      why: 'the workers share it: each is as fast as one alone would be',
    },
    {
      name: 'max_locks_per_transaction',
      value: String(locks),
      why: 'a dump locks each partition and each of their indexes',
    },
  ];
}

/** This machine, or the container in which this process runs. */
export function thisMachine(): Pick<Machine, 'ram' | 'cores'> {
  const limit = process.constrainedMemory();
  // Without a limit this is 0, or more than there is.
  return {
    ram: limit > 0 ? Math.min(limit, totalmem()) : totalmem(),
    cores: availableParallelism(),
  };
}

function sizeOf(folder: string): number {
  let bytes = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) bytes += sizeOf(path);
    else if (entry.isFile()) bytes += statSync(path).size;
  }
  return bytes;
}

/** Named at the end of docker/postgresql.conf. */
const fileName = 'machine.conf';
const include = `include_if_exists = '${fileName}'`;
const heading = "# Groundwork's settings for PostgreSQL";

/**
 * Writes what depends on this machine into the data directory of a stopped server. It counts
 * from the server's next start on.
 */
export function writeMachineSettings(data: string): void {
  const { uid, gid } = statSync(data);
  const write = (name: string, text: string): void => {
    const file = join(data, name);
    writeFileSync(`${file}.new`, text, { mode: 0o600 });
    chownSync(`${file}.new`, uid, gid);
    renameSync(`${file}.new`, file);
  };
  const main = readFileSync(join(data, 'postgresql.conf'), 'utf8');
  // A cluster that was made before the file was.
  if (!main.includes(include)) {
    // Above what somebody may have added since.
    write('postgresql.conf', main.replace(heading, `${include}\n\n${heading}`));
  }
  const connections = Number(/^\s*max_connections\s*=\s*(\d+)/m.exec(main)?.[1] ?? 100);
  const settings = settingsFor({
    ...thisMachine(),
    database: sizeOf(join(data, 'base')),
    connections,
  });
  const lines = settings.map(({ name, value, why }) => `${name} = ${value}  # ${why}\n`);
  write(fileName, `# Computed from this machine at each start.\n${lines.join('')}`);
}
