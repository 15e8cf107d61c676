import { beforeAll, describe, expect, test } from 'vitest';
import { useApi } from '../helpers/api.ts';
import { become, createUser, expectRefusal, rolledBack, useDatabase } from '../helpers/database.ts';
import { expectSound, Guide } from '../helpers/guide.ts';

interface Made {
  createSharedWorkspace: { result: { rowId: string } };
}

const guide = new Guide('add-a-shared-table');
const announcements = guide.topic('36-announcements');
const workspaces = guide.topic('36-shared-workspaces');
const untouched = useDatabase();

test('the tables of the guide break no rule', () =>
  expectSound(untouched, `${announcements}\n${workspaces}`, [
    'app_public.announcements',
    'app_public.shared_workspaces',
    'app_public.shared_workspace_members',
    'app_public.shared_notes',
  ]));

describe('rows that all see', () => {
  const db = useDatabase();
  beforeAll(async () => {
    await db.as('owner').unsafe(announcements);
    await db.as('owner').unsafe(guide.at('in psql, as gw_owner'));
  });
  const api = useApi(db);

  test('are read by users and without a token, and appear at their time', async () => {
    const { accessToken } = await api.register('ada@example.com');
    const [query = ''] = guide.in('graphql');
    for (const token of [undefined, accessToken]) {
      expect((await api.query(query, {}, token)).data).toEqual({
        announcements: { nodes: [{ title: 'Habits have streaks' }] },
      });
    }
    const titles = await db.as('readonly')`select title from app_public.announcements order by 1`;
    expect(titles.map(({ title }) => title)).toEqual(['A week off', 'Habits have streaks']);
  });

  test('are written by no user', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      await become(sql, (await createUser(sql)).id);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`insert into app_public.announcements (title) values ('x')`,
      );
      await expectRefusal(sql, '42501', (inner) => inner`delete from app_public.announcements`);
    });
  });
});

describe('rows that members see', () => {
  const db = useDatabase();
  beforeAll(async () => {
    await db.as('owner').unsafe(workspaces);
  });
  const api = useApi(db);

  test('are read and written by members, and not there for others', async () => {
    const [ada, bob, eve] = await Promise.all(
      ['ada', 'bob', 'eve'].map((name) => api.register(`${name}@example.com`)),
    );
    const ask = (query: string, session = ada) => api.query<Made>(query, {}, session?.accessToken);
    const [create = '', join = '', list = ''] = guide.in('graphql').slice(1);
    const made = await ask(create);
    expect(made.errors).toEqual([]);
    const { rowId } = made.data.createSharedWorkspace.result;
    expect(rowId).toBeDefined();

    const note = (body: string) => `mutation {
      createSharedNote(input: { sharedNote: { sharedWorkspaceId: "${rowId}", body: "${body}" } }) {
        sharedNote { rowId }
      }
    }`;
    expect((await ask(note('hers'))).errors).toEqual([]);
    expect(await api.codes(note('his'), {}, bob?.accessToken)).toEqual(['FORBIDDEN']);
    expect((await ask(list, bob)).data).toEqual({ sharedWorkspaces: { nodes: [] } });

    const joined = await ask(join.replace(/"[0-9a-f-]{36}"/, `"${rowId}"`), bob);
    expect(joined.errors).toEqual([]);
    expect((await ask(note('his'), bob)).errors).toEqual([]);
    const seen = {
      sharedWorkspaces: {
        nodes: [
          { name: 'Moving house', sharedNotes: { nodes: [{ body: 'hers' }, { body: 'his' }] } },
        ],
      },
    };
    expect((await ask(list)).data).toMatchObject(seen);
    expect((await ask(list, bob)).data).toMatchObject(seen);
    expect((await ask(list, eve)).data).toEqual({ sharedWorkspaces: { nodes: [] } });
    const wrong = join.replace(/"[0-9a-f-]{36}"/, `"${rowId}"`).replace('kT4v', 'xxxx');
    for (const refused of [join, wrong]) {
      expect((await ask(refused, eve)).data).toMatchObject({
        joinSharedWorkspace: { result: null },
      });
    }
  });

  test('are found by an index, with the groups looked up once', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const ada = await createUser(sql);
      await sql`
        insert into app_public.shared_workspaces (founder_id, name, invitation_hash)
        select ${ada.id}, 'w' || number, '' from generate_series(1, 2000) as number`;
      await sql`
        insert into app_public.shared_notes (shared_workspace_id, body)
        select id, 'x' from app_public.shared_workspaces cross join generate_series(1, 5)`;
      await sql`
        insert into app_public.shared_workspace_members (shared_workspace_id, member_id)
        select id, ${ada.id} from app_public.shared_workspaces
        where founder_id = ${ada.id} limit 3`;
      await sql`analyze app_public.shared_notes`;
      await become(sql, ada.id);
      const rows = await sql`select from app_public.shared_notes`;
      expect(rows).toHaveLength(15);
      const plan = await sql`explain (costs off) select * from app_public.shared_notes`;
      const text = plan.map((row) => row['QUERY PLAN']).join('\n');
      expect(text).toMatch(
        /Index Cond: \(shared_workspace_id = ANY \(.*current_shared_workspace_ids/,
      );
    });
  });

  test('and a membership is ended by its user only', async () => {
    await rolledBack(db.as('superuser'), async (sql) => {
      const secret = 'a secret of 24 letters..';
      const [ada, bob] = [await createUser(sql), await createUser(sql)];
      await become(sql, ada.id);
      const [made] = await sql`select (app_public.create_shared_workspace('w', ${secret})).id`;
      await become(sql, bob.id);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`
        insert into app_public.shared_workspace_members (shared_workspace_id, member_id)
        values (${made?.id}, ${bob.id})`,
      );
      await sql`select app_public.join_shared_workspace(${made?.id}, ${secret})`;
      expect(await sql`delete from app_public.shared_workspaces returning id`).toEqual([]);
      const leave = await sql`delete from app_public.shared_workspace_members returning member_id`;
      expect(leave).toEqual([{ member_id: bob.id }]);
      expect(await sql`select from app_public.shared_workspaces`).toHaveLength(0);
      await become(sql, null);
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`
        select app_public.create_shared_workspace('w', ${secret})`,
      );
    });
  });
});
