import type { Sql, Transaction } from './connect.ts';

/** Thrown inside a transaction to take it back. */
const takeBack = Symbol('take back');

/**
 * Does something in a transaction that is rolled back: what a dry run says is what the act
 * itself says. Statements inside must not commit by themselves.
 *
 * @returns what the work resolved with
 */
export async function takenBack<Result>(
  sql: Sql,
  work: (transaction: Transaction) => Promise<Result>,
): Promise<Result> {
  let done: { result: Result } | undefined;
  await sql
    .begin(async (transaction) => {
      done = { result: await work(transaction) };
      throw takeBack;
    })
    .catch((error: unknown) => {
      if (error !== takeBack) throw error;
    });
  if (done === undefined) throw new Error('a transaction that was taken back did nothing');
  return (done as { result: Result }).result;
}
