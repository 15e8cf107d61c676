import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { connect, type Sql, withSql } from '../../../src/postgres/connect.ts';
import { databaseName } from '../../../src/postgres/urls.ts';
import { databaseAt } from '../../../src/server/scratch.ts';
import {
  createUser,
  expectRefusal,
  rolledBack,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';

const db = useDatabase();
const { asOwner } = transactionsOf(db);
const copyName = `gw_copy_${process.pid}`;
let copy: Sql;

const administer = (statement: string) =>
  withSql(inject('superuserUrl'), (sql) => sql.unsafe(statement));

const reasonOf = async (sql: Sql): Promise<string | null> => {
  const [row] = await sql<{ reason: string | null }[]>`select ops.fence_reason() as reason`;
  return row?.reason ?? null;
};

/** A message that is due, with its job, and an alert, in the original; and then a copy of it. */
beforeAll(async () => {
  const owner = db.as('owner');
  const [due] = await owner<{ birthday_date: string; send_time: string }[]>`
    select to_char(instant, '"1990-"MM-DD') as birthday_date,
      to_char(instant, 'HH24:MI:SS') as send_time
    from (values (now() at time zone 'UTC' - interval '1 minute')) as due (instant)`;
  await createUser(owner, due);
  await owner`select app_private.plan_due_messages()`;
  await db.close();
  await administer(`create database ${copyName} template ${databaseName(db.url('owner'))}`);
  copy = connect(databaseAt(inject('superuserUrl'), copyName).urls.superuser ?? '', { max: 2 });
});
afterAll(async () => {
  await copy?.end({ timeout: 1 });
  await administer(`drop database if exists ${copyName} with (force)`);
});

test('a new database is not fenced, and knows who it is', async () => {
  expect(await reasonOf(db.as('owner'))).toBeNull();
  const [here] = await db.as('owner')`select * from ops.present_place()`;
  expect(here).toMatchObject({ timeline: 1, machine: expect.anything() });
  expect(here?.files_since).toBeInstanceOf(Date);
  expect(here?.data_directory).toMatch(/^\//);
});

describe('a copy', () => {
  const unable = {
    'plans nothing': 'select app_private.plan_due_messages()',
    'queues nothing': `select app_private.enqueue_messages(array_agg(user_id), array_agg(id),
      array_agg(scheduled_send_time), now()) from app_public.message_logs`,
    'has no worker': 'select app_private.begin_send_worker()',
    'claims nothing': `select app_private.claim_messages('[]', 'file')`,
    'counts nothing anew': `select app_private.begin_capture_snapshot('slot', 'pgoutput')`,
    'counts no change': `select app_private.apply_changes('slot', '0/0', '0/0', '0/0', now(), '{}')`,
  };
  test.each(Object.entries(unable))('%s', async (_what, statement) => {
    await rolledBack(copy, (sql) =>
      expectRefusal(sql, 'GW070', (inner) => inner.unsafe(statement)),
    );
  });

  test('has jobs that nobody takes', async () => {
    const [waiting] = await copy`select count(*)::integer as jobs from pgboss.job`;
    expect(waiting?.jobs).toBe(1);
    expect(await copy`select * from app_private.take_send_jobs(10, 1)`).toEqual([]);
    expect(await db.as('owner')`select * from app_private.take_send_jobs(10, 1)`).toHaveLength(1);
  });

  test('raises no alert and tells nobody', async () => {
    const [raised] = await copy`select ops.raise_alert('test', '', 'critical', 'x') as raised`;
    expect(raised?.raised).toBe(false);
    expect(await copy`select from ops.alerts where check_name = 'test'`).toEqual([]);
    expect(await copy`select ops.check_health()`).toEqual([{ check_health: 0 }]);
    expect(await copy`select from ops.health_checks where ran_at is not null`).toEqual([]);
  });

  test('says why, and a check says it too', async () => {
    expect(await reasonOf(copy)).toMatch(/^it is another database of the same server/);
  });

  test("runs no job's command", async () => {
    const jobs = await copy<{ command: string }[]>`
      select scheduled_command as command from ops.cron_jobs`;
    const rows = await Promise.all(jobs.map(({ command }) => copy.unsafe(command)));
    expect(rows.flat()).toEqual([]);
  });

  test('follows what is changed of a user, without planning', async () => {
    await rolledBack(copy, async (sql) => {
      await sql`update app_public.users set birthday_date = birthday_date + 100`;
      const [log] = await sql`select status from app_public.message_logs`;
      expect(log?.status).toBe('CANCELED');
      await sql`select 1 / (select count(*) from app_private.message_schedule)`;
    });
  });

  test('is adopted with a reason, once, and works', async () => {
    await rolledBack(copy, async (sql) => {
      await sql`set local role gw_owner`;
      await expectRefusal(sql, 'GW071', (inner) => inner`select ops.adopt(' ')`);
      // A position in the log of another server.
      await sql`insert into ops.change_capture (slot_name, plugin, state, applied_lsn)
        values ('original', 'pgoutput', 'stopped', 'FF/0')`;
      const [adopted] = await sql`select ops.adopt('a test') as was`;
      expect(adopted?.was).toMatch(/another database/);
      const [again] = await sql`select ops.adopt('again') as was`;
      expect(again?.was).toBeNull();
      const captures = await sql`select resnapshot_requested from ops.change_capture`;
      expect(captures).toEqual([{ resnapshot_requested: true }]);
      await sql`select app_private.plan_due_messages()`;
      expect(await sql`select * from app_private.take_send_jobs(10, 1)`).toHaveLength(1);
      const [entry] = await sql`
        select details ->> 'reason' as reason from ops.audit_log
        where action = 'database.adopted'`;
      expect(entry?.reason).toBe('a test');
    });
  });
});

describe('fenced is what differs', () => {
  const cases: [string, string, RegExp | null][] = [
    ['the server', "system_identifier = '1'", /another server/],
    ['the machine', "machine = 'other'", /another machine/],
    ['the folder', "data_directory = '/other'", /and were in \/other/],
    ['the files', "files_since = files_since - interval '1 second'", /^its files were put here/],
    ['the timeline', 'timeline = timeline - 1', /branched off: timeline 1, and not 0/],
    ['what a person has fenced', "closed = 'a rollback'", /^it was fenced by hand: a rollback$/],
    ['files that nobody watches', "files_since = '2000-01-01', watches_files = false", null],
    ['a machine that cannot be told', 'machine = null', null],
  ];
  test.each(cases)('%s', async (_what, change, reason) => {
    await asOwner(async (sql) => {
      await sql.unsafe(`update ops.identity set ${change}`);
      const said = await reasonOf(sql as unknown as Sql);
      if (reason === null) expect(said).toBeNull();
      else expect(said).toMatch(reason);
    });
  });

  test('no identity at all, as while it is being restored', async () => {
    await asOwner(async (sql) => {
      await sql`delete from ops.identity`;
      expect(await reasonOf(sql as unknown as Sql)).toMatch(/being restored/);
      await expectRefusal(sql, 'GW070', (inner) => inner`select app_private.plan_due_messages()`);
    });
  });

  test('a declared standby goes on after its promotion, and another does not', async () => {
    await asOwner(async (sql) => {
      const declare = (directory: string) => sql`
        select ops.declare_standby(system_identifier, machine, ${directory}, files_since)
        from ops.present_place()`;
      await sql`update ops.identity set timeline = 0, data_directory = '/primary'`;
      await declare('/elsewhere');
      expect(await reasonOf(sql as unknown as Sql)).toMatch(/were in \/primary/);
      const [here] = await sql<{ data_directory: string }[]>`select * from ops.present_place()`;
      await declare(here?.data_directory ?? '');
      expect(await reasonOf(sql as unknown as Sql)).toBeNull();
      // The planner takes it over: from now on it is known by its own timeline.
      await sql`select app_private.plan_due_messages()`;
      const [identity] = await sql`select timeline, adopted_by, data_directory from ops.identity`;
      expect(identity).toEqual({
        timeline: 1,
        adopted_by: 'promotion',
        data_directory: here?.data_directory,
      });
      await expectRefusal(
        sql,
        'GW071',
        (inner) => inner`select ops.declare_standby('1', 'machine', '/folder', now())`,
      );
    });
  });
});
