import { expect, test } from 'vitest';
import { useDatabase } from '../helpers/database.ts';
import { code, expectTable, readTable } from '../helpers/reference.ts';

const db = useDatabase();

test('every job of pg_cron is in the reference, as it is declared', async () => {
  const jobs = await db.as('owner')<
    { name: string; schedule: string; command: string; description: string }[]
  >`
    select job_name as name, schedule, command, description from ops.cron_jobs`;
  expectTable(
    'schedule',
    'Jobs',
    jobs.map(({ name, schedule, command, description }) => ({
      job: code(name),
      schedule: code(schedule),
      calls: code(command.replace(/^select /, '')),
      does: description,
    })),
  );
});

test('the limits of a run are those of the functions', async () => {
  const rows = readTable('schedule', 'Jobs');
  const functions = await db.as('owner')<{ name: string; numbers: number[]; lock: string }[]>`
    select proname as name,
      array(
        select part[1]::integer from regexp_matches(
          pg_get_function_arguments(pg_proc.oid), 'DEFAULT ([0-9]+)', 'g') as part) as numbers,
      coalesce(substring(array_to_string(proconfig, ' ') from 'lock_timeout=([0-9]+(?:ms|s))'), '') as lock
    from pg_proc
    where pronamespace::regnamespace::text in ('ops', 'app_private', 'app_hidden')`;
  const wanted = functions.flatMap(({ name, numbers, lock }) => {
    const row = rows.find(({ calls }) => calls?.includes(`.${name}(`));
    if (row === undefined) return [];
    const limits = numbers.map((number) => number.toLocaleString('en'));
    return [
      ...limits,
      ...(lock === ''
        ? []
        : [
            `${lock.replace(/s$/, ' s').replace(/m s$/, ' ms').replace(/ s$/, ' seconds')} for a lock`,
          ]),
    ].map((limit) => ({
      job: row.job,
      limit,
      said: row['limits of a run'],
    }));
  });
  expect(wanted.length).toBeGreaterThan(5);
  expect(wanted.filter(({ said, limit }) => said?.includes(limit) !== true)).toEqual([]);
});
