import { connect, withSql } from '../../src/postgres/connect.ts';

/**
 * Receives the write-ahead log as a standby does, and says that it has replayed nothing.
 *
 * @param name its application name
 */
export async function followWithoutReplay(
  superuserUrl: string,
  name: string,
): Promise<{ stop: () => Promise<void> }> {
  const [position] = await withSql(
    superuserUrl,
    (sql) => sql<{ lsn: string }[]>`select pg_current_wal_flush_lsn()::text as lsn`,
  );
  const connection = { application_name: name, replication: 'true' };
  const sql = connect(superuserUrl, { fetch_types: false, idle_timeout: 0, connection });
  const stream = await sql.unsafe(`START_REPLICATION PHYSICAL ${position?.lsn}`).writable();
  // A status update: written, flushed and replayed up to the first byte.
  const status = Buffer.alloc(34);
  status.write('r');
  for (const at of [1, 9, 17]) status.writeBigUInt64BE(1n, at);
  // Standbys repeat it, too.
  const repeat = setInterval(() => stream.write(status), 200);
  return {
    async stop() {
      clearInterval(repeat);
      stream.destroy();
      await sql.end({ timeout: 1 });
    },
  };
}
