import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { promisify } from 'node:util';
import { connect, withSql } from '../../src/postgres/connect.ts';
import {
  dataDirectory,
  discardCluster,
  removeCluster,
  scratchHome,
  startCluster,
  stopCluster,
} from '../../src/server/cluster.ts';
import { randomPort } from '../../src/server/ports.ts';
import { requireBinaries } from '../../src/server/scratch.ts';
import { eventually } from './wait.ts';

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
      // Nobody reads what it sends: blocked by that, it would hold up every DROP DATABASE.
      await withSql(
        superuserUrl,
        (other) => other`select pg_terminate_backend(pid, 5000) from pg_stat_replication
          where application_name = ${name}`,
      );
      await sql.end({ timeout: 1 });
    },
  };
}

/** Declares a standby, as `gw fence standby` does: it goes on after its promotion. */
export async function declareStandby(primaryOwnerUrl: string, standby: Standby): Promise<void> {
  const there = new URL(primaryOwnerUrl);
  there.port = String(standby.port);
  const [place] = await withSql(
    there.href,
    (sql) => sql`select system_identifier, machine, data_directory, files_since
      from ops.present_place()`,
  );
  await withSql(
    primaryOwnerUrl,
    (sql) => sql`select ops.declare_standby(${place?.system_identifier}, ${place?.machine},
      ${place?.data_directory}, ${place?.files_since})`,
  );
}

/** A second server that follows a first one, and can take its place. */
export interface Standby {
  port: number;
  superuserUrl: string;
  /** Ends the connection to the primary: what is written there from now on does not arrive. */
  disconnect(): Promise<void>;
  /** Resolves when it can be written to. */
  promote(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Copies a running server and starts the copy as its standby, which streams.
 *
 * @param name its application name, for synchronous_standby_names
 */
export async function startStandby(primaryUrl: string, name: string): Promise<Standby> {
  const bin = await requireBinaries();
  const cluster = { bin, home: scratchHome(`scratch-${process.pid}-${name}`) };
  removeCluster(cluster);
  const discard = (): void => discardCluster(cluster);
  process.once('exit', discard);
  mkdirSync(cluster.home, { recursive: true, mode: 0o700 });
  await promisify(execFile)(join(bin, 'pg_basebackup'), [
    ...['-D', dataDirectory(cluster), '-R', '-X', 'stream', '-c', 'fast'],
    ...['-d', `${primaryUrl}?application_name=${name}`],
  ]);
  if (process.getuid?.() === 0) {
    await promisify(execFile)('chown', ['-R', 'postgres:postgres', cluster.home]);
  }
  const port = await randomPort();
  await startCluster(cluster, port);
  const place = new URL(primaryUrl);
  place.port = String(port);
  const superuserUrl = place.href;
  await eventually(() =>
    withSql(primaryUrl, async (sql) => {
      const rows = await sql`
        select from pg_stat_replication where application_name = ${name} and state = 'streaming'`;
      return rows.length > 0;
    }),
  );
  return {
    port,
    superuserUrl,
    async disconnect() {
      await withSql(superuserUrl, async (sql) => {
        await sql`alter system set primary_conninfo = ''`;
        await sql`select pg_reload_conf()`;
        await eventually(async () => (await sql`select from pg_stat_wal_receiver`).length === 0);
      });
    },
    async promote() {
      await withSql(superuserUrl, (sql) => sql`select pg_promote()`);
    },
    async stop() {
      await stopCluster(cluster);
      removeCluster(cluster);
      process.off('exit', discard);
    },
  };
}
