import { expect } from 'vitest';
import type { Sql, Transaction } from '../../src/postgres/connect.ts';
import { runHealthChecks } from '../../src/toolkit/check/health.ts';
import { rolledBack } from './database.ts';
import { cronDatabase } from './global-setup.ts';

export interface Job {
  name: string;
  schedule: string;
  command: string;
}

/** Has pg_cron follow what is declared; resolves with the number of changes. */
export async function sync(sql: Sql | Transaction): Promise<number> {
  const [row] = await sql`select ops.sync_cron_jobs() as changed`;
  return row?.changed;
}

/** The owner's jobs, as pg_cron has them. */
export const scheduled = async (sql: Sql | Transaction): Promise<Job[]> => [
  ...(await sql<Job[]>`
    select jobname as name, schedule, command from cron.job
    where database = ${cronDatabase} and username = 'gw_owner' and active
    order by jobname`),
];

/** The same, as they are declared. */
export const declared = async (sql: Sql | Transaction): Promise<Job[]> => [
  ...(await sql<Job[]>`
    select job_name as name, schedule, scheduled_command as command
    from ops.cron_jobs where is_active
    order by job_name`),
];

/** Does something, as gw_monitor, after runs of one of our jobs, oldest first, and of no other. */
export async function withRuns(
  superuser: Sql,
  runs: { status: string; minutesAgo: number }[],
  work: (sql: Transaction) => Promise<void>,
): Promise<void> {
  await rolledBack(superuser, async (sql) => {
    await sql`delete from cron.job_run_details`;
    // The others have not run, which is for these tests nothing to find.
    await sql`update cron.job set active = false where jobname <> 'plan-due-messages'`;
    for (const [at, { status, minutesAgo }] of runs.entries()) {
      await sql`
        insert into cron.job_run_details (jobid, runid, status, return_message, start_time,
          end_time)
        select jobid, ${at + 1}, ${status}, ${`said ${status}`},
          now() - ${minutesAgo} * interval '1 minute',
          now() - ${minutesAgo} * interval '1 minute' + interval '2 seconds'
        from cron.job where jobname = 'plan-due-messages'`;
    }
    // Monitoring sees the owner's jobs, which pg_cron's own policies would hide.
    await sql`set local role gw_monitor`;
    await work(sql);
  });
}

const isOfProgram = (line: string): boolean => line.startsWith('warning pg_cron:');

async function findings(sql: Transaction): Promise<string[]> {
  const { findings, skipped } = await runHealthChecks(sql, new Map(), ['cron-jobs']);
  expect(skipped).toEqual([]);
  return findings.map(({ level, object, detail }) => `${level} ${object}: ${detail}`);
}

/** What the check "cron-jobs" says of jobs. */
export const foundOfJobs = async (sql: Transaction): Promise<string[]> =>
  (await findings(sql)).filter((line) => !isOfProgram(line));

/** What it says of pg_cron itself. */
export const foundOfProgram = async (sql: Transaction): Promise<string[]> =>
  (await findings(sql)).filter(isOfProgram);
