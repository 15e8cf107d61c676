import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { SafeError } from 'postgraphile/grafast';
import { refusals } from './errors.ts';

interface Waiter {
  weight: number;
  start: () => void;
  refuse: (error: Error) => void;
}

/** So many of one caller wait; more are refused at once. */
const longestLine = 100;

/** What waits does so no longer for the sake of others, in milliseconds. */
const longestRest = 500;

/** Waiting lines, one for each caller, served in rotation: nobody waits behind many of one. */
class Lines {
  readonly #lines = new Map<string, Waiter[]>();

  add(key: string, waiter: Waiter): void {
    const line = this.#lines.get(key);
    if (line !== undefined && line.length >= longestLine) {
      waiter.refuse(new SafeError(refusals.tooManyAtOnce, { code: 'RATE_LIMITED' }));
    } else if (line === undefined) this.#lines.set(key, [waiter]);
    else line.push(waiter);
  }

  get first(): Waiter | undefined {
    for (const [first] of this.#lines.values()) return first;
    return undefined;
  }

  /** Takes the first; its caller's next comes after those of all others. */
  take(): Waiter | undefined {
    for (const [key, line] of this.#lines) {
      const waiter = line.shift();
      this.#lines.delete(key);
      if (line.length > 0) this.#lines.set(key, line);
      return waiter;
    }
    return undefined;
  }
}

/**
 * Who may use the one thread that everybody shares. Reading a new document takes it for
 * milliseconds that nothing interrupts, and so do planning it and writing out a large result: of
 * each, so much is done before others have their turn.
 */
export class Turns {
  readonly #planning = new Lines();
  #isPlanning = false;
  readonly #running = new Lines();
  readonly #capacity: number;
  #used = 0;

  /** @param capacity the weight of what runs at once */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /**
   * Resolves when this caller may read or plan something; of all callers together, half of the
   * time. It has the thread until the next turn of the event loop.
   */
  plan(key: string): Promise<void> {
    return new Promise((start, refuse) => {
      this.#planning.add(key, { weight: 0, start, refuse });
      if (!this.#isPlanning) void this.#letPlan();
    });
  }

  async #letPlan(): Promise<void> {
    this.#isPlanning = true;
    for (let next = this.#planning.take(); next !== undefined; next = this.#planning.take()) {
      const began = performance.now();
      next.start();
      await nextTurn();
      // Half of the time is for others.
      await sleep(performance.now() - began);
    }
    this.#isPlanning = false;
  }

  /**
   * Runs something when there is room for its weight. What waits begins when the thread was free
   * for as long as it was taken before.
   */
  async run<Result>(key: string, weight: number, work: () => Promise<Result>): Promise<Result> {
    const taken = Math.min(weight, this.#capacity);
    if (this.#running.first !== undefined || this.#used + taken > this.#capacity) {
      await new Promise<void>((start, refuse) => {
        this.#running.add(key, { weight: taken, start, refuse });
      });
    } else {
      this.#used += taken;
    }
    const before = performance.eventLoopUtilization();
    try {
      return await work();
    } finally {
      const { active } = performance.eventLoopUtilization(before);
      void this.#end(taken, (active * taken) / this.#capacity);
    }
  }

  async #end(weight: number, restMs: number): Promise<void> {
    // What has just been made is sent before the next is made.
    await nextTurn();
    if (this.#running.first !== undefined) await sleep(Math.min(restMs, longestRest));
    this.#used -= weight;
    this.#admit();
  }

  #admit(): void {
    for (;;) {
      const { first } = this.#running;
      if (first === undefined || this.#used + first.weight > this.#capacity) return;
      this.#running.take();
      this.#used += first.weight;
      first.start();
    }
  }
}
