import type { PgClient } from 'postgraphile/@dataplan/pg';
import { SafeError } from 'postgraphile/grafast';
import { type SQL, sql } from 'postgraphile/pg-sql2';
import { codeOf } from '../../errors.ts';
import { refusals } from '../errors.ts';
import type { Row } from './statements.ts';

/** One of many rows that could not be written. */
export interface RowFailure {
  /** Its place in the input, from 0. */
  index: number;
  row: Row;
  cause: Error;
}

/** Why many rows were not written: none of them was. */
export class BulkError extends Error {
  readonly failures: readonly RowFailure[];

  constructor(failures: readonly RowFailure[]) {
    super('no row was written');
    this.failures = failures;
  }
}

export interface Written extends Row {
  /** The place of the row that was changed; an insert says nothing of it. */
  place_?: number;
}

/** Faults of a row: another one may be right. What else fails, such as a timeout, fails for all. */
const isOfRow = (error: unknown): boolean => /^(22|23|42501|GW)/.test(codeOf(error) ?? '');

const run = (client: PgClient, statement: SQL) => {
  const { text, values } = sql.compile(statement);
  return client.query<Written>({ text, values: [...values] });
};
const say = (client: PgClient, text: string) => client.query({ text });

export interface Work {
  /** The rows as they were given, for messages. */
  rows: readonly Row[];
  /** The statement that writes some of them, all in one or one alone. */
  statement: (indices: readonly number[]) => SQL;
  /** Whether a row that is not found is a fault. */
  mustFind: boolean;
}

/**
 * Writes rows in one statement of the client's transaction. When it fails, each row is tried alone,
 * only to say which of them are wrong and why; nothing of that stays.
 *
 * @throws BulkError
 */
export async function writeRows(client: PgClient, work: Work): Promise<Written[]> {
  const { rows, statement, mustFind } = work;
  const all = rows.map((_, index) => index);
  await say(client, 'savepoint bulk');
  try {
    const { rows: written } = await run(client, statement(all));
    const places = new Set(written.map(({ place_: place }) => place));
    const lost = mustFind ? all.filter((index) => !places.has(index)) : [];
    if (lost.length > 0) throw new BulkError(lost.map((index) => notFound(rows, index)));
    return mustFind
      ? [...written].sort((one, other) => Number(one.place_) - Number(other.place_))
      : [...written];
  } catch (error) {
    if (!isOfRow(error)) throw error;
    await say(client, 'rollback to savepoint bulk');
    const failures = await findFailures(client, work);
    const [first] = rows;
    if (failures.length > 0 || first === undefined) throw new BulkError(failures);
    // Wrong together, and right one by one.
    throw error;
  }
}

const notFound = (rows: readonly Row[], index: number): RowFailure => ({
  ...{ index, row: rows[index] ?? {} },
  cause: new SafeError(refusals.notFound, { code: 'NOT_FOUND' }),
});

async function findFailures(client: PgClient, { rows, statement, mustFind }: Work) {
  const failures: RowFailure[] = [];
  for (const [index, row] of rows.entries()) {
    await say(client, 'savepoint one_row');
    try {
      const { rows: written } = await run(client, statement([index]));
      if (mustFind && written.length === 0) failures.push(notFound(rows, index));
      await say(client, 'release savepoint one_row');
    } catch (error) {
      if (!isOfRow(error)) throw error;
      await say(client, 'rollback to savepoint one_row');
      failures.push({ index, row, cause: error as Error });
    }
  }
  return failures;
}
