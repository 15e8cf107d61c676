import type { Transaction } from '../../src/postgres/connect.ts';

/**
 * Inserts a row whose values are written as PostgreSQL reads them. Bound parameters cannot
 * say 'infinity' or '24:00': the driver turns dates and booleans into JavaScript's first.
 *
 * @returns 'accepted', or SQLSTATE and name of the constraint that refuses it
 */
export async function insertText(
  sql: Transaction,
  table: string,
  columns: Record<string, string | null>,
): Promise<string> {
  const values = Object.values(columns).map((value) =>
    value === null ? 'null' : `'${value.replaceAll("'", "''")}'`,
  );
  return sql
    .savepoint(async (inner) => {
      await inner.unsafe(
        `insert into ${table} (${Object.keys(columns).join(', ')}) values (${values.join(', ')})`,
      );
      return 'accepted';
    })
    .catch((error: { code?: string; constraint_name?: string; message: string }) =>
      error.constraint_name ? `${error.code} ${error.constraint_name}` : error.message,
    );
}
