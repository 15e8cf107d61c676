import { expect, test } from 'vitest';
import { withUserContext } from '../../src/postgres/connect.ts';
import { createUser, useDatabase } from '../helpers/database.ts';

const db = useDatabase();

test('runs as the user, with row-level security, and commits', async () => {
  const ann = await createUser(db.as('owner'));
  const bob = await createUser(db.as('owner'));
  const pool = db.as('authenticator');
  const title = await withUserContext(pool, ann.id, async (sql) => {
    const [task] = await sql`insert into app_public.tasks (title) values ('hers') returning *`;
    expect(task?.user_id).toBe(ann.id);
    return task?.title as string;
  });
  expect(title).toBe('hers');
  const count = (userId: string) =>
    withUserContext(pool, userId, async (sql) => (await sql`select from app_public.tasks`).length);
  expect(await count(ann.id)).toBe(1);
  expect(await count(bob.id)).toBe(0);
});

test('rolls back when the callback throws, and throws on', async () => {
  const ann = await createUser(db.as('owner'));
  const failure = new Error('no');
  await expect(
    withUserContext(db.as('authenticator'), ann.id, async (sql) => {
      await sql`insert into app_public.tasks (title) values ('gone')`;
      throw failure;
    }),
  ).rejects.toBe(failure);
  expect(await db.as('owner')`select from app_public.tasks where user_id = ${ann.id}`).toEqual([]);
});

test('nothing of the user stays on the connection', async () => {
  const ann = await createUser(db.as('owner'));
  const pool = db.as('authenticator', 1);
  await withUserContext(pool, ann.id, async () => {});
  const [row] = await pool`
    select current_user, current_setting('app.current_user_id', true) as user_id`;
  expect(row).toEqual({ current_user: 'gw_authenticator', user_id: '' });
});

test('an id that is none is refused before anything runs', async () => {
  let ran = false;
  await expect(
    withUserContext(db.as('authenticator'), "x'; drop table app_public.users; --", async () => {
      ran = true;
    }),
  ).rejects.toMatchObject({ code: '22P02' });
  expect(ran).toBe(false);
});
