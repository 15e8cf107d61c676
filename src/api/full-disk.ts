/** How long one refusal counts: writes that are sent here again say the same, or go on. */
const memoryMs = 10_000;

/**
 * Whether a write was refused a moment ago because the disk is full. Nothing that only reads
 * notices, so what a request met is remembered for readiness.
 */
export class FullDisk {
  #refusedAt = Number.NEGATIVE_INFINITY;

  /** A write was refused just now. */
  note(): void {
    this.#refusedAt = performance.now();
  }

  get isFull(): boolean {
    return performance.now() - this.#refusedAt < memoryMs;
  }
}
