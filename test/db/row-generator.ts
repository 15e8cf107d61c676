import type { Transaction } from '../../src/database/connect.ts';
import { codeOf, messageOf } from '../../src/errors.ts';

/** A table whose rows belong to users, and the column that says to whom. */
export interface OwnedTable {
  name: string;
  ownerColumn: string;
}

interface Column {
  name: string;
  type: string;
  /** The first value that a CHECK (column in (…)) allows. */
  allowed: string | null;
}

interface Reference {
  columns: string[];
  parent: string;
  parentColumns: string[];
  parentIsOwned: boolean;
}

/** SQL expressions for columns that their type says too little about. */
const taught: Record<string, string> = {
  'app_public.users.email': "gen_random_uuid() || '@example.com'",
  'app_public.integrations.provider': "'calendar'",
  'app_public.integrations.credential_reference': "'vault://users/calendar'",
};

/** SQL expressions by type. */
const byType: Record<string, string> = {
  uuid: 'gen_random_uuid()',
  text: "'x'",
  boolean: 'false',
  smallint: '1',
  integer: '1',
  bigint: '1',
  numeric: '1',
  real: '1',
  'double precision': '1',
  // A Monday, because some dates must be one.
  date: "date_trunc('week', now())::date",
  'timestamp with time zone': 'now()',
  'time without time zone': "time '09:00'",
  interval: "interval '1 day'",
  json: "json '{}'",
  jsonb: "jsonb '{}'",
  bytea: "bytea '\\x00'",
};

const quote = (value: unknown): string => `'${String(value).replaceAll("'", "''")}'`;

const teach = (what: string): Error =>
  new Error(`${what}. Teach test/db/row-generator.ts how to make such a row.`);

function expressionFor(table: string, column: Column): string {
  if (column.allowed !== null) return quote(column.allowed);
  if (column.type.endsWith('[]')) return `'{}'::${column.type}`;
  const dimensions = /vector\((\d+)\)$/.exec(column.type)?.[1];
  if (dimensions) return `array_fill(0.1::real, array[${dimensions}])::${column.type}`;
  const expression = byType[column.type.replace(/\(.*\)/, '')];
  if (expression) return expression;
  throw teach(`no value is known for ${table}.${column.name} of type ${column.type}`);
}

/** Every table of app_public whose rows belong to users. */
export async function ownedTables(sql: Transaction): Promise<OwnedTable[]> {
  return sql<OwnedTable[]>`
    select format('%I.%I', nspname, relname) as name, attname as "ownerColumn"
    from pg_class
    inner join pg_namespace on pg_namespace.oid = relnamespace
    inner join pg_attribute on attrelid = pg_class.oid
    where nspname = 'app_public'
      and relkind in ('r', 'p')
      and attname = case when relname = 'users' then 'id' else 'user_id' end
    order by 1`;
}

/** The columns that an insert must name, besides the owner's and those that are taught. */
async function requiredColumns(sql: Transaction, table: OwnedTable): Promise<Column[]> {
  return sql<Column[]>`
    select attname as name, format_type(atttypid, atttypmod) as type,
      (
        select substring(pg_get_constraintdef(pg_constraint.oid) from
          '^CHECK [(][(]' || attname || ' = ANY [(]ARRAY[[]''([^'']*)''')
        from pg_constraint
        where conrelid = attrelid and contype = 'c' and conkey = array[attnum]
        order by 1
        limit 1
      ) as allowed
    from pg_attribute
    where attrelid = ${table.name}::regclass
      and attnum > 0
      and not attisdropped
      and attnotnull
      and not atthasdef
      and attidentity = ''
      and attname <> ${table.ownerColumn}
    order by attnum`;
}

async function references(sql: Transaction, table: OwnedTable): Promise<Reference[]> {
  return sql<Reference[]>`
    select confrelid::regclass::text as parent,
      (select array_agg(attname::text order by place)
        from unnest(conkey) with ordinality as key (attnum, place)
        inner join pg_attribute using (attnum) where attrelid = conrelid) as columns,
      (select array_agg(attname::text order by place)
        from unnest(confkey) with ordinality as key (attnum, place)
        inner join pg_attribute using (attnum) where attrelid = confrelid) as "parentColumns",
      confrelid in (select attrelid from pg_attribute where attname = 'user_id')
        as "parentIsOwned"
    from pg_constraint
    where conrelid = ${table.name}::regclass and contype = 'f' and conparentid = 0`;
}

/** The values of columns that must name a row elsewhere; makes that row when it is a user's. */
async function referencedValues(
  sql: Transaction,
  reference: Reference,
  userId: string,
): Promise<Map<string, string>> {
  const parent = { name: reference.parent, ownerColumn: 'user_id' };
  if (reference.parentIsOwned) await insertRow(sql, parent, userId);
  const where = reference.parentIsOwned ? `where user_id = ${quote(userId)}` : '';
  const [row] = await sql.unsafe(`select * from ${reference.parent} ${where} limit 1`);
  if (!row) throw teach(`${reference.parent} has no row to refer to`);
  return new Map(
    reference.columns.map((column, index) => [
      column,
      quote(row[reference.parentColumns[index] as string]),
    ]),
  );
}

/** The statement that makes a row of a user's, from the catalogue. */
export async function rowStatement(
  sql: Transaction,
  table: OwnedTable,
  userId: string,
): Promise<string> {
  const required = await requiredColumns(sql, table);
  const values = new Map([[table.ownerColumn, `${quote(userId)}::uuid`]]);
  for (const reference of await references(sql, table)) {
    if (!required.some(({ name }) => reference.columns.includes(name))) continue;
    for (const [column, value] of await referencedValues(sql, reference, userId)) {
      if (!values.has(column)) values.set(column, value);
    }
  }
  for (const [path, expression] of Object.entries(taught)) {
    const column = path.slice(table.name.length + 1);
    if (path === `${table.name}.${column}`) values.set(column, expression);
  }
  for (const column of required) {
    if (!values.has(column.name)) values.set(column.name, expressionFor(table.name, column));
  }
  return `insert into ${table.name} (${[...values.keys()].join(', ')})
    values (${[...values.values()].join(', ')})`;
}

/**
 * Makes a row of a user's in a table, and the rows that it refers to.
 *
 * @throws saying what to teach this generator when it cannot
 */
export async function insertRow(
  sql: Transaction,
  table: OwnedTable,
  userId: string,
): Promise<void> {
  const statement = await rowStatement(sql, table, userId);
  await sql
    .savepoint((inner) => inner.unsafe(statement))
    .catch((error: unknown) => {
      // A trigger may have made the one row that a user can have. Not "on conflict": a table
      // with a deferrable constraint does not know it.
      if (codeOf(error) === '23505') return;
      throw teach(`cannot make a row of ${table.name}: ${messageOf(error)}\n${statement}`);
    });
}
