import type { Sql, Transaction } from '../../src/postgres/connect.ts';

export interface Policy {
  retention?: string | null;
  action?: 'detach' | 'drop';
  backup?: boolean;
}

/** A table with a partition for each of the last six days and today, and a row in each. */
export async function createAged(sql: Sql | Transaction, name: string, policy: Policy = {}) {
  const { retention = '2 days', action = 'detach', backup = false } = policy;
  await sql.unsafe(`
    create table ops.${name} (at timestamptz not null, note text) partition by range (at);
    create table app_partitions.${name}_default partition of ops.${name} default;
  `);
  await sql`
    insert into ops.partition_policies
      (parent_table, step, premake, retention, retention_action, require_backup)
    values (${`ops.${name}`}::text::regclass, '1 day', 1, ${retention}, ${action}, ${backup})`;
  await sql`
    select ops.create_range_partition(${`ops.${name}`}::text::regclass,
      now() - make_interval(days => age), '1 day')
    from generate_series(0, 6) as age`;
  await sql.unsafe(`
    insert into ops.${name} select now() - make_interval(days => age), 'day ' || age
    from generate_series(0, 6) as age`);
}

/** The name of the partition that held what is some days old. */
export async function partition(
  sql: Sql | Transaction,
  name: string,
  age: number,
): Promise<string> {
  const [row] = await sql`
    select to_char(now() - make_interval(days => ${age}), 'YYYYMMDD') as day`;
  return `app_partitions.${name}_p${row?.day}`;
}

export const notes = async (sql: Sql | Transaction, table: string): Promise<string[]> =>
  (await sql.unsafe(`select note from ${table} order by note`)).map(({ note }) => note);

export async function prune(sql: Sql | Transaction): Promise<number> {
  const [row] = await sql`select ops.prune_partitions() as pruned`;
  return row?.pruned;
}

export async function dropDetached(sql: Sql | Transaction): Promise<number> {
  const [row] = await sql`select ops.drop_detached_partitions() as dropped`;
  return row?.dropped;
}

export const exists = async (sql: Sql | Transaction, name: string): Promise<boolean> =>
  (await sql`select to_regclass(${name}) is not null as found`)[0]?.found;

export interface Event {
  event: string;
  name: string;
  reason: string | null;
}

/** What was recorded of a table's partitions besides their creation, in order. */
export const events = async (sql: Sql | Transaction, name: string): Promise<Event[]> => [
  ...(await sql<Event[]>`
    select event, partition_name as name, reason from ops.partition_events
    where parent_table = ${`ops.${name}`} and event <> 'created'
    order by id`),
];
