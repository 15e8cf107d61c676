import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { connect, type Sql, type Transaction } from '../../postgres/connect.ts';
import { projectRoot } from '../../project.ts';
import type { Manifest, TableContents } from './manifest.ts';

/** One object of a database, with all that makes it. */
export interface CatalogueEntry {
  kind: string;
  name: string;
  definition: string;
}

/** The same value has the same text everywhere, and a name without a schema is PostgreSQL's own. */
const settings = {
  search_path: 'pg_catalog, pg_temp',
  datestyle: 'ISO, YMD',
  intervalstyle: 'postgres',
  timezone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  xmlbinary: 'base64',
  statement_timeout: 0,
  lock_timeout: 30_000,
  idle_in_transaction_session_timeout: 0,
};

/** A superuser's pool that reads rows in one form. */
export const readingPool = (url: string, max: number): Sql =>
  connect(url, { max, connection: { ...settings, application_name: 'gw backup' } });

/** What kinds of table have rows of their own in a dump: partitions, not their parents. */
const findTables = (sql: Sql | Transaction) =>
  sql<{ name: string; bytes: number; pages: number }[]>`
    select format('%I.%I', pg_namespace.nspname, pg_class.relname) as name,
      pg_relation_size(pg_class.oid)::float8 as bytes,
      (pg_relation_size(pg_class.oid) / current_setting('block_size')::bigint)::float8 as pages
    from pg_class
    inner join pg_namespace on pg_namespace.oid = pg_class.relnamespace
    where pg_class.relkind = 'r'
      and pg_class.relpersistence <> 't'
      and pg_namespace.nspname !~ '^pg_'
      and pg_namespace.nspname <> 'information_schema'
      and not exists (
        select from pg_depend
        where pg_depend.classid = 'pg_class'::regclass
          and pg_depend.objid = pg_class.oid
          and pg_depend.deptype = 'e'
      )
    order by pg_relation_size(pg_class.oid) desc, name`;

/** Pages of a part that is hashed at once: 128 MB. */
const partPages = 16_384;

/**
 * Counts and hashes every table.
 *
 * @param snapshot exported by a transaction that stays open; unset: what is there now
 * @param onBytes told how many bytes were read
 */
export async function contentsOf(
  url: string,
  options: { jobs: number; snapshot?: string; onBytes?: (bytes: number) => void },
): Promise<TableContents[]> {
  const { jobs, snapshot, onBytes } = options;
  const pool = readingPool(url, jobs);
  try {
    const inSnapshot = <Result>(work: (sql: Transaction) => Promise<Result>) =>
      pool.begin('isolation level repeatable read read only', async (sql) => {
        if (snapshot !== undefined) {
          await sql.unsafe(`set transaction snapshot '${snapshot.replaceAll("'", '')}'`);
        }
        return { result: await work(sql) };
      });
    const { result: tables } = await inSnapshot(async (sql) => [...(await findTables(sql))]);
    const limit = pLimit(jobs);
    return await Promise.all(
      tables.map(async ({ name, bytes, pages }): Promise<TableContents> => {
        const parts = Math.max(Math.ceil(pages / partPages), 1);
        const counted = await Promise.all(
          Array.from({ length: parts }, (_, part) =>
            limit(async () => {
              // The last part has no end: the table may have grown since.
              const from = `ctid >= '(${part * partPages},0)'`;
              const to = part === parts - 1 ? '' : ` and ctid < '(${(part + 1) * partPages},0)'`;
              const { result } = await inSnapshot((sql) =>
                sql.unsafe<{ rows: string; hash: string }[]>(
                  `select count(*)::text as rows,
                     coalesce(sum(hashtextextended(each::text, 0)::numeric), 0)::text as hash
                   from only ${name} as each${parts === 1 ? '' : ` where ${from}${to}`}`,
                ),
              );
              onBytes?.(bytes / parts);
              return result[0] ?? { rows: '0', hash: '0' };
            }),
          ),
        );
        return {
          name,
          bytes,
          rows: counted.reduce((sum, { rows }) => sum + Number(rows), 0),
          hash: String(counted.reduce((sum, { hash }) => sum + BigInt(hash), 0n)),
        };
      }),
    );
  } finally {
    await pool.end({ timeout: 2 });
  }
}

/** Every object of a database. */
export async function catalogueOf(sql: Sql | Transaction): Promise<CatalogueEntry[]> {
  const query = readFileSync(join(projectRoot, 'sql', 'backup', 'catalogue.sql'), 'utf8');
  return [...(await sql.unsafe<CatalogueEntry[]>(query))];
}

/** pg_cron's jobs of this database; none without pg_cron. */
export async function jobsOf(sql: Sql | Transaction): Promise<Manifest['jobs']> {
  const [found] = await sql`select to_regclass('cron.job') is not null as exists`;
  if (found?.exists !== true) return [];
  return [
    ...(await sql<Manifest['jobs']>`
      select coalesce(jobname, jobid::text) as name, schedule, command
      from cron.job
      where database = current_database() and active
      order by 1`),
  ];
}

/** The migrations that graphile-migrate ran; none in a database of others. */
export async function migrationsOf(sql: Sql | Transaction): Promise<Manifest['migrations']> {
  const [found] = await sql`
    select to_regclass('graphile_migrate.migrations') is not null as exists`;
  if (found?.exists !== true) return [];
  return [
    ...(await sql<Manifest['migrations']>`
      select filename as name, hash from graphile_migrate.migrations order by filename`),
  ];
}

const key = ({ kind, name }: CatalogueEntry): string => `${kind} ${name}`;

/** In what two catalogues differ, one sentence an object. */
export function catalogueFaults(
  wanted: readonly CatalogueEntry[],
  found: readonly CatalogueEntry[],
  /** Servers of other versions print definitions otherwise: then only names are compared. */
  comparesDefinitions = true,
): string[] {
  const there = new Map(found.map((entry) => [key(entry), entry.definition]));
  const known = new Set(wanted.map(key));
  const faults = wanted.flatMap((entry) => {
    const definition = there.get(key(entry));
    if (definition === undefined) return [`${key(entry)} is missing`];
    if (!comparesDefinitions || definition === entry.definition) return [];
    return [`${key(entry)} differs: ${firstDifference(entry.definition, definition)}`];
  });
  const extra = found.filter((entry) => !known.has(key(entry)));
  return [...faults, ...extra.map((entry) => `${key(entry)} was not in the backup`)];
}

function firstDifference(wanted: string, found: string): string {
  const [one, other] = [wanted.split('\n'), found.split('\n')];
  const at = one.findIndex((line, index) => line !== other[index]);
  const cut = (text: string | undefined): string => (text ?? '(nothing)').slice(0, 200);
  return at === -1
    ? `"${cut(other[one.length])}" is new`
    : `"${cut(one[at])}" became "${cut(other[at])}"`;
}

/** In what the rows of two databases differ, one sentence a table. */
export function contentFaults(
  wanted: readonly TableContents[],
  found: readonly TableContents[],
): string[] {
  const there = new Map(found.map((table) => [table.name, table]));
  return wanted.flatMap(({ name, rows, hash }) => {
    const table = there.get(name);
    if (table === undefined) return [`table ${name} is missing`];
    if (table.rows !== rows) return [`table ${name} has ${table.rows} rows, not ${rows}`];
    return table.hash === hash ? [] : [`table ${name} has other rows`];
  });
}
