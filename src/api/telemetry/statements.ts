import type { makePgService } from 'postgraphile/adaptors/pg';

type PgService = ReturnType<typeof makePgService>;
type Adaptor = PgService['adaptor'];
type WithPgClient = Awaited<ReturnType<Adaptor['createWithPgClient']>>;
type PgClient = Parameters<Parameters<WithPgClient>[1]>[0];

/** Told of each statement: its text, performance.now() when it began, whether it failed. */
export type OnStatement = (text: string, began: number, failed: boolean) => void;

export interface Observer {
  onStatement: OnStatement;
  /** Milliseconds from which a statement that still runs is told of. */
  slowMs: number;
  /** Told of such a statement, by the process id of its backend. */
  onSlow: (backend: number) => void;
}

const longestTimerMs = 2 ** 31 - 1;

function observe(client: PgClient, observer: Observer): PgClient {
  const { onStatement, slowMs, onSlow } = observer;
  // As `pg` has it, which its types leave out.
  const { processID: backend } = (client as { rawClient?: { processID?: number } }).rawClient ?? {};
  return {
    ...client,
    query(options) {
      const began = performance.now();
      const timer =
        backend === undefined || slowMs > longestTimerMs
          ? undefined
          : setTimeout(() => onSlow(backend), slowMs);
      const result = client.query<never>(options);
      // Beside the caller's own handlers: a failure is theirs to handle.
      result.then(
        () => {
          clearTimeout(timer);
          onStatement(options.text, began, false);
        },
        () => {
          clearTimeout(timer);
          onStatement(options.text, began, true);
        },
      );
      return result;
    },
    withTransaction: (callback) =>
      client.withTransaction((inner) => callback(observe(inner, observer))),
  };
}

/**
 * Has every statement that PostGraphile runs observed. `begin`, the settings and `commit`
 * around them are not: they are the same for all.
 */
export function observeStatements(service: PgService, observer: Observer): PgService {
  const { adaptor } = service;
  const createWithPgClient = async (
    ...settings: Parameters<Adaptor['createWithPgClient']>
  ): Promise<WithPgClient> => {
    const inner = await adaptor.createWithPgClient(...settings);
    const withPgClient: WithPgClient = (pgSettings, callback) =>
      inner(pgSettings, (client) => callback(observe(client, observer)));
    if (inner.release !== undefined) withPgClient.release = () => inner.release?.();
    return withPgClient;
  };
  return { ...service, adaptor: { ...adaptor, createWithPgClient } };
}
