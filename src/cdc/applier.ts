import { GwError, messageOf } from '../errors.ts';
import { type Change, type Transaction, toCalls } from './changes.ts';
import { isLockConflict, isTransient } from './failures.ts';
import { type Link, locks, pause } from './link.ts';
import { formatLsn, parseLsn } from './lsn.ts';

/** What one call gets at most: larger transactions are applied piece by piece. */
export const pieceSize = 10_000;

type Head = Pick<Transaction, 'commitLsn' | 'committedAt' | 'xid'>;

/** Hands changes to the database and knows how far they are. */
export class Applier {
  readonly #apply: Link;
  readonly #control: Link;
  readonly #slot: string;
  #applied: bigint;
  #open = false;

  /**
   * @param apply changes go through it
   * @param control asked while waiting
   */
  constructor(apply: Link, control: Link, slot: string, applied: bigint) {
    this.#apply = apply;
    this.#control = control;
    this.#slot = slot;
    this.#applied = applied;
  }

  /** Everything that was committed before this is stored. */
  get applied(): bigint {
    return this.#applied;
  }

  /**
   * Applies whole transactions in one of ours, and each by itself when that fails, so that
   * the error names the one at fault and those before it are stored.
   *
   * @throws GwError when one cannot be applied; whatever the connection throws
   */
  async applyAll(transactions: Transaction[]): Promise<void> {
    try {
      await this.#applyTogether(transactions);
    } catch (error) {
      if (isTransient(error)) throw error;
      const [first] = transactions;
      if (transactions.length === 1 && first) throw this.#explain(error, first);
      for (const transaction of transactions) await this.applyAll([transaction]);
    }
  }

  /** Begins or continues a transaction that is too large to be held in memory. */
  async applyPiece(head: Head, changes: Change[]): Promise<void> {
    try {
      while (!this.#open) {
        await this.#apply.query('begin');
        const hold = await this.#call(null, head, '{}');
        this.#open = hold === null;
        if (hold === null) break;
        await this.#apply.query('rollback');
        await this.#waitAt(hold, head.commitLsn);
      }
      for (const json of toCalls(changes, [head.xid])) await this.#call(null, head, json);
    } catch (error) {
      throw isTransient(error) ? error : this.#explain(error, head);
    }
  }

  /** Ends what applyPiece() began. */
  async finishPieces(transaction: Transaction): Promise<void> {
    await this.applyPiece(transaction, transaction.changes);
    await this.#call(transaction.endLsn, transaction, '{}');
    await this.#apply.query('commit');
    this.#open = false;
    this.#applied = transaction.endLsn;
  }

  async #applyTogether(transactions: Transaction[]): Promise<void> {
    const last = transactions.at(-1);
    if (last === undefined) return;
    const calls = toCalls(
      transactions.flatMap(({ changes }) => changes),
      transactions.map(({ xid }) => xid),
    );
    const hold = await this.#commit(last, calls);
    if (hold === null) {
      this.#applied = last.endLsn;
      return;
    }
    const isBefore = ({ commitLsn }: Transaction): boolean => commitLsn < parseLsn(hold);
    const before = transactions.filter(isBefore);
    if (before.length > 0) await this.#applyTogether(before);
    const [next, ...rest] = transactions.slice(before.length);
    if (next === undefined) return;
    await this.#waitAt(hold, next.commitLsn);
    await this.#applyTogether([next, ...rest]);
  }

  /** @returns the position at which to wait, when nothing was done */
  async #commit(last: Transaction, calls: string[]): Promise<string | null> {
    for (;;) {
      try {
        // One call is a transaction by itself.
        if (calls.length === 1) return await this.#call(last.endLsn, last, calls[0] ?? '{}');
        await this.#apply.query('begin');
        for (const json of calls) {
          const hold = await this.#call(null, last, json);
          if (hold === null) continue;
          await this.#apply.query('rollback');
          return hold;
        }
        await this.#call(last.endLsn, last, '{}');
        await this.#apply.query('commit');
        return null;
      } catch (error) {
        if (calls.length > 1) await this.#apply.query('rollback');
        if (!isLockConflict(error)) throw error;
        await pause(50);
      }
    }
  }

  async #call(to: bigint | null, head: Head | null, json: string): Promise<string | null> {
    const { rows } = await this.#apply.query<{ hold: string | null }>({
      name: 'apply',
      text: 'select app_private.apply_changes($1, $2, $3, $4, $5, $6) as hold',
      values: [
        this.#slot,
        formatLsn(this.#applied),
        to === null ? null : formatLsn(to),
        head === null ? null : formatLsn(head.commitLsn),
        head?.committedAt ?? null,
        json,
      ],
    });
    return rows[0]?.hold ?? null;
  }

  /** Waits while `gw cdc reconcile` compares, having said that we are where it wants us. */
  async #waitAt(hold: string, next: bigint): Promise<void> {
    let position: string | null = hold;
    while (position !== null && parseLsn(position) <= next) {
      const at = parseLsn(position);
      if (at > this.#applied) {
        // What was committed before it is applied; what comes next was committed after.
        await this.#call(at, null, '{}');
        this.#applied = at;
      }
      await pause(20);
      // A reconcile that died left its hold. With its lock no other can begin meanwhile, whose
      // hold would be lifted instead.
      await this.#control.query(
        `select app_private.hold_capture($1, null)
         from (select pg_try_advisory_xact_lock($2, $3) as is_alone) as reconcile
         where is_alone`,
        [this.#slot, ...locks.reconcile],
      );
      const { rows } = await this.#control.query<{ hold_lsn: string | null }>(
        'select hold_lsn from ops.change_capture where slot_name = $1',
        [this.#slot],
      );
      position = rows[0]?.hold_lsn ?? null;
    }
  }

  #explain(error: unknown, { commitLsn, committedAt }: Omit<Head, 'xid'>): GwError {
    const where = `committed at ${formatLsn(commitLsn)}, ${committedAt}`;
    const hint = error instanceof GwError ? error.hint : (error as { hint?: string }).hint;
    return new GwError(`the transaction ${where} cannot be applied: ${messageOf(error)}`, {
      hint: hint ?? 'Correct what refuses it and start again, or: npm run gw -- cdc resnapshot',
      cause: error,
    });
  }
}
