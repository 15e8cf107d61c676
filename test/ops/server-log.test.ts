import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { roleNames } from '../../src/postgres/roles.ts';
import { useDatabase } from '../helpers/database.ts';
import { logEverything, serverLog } from '../helpers/server-log.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const secret = `s3cret-${randomUUID()}`;

beforeAll(async () => {
  await logEverything(db.as('superuser'), roleNames);
  const owner = db.as('owner');
  await owner.unsafe(`
    create table ops.kept (
      id integer primary key,
      note text not null unique check (length(note) < 100),
      parent text references ops.kept (note)
    );
    create function ops.fail_for_test(p_text text) returns void language plpgsql as $$
    begin
      raise exception 'cannot keep "%"', p_text using detail = p_text, hint = p_text;
    end $$;
    create function ops.execute_for_test(p_text text) returns void language plpgsql as $$
    begin
      execute format('select %L::uuid', p_text);
    end $$;`);
  await owner`insert into ops.kept values (1, ${secret}), (2, ${`${secret} 2`})`;
});

/** Statements that fail, each quoting a value in another place. */
const errors: [kind: string, code: string, text: string, parameter: string][] = [
  ['a duplicate', '23505', 'insert into ops.kept values (3, $1)', secret],
  ['a row that a CHECK refuses', '23514', 'insert into ops.kept values (3, $1)', secret.repeat(3)],
  ['a row without a value', '23502', 'insert into ops.kept (note) values ($1)', `${secret} 3`],
  ['a reference to nothing', '23503', "insert into ops.kept values (4, '4', $1)", `${secret} none`],
  ['text that is no uuid', '22P02', 'select $1::text::uuid', secret],
  ['text that is no date', '22007', 'select $1::text::date', secret],
  ['text that is no JSON', '22P02', 'select $1::text::jsonb', secret],
  ['text that is no pattern', '2201B', 'select true where $1::text ~ $1', `(${secret}`],
  ['an error that a function raises', 'P0001', 'select ops.fail_for_test($1)', secret],
  ['dynamic SQL', '22P02', 'select ops.execute_for_test($1)', secret],
  [
    'a statement that takes too long',
    '57014',
    "select pg_sleep(9), $1::text from set_config('statement_timeout', '20ms', true)",
    secret,
  ],
];

const failing = (work: PromiseLike<unknown>): Promise<string> =>
  Promise.resolve(work).then(
    () => 'nothing failed',
    (error: { code?: string }) => error.code ?? 'no code',
  );

describe('the log of the server has no value of', () => {
  test.each(errors)('%s', async (_kind, code, text, parameter) => {
    const owner = await db.as('owner').reserve();
    const timeout = code === '57014';
    if (timeout) await owner`set statement_timeout = 20`;
    expect(
      await failing(owner.unsafe(timeout ? 'select pg_sleep(9), $1::text' : text, [parameter])),
    ).toBe(code);
    if (timeout) await owner`reset statement_timeout`;
    owner.release();
    expect((await serverLog(db.as('superuser'))).includes(secret)).toBe(false);
  });

  test('a slow statement, a sort on disk, a wait for a lock, and a deadlock', async () => {
    const [one, other] = [await db.as('owner').reserve(), await db.as('owner').reserve()];
    await one`select ${secret}::text, pg_sleep(0.01)`;
    await one`set work_mem = '64kB'`;
    await one`
      select count(*) from (
        select ${secret}::text || n from generate_series(1, 20000) as n order by 1 offset 1
      ) as sorted`;
    const [row] = await one<{ pid: number }[]>`select pg_backend_pid() as pid`;
    await one`begin`;
    await other`begin`;
    await one`update ops.kept set parent = ${secret} where id = 1`;
    await other`update ops.kept set parent = ${secret} where id = 2`;
    const waits = failing(one`update ops.kept set parent = ${secret} where id = 2`);
    await eventually(async () =>
      (await serverLog(db.as('superuser'))).includes(`process ${row?.pid} still waiting for`),
    );
    const deadlock = failing(other`update ops.kept set parent = ${secret} where id = 1`);
    expect([await waits, await deadlock]).toContain('40P01');
    await one`rollback`;
    await other`rollback`;
    one.release();
    other.release();

    let log = '';
    await eventually(async () => {
      log = await serverLog(db.as('superuser'));
      return /duration: \d/.test(log) && /temporary file: path/.test(log);
    });
    expect(log.includes(secret)).toBe(false);
  });

  test('a session that the server ends while it works', async () => {
    const victim = await db.as('worker').reserve();
    const [row] = await victim<{ pid: number }[]>`select pg_backend_pid() as pid`;
    const ended = failing(victim`select ${secret}::text, pg_sleep(9)`);
    await db.as('superuser')`select pg_terminate_backend(${row?.pid ?? 0})`;
    expect(await ended).toMatch(/57P01|CONNECTION_CLOSED|ECONNRESET/);
    let log = '';
    await eventually(async () => {
      log = await serverLog(db.as('superuser'));
      return log.includes('terminating connection due to administrator command');
    });
    expect(log.includes(secret)).toBe(false);
  });

  test('what an analyst types', async () => {
    await db.as('superuser')`alter role gw_readonly in database ${db.as('superuser')(
      new URL(db.url('superuser')).pathname.slice(1),
    )} reset log_min_duration_statement`;
    const sql = db.as('readonly', 1);
    await sql.unsafe(`select '${secret}'`);
    expect(await failing(sql.unsafe(`select '${secret}'::uuid`))).toBe('22P02');
    expect((await serverLog(db.as('superuser'))).includes(secret)).toBe(false);
  });
});

test('the log is kept for seven days: a file for each day of the week, emptied before it is used again', async () => {
  const settings = await db.as('superuser')<{ name: string; setting: string }[]>`
    select name, setting from pg_settings
    where name in ('logging_collector', 'log_filename', 'log_truncate_on_rotation',
      'log_rotation_age', 'log_rotation_size')`;
  expect(Object.fromEntries(settings.map(({ name, setting }) => [name, setting]))).toEqual({
    logging_collector: 'on',
    log_filename: 'postgresql-%a.log',
    log_truncate_on_rotation: 'on',
    log_rotation_age: '1440',
    log_rotation_size: '0',
  });
});
