import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';
import { eventually } from '../../helpers/wait.ts';

const db = useDatabase();
const { asNewUser } = transactionsOf(db);

interface Deck {
  project: string;
  /** The ids of the slides A, B, C … */
  slides: string[];
}

async function addDeck(sql: Transaction, titles = 'ABCD'): Promise<Deck> {
  const [project] = await sql`
    insert into app_public.projects (name) values ('deck') returning id`;
  const slides: string[] = [];
  for (const [index, title] of [...titles].entries()) {
    const [slide] = await sql`
      insert into app_public.project_visualizations (project_id, slide_number, title)
      values (${project?.id}, ${index + 1}, ${title}) returning id`;
    slides.push(slide?.id);
  }
  return { project: project?.id, slides };
}

async function order(sql: Sql | Transaction, project: string): Promise<string> {
  const rows = await sql`
    select slide_number || title as slide from app_public.project_visualizations
    where project_id = ${project} order by slide_number`;
  return rows.map(({ slide }) => slide).join(' ');
}

const reorder = (sql: Transaction, project: string, ids: unknown) =>
  sql`select title, slide_number
    from app_public.reorder_visualizations(${project}, ${ids as string[]}::uuid[])`;

/** The slides at these places of a deck. */
const at = ({ slides }: Deck, ...places: number[]) => places.map((place) => slides[place]);

describe('workspaces', () => {
  test('hold a JSON object', async () => {
    await asNewUser(async (sql) => {
      await sql`insert into app_public.workspaces (name, data) values ('one', '{"zoom": 2}')`;
      for (const statement of [
        "insert into app_public.workspaces (name, data) values ('two', '[]')",
        "insert into app_public.workspaces (name) values (' ')",
      ]) {
        await expectRefusal(sql, '23514', (inner) => inner.unsafe(statement));
      }
      expect(await sql`select data from app_public.workspaces`).toEqual([{ data: { zoom: 2 } }]);
    });
  });
});

describe('visualizations', () => {
  test.each([
    ['slide 0', '0', "'{}'", "'[]'", '23514'],
    ['a taken number', '1', "'{}'", "'[]'", '23505'],
    ['data that is no object', '9', "'[]'", "'[]'", '23514'],
    ['annotations that are no array', '9', "'{}'", "'{}'", '23514'],
  ])('are refused with %s', async (_, number, data, annotations, code) => {
    await asNewUser(async (sql) => {
      const { project } = await addDeck(sql);
      await expectRefusal(sql, code, (inner) =>
        inner.unsafe(`insert into app_public.project_visualizations
          (project_id, slide_number, data, annotations)
          values ('${project}', ${number}, ${data}, ${annotations})`),
      );
    });
  });

  test('have numbers of their own in each project, and go with it', async () => {
    await asNewUser(async (sql) => {
      const [one, two] = [await addDeck(sql, 'A'), await addDeck(sql, 'B')];
      await sql`delete from app_public.projects where id = ${one.project}`;
      expect(await order(sql, one.project)).toBe('');
      expect(await order(sql, two.project)).toBe('1B');
    });
  });

  test("are not added to another user's project, which exists", async () => {
    await asNewUser(async (sql) => {
      const { project } = await addDeck(sql);
      await sql`set local role none`;
      const { id: stranger } = await createUser(sql);
      await become(sql, stranger);
      await expectRefusal(
        sql,
        '23503',
        (inner) => inner`
          insert into app_public.project_visualizations (project_id, slide_number)
          values (${project}, 5)`,
      );
      await sql`set local role none`;
      expect(await sql`select from app_public.projects where id = ${project}`).toHaveLength(1);
    });
  });
});

describe('reorder_visualizations', () => {
  test('numbers the slides as they are given, and returns them so', async () => {
    await asNewUser(async (sql) => {
      const deck = await addDeck(sql);
      await sql`update app_public.project_visualizations set slide_number = 40
        where title = 'D'`;
      expect(await reorder(sql, deck.project, at(deck, 3, 1, 0, 2))).toEqual([
        { title: 'D', slide_number: 1 },
        { title: 'B', slide_number: 2 },
        { title: 'A', slide_number: 3 },
        { title: 'C', slide_number: 4 },
      ]);
      expect(await order(sql, deck.project)).toBe('1D 2B 3A 4C');
      expect(await reorder(sql, (await addDeck(sql, '')).project, [])).toEqual([]);
    });
  });

  test('changes only the slides that move', async () => {
    await asNewUser(async (sql) => {
      const deck = await addDeck(sql);
      const versions = () => sql`
        select title, updated_at::text as version from app_public.project_visualizations
        order by title`;
      const before = await versions();
      await reorder(sql, deck.project, at(deck, 0, 2, 1, 3));
      const changed = (await versions()).filter(
        ({ version }, index) => version !== before[index]?.version,
      );
      expect(changed.map(({ title }) => title)).toEqual(['B', 'C']);
    });
  });

  test('refuses any list but the whole project once, and changes nothing', async () => {
    await asNewUser(async (sql) => {
      const deck = await addDeck(sql);
      const other = await addDeck(sql, 'XY');
      const lists = [
        at(deck, 3, 2, 1),
        at(deck, 3, 2, 1, 1),
        at(deck, 3, 2, 1, 0, 0),
        [...at(deck, 3, 2, 1), other.slides[0]],
        [...at(deck, 3, 2, 1, 0), other.slides[0]],
        [...at(deck, 3, 2, 1), null],
        [],
        null,
      ];
      for (const list of lists) {
        await expectRefusal(sql, 'GW021', (inner) => reorder(inner, deck.project, list));
      }
      const error = await sql
        .savepoint((inner) => reorder(inner, deck.project, []))
        .catch((refused: object) => refused);
      expect(error).toMatchObject({ column_name: 'visualization_ids' });
      expect(await order(sql, deck.project)).toBe('1A 2B 3C 4D');
      expect(await order(sql, other.project)).toBe('1X 2Y');
    });
  });

  test("answers for another user's project as for one that is not there", async () => {
    await asNewUser(async (sql) => {
      const deck = await addDeck(sql);
      await sql`set local role none`;
      const { id: stranger } = await createUser(sql);
      await become(sql, stranger);
      for (const list of [at(deck, 3, 2, 1, 0), []]) {
        await expectRefusal(sql, 'GW021', (inner) => reorder(inner, deck.project, list));
      }
      await sql`set local role none`;
      expect(await order(sql, deck.project)).toBe('1A 2B 3C 4D');
    });
  });

  test('waits for slides that are being added or deleted', async () => {
    const { id: user } = await createUser(db.as('owner'));
    const as = <Result>(work: (sql: Transaction) => Promise<Result>) =>
      db.as('superuser').begin(async (sql) => {
        await become(sql, user);
        return work(sql);
      });
    // As superuser: others do not see what a superuser's session runs.
    const waiting = () => db.as('superuser', 1)`
      select from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'
        and query like '%reorder_visualizations%' and pid <> pg_backend_pid()`;
    for (const change of ['insert', 'delete'] as const) {
      const deck = await as((sql) => addDeck(sql));
      let ordered: Promise<unknown> = Promise.resolve();
      await as(async (sql) => {
        await (change === 'insert'
          ? sql`insert into app_public.project_visualizations (project_id, slide_number, title)
              values (${deck.project}, 5, 'E')`
          : sql`delete from app_public.project_visualizations where id = ${deck.slides[0] ?? ''}`);
        ordered = as((inner) => reorder(inner, deck.project, at(deck, 3, 2, 1, 0))).catch(
          (error: { code?: string }) => error.code,
        );
        await eventually(async () => (await waiting()).length > 0);
      });
      expect(await ordered).toBe('GW021');
      expect(await order(db.as('owner'), deck.project)).toBe(
        change === 'insert' ? '1A 2B 3C 4D 5E' : '2B 3C 4D',
      );
    }
  });

  test('by many at once leaves the order of one of them', async () => {
    const { id: user } = await createUser(db.as('owner'));
    const as = <Result>(work: (sql: Transaction) => Promise<Result>) =>
      db.as('superuser', 8).begin(async (sql) => {
        await become(sql, user);
        return work(sql);
      });
    const deck = await as((sql) => addDeck(sql));
    const orders = [
      [3, 2, 1, 0],
      [1, 0, 3, 2],
      [2, 3, 0, 1],
    ];
    await Promise.all(
      Array.from({ length: 24 }, (_, index) =>
        as((sql) => reorder(sql, deck.project, at(deck, ...(orders[index % 3] ?? [])))),
      ),
    );
    expect(['1D 2C 3B 4A', '1B 2A 3D 4C', '1C 2D 3A 4B']).toContain(
      await order(db.as('owner'), deck.project),
    );
  });
});
