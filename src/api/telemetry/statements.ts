import type { makePgService } from 'postgraphile/adaptors/pg';

type PgService = ReturnType<typeof makePgService>;
type Adaptor = PgService['adaptor'];
type WithPgClient = Awaited<ReturnType<Adaptor['createWithPgClient']>>;
type PgClient = Parameters<Parameters<WithPgClient>[1]>[0];

/** Told of each statement: its text, and performance.now() when it began. */
export type OnStatement = (text: string, began: number) => void;

function observe(client: PgClient, onStatement: OnStatement): PgClient {
  return {
    ...client,
    query(options) {
      const began = performance.now();
      const done = (): void => onStatement(options.text, began);
      const result = client.query<never>(options);
      // Beside the caller's own handlers: a failure is theirs to handle.
      result.then(done, done);
      return result;
    },
    withTransaction: (callback) =>
      client.withTransaction((inner) => callback(observe(inner, onStatement))),
  };
}

/**
 * Has every statement that PostGraphile runs observed. `begin`, the settings and `commit`
 * around them are not: they are the same for all.
 */
export function observeStatements(service: PgService, onStatement: OnStatement): PgService {
  const { adaptor } = service;
  const createWithPgClient = async (
    ...settings: Parameters<Adaptor['createWithPgClient']>
  ): Promise<WithPgClient> => {
    const inner = await adaptor.createWithPgClient(...settings);
    const withPgClient: WithPgClient = (pgSettings, callback) =>
      inner(pgSettings, (client) => callback(observe(client, onStatement)));
    if (inner.release !== undefined) withPgClient.release = () => inner.release?.();
    return withPgClient;
  };
  return { ...service, adaptor: { ...adaptor, createWithPgClient } };
}
