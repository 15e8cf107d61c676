import { Client } from 'pg';
import { EXIT, GwError } from '../errors.ts';
import { describeUrl } from '../postgres/urls.ts';

/** Connections that are tried: a pooler may have several backends of its own that are free. */
const tries = 3;

const backendOf = async (client: Client): Promise<number> => {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return rows[0]?.pid ?? 0;
};

/**
 * A pooler that gives each transaction any of its backends loses what the API keeps in a session:
 * LISTEN, prepared statements, cancelling what a backend runs. It shows itself by a backend that
 * two connections have, or by a connection whose backend changes.
 *
 * @throws GwError when there is one; what else goes wrong is left to whoever connects next
 */
export async function refuseTransactionPooler(url: string): Promise<void> {
  const clients: Client[] = [];
  const open = async (): Promise<Client> => {
    const client = new Client({ connectionString: url, application_name: 'gw-api-start' });
    client.on('error', () => {});
    clients.push(client);
    await client.connect();
    return client;
  };
  try {
    const first = await open();
    const backends = [await backendOf(first)];
    for (let n = 0; n < tries; n += 1) {
      const other = await open();
      // It holds its backend from here on.
      await other.query('begin');
      backends.push(await backendOf(other));
    }
    const [before] = backends;
    const isShared = new Set(backends).size < backends.length;
    if (!isShared && (await backendOf(first)) === before) return;
  } finally {
    await Promise.allSettled(clients.map((client) => client.end()));
  }
  throw new GwError(`there is a pooler in transaction mode at ${describeUrl(url)}`, {
    hint: 'The API needs sessions of its own: set pool_mode = session, or connect to PostgreSQL itself.',
    exitCode: EXIT.usage,
  });
}
