import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Sql, Transaction } from '../../../src/postgres/connect.ts';
import {
  become,
  createUser,
  expectRefusal,
  transactionsOf,
  useDatabase,
} from '../../helpers/database.ts';

const db = useDatabase();
const { asNewUser } = transactionsOf(db);

async function addChat(sql: Sql | Transaction): Promise<string> {
  const [chat] = await sql`insert into app_public.chats default values returning id`;
  return chat?.id;
}

async function addMessage(sql: Sql | Transaction, chatId: string, content = 'x'): Promise<string> {
  const [message] = await sql`
    insert into app_public.chat_messages (chat_id, role, content)
    values (${chatId}, 'user', ${content}) returning id`;
  return message?.id;
}

/** A vector in the plane of the first two dimensions, by its angle in degrees. */
function direction(degrees: number, length = 1): number[] {
  const radians = (degrees / 180) * Math.PI;
  return Array.from({ length: 1536 }, (_, dimension) =>
    dimension === 0 ? length * Math.cos(radians) : dimension === 1 ? length * Math.sin(radians) : 0,
  );
}

async function addVector(
  sql: Transaction,
  chatId: string,
  degrees: number,
  messageId: string | null = null,
): Promise<string> {
  const [vector] = await sql`
    select id from app_public.add_chat_vector(
      ${chatId}, ${`at ${degrees}°`}, ${direction(degrees)}, ${messageId})`;
  return vector?.id;
}

interface Match {
  content: string;
  similarity: number;
}

const search = (sql: Transaction, degrees: number, count = 10, chatId: string | null = null) =>
  sql<Match[]>`
    select content, similarity
    from app_public.search_chat_vectors(${direction(degrees)}, ${count}, ${chatId})`;
const contents = (matches: readonly Match[]): string[] => matches.map(({ content }) => content);

describe('messages', () => {
  test('have an order, also when they were stored in one transaction', async () => {
    await asNewUser(async (sql) => {
      const chat = await addChat(sql);
      for (const content of ['one', 'two', 'three', 'four']) await addMessage(sql, chat, content);
      const rows = await sql`
        select content from app_public.chat_messages where chat_id = ${chat} order by created_at`;
      expect(rows.map(({ content }) => content)).toEqual(['one', 'two', 'three', 'four']);
    });
  });

  test.each([
    ['role', "'robot', 'x', '{}'"],
    ['metadata', "'user', 'x', '[]'"],
    ['length', "'user', repeat('x', 200001), '{}'"],
  ])('are refused for their %s', async (_, values) => {
    await asNewUser(async (sql) => {
      const chat = await addChat(sql);
      await expectRefusal(sql, '23514', (inner) =>
        inner.unsafe(`insert into app_public.chat_messages (chat_id, role, content, metadata)
          values ('${chat}', ${values})`),
      );
    });
  });

  test('are not changed afterwards', async () => {
    await asNewUser(async (sql) => {
      await addMessage(sql, await addChat(sql));
      await expectRefusal(
        sql,
        '42501',
        (inner) => inner`update app_public.chat_messages set content = 'y'`,
      );
      expect(await sql`delete from app_public.chat_messages returning id`).toHaveLength(1);
    });
  });

  test("are not added to another user's chat, which exists", async () => {
    await asNewUser(async (sql) => {
      const chat = await addChat(sql);
      await sql`set local role none`;
      const { id: stranger } = await createUser(sql);
      await become(sql, stranger);
      await expectRefusal(
        sql,
        '23503',
        (inner) => inner`
          insert into app_public.chat_messages (chat_id, role, content)
          values (${chat}, 'user', 'x')`,
      );
      await sql`set local role none`;
      expect(await sql`select from app_public.chats where id = ${chat}`).toHaveLength(1);
    });
  });

  test('make their chat the latest, and no other', async () => {
    const owner = db.as('owner');
    const { id: ann } = await createUser(owner);
    const { id: bob } = await createUser(owner);
    const id = randomUUID();
    const other = randomUUID();
    const as = <Result>(user: string, work: (sql: Transaction) => Promise<Result>) =>
      db.as('superuser').begin(async (sql) => {
        await become(sql, user);
        return work(sql);
      });
    for (const user of [ann, bob]) {
      await as(user, (sql) => sql`insert into app_public.chats (id) values (${id}), (${other})`);
    }
    await as(ann, (sql) => addMessage(sql, id));
    const touched = await owner`
      select user_id, id from app_public.chats
      where id in (${id}, ${other}) and updated_at > created_at`;
    expect(touched).toEqual([{ user_id: ann, id }]);
    const [latest] = await as(
      ann,
      (sql) => sql`select id from app_public.chats order by updated_at desc limit 1`,
    );
    expect(latest?.id).toBe(id);
  });
});

describe('vectors', () => {
  test('go with their message, and all with their chat', async () => {
    await asNewUser(async (sql) => {
      const chat = await addChat(sql);
      const message = await addMessage(sql, chat);
      await addVector(sql, chat, 10, message);
      await addVector(sql, chat, 20);
      await sql`delete from app_public.chat_messages where id = ${message}`;
      expect(contents(await search(sql, 0))).toEqual(['at 20°']);
      await sql`delete from app_public.chats where id = ${chat}`;
      expect(await sql`select from app_public.chat_vectors`).toHaveLength(0);
    });
  });

  test('are of a message of the same chat', async () => {
    await asNewUser(async (sql) => {
      const message = await addMessage(sql, await addChat(sql));
      const other = await addChat(sql);
      await expectRefusal(
        sql,
        '23503',
        (inner) => inner`
          select app_public.add_chat_vector(${other}, 'x', ${direction(0)}, ${message})`,
      );
    });
  });

  test.each([
    ['1535 numbers', direction(0).slice(1)],
    ['1537 numbers', [...direction(0), 0]],
    ['no numbers', []],
    ['null', null],
    ['only zeros', direction(0, 0)],
    ['numbers too small for a vector', direction(45, 1e-60)],
    ['a number too large', direction(0, 1e39)],
  ])('are refused when they have %s, and a search for them', async (_, numbers) => {
    await asNewUser(async (sql) => {
      const chat = await addChat(sql);
      const refusal = (statement: (inner: Transaction) => PromiseLike<unknown>) =>
        sql.savepoint(async (inner) => statement(inner)).catch((error: object) => error);
      expect(
        await refusal((i) => i`select app_public.add_chat_vector(${chat}, 'x', ${numbers})`),
      ).toMatchObject({ code: 'GW002', column_name: 'embedding' });
      expect(
        await refusal((i) => i`select app_public.search_chat_vectors(${numbers})`),
      ).toMatchObject({ code: 'GW002', column_name: 'query_embedding' });
    });
  });

  test.each(["array_fill('NaN'::float8, array[1536])", 'array_fill(null::float8, array[1536])'])(
    'are refused when they are %s',
    async (numbers) => {
      await asNewUser(async (sql) => {
        await expectRefusal(sql, 'GW002', (inner) =>
          inner.unsafe(`select app_public.search_chat_vectors(${numbers})`),
        );
      });
    },
  );
});

describe('search_chat_vectors', () => {
  test('finds the nearest first, by direction and not by length', async () => {
    await asNewUser(async (sql) => {
      const chat = await addChat(sql);
      for (const degrees of [90, 5, 180, 40]) await addVector(sql, chat, degrees);
      await sql`select app_public.add_chat_vector(${chat}, 'long', ${direction(20, 1000)})`;
      const matches = await search(sql, 0);
      expect(contents(matches)).toEqual(['at 5°', 'long', 'at 40°', 'at 90°', 'at 180°']);
      const similarities = matches.map(({ similarity }) => similarity);
      expect(similarities[1]).toBeCloseTo(Math.cos(Math.PI / 9), 5);
      expect(similarities[4]).toBeCloseTo(-1, 5);
    });
  });

  test('looks in one chat, or in all', async () => {
    await asNewUser(async (sql) => {
      const [here, there] = [await addChat(sql), await addChat(sql)];
      await addVector(sql, here, 30);
      await addVector(sql, there, 10);
      expect(contents(await search(sql, 0))).toEqual(['at 10°', 'at 30°']);
      expect(contents(await search(sql, 0, 10, here))).toEqual(['at 30°']);
    });
  });

  test("finds all of one's own among many of others, and nothing of theirs", async () => {
    await asNewUser(async (sql, ann) => {
      const chat = await addChat(sql);
      for (let degrees = 91; degrees <= 120; degrees += 1) await addVector(sql, chat, degrees);
      await sql`set local role none`;
      const { id: bob } = await createUser(sql);
      await become(sql, bob);
      const his = await addChat(sql);
      await sql`
        select app_public.add_chat_vector(${his}, 'of bob', ${direction(0)})
        from generate_series(1, 300)`;
      await become(sql, ann);
      const found = await search(sql, 0, 50);
      expect(found).toHaveLength(30);
      expect(contents(found)).not.toContain('of bob');
      expect(await search(sql, 0, 50, his)).toHaveLength(0);
      const plan = await sql.unsafe(`explain (costs off) select * from app_public.chat_vectors
        where user_id = app_hidden.current_app_user_id() and chat_id = '${chat}'`);
      expect(JSON.stringify(plan)).toContain('chat_vectors_user_id_chat_id_message_id_idx');
    });
  });

  test.each([
    [7, 7],
    [100, 100],
    [100_000, 100],
    [0, 0],
    [-1, 0],
    [null, 10],
  ])('asked for %s, returns %i of 120', async (asked, returned) => {
    await asNewUser(async (sql) => {
      const chat = await addChat(sql);
      await sql`
        select app_public.add_chat_vector(${chat}, 'x', ${direction(0)})
        from generate_series(1, 120)`;
      expect(await search(sql, 0, asked as number)).toHaveLength(returned);
    });
  });
});
