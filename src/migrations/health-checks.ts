import { withSql } from '../postgres/connect.ts';
import { readSqlFiles } from '../postgres/sql-files.ts';

/**
 * Brings the files' text into the database, where pg_cron runs it. Does nothing where the
 * migrations have not made room for it.
 *
 * @param ownerUrl gw_owner's connection
 */
export async function syncHealthChecks(ownerUrl: string): Promise<void> {
  await withSql(ownerUrl, async (sql) => {
    const [room] = await sql`
      select to_regprocedure('ops.sync_health_checks(jsonb)') is not null as here`;
    if (room?.here !== true) return;
    const checks = readSqlFiles('checks', 'health-')
      // Inside the database nobody knows another clock, and nobody asks who runs the checks.
      .filter(({ name }) => name !== 'clock' && name !== 'checks-running')
      .map(({ name, needs, every, text }) => ({
        name,
        needs,
        every,
        query: text.replace(/;\s*$/, ''),
      }));
    await sql`select ops.sync_health_checks(${sql.json(checks)})`;
  });
}
