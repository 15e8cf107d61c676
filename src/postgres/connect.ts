import postgres from 'postgres';
import { EXIT, explainError, GwError, messageOf } from '../errors.ts';
import { forPostgresJs } from '../tls.ts';
import { changeUrl, databaseName, describeUrl, parseUrl } from './urls.ts';

export type Sql = postgres.Sql;
export type Transaction = postgres.TransactionSql;
export type PoolOptions = postgres.Options<Record<string, never>>;

/** A connection pool of `postgres`. Notices are not printed. */
export function connect(url: string, options: PoolOptions = {}): Sql {
  const { url: plain, ssl } = forPostgresJs(url);
  return postgres(plain, {
    ...(ssl === undefined ? {} : { ssl }),
    max: 1,
    connect_timeout: 10,
    idle_timeout: 30,
    onnotice: () => {},
    ...options,
    connection: { application_name: 'groundwork', ...options.connection },
  });
}

/** Runs work on a pool that is closed afterwards. */
export async function withSql<Result>(
  url: string,
  work: (sql: Sql) => Promise<Result>,
  options: PoolOptions = {},
): Promise<Result> {
  const sql = connect(url, options);
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 2 });
  }
}

/**
 * As withSql(), for a superuser. A name without a schema is PostgreSQL's own: the search_path of
 * our databases begins with schemas in which gw_owner may put a function or an operator of any
 * name, and a superuser that runs it gives gw_owner the server. For the same reason the work calls
 * nothing that gw_owner owns: to set the role first is not enough, since a function can reset it.
 */
export const withSuperuser = <Result>(
  url: string,
  work: (sql: Sql) => Promise<Result>,
): Promise<Result> => withSql(url, work, { connection: { search_path: 'pg_catalog, pg_temp' } });

/**
 * Says what a failure to connect means and what to do about it.
 *
 * @param variable the environment variable that the URL came from
 */
export function connectionError(error: unknown, url: string, variable: string): GwError {
  if (error instanceof GwError) return error;
  const { username } = parseUrl(url);
  const place = {
    address: describeUrl(url),
    user: decodeURIComponent(username),
    database: databaseName(url),
    variable,
  };
  return (
    explainError(error, place) ??
    new GwError(`cannot connect to ${place.address}: ${messageOf(error)} (${variable})`, {
      hint: "See the server's log.",
      exitCode: EXIT.unavailable,
      cause: error,
    })
  );
}

/** Waits up to a minute for a server that is being started. */
export async function untilAnswers(url: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      await withSql(changeUrl(url, { database: 'postgres' }), (sql) => sql`select 1`);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw connectionError(error, url, 'the server of this checkout');
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/**
 * Runs a callback as a user: in one transaction, with the role app_user and row-level
 * security in force. Commits when the callback resolves, rolls back when it rejects.
 *
 * @param pool connected as gw_authenticator
 * @param userId the user's id; whoever calls has verified it
 * @throws whatever the callback or the database throws
 */
export async function withUserContext<Result>(
  pool: Sql,
  userId: string,
  callback: (sql: Transaction) => Promise<Result>,
): Promise<Result> {
  const result = await pool.begin(async (sql) => {
    await sql`select app_private.set_app_user(${userId})`;
    await sql`set local role app_user`;
    return { value: await callback(sql) };
  });
  return result.value as Result;
}
