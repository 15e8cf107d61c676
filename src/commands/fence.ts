import process from 'node:process';
import type { Command } from 'commander';
import { loadConfig } from '../config.ts';
import { codeOf, EXIT, GwError } from '../errors.ts';
import { audit } from '../postgres/audit.ts';
import { connectionError, type Sql, withSql } from '../postgres/connect.ts';
import { reachDatabase } from '../server/locate.ts';
import { print } from '../terminal/output.ts';
import { formatRecord, formatTable } from '../terminal/table.ts';
import { stamp } from '../terminal/values.ts';
import { givenUrl } from './urls.ts';

interface Place {
  system_identifier: string;
  database_id: number;
  timeline: number | null;
  machine: string | null;
  data_directory: string | null;
  files_since: Date | null;
}

interface Standby {
  machine: string | null;
  data_directory: string | null;
  declared_at: Date;
  declared_by: string;
}

async function onDatabase<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result> {
  const { urls } = await reachDatabase(loadConfig());
  return withSql(urls.owner, work).catch((error: unknown) => {
    throw codeOf(error) === undefined ? error : connectionError(error, urls.owner, 'DATABASE_URL');
  });
}

const placeOf = async (sql: Sql): Promise<Place> => {
  const [place] = await sql<Place[]>`select * from ops.present_place()`;
  return place as Place;
};

async function status({ json }: { json?: boolean }): Promise<void> {
  const { reason, here, identity, standbys, standby } = await onDatabase(async (sql) => {
    const [row] = await sql<{ reason: string | null; standby: boolean }[]>`
      select ops.fence_reason() as reason, pg_is_in_recovery() as standby`;
    const [own] = await sql`select * from ops.identity`;
    return {
      reason: row?.reason ?? null,
      standby: row?.standby === true,
      here: await placeOf(sql),
      identity: own ?? null,
      standbys: [...(await sql<Standby[]>`select * from ops.standbys order by declared_at`)],
    };
  });
  const { machine, data_directory, files_since } = here;
  const untold = Object.entries({ machine, data_directory, files_since })
    .filter(([, value]) => value === null)
    .map(([name]) => name);
  const state = standby ? 'standby' : reason === null ? 'not fenced' : 'fenced';
  const text = [
    formatRecord({ state, ...(reason === null ? {} : { reason }), ...here }),
    untold.length === 0 ? '' : `cannot tell: ${untold.join(', ')}\n`,
    standbys.length === 0
      ? 'no standby is declared: one that is promoted is fenced\n'
      : formatTable(standbys, [
          { title: 'declared standby', value: (row) => row.data_directory ?? '-' },
          { title: 'machine', value: (row) => row.machine ?? '-' },
          { title: 'since', value: (row) => stamp(row.declared_at) },
          { title: 'by', value: (row) => row.declared_by },
        ]),
  ];
  print(json, { state, reason, here, identity, standbys, cannotTell: untold }, text.join(''));
  if (reason !== null) process.exitCode = EXIT.failure;
}

async function standby(url: string): Promise<void> {
  const target = givenUrl(url);
  await reachDatabase(loadConfig());
  const place = await withSql(target.url, async (sql) => {
    const [row] = await sql`select pg_is_in_recovery() as standby`;
    if (row?.standby !== true) {
      throw new GwError(`${new URL(target.url).host} is no standby: it takes writes`, {
        hint: 'Give the URL of the standby, not of the primary.',
        exitCode: EXIT.usage,
      });
    }
    return placeOf(sql);
  }).catch((error: unknown) => {
    throw connectionError(error, target.url, '<url>');
  });
  await onDatabase(
    (sql) =>
      sql`select ops.declare_standby(${place.system_identifier}, ${place.machine},
        ${place.data_directory}, ${place.files_since})`,
  );
  process.stdout.write(
    `declared: ${place.data_directory ?? '-'} on ${place.machine ?? 'its machine'} goes on after a promotion\n`,
  );
}

async function files(answer: string): Promise<void> {
  if (answer !== 'on' && answer !== 'off') {
    throw new GwError(`"${answer}" is neither on nor off`, { exitCode: EXIT.usage });
  }
  await onDatabase(async (sql) => {
    await sql.begin(async (transaction) => {
      await transaction`update ops.identity set watches_files = ${answer === 'on'}`;
      const log = transaction as unknown as Sql;
      await audit(log, 'fence.files', { watched: answer === 'on' });
    });
  });
  process.stdout.write(`the age of the files is ${answer === 'on' ? '' : 'not '}compared\n`);
}

async function close(reason: string): Promise<void> {
  if (reason.trim() === '') throw new GwError('a reason is missing', { exitCode: EXIT.usage });
  await onDatabase((sql) =>
    sql.begin(async (transaction) => {
      await transaction`update ops.identity set closed = ${reason}`;
      const log = transaction as unknown as Sql;
      await audit(log, 'fence.closed', { reason });
    }),
  );
  process.stdout.write('fenced: it does nothing until gw adopt\n');
}

export function registerFence(program: Command): void {
  const fence = program
    .command('fence')
    .description('tell whether this database is a copy that does nothing until it is adopted');
  fence
    .command('status')
    .description('print who this database is, and whether it is fenced (exit 1 when it is)')
    .option('--json', 'print JSON')
    .action(status);
  fence
    .command('standby')
    .description('declare a standby, which goes on after its promotion without being adopted')
    .argument('<url>', "gw_owner's URL of the standby")
    .action(standby);
  fence
    .command('close')
    .description('fence a database by hand, until it is adopted')
    .requiredOption('--reason <text>', 'why; gw fence status shows it')
    .action(({ reason }: { reason: string }) => close(reason));
  fence
    .command('files')
    .description('compare since when the files are there, or not, where a platform touches them')
    .argument('<on|off>', 'whether they are compared')
    .action(files);
}
