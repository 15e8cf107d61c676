import process from 'node:process';
import { humanBytes, humanSeconds } from '../../terminal/values.ts';

/** Says how far long work is, how quick, and how long it still takes. */
export class ByteProgress {
  readonly #total: number;
  readonly #note: (text: string) => void;
  readonly #began = Date.now();
  #done = 0;
  #saidAt = Date.now();

  constructor(total: number, note: (text: string) => void) {
    this.#total = total;
    this.#note = note;
  }

  /** More was done. */
  add(bytes: number): void {
    this.set(this.#done + bytes);
  }

  /** So much is done by now. */
  set(bytes: number): void {
    this.#done = Math.max(Math.min(bytes, this.#total), this.#done);
    const now = Date.now();
    // A log gets a line each ten seconds, a terminal the same line again.
    if (now - this.#saidAt < (process.stderr.isTTY ? 200 : 10_000)) return;
    this.#saidAt = now;
    this.#note(this.#text((now - this.#began) / 1_000));
  }

  #text(seconds: number): string {
    const of = `${humanBytes(this.#done)} of ${humanBytes(this.#total)}`;
    if (seconds < 1 || this.#done === 0) return of;
    const rate = this.#done / seconds;
    const left = humanSeconds(Math.round((this.#total - this.#done) / rate));
    return `${of}, ${humanBytes(rate)}/s, ${left} left`;
  }
}
