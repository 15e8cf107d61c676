import type { Log } from '../log.ts';
import { isLockConflict } from './failures.ts';
import type { CaptureFigures } from './figures.ts';
import type { Link } from './link.ts';
import { formatLsn, parseLsn } from './lsn.ts';

export interface RecountOptions {
  /** Changes go through it, and slices between them. */
  apply: Link;
  slot: string;
  figures: CaptureFigures;
  log: Log;
}

/** How often it says how far it is. */
const sayMs = 5_000;

/** How long to wait for transactions that are not visible yet, or for a lock. */
const retryMs = 100;

interface State {
  counted_below: string | null;
  counted_until: string | null;
}

/**
 * Counts everything anew beside the log, users by users: each slice is a transaction of its
 * own, and the next one begins when the log of the last has been read. So the slot never holds
 * more than a slice, and who dies goes on where the database says it was.
 */
export class Recount {
  readonly #options: RecountOptions;
  #isCounting: boolean;
  /** What is to be read before the next slice, or before it is over. */
  #until: bigint;
  #isOver: boolean;
  #isWaiting = false;
  #saidAt = Date.now();

  private constructor(options: RecountOptions, isOver: boolean, state: State | undefined) {
    this.#options = options;
    this.#isOver = isOver;
    this.#isCounting = !isOver && state?.counted_below != null;
    this.#until = parseLsn(state?.counted_until ?? '0/0');
    if (!isOver) options.figures.state = 'counting';
  }

  /** Where it stands: nothing is to be done when none is under way. */
  static async resume(options: RecountOptions): Promise<Recount> {
    const { rows } = await options.apply.query<State>(
      `select counted_below, counted_until
       from ops.change_capture
       where slot_name = $1
         and snapshot_started_at is not null`,
      [options.slot],
    );
    return new Recount(options, rows.length === 0, rows[0]);
  }

  /** Milliseconds until it wants to be asked again, whatever the log says. */
  get patienceMs(): number | undefined {
    return this.#isWaiting ? retryMs : undefined;
  }

  /**
   * Counts the next slice when it is time for it. To be called when nothing is half applied.
   *
   * @param applied what is read and stored
   */
  async step(applied: bigint): Promise<void> {
    if (this.#isOver || applied < this.#until) return;
    const { apply, slot, log, figures } = this.#options;
    if (!this.#isCounting) {
      this.#isOver = true;
      figures.state = 'reading';
      log.info(
        { slot, lsn: formatLsn(applied), ...(await this.#progress()) },
        'counted everything',
      );
      return;
    }
    const slice = await apply
      .query<{ is_last: boolean; until: string }>(
        'select is_last, until from app_private.capture_slice($1, $2)',
        [slot, formatLsn(applied)],
      )
      .catch((error: unknown) => {
        if (!isLockConflict(error)) throw error;
        return { rows: [] };
      });
    const [row] = slice.rows;
    this.#isWaiting = row === undefined;
    if (row !== undefined) {
      this.#isCounting = !row.is_last;
      this.#until = parseLsn(row.until);
    }
    if (Date.now() - this.#saidAt < sayMs) return;
    this.#saidAt = Date.now();
    const text = this.#isWaiting ? 'counting waits for transactions that run' : 'counting';
    log.info({ slot, ...(await this.#progress()) }, text);
  }

  async #progress() {
    const { rows } = await this.#options.apply.query<{
      users: number;
      counted: number;
      remaining_seconds: number | null;
    }>(
      `select capture.snapshot_users::integer as users, capture.counted_users::integer as counted,
         round(status.remaining_seconds::numeric)::integer as remaining_seconds
       from ops.change_capture as capture
       inner join ops.change_capture_status as status using (slot_name)
       where slot_name = $1`,
      [this.#options.slot],
    );
    const { users, counted, remaining_seconds: remainingSeconds } = rows[0] ?? {};
    return { users, counted, remainingSeconds: remainingSeconds ?? undefined };
  }
}
