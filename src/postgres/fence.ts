import { setTimeout as sleep } from 'node:timers/promises';
import { errorText, type Log } from '../log.ts';
import { Probe } from './probe.ts';

/** How often the database is asked what it is: a standby may be promoted under a process. */
const askMs = 2_000;

export interface FenceOptions {
  /** The connection of the process that asks. */
  url: string;
  applicationName: string;
  log: Log;
  /** Told each time that the answer changes, and not of the first one. */
  onChange?: (reason: string | undefined) => void;
  askMs?: number;
}

/** What is said of a database that is a copy. */
export const fencedText = (reason: string): string =>
  `this database is a copy that nobody has adopted: ${reason}`;

/**
 * Whether the database is a copy that nobody has adopted. The database itself refuses to plan, queue
 * and send then; whoever works on it has to know too.
 */
export class Fence {
  readonly #probe: Probe;
  readonly #options: FenceOptions;
  readonly #timer: NodeJS.Timeout;
  #reason: string | undefined;

  private constructor(options: FenceOptions) {
    this.#options = options;
    const { url, applicationName } = options;
    // A server that is alive answers before it is given up.
    this.#probe = new Probe({ url, applicationName, timeoutMs: 20_000 });
    this.#timer = setInterval(() => void this.#look(), options.askMs ?? askMs).unref();
  }

  /** Resolves when the database has answered for the first time. */
  static async watch(options: FenceOptions): Promise<Fence> {
    const fence = new Fence(options);
    try {
      fence.#reason = await fence.#ask();
    } catch (error) {
      await fence.stop();
      throw error;
    }
    return fence;
  }

  /** Why the database is fenced, in one sentence; undefined when it is not. */
  get reason(): string | undefined {
    return this.#reason;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    // Nobody waits for an answer that is of no use any more.
    await Promise.race([this.#probe.close(), sleep(1_000, undefined, { ref: false })]);
  }

  async #ask(): Promise<string | undefined> {
    const [row] = await this.#probe.ask<{ reason: string | null }>({
      name: 'fence',
      text: 'select ops.fence_reason() as reason',
    });
    return row?.reason ?? undefined;
  }

  async #look(): Promise<void> {
    try {
      const reason = await this.#ask();
      if (reason === this.#reason) return;
      const { log, onChange } = this.#options;
      if (reason === undefined) log.info('the database was adopted');
      else log.error({ reason }, 'the database is a copy that nobody has adopted');
      this.#reason = reason;
      onChange?.(reason);
    } catch (error) {
      // What was true last stays so until somebody answers.
      this.#options.log.debug({ error: errorText(error) }, 'cannot ask whether this is a copy');
    }
  }
}
