import type { makePgService } from 'postgraphile/adaptors/pg';
import { codeOf } from '../errors.ts';

type PgService = ReturnType<typeof makePgService>;
type Adaptor = PgService['adaptor'];
type WithPgClient = Awaited<ReturnType<Adaptor['createWithPgClient']>>;
type PgClient = Parameters<Parameters<WithPgClient>[1]>[0];

/**
 * What PostgreSQL says of a prepared statement that the schema has outlived (0A000, its result
 * would have other types), or that it does not have (26000), as after a pooler's DISCARD ALL.
 */
const isOutlived = (error: unknown): boolean => ['0A000', '26000'].includes(codeOf(error) ?? '');

/** What node-postgres and PostGraphile know of the statements of a connection. */
interface RawClient {
  connection: {
    parsedStatements: Record<string, string>;
    _graphilePreparedStatementCache?: unknown;
  };
  query(text: string): Promise<unknown>;
}

const rawOf = (client: PgClient): RawClient =>
  (client as unknown as { rawClient: RawClient }).rawClient;

/** The same connection, on which nothing is prepared. */
function unprepared(client: PgClient): PgClient {
  return {
    ...client,
    query: ({ name: _, ...query }) => client.query(query),
    withTransaction: (callback) =>
      client.withTransaction((inner) => callback(unprepared(inner) as never)),
  };
}

/**
 * Repeats, once, what failed because of a prepared statement and not because of what was asked. Its
 * transaction was rolled back, so nothing is done twice; the settings of the caller are the same.
 * The connection's statements are forgotten by both sides when it is used next.
 */
export function prepareAnew(service: PgService): PgService {
  const { adaptor } = service;
  const outlived = new WeakSet<RawClient>();
  const forget = async (raw: RawClient): Promise<void> => {
    if (!outlived.delete(raw)) return;
    await raw.query('deallocate all');
    raw.connection.parsedStatements = {};
    delete raw.connection._graphilePreparedStatementCache;
  };
  const createWithPgClient = async (
    ...settings: Parameters<Adaptor['createWithPgClient']>
  ): Promise<WithPgClient> => {
    const inner = await adaptor.createWithPgClient(...settings);
    const withPgClient: WithPgClient = async (pgSettings, callback) => {
      let used: RawClient | undefined;
      try {
        return await inner(pgSettings, async (client) => {
          used = rawOf(client);
          await forget(used);
          return callback(client);
        });
      } catch (error) {
        if (!isOutlived(error)) throw error;
        if (used !== undefined) outlived.add(used);
        return inner(pgSettings, (client) => callback(unprepared(client) as never));
      }
    };
    if (inner.release !== undefined) withPgClient.release = () => inner.release?.();
    return withPgClient;
  };
  return { ...service, adaptor: { ...adaptor, createWithPgClient } };
}
