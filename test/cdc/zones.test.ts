import { expect, test, vi } from 'vitest';
import { plugins } from '../../src/cdc/slot.ts';
import { asReplica, expectDays, insertTask, useCapture } from '../helpers/capture.ts';
import { createUser, useDatabase } from '../helpers/database.ts';
import { patience } from '../helpers/patience.ts';

vi.setConfig({ testTimeout: patience(120_000) });

const db = useDatabase();
const capture = useCapture(db, plugins[0]);

/** Makes the server know a zone, or not. */
const know = (zone: string, isKnown: boolean) =>
  db.as('superuser').unsafe(`
    create or replace function app_hidden.known_zone(p_zone text) returns text
    language sql stable strict
    as $$ select case when ${isKnown} or p_zone <> '${zone}' then p_zone end $$`);

test('tasks in a zone that the server does not know are counted when it does', async () => {
  const sql = db.as('superuser');
  await know('Asia/Kolkata', false);
  const lost = await createUser(sql);
  const other = await createUser(sql);
  await asReplica(
    sql,
    (inner) => inner`
      update app_public.users set timezone = 'Asia/Kolkata' where id = ${lost.id}`,
  );
  // Found by the snapshot, then by the log.
  await insertTask(sql, lost.id, '2026-03-01T20:00Z');
  await capture.started();
  await insertTask(sql, lost.id, '2026-03-01T20:00Z', '2026-03-03T10:00Z');
  await insertTask(sql, other.id, '2026-03-01T20:00Z');
  await expectDays(sql, other.id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
  await expectDays(sql, lost.id, []);
  expect(await capture.differences()).toEqual([]);

  await know('Asia/Kolkata', true);
  await expectDays(sql, lost.id, [
    { agg_date: '2026-03-02', tasks_created: 2 },
    { agg_date: '2026-03-03', tasks_completed: 1 },
  ]);
  await capture.expectRight();
});

test('a user who moves by hand to a zone that nobody knows ends nothing', async () => {
  const sql = db.as('superuser');
  const user = await createUser(sql);
  await insertTask(sql, user.id, '2026-03-01T20:00Z');
  const running = await capture.started();
  await expectDays(sql, user.id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
  await asReplica(
    sql,
    (inner) => inner`
      update app_public.users set timezone = 'Atlantis/Capital' where id = ${user.id}`,
  );
  await expectDays(sql, user.id, []);
  await sql`update app_public.users set timezone = 'UTC' where id = ${user.id}`;
  await expectDays(sql, user.id, [{ agg_date: '2026-03-01', tasks_created: 1 }]);
  await running.stop();
  await running.ended;
});
