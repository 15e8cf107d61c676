import { pipeline } from 'node:stream/promises';
import { EXIT, GwError } from '../../errors.ts';
import { connect, type Sql, withSql, withSuperuser } from '../../postgres/connect.ts';
import { changeUrl } from '../../postgres/urls.ts';
import { startScratch } from '../../server/scratch.ts';
import type { Progress } from '../../terminal/progress.ts';
import type { Backup } from './manifest.ts';
import { restoreBackup } from './restore.ts';

export interface ExtractOptions {
  backup: Backup;
  /** A superuser's connection to the database that gets the rows. */
  url: string;
  /** Tables, as schema.table; all that have the owner column unless given. */
  tables: readonly string[] | undefined;
  /** Only this user's rows. */
  user: string | undefined;
  /** The column that says whose a row is, and the table of users. */
  ownerColumn: string;
  usersTable: string;
  jobs?: number | undefined;
  progress: Progress;
}

export interface Extracted {
  /** The schema that has the copies. */
  schema: string;
  tables: { table: string; copy: string; rows: number }[];
  /** Puts rows back that are missing, in an order that foreign keys allow. */
  statements: string[];
}

interface Table {
  name: string;
  schema: string;
  bare: string;
  columns: string[];
  /** The column that is the user's; null for a table of others. */
  owner: string | null;
}

const trial = 'gw_extract';

const quote = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Tables with their columns that are not generated: partitioned ones, and not their partitions. */
const tablesOf = (sql: Sql, { ownerColumn, usersTable }: ExtractOptions) =>
  sql<Table[]>`
    select format('%I.%I', nspname, relname) as name, nspname as schema, relname as bare,
      array_agg(attname::text order by attnum) as columns,
      case when format('%I.%I', nspname, relname) = ${usersTable} then 'id'
        when bool_or(attname = ${ownerColumn}) then ${ownerColumn} end as owner
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    inner join pg_attribute on attrelid = pg_class.oid
      and attnum > 0 and not attisdropped and attgenerated = ''
    where relkind in ('r', 'p') and not relispartition
      and nspname !~ '^pg_' and nspname <> 'information_schema'
    group by pg_class.oid, nspname, relname
    order by 1`;

/** Each table after those that it refers to. */
async function inOrder(sql: Sql, names: string[]): Promise<string[]> {
  const references = await sql<{ child: string; parent: string }[]>`
    select conrelid::regclass::text as child, confrelid::regclass::text as parent
    from pg_constraint where contype = 'f' and conparentid = 0 and conrelid <> confrelid`;
  const left = new Set(names);
  const ordered: string[] = [];
  while (left.size > 0) {
    const free = [...left].filter(
      (name) => !references.some(({ child, parent }) => child === name && left.has(parent)),
    );
    // A circle of references has no order.
    const next = free.length > 0 ? free : [...left];
    for (const name of next) {
      left.delete(name);
      ordered.push(name);
    }
  }
  return ordered;
}

/** The tables that are asked for, as the backup has them. */
function choose(tables: Table[], { tables: asked, user, ownerColumn }: ExtractOptions): Table[] {
  const chosen =
    asked === undefined
      ? tables.filter(({ owner, schema }) => owner !== null && !/^(ops|pgboss|cron)$/.test(schema))
      : asked.map((name) => {
          const table = tables.find((each) => each.name === name);
          if (table !== undefined) return table;
          throw new GwError(`the backup has no table ${name}`, {
            hint: 'Name it with its schema, such as app_public.tasks; a partitioned one by its own name.',
            exitCode: EXIT.usage,
          });
        });
  const without = chosen.find(({ owner }) => user !== undefined && owner === null);
  if (without === undefined) return chosen;
  throw new GwError(
    `${without.name} has no column ${ownerColumn}: nobody can tell whose a row is`,
    {
      exitCode: EXIT.usage,
    },
  );
}

/** Copies the rows of one table into a table of its own. */
async function copyRows(
  from: Sql,
  to: Sql,
  table: Table,
  { copy, columns, user }: { copy: string; columns: string[]; user: string | undefined },
): Promise<number> {
  const list = columns.map(quote).join(', ');
  const where =
    user === undefined
      ? ''
      : ` where ${quote(table.owner ?? '')} = '${user.replaceAll("'", "''")}'`;
  await to.unsafe(`create table ${copy} as select ${list} from ${table.name} with no data`);
  const read = await from
    .unsafe(`copy (select ${list} from ${table.name}${where}) to stdout`)
    .readable();
  const write = await to.unsafe(`copy ${copy} (${list}) from stdin`).writable();
  await pipeline(read, write);
  const [row] = await to.unsafe<{ rows: number }[]>(
    `select count(*)::integer as rows from ${copy}`,
  );
  return row?.rows ?? 0;
}

/**
 * Brings tables, or the rows of one user, out of a backup into a schema of their own beside the present
 * ones. Nothing that is there is changed.
 */
export async function extract(options: ExtractOptions): Promise<Extracted> {
  const { backup, url, user, progress, jobs } = options;
  const schema = `restored_${backup.manifest.id.slice(0, 8)}`;
  const [there] = await withSuperuser(
    url,
    (sql) => sql<{ exists: boolean; owner: string }[]>`
      select datdba::regrole::text as owner,
        exists (select from pg_namespace where nspname = ${schema}) as exists
      from pg_database where datname = current_database()`,
  );
  if (there?.exists === true) {
    throw new GwError(`there is a schema ${schema} already, of an earlier restore`, {
      hint: `When it is of no use any more: drop schema ${schema} cascade`,
      exitCode: EXIT.usage,
    });
  }
  const preloaded = "shared_preload_libraries = 'pg_stat_statements'";
  const scratch = await startScratch('none', { topic: 'extract', settings: [preloaded] });
  try {
    const source = changeUrl(scratch.superuserUrl, { database: trial });
    await restoreBackup({ backup, url: source, database: trial, jobs, progress });
    const search_path = 'pg_catalog, pg_temp';
    const from = connect(source, { connection: { search_path } });
    // What is made belongs to whoever owns the database, and nobody else may read it.
    const to = connect(url, { connection: { search_path, role: there?.owner ?? '' } });
    try {
      const chosen = choose([...(await tablesOf(from, options))], options);
      const present = new Map((await tablesOf(to, options)).map((table) => [table.name, table]));
      const tables: Extracted['tables'] = [];
      const statements = new Map<string, string>();
      await progress.step('rows', async (note) => {
        await to.unsafe(`create schema ${schema}`);
        for (const table of chosen) {
          const columns = present
            .get(table.name)
            ?.columns.filter((name) => table.columns.includes(name));
          // It is not there any more.
          if (columns === undefined) continue;
          note(table.name);
          const copy = `${schema}.${quote(table.bare)}`;
          const rows = await copyRows(from, to, table, { copy, columns, user });
          if (rows === 0) {
            await to.unsafe(`drop table ${copy}`);
            continue;
          }
          tables.push({ table: table.name, copy, rows });
          const list = columns.map(quote).join(', ');
          statements.set(
            table.name,
            `insert into ${table.name} (${list}) overriding system value select ${list} from ${copy} on conflict do nothing;`,
          );
        }
        return `${tables.reduce((sum, { rows }) => sum + rows, 0).toLocaleString('en-US')} rows of ${tables.length} tables`;
      });
      const order = await inOrder(to, [...statements.keys()]);
      return { schema, tables, statements: order.map((name) => statements.get(name) ?? '') };
    } catch (error) {
      await withSql(url, (sql) => sql.unsafe(`drop schema if exists ${schema} cascade`)).catch(
        () => {},
      );
      throw error;
    } finally {
      await Promise.all([from.end({ timeout: 1 }), to.end({ timeout: 1 })]);
    }
  } finally {
    await scratch.stop();
  }
}
