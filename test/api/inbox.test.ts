import { beforeAll, expect, test } from 'vitest';
import type { Session } from '../helpers/api.ts';
import { useDatabase } from '../helpers/database.ts';
import { useLive } from '../helpers/live.ts';
import { attempt, planned } from '../helpers/message-stages.ts';
import { eventually } from '../helpers/wait.ts';

/*
 * An inbox in two tabs: what is unread, and what the other tab has read.
 */
const db = useDatabase();
const { api, connect } = useLive(db);

let ann: Session;
let bob: Session;
/** Messages of Ann's: one that was sent, one that was not. */
let sent: string;
let waiting: string;

beforeAll(async () => {
  ann = await api.register('ann@example.com');
  bob = await api.register('bob@example.com');
  const owner = db.as('owner');
  const users = [await planned(owner), await planned(owner)];
  for (const [place, user] of users.entries()) {
    if (place === 0) await attempt(owner, user, { status: 'SENT', code: 202 });
    await owner`
      update app_public.message_logs set user_id = ${ann.userId} where id = ${user.messageId}`;
  }
  [sent = '', waiting = ''] = users.map(({ messageId }) => messageId);
});

const unread = async (session: Session): Promise<number> => {
  const { data, errors } = await api.query<{ messageLogs: { totalCount: number } }>(
    '{ messageLogs(filter: { readAt: { isNull: true }, status: { equalTo: SENT } }) { totalCount } }',
    {},
    session.accessToken,
  );
  expect(errors).toEqual([]);
  return data.messageLogs.totalCount;
};

interface Marked {
  markMessagesRead: { result: { rowId: string; readAt: string | null }[] };
}
const mark = async (session: Session, ids: string[]) => {
  const { data, errors } = await api.query<Marked>(
    `mutation ($ids: [UUID!]!) {
      markMessagesRead(input: { messageIds: $ids }) { result { rowId readAt } }
    }`,
    { ids },
    session.accessToken,
  );
  expect(errors).toEqual([]);
  return data.markMessagesRead.result;
};

test('what was sent is marked once, by its user, and the other tab hears of it', async () => {
  expect(await unread(ann)).toBe(1);
  // Somebody else's are not found, and one that was not sent stays unread.
  expect(await mark(bob, [sent, waiting])).toEqual([]);
  expect(await unread(ann)).toBe(1);

  const tab = connect({ token: ann.accessToken });
  const followed = await tab.follow<{ messageStatusChanged: { messageLog: { rowId: string } } }>(
    'subscription { messageStatusChanged { messageLog { rowId readAt } } }',
  );
  const first = await mark(ann, [sent, waiting]);
  expect(first.find(({ rowId }) => rowId === sent)?.readAt).toEqual(expect.any(String));
  expect(first.find(({ rowId }) => rowId === waiting)?.readAt).toBeNull();
  await eventually(async () => followed.events.length > 0);
  expect(followed.events).toMatchObject([
    { messageStatusChanged: { messageLog: { rowId: sent, readAt: expect.any(String) } } },
  ]);
  expect(await unread(ann)).toBe(0);
  expect(await mark(ann, [sent, waiting])).toEqual(first);
});

test('a user may write nothing else of a message', async () => {
  const { data } = await api.query<{ __type: { fields: { name: string }[] } }>(
    '{ __type(name: "Mutation") { fields { name } } }',
    {},
    ann.accessToken,
  );
  const names = data.__type.fields.map(({ name }) => name);
  expect(names.filter((name) => /message/i.test(name) && !/chat/i.test(name))).toEqual([
    'markMessagesRead',
  ]);
});
