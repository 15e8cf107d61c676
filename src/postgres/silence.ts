/**
 * Resolves after the event loop has read what has arrived. Timers come first in its turn, so after a
 * pause of the process a time that is over says nothing of the other side.
 */
export const afterReading = async (): Promise<void> => {
  for (let turn = 0; turn < 3; turn += 1) {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
};

/** Into so many parts a time is cut; of a pause of the process two count. */
const parts = 20;

/**
 * A time that passes only while this process runs. One that stood still, with its machine or by a
 * signal, has not waited meanwhile: what it had asked for may not even have left it.
 */
export class RunningTime {
  readonly #timer: NodeJS.Timeout;
  #isStopped = false;

  /** @param act called once, when the time is over, what has arrived was read, and nobody stopped it */
  constructor(milliseconds: number, act: () => void) {
    const part = milliseconds / parts;
    let [before, passed] = [performance.now(), 0];
    this.#timer = setInterval(() => {
      const now = performance.now();
      passed += Math.min(now - before, 2 * part);
      before = now;
      if (passed < milliseconds) return;
      clearInterval(this.#timer);
      void afterReading().then(() => {
        if (!this.#isStopped) act();
      });
    }, part);
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
  }
}

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
