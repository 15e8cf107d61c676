import { Client } from 'pg';
import { EXIT, GwError } from '../errors.ts';
import { describeUrl } from '../postgres/urls.ts';

/** Connections that are tried: a pooler may have several backends of its own that are free. */
const tries = 3;

const backendOf = async (client: Client): Promise<number> => {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]?.pid ?? 0;
};

/** Whether a connection keeps its backend while others, which hold theirs, come and go. */
async function hasOwn(
  before: number,
  first: Client,
  open: () => Promise<Client>,
): Promise<boolean> {
  for (let n = 0; n < tries; n += 1) {
    const other = await open();
    await other.query('begin');
    if ((await backendOf(other)) === before) return false;
  }
  return (await backendOf(first)) === before;
}

/**
 * A pooler that gives each transaction any of its backends loses what the API keeps in a session:
 * LISTEN, prepared statements, cancelling what a backend runs. It shows itself by a backend that
 * two connections have, or by a connection whose backend changes.
 *
 * Where it cannot be told, because no further connection is to be had, nothing is refused.
 *
 * @throws GwError when there is one, or when there is no connection at all
 */
export async function refuseTransactionPooler(url: string): Promise<void> {
  const clients: Client[] = [];
  const open = async (): Promise<Client> => {
    const client = new Client({
      connectionString: url,
      application_name: 'gw-api-start',
      connectionTimeoutMillis: 5_000,
      query_timeout: 5_000,
    });
    client.on('error', () => {});
    clients.push(client);
    await client.connect();
    return client;
  };
  try {
    const first = await open();
    const before = await backendOf(first);
    const isOwn = await hasOwn(before, first, open).catch(() => true);
    if (isOwn) return;
  } finally {
    await Promise.allSettled(clients.map((client) => client.end()));
  }
  throw new GwError(`there is a pooler in transaction mode at ${describeUrl(url)}`, {
    hint: 'The API needs sessions of its own: set pool_mode = session, or connect to PostgreSQL itself.',
    exitCode: EXIT.usage,
  });
}
