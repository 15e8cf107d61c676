import type { Socket } from 'node:net';
import pg from 'pg';
import { Silence } from '../postgres/silence.ts';

/**
 * A connection that is never replaced by another: `postgres` reconnects by itself, and a
 * transaction or lock that was thought to be held would be gone. Statements run in the order
 * in which they are given.
 */
export class Link {
  readonly #client: pg.Client;
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: pg.Client) {
    this.#client = client;
  }

  query<Row extends pg.QueryResultRow>(
    statement: string | pg.QueryConfig,
    values: unknown[] = [],
  ): Promise<pg.QueryResult<Row>> {
    const config = typeof statement === 'string' ? { text: statement, values } : statement;
    const result = this.#last.then(() => this.#client.query<Row>(config));
    this.#last = result.catch(() => {});
    return result;
  }

  /** Ends it at once, whatever runs, and whether or not the server answers. */
  async end(): Promise<void> {
    const { stream } = (this.#client as unknown as { connection: { stream: Socket } }).connection;
    const timer = setTimeout(() => stream.destroy(), 1_000);
    await this.#client.end().finally(() => clearTimeout(timer));
  }
}

export interface LinkOptions {
  /** Told when it breaks or is closed. */
  onLoss: (error: Error) => void;
  /**
   * It breaks when the server has not answered for so long; for links whose statements are all
   * short. A host that lost its power ends no connection.
   */
  silenceMs?: number;
}

export async function openLink(url: string, { onLoss, silenceMs }: LinkOptions): Promise<Link> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'gw cdc',
    connectionTimeoutMillis: 10_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  });
  client.on('error', onLoss);
  client.on('end', () => onLoss(new Error('Connection terminated')));
  await client.connect();
  if (silenceMs !== undefined) {
    const internals = client as unknown as { readyForQuery: boolean; connection: Connection };
    const { stream } = internals.connection;
    stream.setTimeout(silenceMs, () => {
      if (!internals.readyForQuery) stream.destroy(new Silence(silenceMs));
    });
  }
  return new Link(client);
}

interface Connection {
  stream: Socket;
}

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Advisory locks of a database: who consumes, and who compares. */
export const locks = { consumer: [0x6777, 1], reconcile: [0x6777, 2] } as const;

/** @returns false when another session holds it */
export async function tryLock(client: Link, lock: readonly [number, number]): Promise<boolean> {
  const { rows } = await client.query<{ got: boolean }>(
    'select pg_try_advisory_lock($1, $2) as got',
    [...lock],
  );
  return rows[0]?.got === true;
}

/** The backend that holds a lock, or undefined when nobody does. */
export async function lockHolder(
  client: Link,
  [first, second]: readonly [number, number],
): Promise<number | undefined> {
  const { rows } = await client.query<{ pid: number }>(
    `select pid from pg_locks
     where locktype = 'advisory'
       and granted
       and (classid, objid, objsubid) = ($1, $2, 2)
       and database = (select oid from pg_database where datname = current_database())`,
    [first, second],
  );
  return rows[0]?.pid;
}
