import type { makePgService } from 'postgraphile/adaptors/pg';
import { SafeError } from 'postgraphile/grafast';
import { refusals } from './errors.ts';
import { limits } from './limits.ts';

type PgService = ReturnType<typeof makePgService>;
type Adaptor = PgService['adaptor'];
type WithPgClient = Awaited<ReturnType<Adaptor['createWithPgClient']>>;
type PgClient = Parameters<Parameters<WithPgClient>[1]>[0];

/** The parts of pg's client that its types leave out. */
interface RawClient {
  processID: number;
  connection: {
    stream: {
      on(event: 'data', listener: (chunk: Buffer) => void): void;
      off(event: 'data', listener: (chunk: Buffer) => void): void;
      destroy(error: Error): void;
    };
  };
}

/** A request to the database's side: whose it is, and whether somebody still waits for it. */
export interface Asker {
  /** Who shares: a user, or all who are nobody. */
  key: string;
  /** Aborted when the client is gone. */
  gone?: AbortSignal | undefined;
  /** Whether it goes on for long, as a subscription does: then each answer of it counts alone. */
  isLive: boolean;
  /** What the database has sent for it, in bytes. */
  received: number;
}

interface Waiter {
  start(): void;
  refuse(error: Error): void;
}

const waitMs = 5_000;
const waitersEach = 10;

const clientIsGone = (): Error => new SafeError('the client is gone');

/** How many connections each caller has at once; the others of this caller wait for theirs. */
export class Shares {
  readonly #each: number;
  readonly #running = new Map<string, number>();
  readonly #waiting = new Map<string, Set<Waiter>>();

  /** @param each connections of one caller at once */
  constructor(each: number) {
    this.#each = Math.max(1, each);
  }

  /**
   * Runs something when the caller has less than its share.
   *
   * @throws SafeError with the code RATE_LIMITED when too many of this caller wait
   */
  async run<Result>({ key, gone }: Asker, work: () => Promise<Result>): Promise<Result> {
    if ((this.#running.get(key) ?? 0) >= this.#each) await this.#turn(key, gone);
    else this.#running.set(key, (this.#running.get(key) ?? 0) + 1);
    try {
      return await work();
    } finally {
      this.#end(key);
    }
  }

  #turn(key: string, gone: AbortSignal | undefined): Promise<void> {
    const waiting = this.#waiting.get(key) ?? new Set();
    this.#waiting.set(key, waiting);
    if (waiting.size >= waitersEach * this.#each) throw tooMany();
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        gone?.removeEventListener('abort', onGone);
        waiting.delete(waiter);
        if (waiting.size === 0) this.#waiting.delete(key);
      };
      const waiter: Waiter = {
        start: () => {
          leave();
          resolve();
        },
        refuse: (error) => {
          leave();
          reject(error);
        },
      };
      const onGone = () => waiter.refuse(clientIsGone());
      const timer = setTimeout(() => waiter.refuse(tooLate()), waitMs);
      gone?.addEventListener('abort', onGone);
      waiting.add(waiter);
    });
  }

  /** Hands the place on to the next, or gives it back. */
  #end(key: string): void {
    const [next] = this.#waiting.get(key) ?? [];
    if (next !== undefined) {
      next.start();
      return;
    }
    const left = (this.#running.get(key) ?? 1) - 1;
    if (left > 0) this.#running.set(key, left);
    else this.#running.delete(key);
  }
}

/** As the pool says it: the database may be away, or busy with others of this caller. */
const tooLate = (): Error => new Error('timeout exceeded when trying to connect');

const tooMany = (): Error => new SafeError(refusals.tooManyAtOnce, { code: 'RATE_LIMITED' });

const tooLarge = (): Error =>
  new SafeError(refusals.responseTooLarge, { code: 'RESPONSE_TOO_LARGE' });

export interface SharedOptions {
  shares: Shares;
  /** Whose request these settings belong to. */
  askerOf: (pgSettings: object) => Asker | undefined;
  /** Ends what a backend runs. */
  cancel: (backend: number) => Promise<unknown>;
}

/**
 * Counts what the database sends and ends it when it is too much; ends the statement when the
 * client is gone. Whoever gets the connection next is not met by a late cancellation.
 */
async function watched<Result>(
  client: PgClient,
  asker: Asker,
  cancel: SharedOptions['cancel'],
  work: () => Promise<Result>,
): Promise<Result> {
  const { processID, connection } = (client as unknown as { rawClient: RawClient }).rawClient;
  let cancelled: Promise<unknown> | undefined;
  const onGone = (): void => {
    cancelled ??= cancel(processID).catch(() => {});
  };
  const onData = (chunk: Buffer): void => {
    const before = asker.received;
    asker.received += chunk.length;
    if (before > limits.responseBytes || asker.received <= limits.responseBytes) return;
    connection.stream.destroy(tooLarge());
  };
  asker.gone?.addEventListener('abort', onGone);
  connection.stream.on('data', onData);
  try {
    return await work();
  } finally {
    asker.gone?.removeEventListener('abort', onGone);
    connection.stream.off('data', onData);
    await cancelled;
  }
}

/** Gives each caller a share of the pool, and ends what nobody waits for or what is too much. */
export function shareConnections(service: PgService, options: SharedOptions): PgService {
  const { shares, askerOf, cancel } = options;
  const { adaptor } = service;
  const createWithPgClient = async (
    ...settings: Parameters<Adaptor['createWithPgClient']>
  ): Promise<WithPgClient> => {
    const inner = await adaptor.createWithPgClient(...settings);
    const withPgClient: WithPgClient = (pgSettings, callback) => {
      const asker = pgSettings == null ? undefined : askerOf(pgSettings);
      if (asker === undefined) return inner(pgSettings, callback);
      return shares.run(asker, async () => {
        if (asker.gone?.aborted) throw clientIsGone();
        if (asker.isLive) asker.received = 0;
        try {
          return await inner(pgSettings, (client) =>
            watched(client as PgClient, asker, cancel, async () => callback(client)),
          );
        } catch (error) {
          throw asker.received > limits.responseBytes ? tooLarge() : error;
        }
      });
    };
    if (inner.release !== undefined) withPgClient.release = () => inner.release?.();
    return withPgClient;
  };
  return { ...service, adaptor: { ...adaptor, createWithPgClient } };
}
