import type { Sql } from '../../src/postgres/connect.ts';

/** Waits until a connection to this database waits for a lock that another one holds. */
export async function waitUntilBlocked(superuser: Sql): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline) {
    const [row] = await superuser`
      select from pg_stat_activity
      where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`;
    if (row) return;
  }
  throw new Error('nothing waited for a lock within 10 seconds');
}
