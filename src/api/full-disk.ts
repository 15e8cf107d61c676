/*
 * Whether a write was refused a moment ago because the disk is full. Nothing that only reads
 * notices, so what a request met is remembered for readiness.
 */

/** How long one refusal counts: writes that are sent here again say the same, or go on. */
const memoryMs = 10_000;

let refusedAt = Number.NEGATIVE_INFINITY;

export function noteFullDisk(): void {
  refusedAt = performance.now();
}

export const isDiskFull = (): boolean => performance.now() - refusedAt < memoryMs;
