import { beforeAll, describe, expect, test } from 'vitest';
import { seed } from '../../src/migrations/seed.ts';
import { useApi } from '../helpers/api.ts';
import { expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';
import { expectSound, Guide } from '../helpers/guide.ts';

const guide = new Guide('add-a-table');
const topic = guide.topic('36-bookmarks');

const untouched = useDatabase();

test('the table of the guide breaks no rule', () =>
  expectSound(untouched, topic, ['app_public.bookmarks']));

describe('the table of the guide', () => {
  const db = useDatabase();
  beforeAll(async () => {
    await db.as('owner').unsafe(topic);
  });
  const api = useApi(db);

  test('is in the API, and shows a user the rows of this user only', async () => {
    const ada = await api.register('ada@example.com');
    const bob = await api.register('bob@example.com');
    const [mutation = ''] = guide.in('graphql');
    const made = await api.query<{ createBookmark: { bookmark: { rowId: string } } }>(
      mutation,
      {},
      ada.accessToken,
    );
    expect(made.data).toMatchObject({
      createBookmark: {
        bookmark: {
          url: 'https://www.postgresql.org/docs/',
          kind: expect.stringMatching(/^article$/i),
        },
      },
    });
    const { rowId } = made.data.createBookmark.bookmark;
    const list = '{ bookmarks(orderBy: CREATED_AT_DESC) { nodes { rowId } } }';
    expect((await api.query(list, {}, ada.accessToken)).data).toEqual({
      bookmarks: { nodes: [{ rowId }] },
    });
    expect((await api.query(list, {}, bob.accessToken)).data).toEqual({ bookmarks: { nodes: [] } });
    expect(await api.codes(list)).toEqual(['UNAUTHENTICATED']);
    expect(
      await api.codes(
        'mutation { createBookmark(input: { bookmark: { url: "ftp://a" } }) { clientMutationId } }',
        {},
        bob.accessToken,
      ),
    ).toEqual(['CHECK_VIOLATION']);

    const look = guide
      .at('in psql, as gw_authenticator')
      .replace('00000000-0000-4000-8000-000000000001', ada.userId);
    const answers = await db.as('authenticator', 1).unsafe(look).simple();
    expect(answers).toContainEqual([{ url: 'https://www.postgresql.org/docs/' }]);
  });

  test('refuses another owner, and a task of another user', async () => {
    const ada = await api.register('ada2@example.com');
    const bob = await api.register('bob2@example.com');
    const [task] = await db.as('owner')`
      insert into app_public.tasks (user_id, title) values (${ada.userId}, 'Hers') returning id`;
    await rolledBack(db.as('superuser'), async (sql) => {
      await sql`select app_private.set_app_user(${bob.userId})`;
      await sql`set local role app_user`;
      await expectRefusal(
        sql,
        '42501',
        (inner) =>
          inner`insert into app_public.bookmarks (user_id, url) values (${ada.userId}, 'https://a.b')`,
      );
      await expectRefusal(
        sql,
        '23503',
        (inner) =>
          inner`insert into app_public.bookmarks (task_id, url) values (${task?.id}, 'https://a.b')`,
      );
    });
  });

  test('follows the other files of the guide', async () => {
    expect(guide.at('migrations/fixtures/schema.sql')).toBe('--!include topics/36-bookmarks.sql');
    await seed(db.url('owner'), 10);
    // The seed's own table of new users is gone with its session.
    await rolledBack(db.as('owner'), async (sql) => {
      await sql`
        create temporary table seeded on commit drop as
        select id as user_id from app_public.users where email like 'demo%'`;
      await sql.unsafe(guide.at('sql/seed/demo.sql'));
      const [row] = await sql`select count(*)::integer from app_public.bookmarks
        inner join seeded using (user_id)`;
      expect(row?.count).toBe(10);
    });
    const current = guide.at('migrations/current/0001-bookmarks.sql');
    const again = current.replace(/^--!include .*$/m, () => topic);
    for (const _ of [1, 2]) {
      await rolledBack(db.as('owner'), async (sql) => {
        await sql.unsafe(again);
        expect(await sql`select from app_public.bookmarks`).toHaveLength(0);
      });
    }
  });
});
