import { Pool, type PoolClient, type PoolConfig } from 'pg';
import { afterReading, Silence } from './silence.ts';

export interface MeasuredPoolConfig extends PoolConfig {
  /**
   * A connection whose server says nothing for so many milliseconds, though it was asked
   * something, is given up: a host that lost its power ends no connection, and the kernel waits
   * a quarter of an hour for it.
   */
  silenceMs: number;
}

/** The parts of pg's client that its types leave out. */
interface Internals {
  readyForQuery: boolean;
  connection: {
    stream: {
      bytesRead: number;
      setTimeout(ms: number, on: () => void): void;
      destroy(error: Error): void;
    };
  };
}

type Callback = (
  error: Error | undefined,
  client: PoolClient | undefined,
  done: (release?: unknown) => void,
) => void;

export interface PoolSample {
  total: number;
  active: number;
  idle: number;
  waiting: number;
  /** How long callers waited for a connection; null when nobody asked for one. */
  avgMs: number | null;
  maxMs: number | null;
  errors: number;
}

/** A pool that knows how long its callers waited for a connection, and how many got none. */
export class MeasuredPool extends Pool {
  #count = 0;
  #sum = 0;
  #max = 0;
  #errors = 0;
  readonly #clients = new Set<Internals>();
  /** Since the process began. */
  readonly totals = { count: 0, waitedMs: 0, errors: 0 };

  constructor({ silenceMs, ...config }: MeasuredPoolConfig) {
    super({ ...config, keepAlive: true, keepAliveInitialDelayMillis: 10_000 });
    this.on('connect', (client) => {
      const internals = client as unknown as Internals;
      this.#clients.add(internals);
      // Its query rejects, too. Without a listener a connection that breaks while somebody has it
      // would end the process.
      client.on('error', () => {});
      const { stream } = internals.connection;
      stream.setTimeout(silenceMs, async () => {
        // Nobody asked it. Somebody may ask while this waits below, and that was no silence.
        if (internals.readyForQuery) return;
        const before = stream.bytesRead;
        // A process that stood still finds the answer waiting: it is read before this goes on.
        await afterReading();
        if (internals.readyForQuery || stream.bytesRead > before) return;
        // The others lead to the same server: callers would wait for each of them.
        const error = new Silence(silenceMs);
        for (const { connection } of this.#clients) connection.stream.destroy(error);
      });
    });
    this.on('remove', (client) => this.#clients.delete(client as unknown as Internals));
    // An idle connection that breaks.
    this.on('error', () => {
      this.#errors += 1;
      this.totals.errors += 1;
    });
  }

  override connect(): Promise<PoolClient>;
  override connect(callback: Callback): void;
  override connect(callback?: Callback): Promise<PoolClient> | undefined {
    const began = performance.now();
    if (callback !== undefined) {
      super.connect((error, client, release) => {
        this.#waited(began, Boolean(error));
        callback(error, client, release);
      });
      return undefined;
    }
    return super.connect().then(
      (client) => {
        this.#waited(began, false);
        return client;
      },
      (error: unknown) => {
        this.#waited(began, true);
        throw error;
      },
    );
  }

  /** How the pool is now, and how long its callers waited since the sample before. */
  sample(): PoolSample {
    const taken: PoolSample = {
      total: this.totalCount,
      active: this.totalCount - this.idleCount,
      idle: this.idleCount,
      waiting: this.waitingCount,
      avgMs: this.#count === 0 ? null : Number((this.#sum / this.#count).toFixed(3)),
      maxMs: this.#count === 0 ? null : Math.round(this.#max),
      errors: this.#errors,
    };
    this.#count = this.#sum = this.#max = this.#errors = 0;
    return taken;
  }

  #waited(began: number, hasFailed: boolean): void {
    const waited = performance.now() - began;
    this.totals.count += 1;
    this.totals.waitedMs += waited;
    if (hasFailed) {
      this.#errors += 1;
      this.totals.errors += 1;
    }
    this.#count += 1;
    this.#sum += waited;
    if (waited > this.#max) this.#max = waited;
  }
}
