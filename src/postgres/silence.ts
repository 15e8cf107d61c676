/**
 * Resolves after the event loop has read what has arrived. Timers come first in its turn, so after a
 * pause of the process a time that is over says nothing of the other side.
 */
export const afterReading = async (): Promise<void> => {
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
};

/**
 * The server does not answer, and has not ended the connection either: a host that lost its power
 * ends none.
 */
export class Silence extends Error {
  readonly code = 'ETIMEDOUT';

  constructor(milliseconds: number) {
    super(`the server said nothing for ${milliseconds / 1_000} s`);
  }
}
