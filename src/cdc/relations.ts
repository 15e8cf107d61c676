import { GwError } from '../errors.ts';
import { type Change, captured, type Row, signalTable, type Table } from './changes.ts';
import type { Link } from './link.ts';
import { type ReplicationMessage, unchanged } from './protocol.ts';

type RowMessage = ReplicationMessage & { kind: 'row' };

const tables = Object.keys(captured) as Table[];

/**
 * Knows which relations of the log are ours: wal2json names partitions, which come and go
 * while we read. The catalogue says it, never the names of columns. When the partitions have
 * changed, everything is counted anew: what a table had before it was attached is not in the log.
 */
export class Relations {
  readonly #client: Link;
  #tables = new Map<string, { table: Table; quoted: string }>();
  readonly #foreign = new Set<string>();

  constructor(client: Link) {
    this.#client = client;
  }

  async load(): Promise<void> {
    const { rows } = await this.#client.query<{ name: string; quoted: string; root: string }>(
      `select pg_namespace.nspname || '.' || pg_class.relname as name,
         format('%I.%I', pg_namespace.nspname, pg_class.relname) as quoted,
         roots.name as root
       from unnest($1::text[]) as roots (name)
       cross join lateral (
         select relid from pg_partition_tree(roots.name::regclass)
         union
         select roots.name::regclass
       ) as tree
       inner join pg_class on pg_class.oid = tree.relid
       inner join pg_namespace on pg_namespace.oid = pg_class.relnamespace`,
      [tables.map((table) => captured[table].root)],
    );
    this.#tables = new Map(
      rows.flatMap(({ name, quoted, root }) => {
        const table = tables.find((candidate) => captured[candidate].root === root);
        return table === undefined ? [] : [[name, { table, quoted }]];
      }),
    );
  }

  /** Tables that are not ours now. */
  async ignored(): Promise<{ schema: string; name: string }[]> {
    const { rows } = await this.#client.query<{ schema: string; name: string }>(
      `select pg_namespace.nspname as schema, pg_class.relname as name
       from pg_class
       inner join pg_namespace on pg_namespace.oid = pg_class.relnamespace
       where pg_class.relkind = 'r'
         and pg_class.relpersistence = 'p'
         and pg_namespace.nspname not in ('pg_catalog', 'information_schema')
         and pg_namespace.nspname || '.' || pg_class.relname <> all ($1::text[])
       order by 1, 2`,
      [[...this.#tables.keys(), signalTable]],
    );
    return rows;
  }

  /**
   * What a message of a plugin changes of ours.
   *
   * @throws GwError when it cannot be understood, which must not be passed over
   */
  async toChanges(message: ReplicationMessage & { kind: 'row' | 'truncate' }): Promise<Change[]> {
    if (message.kind === 'truncate') {
      const changes: Change[] = [];
      for (const relation of message.relations) {
        const found = await this.#find(relation);
        if (found) changes.push({ kind: 'truncated', table: found.table, object: found.quoted });
      }
      return changes;
    }
    if (message.relation === signalTable) return this.#signal(message);
    const found = await this.#find(message.relation);
    return found === undefined ? [] : toRowChanges(found.table, message);
  }

  #signal({ after }: RowMessage): Change[] {
    if (after === undefined) return [];
    if (after.kind !== 'truncated') return [{ kind: 'heartbeat' }];
    return [{ kind: 'truncated', table: 'tasks', object: String(after.object) }];
  }

  async #find(relation: string) {
    const known = this.#tables.get(relation);
    if (known !== undefined || this.#foreign.has(relation)) return known;
    await this.load();
    const found = this.#tables.get(relation);
    if (found === undefined) this.#foreign.add(relation);
    return found;
  }
}

function pick(row: Row, names: string[], table: Table): Row {
  const picked: Row = {};
  for (const name of names) {
    const value = row[name];
    if (value === undefined || value === unchanged) {
      throw new GwError(`a change of ${captured[table].root} comes without ${name}`, {
        hint: 'Was the column renamed or dropped? The replica identity must be the primary key.',
      });
    }
    picked[name] = value;
  }
  return picked;
}

function toRowChanges(table: Table, { after, before }: RowMessage): Change[] {
  const { key, columns } = captured[table];
  if (after === undefined) {
    return [{ kind: 'deleted', table, row: pick(before ?? {}, key, table) }];
  }
  const written: Change = { kind: 'written', table, row: pick(after, columns, table) };
  if (before === undefined) return [written];
  const old = pick(before, key, table);
  if (key.every((name) => old[name] === written.row[name])) return [written];
  return [{ kind: 'deleted', table, row: old }, written];
}
