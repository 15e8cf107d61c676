import { type Applier, pieceSize } from './applier.ts';
import type { Transaction } from './changes.ts';
import type { CaptureFigures } from './figures.ts';
import type { Decoder, ReplicationMessage } from './protocol.ts';
import type { Recount } from './recount.ts';
import type { Relations } from './relations.ts';
import type { ReplicationStream } from './stream.ts';
import type { Witness } from './timeline.ts';

export interface ReaderOptions {
  stream: ReplicationStream;
  decoder: Decoder;
  relations: Relations;
  applier: Applier;
  recount: Recount;
  figures: CaptureFigures;
  witness: Witness;
  /** Called when something is stored. */
  onProgress: () => void;
}

/** Takes what the log says, transaction by transaction, and hands it on in batches. */
export class Reader {
  readonly #options: ReaderOptions;
  #batch: Transaction[] = [];
  #size = 0;
  #current: Transaction | undefined;
  /** Whether a part of the current transaction is with the database, which is inside of it. */
  #inPieces = false;

  constructor(options: ReaderOptions) {
    this.#options = options;
  }

  /**
   * Reads what has come, or waits for it.
   *
   * @throws whatever breaks the connections; GwError when a change cannot be applied
   */
  async turn(): Promise<void> {
    const { stream, decoder, recount, applier } = this.#options;
    for (const frame of await stream.read(recount.patienceMs)) {
      const message = decoder.decode(frame);
      if (message !== undefined) await this.#take(message);
      if (this.#size >= pieceSize) await this.#flush();
    }
    await this.#flush();
    if (!this.#inPieces) await recount.step(applier.applied);
  }

  async #take(message: ReplicationMessage): Promise<void> {
    const { applier, relations, witness } = this.#options;
    if (message.kind === 'begin') {
      const { commitLsn, committedAt, xid } = message;
      this.#current = { commitLsn, committedAt, xid, endLsn: 0n, changes: [] };
      return;
    }
    const current = this.#current;
    // Applied before: the server repeats what was not confirmed in time.
    if (current === undefined || current.commitLsn < applier.applied) return;
    if (message.kind !== 'commit') {
      current.changes.push(...(await relations.toChanges(message)));
      if (current.changes.length >= pieceSize) await this.#applyPiece(current);
      return;
    }
    current.endLsn = message.endLsn;
    witness.note(message.endLsn, current.committedAt);
    if (this.#inPieces) {
      await this.#finishPieces(current);
    } else if (current.changes.length > 0) {
      this.#batch.push(current);
      this.#size += current.changes.length;
    }
    this.#current = undefined;
  }

  async #flush(): Promise<void> {
    const { applier, figures } = this.#options;
    const [batch, size] = [this.#batch, this.#size];
    if (batch.length === 0) return;
    const began = performance.now();
    await applier.applyAll(batch);
    figures.applied({
      transactions: batch.length,
      changes: size,
      committedAt: batch.at(-1)?.committedAt ?? '',
      ms: performance.now() - began,
    });
    [this.#batch, this.#size] = [[], 0];
    this.#confirm();
  }

  async #applyPiece(current: Transaction): Promise<void> {
    const { applier, figures } = this.#options;
    await this.#flush();
    const began = performance.now();
    this.#inPieces = true;
    await applier.applyPiece(current, current.changes);
    figures.applied({
      transactions: 0,
      changes: current.changes.length,
      committedAt: '',
      ms: performance.now() - began,
    });
    current.changes = [];
  }

  async #finishPieces(current: Transaction): Promise<void> {
    const { applier, figures } = this.#options;
    const began = performance.now();
    const { committedAt, changes } = current;
    await applier.finishPieces(current);
    this.#inPieces = false;
    // The pieces before were counted by their own time.
    const ms = performance.now() - began;
    figures.applied({ transactions: 1, changes: changes.length, committedAt, ms });
    this.#confirm();
  }

  #confirm(): void {
    const { stream, applier, onProgress } = this.#options;
    stream.confirm(applier.applied);
    onProgress();
  }
}
