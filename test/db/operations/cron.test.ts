import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { migrate, migrationUrls } from '../../../src/migrations/run.ts';
import { connect, type Sql, withSql } from '../../../src/postgres/connect.ts';
import * as sqlFiles from '../../../src/postgres/sql-files.ts';
import { findInstallations } from '../../../src/server/binaries.ts';
import { bootstrapDatabase } from '../../../src/server/bootstrap.ts';
import { databaseAt } from '../../../src/server/scratch.ts';
import { runHealthChecks } from '../../../src/toolkit/check/health.ts';
import {
  declared,
  foundOfJobs,
  foundOfProgram,
  type Job,
  scheduled,
  sync,
  withRuns,
} from '../../helpers/cron-jobs.ts';
import { createUser, expectRefusal, rolledBack, useDatabase } from '../../helpers/database.ts';
import { cronDatabase } from '../../helpers/global-setup.ts';
import { patience } from '../../helpers/patience.ts';
import { plannedFor } from '../../helpers/planner.ts';
import { eventually } from '../../helpers/wait.ts';
import { aboutJobs, scheduled as documented } from '../documented/cron-jobs.ts';

const withoutCron = useDatabase();
let superuser: Sql;
let owner: Sql;
/** Somebody with a birthday tomorrow, whom a running job finds. */
let birthdayChild = '';

const administer = (statement: string) =>
  withSql(inject('superuserUrl'), (sql) => sql.unsafe(statement));

beforeAll(async () => {
  await administer(`drop database if exists ${cronDatabase} with (force)`);
  await administer(`create database ${cronDatabase} template gw_template owner gw_owner`);
  const { urls } = databaseAt(inject('superuserUrl'), cronDatabase);
  await bootstrapDatabase(urls.superuser ?? '');
  superuser = connect(urls.superuser ?? '', { max: 2 });
  owner = connect(urls.owner, { max: 2 });
  await owner`select ops.take_identity('test')`;
  const [tomorrow] = await owner`
    select to_char(now() + interval '1 day', '"1992-"MM-DD') as date`;
  const user = await createUser(owner, { birthday_date: tomorrow?.date, send_time: '00:00' });
  birthdayChild = user.id;
  await sync(owner); // First of all: a job's first minute begins now.
});

afterAll(async () => {
  await Promise.all([superuser?.end({ timeout: 1 }), owner?.end({ timeout: 1 })]);
  await administer(`drop database if exists ${cronDatabase} with (force)`);
});

describe('sync_cron_jobs', () => {
  test('has given pg_cron every declared job, to run here as the owner', async () => {
    const jobs = await scheduled(superuser);
    expect(jobs).toEqual(await declared(owner));
    expect(jobs.map(({ name }) => name)).toContain('plan-due-messages');
    const [all] = await superuser`select count(*)::int from cron.job`;
    expect(all?.count).toBe(jobs.length);
  });

  test('changes nothing the second time', async () => {
    await rolledBack(owner, async (sql) => {
      expect(await sync(sql)).toBe(0);
    });
  });

  test.each([
    [
      'another schedule',
      "update ops.cron_jobs set schedule = '*/7 * * * *' where job_name = $1",
      2,
    ],
    [
      'another command',
      "update ops.cron_jobs set command = 'select ops.is_fenced()' where job_name = $1",
      2,
    ],
    [
      'a job that is not active',
      'update ops.cron_jobs set is_active = false where job_name = $1',
      1,
    ],
    ['a job that is gone', 'delete from ops.cron_jobs where job_name = $1', 1],
    [
      'a new job',
      `insert into ops.cron_jobs (job_name, schedule, command, description)
        values ($1 || '-again', '1 2 3 4 5', 'select ops.is_fenced()', 'x')`,
      1,
    ],
  ])('follows %s', async (_what, statement, changes) => {
    await rolledBack(owner, async (sql) => {
      const before = await scheduled(sql);
      await sql.unsafe(statement, ['maintain-partitions']);
      // A job that differs is removed and added.
      expect(await sync(sql)).toBe(changes);
      expect(await scheduled(sql)).not.toEqual(before);
      expect(await scheduled(sql)).toEqual(await declared(sql));
      expect(await sync(sql)).toBe(0);
    });
  });

  test.each([
    [
      'changed',
      "update cron.job set schedule = '1 2 3 4 5' where jobname = 'maintain-partitions'",
      2,
    ],
    ['switched off', "update cron.job set active = false where jobname = 'maintain-partitions'", 2],
    ['removed', "delete from cron.job where jobname = 'maintain-partitions'", 1],
  ])('puts right what somebody %s in pg_cron', async (_what, statement, changes) => {
    await rolledBack(superuser, async (sql) => {
      await sql.unsafe(statement);
      await sql`set local role gw_owner`;
      expect(await sync(sql)).toBe(changes);
      expect(await scheduled(sql)).toEqual(await declared(sql));
      expect(await sync(sql)).toBe(0);
    });
  });

  test('is called by gw migrate also when no migration runs', async () => {
    await superuser`delete from cron.job where jobname = 'sync-timezones'`;
    const database = databaseAt(inject('superuserUrl'), cronDatabase);
    expect(await migrate(migrationUrls(database, ''))).toBe(0);
    expect(await scheduled(superuser)).toEqual(await declared(owner));
  });

  test('enters what it changed into the audit log, and nothing when nothing changed', async () => {
    await rolledBack(owner, async (sql) => {
      const entries = () => sql`
        select details from ops.audit_log where action = 'cron_jobs.synchronised' order by id`;
      const before = (await entries()).length;
      expect(before).toBeGreaterThan(0);
      await sync(sql);
      expect(await entries()).toHaveLength(before);
      await sql`
        update ops.cron_jobs set schedule = '*/7 * * * *' where job_name = 'maintain-partitions'`;
      await sync(sql);
      expect((await entries()).at(-1)?.details).toEqual({
        removed: ['maintain-partitions'],
        added: ['maintain-partitions'],
      });
    });
  });

  test("leaves other people's jobs alone", async () => {
    await rolledBack(superuser, async (sql) => {
      await sql`select cron.schedule('theirs', '1 2 3 4 5', 'select 1')`;
      await sql`set local role gw_owner`;
      expect(await sync(sql)).toBe(0);
      await sql`set local role none`;
      expect(await sql`select from cron.job where jobname = 'theirs'`).toHaveLength(1);
    });
  });

  test('does nothing in a database without pg_cron', async () => {
    const sql = withoutCron.as('owner');
    expect(await sql`select from pg_extension where extname = 'pg_cron'`).toHaveLength(0);
    expect((await declared(sql)).length).toBeGreaterThan(0);
    expect(await sync(sql)).toBe(0);
  });
});

describe('ops.cron_jobs', () => {
  test.each(['* * * *', '* * * * * *', 'every minute', '60 seconds', ''])(
    'refuses the schedule "%s"',
    async (schedule) => {
      await rolledBack(owner, async (sql) => {
        await expectRefusal(
          sql,
          '23514',
          (inner) => inner`update ops.cron_jobs set schedule = ${schedule}`,
        );
      });
    },
  );

  test('holds only commands that the owner can run', async () => {
    const commands = await owner<Job[]>`
      select job_name as name, scheduled_command as command
      from ops.cron_jobs order by job_name`;
    for (const { command } of commands) {
      // A procedure that commits.
      if (command.startsWith('do ')) await owner.unsafe(command);
      else
        await rolledBack(owner, async (sql) => {
          await sql.unsafe(command);
        });
    }
    expect(commands.length).toBeGreaterThan(4);
  });

  test('prunes the history of pg_cron after 14 days', async () => {
    await rolledBack(superuser, async (sql) => {
      const insert = (runid: number, age: string) => sql`
        insert into cron.job_run_details (runid, jobid, database, username, command, end_time)
        values (${runid}, 1, ${cronDatabase}, 'gw_owner', 'planted', now() - ${age}::interval)`;
      await insert(-1, '15 days');
      await insert(-2, '13 days');
      const [job] = await sql<Job[]>`
        select command from ops.cron_jobs where job_name = 'delete-expired-rows'`;
      await sql`set local role gw_owner`;
      await sql.unsafe(job?.command ?? '');
      await sql`set local role none`;
      const left = await sql`
        select runid::int from cron.job_run_details where command = 'planted'`;
      expect(left).toEqual([{ runid: -2 }]);
    });
  });
});

describe('the jobs of the documents', () => {
  test.each(documented)(
    '$document: $job is scheduled as it is written',
    async ({ job, sql: text }) => {
      await rolledBack(owner, async (sql) => {
        const [wanted] = await sql<(Job & { on: boolean })[]>`
          select schedule, scheduled_command as command, is_active as on
          from ops.cron_jobs where job_name = ${job}`;
        await sql.unsafe(text);
        const made = (await scheduled(sql)).find(({ name }) => name === job);
        // At the same times as the declared one; ours names the schema, so the next
        // synchronisation puts it back, or removes what is declared as switched off.
        expect(made?.schedule).toBe(wanted?.schedule);
        expect(made?.command).not.toBe(wanted?.command);
        await sql.unsafe(made?.command ?? '').simple();
        expect(await sync(sql)).toBe(wanted?.on === true ? 2 : 1);
        expect(await scheduled(sql)).toEqual(await declared(sql));
      });
    },
  );

  test.each(aboutJobs)('%s runs as it is written', async (text) => {
    await rolledBack(owner, async (sql) => {
      await sql`update ops.cron_jobs set is_active = true`;
      await sync(sql);
      expect((await sql.unsafe(text)).length).toBeGreaterThan(0);
    });
  });
});

describe('pg_cron', () => {
  test('runs a job for real, at the next full minute', { timeout: patience(90_000) }, async () => {
    const latestRun = async () => {
      const [run] = await superuser`
        select status, return_message, job.username from cron.job_run_details
        inner join cron.job using (jobid)
        where jobname = 'plan-due-messages' and status in ('succeeded', 'failed')
        order by runid limit 1`;
      return run;
    };
    const run = await eventually(latestRun, 80_000);
    expect(run).toMatchObject({ status: 'succeeded', username: 'gw_owner' });
    expect(await plannedFor(owner, birthdayChild)).toMatchObject([{ type: 'BIRTHDAY' }]);
  });

  // Older ones wait, as the check "cron-jobs" says; its own test is below.
  const isOld = findInstallations()[0]?.outdated.includes('pg_cron') === true;
  const options = { timeout: patience(60_000), skip: isOld };
  const runsOf = (name: string, status: string) => superuser`
    select from cron.job_run_details inner join cron.job using (jobid)
    where jobname = ${name} and job_run_details.status = ${status}`;
  test('runs a job while another has not ended', options, async () => {
    try {
      await owner`select cron.schedule('long', '1 second', 'select pg_sleep(600)')`;
      await eventually(async () => (await runsOf('long', 'running'))[0]);
      await owner`select cron.schedule('short', '1 second', 'select 1')`;
      const [run] = await eventually(async () => {
        const rows = await runsOf('short', 'succeeded');
        return rows.length > 0 ? rows : undefined;
      }, 20_000);
      expect(run).toBeDefined();
    } finally {
      await owner`select cron.unschedule(jobname) from cron.job where jobname in ('long', 'short')`;
      await superuser`
        select pg_terminate_backend(pid) from pg_stat_activity
        where query = 'select pg_sleep(600)'`;
    }
  });
});

describe('monitoring', () => {
  test('finds a pg_cron whose jobs wait for each other', async () => {
    await withRuns(superuser, [], async (sql) => {
      const [row] = await sql`
        select default_version as version from pg_available_extensions where name = 'pg_cron'`;
      expect(await foundOfProgram(sql)).toEqual(
        /^1\.[0-4](\D|$)/.test(row?.version)
          ? [`warning pg_cron: is ${row?.version}: a job waits until the job before it has ended`]
          : [],
      );
    });
  });

  const failed = { status: 'failed', minutesAgo: 1 };
  const done = { status: 'succeeded', minutesAgo: 1 };

  test('finds a job whose latest run failed, and one that failed three times', async () => {
    await withRuns(superuser, [done, failed], async (sql) => {
      expect(await foundOfJobs(sql)).toEqual([
        'warning plan-due-messages: the latest run failed: said failed',
      ]);
    });
    await withRuns(superuser, [failed, failed, failed], async (sql) => {
      expect(await foundOfJobs(sql)).toEqual([
        expect.stringMatching(/^critical plan-due-messages/),
      ]);
    });
    await withRuns(superuser, [failed, done], async (sql) =>
      expect(await foundOfJobs(sql)).toEqual([]),
    );
  });

  test('finds jobs that are not as they are declared, and one that nobody declared', async () => {
    await rolledBack(superuser, async (sql) => {
      await sql`delete from cron.job where jobname = 'sync-timezones'`;
      await sql`
        update cron.job set active = jobname <> 'check-health', schedule = '1 1 1 1 1'
        where jobname in ('check-health', 'cache-cleanup')`;
      await sql`set local role gw_owner`;
      await sql`select cron.schedule('by-hand', '1 2 3 4 5', 'select 1')`;
      await sql`set local role gw_monitor`;
      const { findings } = await runHealthChecks(sql, new Map(), ['declared-jobs']);
      expect(findings.map(({ level, object }) => `${level} ${object}`)).toEqual([
        'warning by-hand',
        'critical cache-cleanup',
        'critical check-health',
        'critical sync-timezones',
      ]);
    });
  });

  test("lists a job that nobody declared, and not another database's", async () => {
    await withRuns(superuser, [], async (sql) => {
      await sql`set local role none`;
      await sql`select cron.schedule('theirs', '1 2 3 4 5', 'select 1')`;
      await sql`
        select cron.schedule_in_database('elsewhere', '1 2 3 4 5', 'select 1', 'postgres')`;
      await sql`set local role gw_monitor`;
      const jobs = await sql`
        select job_name, is_declared, is_active from ops.schedule_status()
        where job_name in ('theirs', 'elsewhere')`;
      expect(jobs).toEqual([{ job_name: 'theirs', is_declared: false, is_active: true }]);
    });
  });

  test('finds a job that did not run when it was due', async () => {
    await withRuns(superuser, [{ status: 'succeeded', minutesAgo: 30 }], async (sql) => {
      expect(await foundOfJobs(sql)).toEqual([
        expect.stringMatching(/^warning plan-due-messages: last ran at .*, although it is due/),
      ]);
    });
  });

  test('reports jobs and their runs', async () => {
    await withRuns(superuser, [{ ...done, minutesAgo: 2 }, failed], async (sql) => {
      const ask = async (name: string) => {
        const file = sqlFiles.readSqlFiles('reports').find((each) => each.name === name);
        const answer = await sqlFiles.runSqlFile(sql, file as sqlFiles.SqlFile);
        return 'rows' in answer ? answer.rows : [];
      };
      const jobs = await ask('schedule');
      expect(jobs).toContainEqual(
        expect.objectContaining({
          job_name: 'plan-due-messages',
          schedule: '* * * * *',
          command: 'call app_private.run_planner()',
          is_declared: true,
          is_active: true,
          last_status: 'failed',
          last_seconds: 2,
          run_seconds: [2, 2],
          failed: 1,
          last_message: 'said failed',
        }),
      );
      // Declared, and switched off in pg_cron by these tests; it has not run.
      expect(jobs).toContainEqual(
        expect.objectContaining({
          job_name: 'maintain-partitions',
          is_declared: true,
          is_active: false,
          last_start: null,
          last_status: null,
          failed: 0,
        }),
      );
      await sqlFiles.setParams(sql, 'report', new Map([['days', '0']]));
      expect(await ask('schedule')).toContainEqual(
        expect.objectContaining({ job_name: 'plan-due-messages', failed: 0 }),
      );
      await sqlFiles.setParams(sql, 'report', new Map([['failed', 'true']]));
      expect(await ask('cron-history')).toMatchObject([
        { job_name: 'plan-due-messages', status: 'failed', run_seconds: 2 },
      ]);
    });
  });
});
