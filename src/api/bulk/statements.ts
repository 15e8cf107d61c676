import { type PgCodec, type PgResource, sqlValueWithCodec, TYPES } from 'postgraphile/@dataplan/pg';
import { type SQL, sql } from 'postgraphile/pg-sql2';

/** A table whose rows are written, and how. */
export interface Target {
  resource: PgResource;
  columns: Record<string, { codec: PgCodec }>;
  /** Those that a user may give to a new row, and those that it may change. */
  insertable: string[];
  updatable: string[];
  /** The columns by which a row is found, without the tenant's. */
  key: string[];
  /** Those of the primary key, which come back. */
  primaryKey: string[];
  tenantKey: string;
}

/** What is to be written: values by column; `undefined` is the column's default. */
export type Row = Record<string, unknown>;

export interface Change {
  key: Row;
  /** Absent for a row that is deleted. */
  values?: Row;
}

const name = (column: string): SQL => sql.identifier(column);
const names = (columns: readonly string[]): SQL => sql.join(columns.map(name), ', ');

function typed({ columns }: Target, column: string, value: unknown): SQL {
  const codec = columns[column]?.codec;
  if (codec === undefined) throw new Error(`there is no column ${column}`);
  return sqlValueWithCodec(value ?? null, codec);
}

const columnsOf = (rows: readonly Row[]): string[] =>
  [...new Set(rows.flatMap(Object.keys))].sort();

/** Inserts rows in one statement. What a row does not have is the column's default. */
export function insertRows(target: Target, rows: readonly Row[], onConflict: SQL = sql.blank): SQL {
  const { resource, primaryKey } = target;
  const given = columnsOf(rows);
  // Rows of nothing but defaults name one of them.
  const columns = given.length > 0 ? given : target.insertable.slice(0, 1);
  const cell = (row: Row, column: string): SQL =>
    Object.hasOwn(row, column) ? typed(target, column, row[column]) : sql`default`;
  const tuples = rows.map(
    (row) =>
      sql`(${sql.join(
        columns.map((column) => cell(row, column)),
        ', ',
      )})`,
  );
  const returned = sql`returning ${names(primaryKey)}`;
  return sql`insert into ${from(resource)} (${names(columns)}) values ${sql.join(tuples, ', ')} ${onConflict} ${returned}`;
}

/** A row that is there under the key is changed in place of inserted. */
export function upsertRow(target: Target, row: Row, caller: string | null): SQL {
  const { key, tenantKey } = target;
  const changed = Object.keys(row).filter((column) => target.updatable.includes(column));
  const set = sql.join(
    changed.map((column) => sql`${name(column)} = excluded.${name(column)}`),
    ', ',
  );
  const conflict = sql`on conflict (${names([tenantKey, ...key])})`;
  const action = changed.length > 0 ? sql`do update set ${set}` : sql`do nothing`;
  const written = insertRows(target, [row], sql`${conflict} ${action}`);
  if (changed.length > 0) return written;
  // Nothing comes back of a row that is left as it is.
  const found = sql.join(
    key.map((column) => sql`there.${name(column)} = ${typed(target, column, row[column])}`),
    ' and ',
  );
  return sql`with written as (${written})
    select * from written union all
    select ${sql.join(
      target.primaryKey.map((column) => sql`there.${name(column)}`),
      ', ',
    )}
    from ${from(target.resource)} as there
    where there.${name(tenantKey)} = ${sqlValueWithCodec(caller, TYPES.uuid)} and ${found}
      and not exists (select from written)`;
}

function from({ from: source }: PgResource): SQL {
  if (typeof source === 'function') throw new Error('a function has no rows to write');
  return source;
}

/**
 * Changes or deletes rows in one statement. Each that was found comes back with its place among
 * the changes, which counts from 0.
 */
export function changeRows(target: Target, changes: readonly Change[], caller: string | null): SQL {
  const { resource, key, primaryKey, tenantKey } = target;
  const columns = columnsOf(changes.map(({ values }) => values ?? {}));
  const given = changes.map(
    (change, place) =>
      sql`(${sql.join(
        [
          sql`${sql.literal(place)}::integer`,
          ...key.map((column) => typed(target, column, change.key[column])),
          ...columns.flatMap((column) => [
            sql`${Object.hasOwn(change.values ?? {}, column) ? sql`true` : sql`false`}`,
            typed(target, column, change.values?.[column]),
          ]),
        ],
        ', ',
      )})`,
  );
  // Names of columns could be those of the table.
  const [place, keys] = [sql`place_`, key.map((_, n) => sql.identifier(`key_${n}`))];
  const values = columns.map((_, n) => [sql.identifier(`has_${n}`), sql.identifier(`value_${n}`)]);
  const list = sql`(values ${sql.join(given, ', ')}) as given_ (${sql.join([place, ...keys, ...values.flat()], ', ')})`;
  const isFound = sql.join(
    [
      sql`there_.${name(tenantKey)} = ${sqlValueWithCodec(caller, TYPES.uuid)}`,
      ...key.map((column, n) => sql`there_.${name(column)} = given_.${keys[n] as SQL}`),
    ],
    ' and ',
  );
  const returned = sql`returning given_.place_, ${sql.join(
    primaryKey.map((column) => sql`there_.${name(column)}`),
    ', ',
  )}`;
  if (changes.every(({ values: none }) => none === undefined)) {
    return sql`delete from ${from(resource)} as there_ using ${list} where ${isFound} ${returned}`;
  }
  const set = sql.join(
    columns.map((column, n) => {
      const [has, value] = values[n] as [SQL, SQL];
      return sql`${name(column)} = case when given_.${has} then given_.${value} else there_.${name(column)} end`;
    }),
    ', ',
  );
  return sql`update ${from(resource)} as there_ set ${set} from ${list} where ${isFound} ${returned}`;
}
