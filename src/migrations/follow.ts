import { GwError, messageOf } from '../errors.ts';
import { withSql } from '../postgres/connect.ts';
import { syncHealthChecks } from './health-checks.ts';

/** What follows migrations and did not succeed. */
export interface FailedStep {
  step: string;
  failure: string;
}

/**
 * Lets follow what the migrations declare: partitions, pg_cron jobs, entries of the audit log,
 * and the health checks that run inside the database. Each step by itself, and whether or not a
 * migration ran: pg_cron may have been installed, or a copy restored, since the last one.
 *
 * @param ownerUrl gw_owner's connection
 * @returns the steps that failed
 */
export async function followMigrations(ownerUrl: string): Promise<FailedStep[]> {
  const failed = await withSql(ownerUrl, async (sql) => {
    const [room] = await sql`
      select to_regprocedure('ops.follow_migrations()') is not null as here`;
    if (room?.here !== true) return [];
    return [
      ...(await sql<FailedStep[]>`
        select step, failure_text as failure
        from ops.follow_migrations() as failed (step, failure_text)`),
    ];
  });
  return syncHealthChecks(ownerUrl).then(
    () => failed,
    (error: unknown) => [...failed, { step: 'health-checks', failure: messageOf(error) }],
  );
}

/** @throws GwError that names each step that failed */
export function refuseFailedSteps(failed: readonly FailedStep[]): void {
  if (failed.length === 0) return;
  const lines = failed.map(({ step, failure }) => `  ${step}: ${failure}`);
  throw new GwError(`the migrations ran, but not all that follows them:\n${lines.join('\n')}`, {
    hint: 'Run gw migrate again. The job follow-migrations tries all but the health checks each 5 minutes.',
  });
}
