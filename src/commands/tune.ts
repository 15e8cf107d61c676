import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../config.ts';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { audit } from '../postgres/audit.ts';
import { connectionError, type Sql, withSql } from '../postgres/connect.ts';
import type { Database } from '../postgres/urls.ts';
import { reachDatabase } from '../server/locate.ts';
import { type Setting, settingsFor, thisMachine } from '../server/tuning.ts';
import { confirm } from '../terminal/confirm.ts';
import { print } from '../terminal/output.ts';
import { formatTable } from '../terminal/table.ts';
import { humanBytes } from '../terminal/values.ts';

interface Flags {
  ram?: number;
  cores?: number;
  write?: boolean;
  yes?: boolean;
  json?: boolean;
}

interface Compared extends Setting {
  now: string;
  needsRestart: boolean;
}

function parseBytes(text: string): number {
  const [, number, unit = ''] = /^(\d{1,6}(?:\.\d+)?)\s?([MGT])i?B?$/i.exec(text.trim()) ?? [];
  const power = { M: 2, G: 3, T: 4 }[unit.toUpperCase()];
  const bytes = power === undefined ? 0 : Number(number) * 1024 ** power;
  if (bytes >= 256 * 1024 ** 2) return Math.floor(bytes);
  throw new InvalidArgumentError('At least 256MB, such as 16GB.');
}

function parseCores(text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number of cores, such as 4.');
}

/** Whether the server surely runs on this machine, without a limit of its own. */
const isHere = ({ source, urls }: Database): boolean =>
  source === 'local' ||
  (source === 'url' && ['127.0.0.1', 'localhost', '[::1]'].includes(new URL(urls.owner).hostname));

/** What the user says counts; else what this machine has, where the server is on it. */
function machineOf(database: Database, { ram, cores }: Flags) {
  const here = isHere(database) ? thisMachine() : undefined;
  const machine = { ram: ram ?? here?.ram, cores: cores ?? here?.cores };
  if (machine.ram === undefined || machine.cores === undefined) {
    throw new GwError(`cannot tell the memory and the cores of ${database.description}`, {
      hint: 'Name both: gw tune --ram 16GB --cores 4',
      exitCode: EXIT.usage,
    });
  }
  return { ram: machine.ram, cores: machine.cores };
}

/** Of these settings more than is asked for does no harm. */
const atLeast = new Set([
  'max_wal_size',
  'max_slot_wal_keep_size',
  'max_worker_processes',
  'max_locks_per_transaction',
]);

async function compare(sql: Sql, machine: { ram: number; cores: number }): Promise<Compared[]> {
  const [facts] = await sql<{ database: number; relations: number; connections: number }[]>`
    select sum(pg_database_size(oid))::float as database,
      (select count(*) from pg_class where relkind in ('r', 'p', 'i', 'I', 'm', 't'))::integer
        as relations,
      current_setting('max_connections')::integer as connections
    from pg_database where datallowconn`;
  const wanted = settingsFor({ ...machine, ...(facts as NonNullable<typeof facts>) });
  const names = wanted.map(({ name }) => name);
  // Sizes in bytes; a limit of -1 is none.
  const present = await sql<{ name: string; now: string; amount: number; restart: boolean }[]>`
    select name, current_setting(name)
        || case when pending_restart then ' (restart pending)' else '' end as now,
      context = 'postmaster' as restart,
      case when unit ~ 'B$' and setting <> '-1' then pg_size_bytes(current_setting(name))
        when vartype in ('integer', 'real') then setting::numeric end::float as amount
    from pg_settings where name = any (${names})`;
  const amountOf = (value: string): number =>
    value.endsWith('MB') ? Number.parseInt(value, 10) * 1024 ** 2 : Number(value);
  return wanted.flatMap((setting) => {
    const found = present.find(({ name }) => name === setting.name);
    if (found === undefined) return [];
    const compared = { ...setting, now: found.now, needsRestart: found.restart };
    if (found.amount === null) {
      // Other methods compress too.
      return found.now === 'off' ? [compared] : [];
    }
    const share = found.amount / amountOf(setting.value);
    const isNear = setting.value.endsWith('MB') ? Math.abs(share - 1) <= 0.1 : share === 1;
    return isNear || (atLeast.has(setting.name) && share > 1) ? [] : [compared];
  });
}

async function write(sql: Sql, settings: readonly Compared[]): Promise<void> {
  // Names and values are those of settingsFor().
  for (const { name, value } of settings) await sql.unsafe(`alter system set ${name} = '${value}'`);
  await sql`select pg_reload_conf()`;
}

async function tune(flags: Flags): Promise<void> {
  const database = await reachDatabase(loadConfig());
  const machine = machineOf(database, flags);
  const { superuser, owner } = database.urls;
  const url = superuser || owner;
  await withSql(url, async (sql) => {
    const settings = await compare(sql, machine);
    const size = `${humanBytes(machine.ram)} of memory, ${machine.cores} cores`;
    const isDone = flags.write === true && settings.length > 0;
    if (isDone) {
      if (!superuser) {
        throw new GwError('only a superuser can write settings of the server', {
          hint: 'Set ROOT_DATABASE_URL, or give the lines of `gw tune` to whoever runs the server.',
          exitCode: EXIT.usage,
        });
      }
      const names = settings.map(({ name }) => name).join(', ');
      await confirm(`${database.description} gets other settings: ${names}.`, flags.yes);
      await write(sql, settings);
      await audit(owner, 'server.tuned', {
        settings: Object.fromEntries(settings.map(({ name, value }) => [name, value])),
      });
    }
    const restart = settings.filter(({ needsRestart }) => needsRestart).map(({ name }) => name);
    const text =
      settings.length === 0
        ? `nothing to change for ${size}\n`
        : [
            `for ${size}:\n`,
            formatTable(settings, [
              { title: 'setting', value: ({ name }) => name },
              { title: 'now', value: ({ now }) => now, isNumber: true },
              { title: 'better', value: ({ value }) => value, isNumber: true },
              { title: 'why', value: ({ why }) => why, isFlexible: true },
            ]),
            isDone ? 'written, and in force' : 'nothing is written; do so with --write',
            restart.length === 0 ? '.\n' : `. After a restart: ${restart.join(', ')}.\n`,
          ].join('');
    print(flags.json, { ...machine, written: isDone, settings }, text);
  }).catch((error: unknown) => {
    throw codeOf(error) === undefined ? error : connectionError(error, url, 'DATABASE_URL');
  });
}

export function registerTune(program: Command): void {
  program
    .command('tune')
    .description('compare the settings of the server with what its machine can give')
    .option('--ram <size>', 'the memory of its machine or container, such as 16GB', parseBytes)
    .option('--cores <n>', 'the cores of its machine or container', parseCores)
    .option('--write', 'write them (ALTER SYSTEM) and reload')
    .option('--yes', 'do not ask')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      [
        '',
        'Memory, cores, the size of the databases and the number of partitions decide. Both figures are',
        'those of this machine, or of the container that this runs in, where the server runs on it; else',
        'name them. A local cluster and the container of the database have these settings from their start.',
      ].join('\n'),
    )
    .action(tune);
}
