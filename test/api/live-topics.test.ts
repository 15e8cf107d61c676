import { describe, expect, test } from 'vitest';
import { useDatabase } from '../helpers/database.ts';
import { useLive } from '../helpers/live.ts';
import { eventually } from '../helpers/wait.ts';

const db = useDatabase();
const { api, connect, someone } = useLive(db);

type Event = Record<string, { event?: string } & Record<string, unknown>>;

const ask = async (query: string, token: string): Promise<Record<string, unknown>> => {
  const { data, errors } = await api.query(query, {}, token);
  expect(errors).toEqual([]);
  return data;
};

describe('what is followed besides tasks', () => {
  test.each([
    ['goal', 'goal: { title: "one" }', 'title: "two"', 'title'],
    ['habit', 'habit: { name: "one" }', 'name: "two"', 'name'],
    [
      'reflection',
      'reflection: { reflectionDate: "2030-01-31", content: "one" }',
      'content: "two"',
      'content',
    ],
  ])(
    '%ss that are made, changed and deleted, and of others nothing',
    async (topic, row, patch, field) => {
      const [{ accessToken }, other] = [await someone(), await someone()];
      const type = `${topic.charAt(0).toUpperCase()}${topic.slice(1)}`;
      const subscription = `subscription ($id: UUID) { ${topic}Changed(rowId: $id) {
      event rowId ${topic} { ${field} } } }`;
      const followed = await connect({ token: accessToken }).follow<Event>(subscription);
      const foreign = await connect({ token: other.accessToken }).follow<Event>(subscription);
      const make = `mutation { create${type}(input: { ${row} }) { ${topic} { rowId } } }`;
      const made = await ask(make, accessToken);
      const id = (made[`create${type}`] as Record<string, { rowId: string }>)[topic]?.rowId;
      // Or its making would be told to whoever subscribes now.
      await eventually(async () => followed.events.length > 0);
      const alone = await connect({ token: accessToken }).follow<Event>(subscription, { id });
      await ask(make, accessToken);
      await ask(
        `mutation { update${type}(input: { rowId: "${id}", patch: { ${patch} } }) { clientMutationId } }`,
        accessToken,
      );
      await eventually(async () => alone.events.length > 0);
      await ask(
        `mutation { delete${type}(input: { rowId: "${id}" }) { clientMutationId } }`,
        accessToken,
      );
      await eventually(async () => alone.events.length === 2 && followed.events.length >= 3);
      const told = (event: string, value: string | null) => ({
        [`${topic}Changed`]: {
          event,
          rowId: id,
          [topic]: value === null ? null : { [field]: value },
        },
      });
      expect(alone.events).toEqual([told('UPDATE', 'two'), told('DELETE', null)]);
      expect(followed.events[0]?.[`${topic}Changed`]).toMatchObject({ event: 'INSERT', rowId: id });
      // What the other does is the first that the other hears of.
      await ask(make, other.accessToken);
      await eventually(async () => foreign.events.length > 0);
      expect(foreign.events).toHaveLength(1);
      expect(foreign.events[0]?.[`${topic}Changed`]?.rowId).not.toBe(id);
    },
  );

  test('days of habits, of one habit alone when it is named', async () => {
    const { userId, accessToken } = await someone();
    const ids = await db.as('owner')<{ id: string }[]>`
      insert into app_public.habits (user_id, name) values (${userId}, 'a'), (${userId}, 'b')
      returning id`;
    const [one, two] = ids.map(({ id }) => id);
    const subscription = `subscription ($id: UUID) { habitLogChanged(habitId: $id) {
      event habitId logDate habitLog { note } } }`;
    const client = connect({ token: accessToken });
    const all = await client.follow<Event>(subscription);
    const alone = await client.follow<Event>(subscription, { id: one?.toUpperCase() });
    const upsert = (habitId: string | undefined, note: string) =>
      ask(
        `mutation { upsertHabitLog(input: { habitLog: { habitId: "${habitId}",
          logDate: "2030-01-31", note: "${note}" } }) { clientMutationId } }`,
        accessToken,
      );
    const log = (event: string, habitId: string | undefined, note: string | null) => ({
      habitLogChanged: {
        ...{ event, habitId, logDate: '2030-01-31' },
        habitLog: note === null ? null : { note },
      },
    });
    await upsert(two, 'of two');
    await upsert(one, 'first');
    await eventually(async () => alone.events.length === 1 && all.events.length === 2);
    await upsert(one, 'second');
    await eventually(async () => alone.events.length === 2);
    await db.as('owner')`delete from app_public.habit_logs where habit_id = ${one ?? ''}`;
    await eventually(async () => alone.events.length === 3);
    expect(alone.events).toEqual([
      log('INSERT', one, 'first'),
      log('UPDATE', one, 'second'),
      log('DELETE', one, null),
    ]);
    expect(all.events[0]).toEqual(log('INSERT', two, 'of two'));
    await db.as('owner')`
      insert into app_public.habit_logs (user_id, habit_id, log_date)
      select ${userId}, ${one ?? ''}, date '2031-01-01' + day from generate_series(1, 30) as day`;
    await eventually(async () => alone.events.length === 4);
    const many = { event: 'MANY', habitId: null, logDate: null, habitLog: null };
    expect(alone.events[3]).toEqual({ habitLogChanged: many });
  });

  test('messages that are added to chats, of one chat alone when it is named', async () => {
    const [a, b] = [await someone(), await someone()];
    const made = (await ask(
      'mutation { createChats(input: { chats: [{}, {}] }) { chats { rowId } } }',
      a.accessToken,
    )) as { createChats: { chats: { rowId: string }[] } };
    const [one, two] = made.createChats.chats.map(({ rowId }) => rowId);
    const subscription = `subscription ($chat: UUID) { chatMessageAdded(chatId: $chat) {
      chatId rowId chatMessage { role content } } }`;
    const client = connect({ token: a.accessToken });
    const all = await client.follow<Event>(subscription);
    const alone = await client.follow<Event>(subscription, { chat: one });
    const foreign = await connect({ token: b.accessToken }).follow<Event>(subscription, {
      chat: one,
    });
    const say = (chat: string | undefined, content: string) =>
      ask(
        `mutation { createChatMessage(input: { chatMessage: { chatId: "${chat}", role: user,
          content: "${content}" } }) { clientMutationId } }`,
        a.accessToken,
      );
    await say(two, 'elsewhere');
    await say(one, 'hello');
    await eventually(async () => alone.events.length === 1 && all.events.length === 2);
    const added = (chatId: string | undefined, content: string) => ({
      chatMessageAdded: {
        chatId,
        rowId: expect.any(String),
        chatMessage: { role: 'user', content },
      },
    });
    expect(alone.events).toEqual([added(one, 'hello')]);
    expect(all.events).toEqual([added(two, 'elsewhere'), added(one, 'hello')]);
    // Deleting one is no addition.
    await db.as('owner')`delete from app_public.chat_messages where chat_id = ${one ?? ''}`;
    await say(one, 'again');
    await eventually(async () => alone.events.length === 2);
    expect(alone.events[1]).toEqual(added(one, 'again'));
    expect(foreign.events).toEqual([]);
  });

  test('an event is no longer than a response may be', async () => {
    const { userId, accessToken } = await someone();
    await db.as('owner')`
      with chat as (
        insert into app_public.chats (user_id) values (${userId}) returning user_id, id
      )
      insert into app_public.chat_messages (user_id, chat_id, role, content)
      select user_id, id, 'user', repeat('x', 200000) from chat`;
    const aliases = Array.from({ length: 100 }, (_, n) => `c${n}: content`).join(' ');
    const followed = await connect({ token: accessToken }).follow<Event>(
      `subscription { goalChanged { rowId query { chatMessages(first: 1) { nodes { ${aliases} } } } } }`,
    );
    await ask(
      'mutation { createGoal(input: { goal: { title: "x" } }) { clientMutationId } }',
      accessToken,
    );
    await eventually(async () => followed.errors.length > 0);
    expect(followed.codes()).toEqual(['RESPONSE_TOO_LARGE']);
    expect(followed.events).toEqual([]);
  });

  test('a notification shows nothing of another user', async () => {
    const [a, b] = [await someone(), await someone()];
    const [chat] = await db.as('owner')<{ id: string; message: string }[]>`
      with chat as (
        insert into app_public.chats (user_id) values (${a.userId}) returning user_id, id
      )
      insert into app_public.chat_messages (user_id, chat_id, role, content)
      select user_id, id, 'user', 'secret' from chat returning chat_id as id, id as message`;
    const followed = await connect({ token: b.accessToken }).follow<Event>(
      'subscription { chatMessageAdded { rowId chatMessage { content } } }',
    );
    const users = [[b.userId, [`${chat?.id} ${chat?.message}`]]];
    const payload = { topic: 'chat_message', event: 'INSERT', users };
    await db.as('owner')`select pg_notify('gw_live', ${JSON.stringify(payload)})`;
    await eventually(async () => followed.events.length > 0);
    expect(followed.events).toEqual([
      { chatMessageAdded: { rowId: chat?.message, chatMessage: null } },
    ]);
  });
});
