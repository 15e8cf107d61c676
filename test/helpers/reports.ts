import { expect } from 'vitest';
import type { Transaction } from '../../src/postgres/connect.ts';
import {
  readOnly,
  readSqlFiles,
  runSqlFile,
  type SqlFile,
  setParams,
} from '../../src/postgres/sql-files.ts';
import { rolledBack, type TestDatabase } from './database.ts';

export type Row = Record<string, unknown>;
type Params = Record<string, string>;

/** Whether a row has these values. */
export const row = (values: Row) => expect.objectContaining(values);

const files = readSqlFiles('reports');

/** What a report says in a transaction. */
async function rowsIn(sql: Transaction, name: string, params: Params = {}): Promise<Row[]> {
  const file = files.find((each) => each.name === name) as SqlFile;
  await setParams(sql, 'report', new Map(Object.entries(params)));
  const answer = await runSqlFile(sql, file);
  if ('needs' in answer) throw new Error(`${name} needs ${answer.needs}`);
  return answer.rows;
}

/** The reports of a database, asked as monitoring does. */
export const useReports = (db: TestDatabase) => ({
  rowsIn,

  /** What a report says of what is committed. */
  rows: (name: string, params?: Params): Promise<Row[]> =>
    readOnly(db.url('monitor'), 'test', (sql) => rowsIn(sql, name, params)),

  /** The same of what a superuser does in a transaction that is rolled back. */
  async rowsAfter(statements: string, name: string, params?: Params): Promise<Row[]> {
    let found: Row[] = [];
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql.unsafe(statements);
      await sql`set local search_path = pg_catalog`;
      await sql`set local role gw_monitor`;
      found = await rowsIn(sql, name, params);
    });
    return found;
  },
});
