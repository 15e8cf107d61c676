import { GwError, messageOf } from '../errors.ts';
import { withSql } from '../postgres/connect.ts';
import { readSqlFiles } from '../postgres/sql-files.ts';
import { syncHealthChecks } from './health-checks.ts';

/** What follows migrations and did not succeed. */
export interface FailedStep {
  step: string;
  failure: string;
}

/**
 * Lets follow what the migrations declare: partitions, pg_cron jobs, entries of the audit log,
 * and the health checks that run inside the database; and looks for indexes that are not whole.
 * Each step by itself, and whether or not a migration ran: pg_cron may have been installed, or a
 * copy restored, since the last one.
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
  const checks = await syncHealthChecks(ownerUrl).then(
    () => [],
    (error: unknown) => [{ step: 'health-checks', failure: messageOf(error) }],
  );
  return [...failed, ...checks, ...(await invalidIndexes(ownerUrl))];
}

/**
 * What a concurrent build leaves when it fails. With "if not exists" the next run of its migration
 * succeeds, and nobody would hear of it.
 */
async function invalidIndexes(ownerUrl: string): Promise<FailedStep[]> {
  const check = readSqlFiles('checks', 'health-').find(({ name }) => name === 'invalid-index');
  if (check === undefined) return [];
  return withSql(ownerUrl, async (sql) => {
    const rows = await sql.unsafe<{ object: string; detail: string; remediation: string }[]>(
      check.text,
    );
    return rows.map(({ object, detail, remediation }) => ({
      step: `index ${object}`,
      failure: `${detail}: ${remediation}`,
    }));
  });
}

/** @throws GwError that names each step that failed */
export function refuseFailedSteps(failed: readonly FailedStep[]): void {
  if (failed.length === 0) return;
  const lines = failed.map(({ step, failure }) => `  ${step}: ${failure}`);
  throw new GwError(`the migrations ran, but not all that follows them:\n${lines.join('\n')}`, {
    hint: 'Correct the cause, and run gw migrate again. The job follow-migrations tries partitions, jobs and the audit log again each 5 minutes.',
  });
}
