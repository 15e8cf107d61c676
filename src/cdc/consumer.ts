import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { isLogGone, isTransient } from './failures.ts';
import { CaptureFigures } from './figures.ts';
import { type Link, openLink } from './link.ts';
import { Session } from './session.ts';
import type { Plugin } from './slot.ts';
import { Witness } from './timeline.ts';

export interface ConsumerOptions {
  /** gw_cdc's connection. */
  url: string;
  slot: string;
  /** Unset: that of the slot; for a new one wal2json, or pgoutput where that is missing. */
  plugin?: Plugin | undefined;
  log: Log;
  /** Milliseconds between two heartbeats; 5,000 unless told otherwise. */
  heartbeatMs?: number;
  /** Called once, when the database has answered. */
  onConnected?: () => void;
}

const failedAlert = 'change-capture-failed';

/** Keeps user_dashboard_aggregates current, over connections that break and servers that restart. */
export class Consumer {
  readonly #options: ConsumerOptions;
  readonly figures = new CaptureFigures();
  #session: Session | undefined;
  #stopping = false;
  #connected = false;
  #wake: (() => void) | undefined;

  constructor(options: ConsumerOptions) {
    this.#options = options;
  }

  /**
   * Runs until stop().
   *
   * @throws GwError when a change cannot be applied, after an alert was raised; whatever the
   *   first attempt to connect throws
   */
  async run(): Promise<void> {
    const { log } = this.#options;
    const witness = new Witness();
    let failures = 0;
    let logIsGone = false;
    while (!this.#stopping) {
      const { figures } = this;
      figures.state = 'connecting';
      const session = new Session({ ...this.#options, logIsGone, witness, figures });
      this.#session = session;
      try {
        let isFirst = true;
        await session.run(
          () => this.#onConnected(),
          (control) => {
            failures = 0;
            logIsGone = false;
            if (isFirst) this.#sayWell(control);
            isFirst = false;
          },
        );
      } catch (error) {
        if (this.#stopping) break;
        if (!this.#connected) throw error;
        logIsGone ||= isLogGone(error);
        if (!isTransient(error) && !logIsGone) {
          await session.close();
          await this.#sayFailed(error);
          throw error;
        }
        const wait = Math.min(100 * 2 ** failures, 10_000);
        failures += 1;
        log.warn({ error: messageOf(error), retryMs: wait }, 'interrupted; connecting again');
        await this.#sleep(wait);
      } finally {
        await session.close();
      }
    }
  }

  /** Ends after the batch that is being applied; run() resolves. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake?.();
    const wasReading = this.#session?.isReading ?? false;
    await this.#session?.close();
    // Not one that waited for another, nor one that has failed, which its state says.
    if (!wasReading) return;
    const { url, slot } = this.#options;
    await once(url, (client) =>
      client.query(`select app_private.set_capture_state($1, 'stopped')`, [slot]),
    ).catch(() => {});
  }

  #onConnected(): void {
    if (!this.#connected) this.#options.onConnected?.();
    this.#connected = true;
  }

  #sayWell(control: Link): void {
    control
      .query('select ops.resolve_alert($1, $2)', [failedAlert, this.#options.slot])
      .catch(() => {});
  }

  async #sayFailed(error: unknown): Promise<void> {
    const { url, slot, log } = this.#options;
    const text = messageOf(error);
    const hint = (error as { hint?: string }).hint ?? '';
    log.error({ slot, error: text, hint }, 'stopped: nothing is skipped');
    await once(url, async (client) => {
      await client.query(`select app_private.set_capture_state($1, 'failed', $2)`, [slot, text]);
      await client.query(`select ops.raise_alert($1, $2, 'critical', $3, $4)`, [
        failedAlert,
        slot,
        text,
        hint,
      ]);
    }).catch((failure: unknown) =>
      log.error({ error: messageOf(failure) }, 'could not raise the alert'),
    );
  }

  #sleep(milliseconds: number): Promise<void> {
    if (this.#stopping) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

async function once(url: string, work: (client: Link) => Promise<unknown>): Promise<void> {
  const client = await openLink(url, { onLoss: () => {} });
  try {
    await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}
