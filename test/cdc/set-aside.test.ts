import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { plugins } from '../../src/cdc/slot.ts';
import type { Sql, Transaction } from '../../src/postgres/connect.ts';
import { asReplica, type Day, expectDays, useCapture } from '../helpers/capture.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';

vi.setConfig({ testTimeout: patience(120_000) });

const db = useDatabase();
const capture = useCapture(db, plugins[0]);

const day = '2026-03-01';
const moment = `${day}T12:00Z`;

interface Poison {
  /** Before the capture knows the user's next change. */
  plant: (sql: Sql, id: string) => PromiseLike<unknown>;
  /** The change that meets it. */
  change: (sql: Sql | Transaction, id: string) => PromiseLike<unknown>;
  /** What the user's aggregates are then. */
  days: Partial<Day>[];
}

const aggregates = 'update app_public.user_dashboard_aggregates set';
const removeTasks = (sql: Sql | Transaction, id: string) => sql`
  delete from app_public.tasks where user_id = ${id}`;
const addTask = (sql: Sql | Transaction, id: string, created = moment, done?: string) => sql`
  insert into app_public.tasks (user_id, title, status, created_at, completed_at)
  values (${id}, 'Task', ${done === undefined ? 'todo' : 'done'},
    ${created}::text::timestamptz, ${done ?? null}::text::timestamptz)`;

/** What a hand, a restore or another server can leave in one user's rows. */
const poisons: Record<string, Poison> = {
  'a zone that is not known': {
    plant: (sql, id) =>
      asReplica(
        sql,
        (inner) => inner`
          update app_public.users set timezone = 'Atlantis/Capital' where id = ${id}`,
      ),
    change: (sql, id) => addTask(sql, id),
    days: [],
  },
  'a count that would fall below 0': {
    plant: (sql, id) => sql`${sql.unsafe(aggregates)} tasks_created = 0 where user_id = ${id}`,
    change: removeTasks,
    days: [],
  },
  'a row of counts that is gone': {
    plant: (sql, id) => sql`
      delete from app_public.user_dashboard_aggregates where user_id = ${id}`,
    change: removeTasks,
    days: [],
  },
  'a count that would not fit its type': {
    plant: (sql, id) => sql`
      ${sql.unsafe(aggregates)} tasks_created = 2147483647 where user_id = ${id}`,
    change: (sql, id) => addTask(sql, id),
    days: [{ agg_date: day, tasks_created: 2 }],
  },
  'a date at the end of the calendar': {
    plant: (sql, id) => sql`
      update app_public.users set timezone = 'Pacific/Kiritimati' where id = ${id}`,
    change: (sql, id) => addTask(sql, id, '1970-01-01T00:00Z', '9999-12-30T23:59:59Z'),
    days: [
      // The island lay on the other side of the date line then.
      { agg_date: '1969-12-31', tasks_created: 1 },
      { agg_date: '2026-03-02', tasks_created: 1 },
      { agg_date: '9999-12-31', tasks_completed: 1 },
    ],
  },
  'an account that is gone': {
    plant: (sql, id) => sql`
      delete from app_public.user_dashboard_aggregates where user_id = ${id}`,
    change: (sql, id) => sql`delete from app_public.users where id = ${id}`,
    days: [],
  },
};

test("one user's rows stop nobody's counts, whatever they are", async () => {
  const sql = db.as('superuser');
  await sql`insert into app_hidden.timezones values ('Atlantis/Capital')`;
  const running = await capture.started();
  // What ends the capture is the failure, and not the counts that do not come then.
  const failed = running.ended.then(() => Promise.reject(new Error('the capture has ended')));
  failed.catch(() => {});
  const expectAll = (users: readonly { id: string; days: Partial<Day>[] }[]) =>
    Promise.race([failed, Promise.all(users.map(({ id, days }) => expectDays(sql, id, days)))]);
  const kinds = fc.option(fc.constantFrom(...Object.keys(poisons)), { freq: 3 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(kinds, { minLength: 1, maxLength: 8 }),
      fc.boolean(),
      async (rows, isOneTransaction) => {
        const users = await Promise.all(
          rows.map(async (kind) => {
            const { id } = await createUser(sql);
            await addTask(sql, id);
            return { id, poison: kind === null ? undefined : poisons[kind] };
          }),
        );
        await expectAll(
          users.map(({ id }) => ({ id, days: [{ agg_date: day, tasks_created: 1 }] })),
        );
        for (const { id, poison } of users) await poison?.plant(sql, id);
        const changeAll = async (inner: Sql | Transaction) => {
          for (const { id, poison } of users) {
            await (poison?.change(inner, id) ?? addTask(inner, id));
          }
        };
        await (isOneTransaction ? sql.begin(changeAll) : changeAll(sql));
        const usual = [{ agg_date: day, tasks_created: 2 }];
        await expectAll(users.map(({ id, poison }) => ({ id, days: poison?.days ?? usual })));
      },
    ),
    { numRuns: 10, examples: [[[...Object.keys(poisons), null], false]] },
  );
  await capture.expectRight();
});

test('an instant without a local day in some zone cannot be stored', async () => {
  const sql = db.as('superuser');
  const { id } = await createUser(sql);
  for (const instant of ['infinity', '-infinity', '294276-12-31T23:59Z', '1969-12-31T23:59Z']) {
    await expect(asReplica(sql, (inner) => addTask(inner, id, instant))).rejects.toMatchObject({
      constraint_name: 'tasks_created_at_check',
    });
    await expect(
      sql`insert into app_public.habits (user_id, name, archived_at)
        values (${id}, 'Run', ${instant}::text::timestamptz)`,
    ).rejects.toMatchObject({ constraint_name: 'habits_archived_at_check' });
  }
});
